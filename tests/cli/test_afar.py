"""Who may look and cannot read the files has kmqd look: he sees what root sees, and gets nothing else out of it."""

import contextlib
import fcntl
import os
import pty
import re
import resource
import select
import signal
import smtplib
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

from kmq.admin import client, looks
from kmq.cli import behalf
from kmq.cli.kmq import main
from kmq.cli.only_looking import ALWAYS, FORESEEN, objection
from kmq.cli.parser import VERBS, parser
from kmq.errors import UsageError
from kmq.model.frame import LENGTHS, Answer, Look, Reader, encode
from tests.admin.test_rights import OPERATORS, VIEWERS
from tests.cli.test_acting_kmqd import by_member
from tests.torture.kmqd import Kmqd
from tests.waiting import free_port, until

NOBODY = 65534


@pytest.fixture(scope="module")
def kmqd() -> Iterator[Kmqd]:
    """Three messages wait for a server that is down; one has no header of its own."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        groups = f"operators_group = {OPERATORS}\nviewers_group = {VIEWERS}"
        kept = "safety_net_hold_time = 1d"
        one = Kmqd(folder / "k", hops={"far.test": free_port()}, workers=1, kmq=groups, queue=kept)
        one.start()
        with smtplib.SMTP("127.0.0.1", one.port, timeout=60) as server:
            for text in (
                "Subject: one\r\n\r\nsecret\r\n",
                "Subject: two\r\n\r\nsecret\r\n",
                "secret\r\n\r\nsecret\r\n",
            ):
                server.sendmail("eve@x.test", ["bob@far.test"], text)
        until(lambda: len(one.queued()) == 3, "their files are there")
        import_module("kmq.cli.afar")
        for module in ("_strptime", *(f"kmq.cli.{VERBS[verb].module}" for verb in ALWAYS | FORESEEN)):
            import_module(module)  # what a member of a group might not find: Python may be root's alone
        yield one
        one.close()
        assert one.accidents() == []


def programs(kmqd: Kmqd) -> list[int]:
    """Those that look for somebody."""
    pid = kmqd.children()["index-1"]
    return list(map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()))


# --- what one sees ----------------------------------------------------------------------------------------------------


@pytest.mark.root
def test_a_viewer_sees_what_root_sees(kmqd: Kmqd, capfd: pytest.CaptureFixture[str]) -> None:
    names = [path.stem for path in kmqd.queued()]
    for words in (
        ["mailq", "--ids"],
        ["mailq", "--ids", "--filter", "Subject -like 't*'", "--sort", "-Size"],
        ["history", names[0]],
        ["--json", "show", *names],
        ["sql", "SELECT Subject, FromAddress FROM messages ORDER BY 1"],
        ["replay", "--list"],
        ["mailq", "--filter", "Sise -gt 3"],
        ["show", "00000000-00000001"],
    ):
        capfd.readouterr()
        status = main(["-c", str(kmqd.folder / "kmq.conf"), *words])
        seen = "".join(capfd.readouterr())
        again, theirs = by_member(kmqd, [VIEWERS], *words)
        if "show" not in words:  # in which times and counters of the queue run
            assert (again, theirs) == (status, seen)
        assert again == status
        assert "secret" not in theirs
        assert "this user may not" not in theirs
    status, seen = by_member(kmqd, [VIEWERS], "show", *names)
    assert seen.count("(what follows is no header)") == 1
    assert "  Routed    to 127.0.0.1:" in by_member(kmqd, [VIEWERS], "explain", names[0])[1]
    assert "worker-1  pid " in by_member(kmqd, [VIEWERS], "processes")[1]
    until(lambda: programs(kmqd) == [], "nobody is left")


@pytest.mark.root
def test_who_may_not_look_gets_a_sentence_and_no_program(kmqd: Kmqd) -> None:
    assert by_member(kmqd, [], "mailq") == (
        1,
        "kmq: uid 65534 may not ask kmqd: [kmq] operators_group and viewers_group say who may\n",
    )


@pytest.mark.root
def test_who_may_read_a_folder_reads_it_himself(kmqd: Kmqd) -> None:
    """The group of kmqd's user: it sees the processes and the tracking log, though it may ask for nothing."""
    kmqd.spool.chmod(0o751)
    for folder in (kmqd.spool / "status", kmqd.spool / "log"):
        for one in (folder, *folder.iterdir()):
            os.chown(one, -1, 4444)
    status, seen = by_member(kmqd, [4444], "processes")
    assert (status, "worker-1  pid " in seen) == (0, True), seen
    status, seen = by_member(kmqd, [4444], "track", "--filter", "Sender -eq eve@x.test")
    assert (status, "bob@far.test" in seen) == (0, True), seen
    assert by_member(kmqd, [4444], "mailq")[0] == 1
    kmqd.spool.chmod(0o750)


@pytest.mark.root
def test_an_operator_means_by_a_filter_what_he_would_be_shown(kmqd: Kmqd) -> None:
    """Chosen by kmqd, asked about and done by himself, with his own right."""
    wish = ["--filter", "Subject -eq two"]
    for groups in ([VIEWERS], [OPERATORS]):
        status, seen = by_member(kmqd, groups, "suspend", *wish, "--what-if")
        assert (status, "-- 1 message, " in seen) == (0, True), seen
    status, seen = by_member(kmqd, [VIEWERS], "suspend", *wish)
    assert (status, "uid 65534 may look, not suspend" in seen) == (1, True)
    status, seen = by_member(kmqd, [OPERATORS], "suspend", *wish, "--reason", "look")
    assert status == 0, seen
    line = r'operator verb=suspend .*selection="--filter Subject -eq two" .*by="uid 65534"'
    until(lambda: re.search(line, kmqd.log), "the log tells who did it, and what he meant")
    assert by_member(kmqd, [OPERATORS], "mailq", "--ids", "--filter", "HeldBy -like *look")[1].count("\n") == 1
    assert by_member(kmqd, [OPERATORS], "resume", *wish)[0] == 0
    assert by_member(kmqd, [OPERATORS], "remove", "--filter", "Subject -eq nothing") == (1, "kmq: no message matches\n")
    status, seen = by_member(kmqd, [OPERATORS], "remove", "--filter", "Sise -gt 3")
    assert (status, seen.startswith("kmq: Sise is no property of a message")) == (2, True)
    status, seen = by_member(kmqd, [OPERATORS], "export", "--filter", "Size -gt 1", "--to", "/tmp")
    assert (status, "this user may not read it" in seen) == (78, True), "copies need the files"
    assert len(kmqd.queued()) == 3


@pytest.mark.root
def test_an_operator_replays_what_is_kept(kmqd: Kmqd) -> None:
    with smtplib.SMTP("127.0.0.1", kmqd.port, timeout=60) as server:
        server.sendmail("eve@x.test", ["ann@local.test"], "Subject: kept\r\n\r\nsecret\r\n")
    until(lambda: "1 message, " in by_member(kmqd, [VIEWERS], "replay", "--list")[1], "it is kept")
    wish = ["replay", "--since", "1h", "--filter", "Subject -eq kept"]
    status, seen = by_member(kmqd, [VIEWERS], *wish, "--what-if")
    assert (status, "-- 1 message. Nothing was done" in seen) == (0, True), seen
    status, seen = by_member(kmqd, [VIEWERS], *wish)
    assert (status, "uid 65534 may look, not replay" in seen) == (1, True), seen
    status, seen = by_member(kmqd, [OPERATORS], *wish)
    assert (status, "1 message replayed" in seen) == (0, True), seen
    until(lambda: len(list((kmqd.mail / "ann" / "new").iterdir())) == 2, "it came once more")
    status, seen = by_member(kmqd, [OPERATORS], *wish)
    assert (status, "nothing is left to replay" in seen or "nothing that matches" in seen) == (1, True), seen


@pytest.mark.root
def test_what_goes_to_a_file_goes_through_the_one_who_asks(kmqd: Kmqd, tmp_path: Path) -> None:
    path = tmp_path / "list"
    with open(path, "w") as file:
        assert as_viewer(lambda: main_to(kmqd, file.fileno(), "mailq", "--ids")) == 0
    assert path.read_text().split() == [one.stem for one in sorted(kmqd.queued())]
    if Path("/dev/full").exists():
        with open("/dev/full", "w") as file:
            assert as_viewer(lambda: main_to(kmqd, file.fileno(), "mailq", "--ids")) == 1


def main_to(kmqd: Kmqd, fd: int, *words: str) -> int:
    sys.stdout = open(fd, "w", closefd=False)  # noqa: SIM115
    sys.stderr = open(os.devnull, "w")  # noqa: SIM115
    return main(["-c", str(kmqd.folder / "kmq.conf"), *words])


def as_viewer(deed: "object") -> int:
    """The exit status of a process of a viewer's."""
    pid = os.fork()
    if pid == 0:
        status = 99
        with contextlib.suppress(BaseException):
            become_viewer()
            status = deed()  # type: ignore[operator]
        os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def become_viewer() -> None:
    os.setgroups([VIEWERS])
    os.setresgid(NOBODY, NOBODY, NOBODY)
    os.setresuid(NOBODY, NOBODY, NOBODY)


@pytest.mark.root
def test_a_picture_on_a_terminal_has_its_size_and_its_keys(kmqd: Kmqd) -> None:
    pid, terminal = pty.fork()
    if pid == 0:
        status = 99
        with contextlib.suppress(BaseException):
            become_viewer()
            sys.stdout, sys.stderr = open(1, "w", closefd=False), open(2, "w", closefd=False)  # noqa: SIM115
            status = main(["-c", str(kmqd.folder / "kmq.conf"), "mailq", "--watch"])
        os._exit(status)
    resize(terminal, 60, 100)
    seen = heard_until(terminal, b"3 messages, ")
    assert b"(" not in seen.rpartition(b"3 messages, ")[2], "all of them"
    resize(terminal, 14, 50)
    heard_until(terminal, b" shown)")
    [program] = programs(kmqd)
    assert os.getpgid(program) != os.getpgid(pid)
    os.write(terminal, b"q")
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    os.close(terminal)
    until(lambda: programs(kmqd) == [], "it has ended")


@pytest.mark.root
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 0), (signal.SIGKILL, -signal.SIGKILL)])
def test_a_picture_ends_with_the_one_who_asked(kmqd: Kmqd, tmp_path: Path, number: int, status: int) -> None:
    """By Ctrl-C, which reaches him alone, or because he is gone."""
    path = tmp_path / "seen"
    with open(path, "w") as file:
        pid = os.fork()
        if pid == 0:
            with contextlib.suppress(BaseException):
                become_viewer()
                os._exit(main_to(kmqd, file.fileno(), "mailq", "--watch"))
            os._exit(99)
    until(lambda: "3 messages, " in path.read_text(), "it is drawn")
    assert len(programs(kmqd)) == 1
    os.kill(pid, number)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == status
    until(lambda: programs(kmqd) == [], "nobody looks any more")


def resize(terminal: int, lines: int, columns: int) -> None:
    fcntl.ioctl(terminal, 0x5414, lines.to_bytes(2, sys.byteorder) + columns.to_bytes(2, sys.byteorder) + bytes(4))


def heard_until(fd: int, word: bytes) -> bytes:
    seen = b""
    deadline = time.monotonic() + 30
    while word not in seen:
        assert select.select([fd], [], [], max(0, deadline - time.monotonic()))[0], seen
        seen += os.read(fd, 1 << 16)
    return seen


# --- who ends ---------------------------------------------------------------------------------------------------------


def asker(run: Path) -> socket.socket:
    """A connection of this user, who is kmqd's own: what the program itself refuses, it refuses everybody."""
    one = socket.socket(socket.AF_UNIX)
    one.settimeout(30)
    one.connect(str(run / client.LOOK_SOCKET))
    return one


def watching(kmqd: Kmqd) -> tuple[socket.socket, int]:
    """A program that goes on, as its client has it: the connection, and where it writes to."""
    one = asker(kmqd.run)
    reading, writing = os.pipe()
    socket.send_fds(one, [encode(Look(["mailq", "--watch"]))], [writing] * 3)
    os.close(writing)
    heard_until(reading, b"3 messages, ")
    return one, reading


def test_a_program_ends_with_its_client(kmqd: Kmqd) -> None:
    one, reading = watching(kmqd)
    assert len(programs(kmqd)) == 1
    one.close()
    until(lambda: programs(kmqd) == [], "nobody looks any more")
    os.close(reading)


def test_a_program_ends_on_ctrl_c(kmqd: Kmqd) -> None:
    one, reading = watching(kmqd)
    one.send(bytes([signal.SIGTERM, signal.SIGKILL, signal.SIGINT]))
    assert [answer.status for answer in answers(one)][-1] == 0, "a picture ends in order, and only by Ctrl-C"
    os.close(reading)
    one.close()


def test_a_program_ends_with_the_process_that_began_it(kmqd: Kmqd) -> None:
    one, reading = watching(kmqd)
    [program] = programs(kmqd)
    kmqd.kill("index-1")
    until(lambda: not Path(f"/proc/{program}").exists(), "it is gone")
    assert all(answer.status < 0 for answer in answers(one)), "the client hears the end"
    os.close(reading)
    one.close()
    kmqd.ready()
    watching(kmqd)[0].close()
    until(lambda: programs(kmqd) == [], "the next one serves")


def test_nobody_takes_all_places(kmqd: Kmqd) -> None:
    """Not by saying nothing, either."""
    with contextlib.ExitStack() as held:
        for _ in range(looks.OF_ONE):
            held.enter_context(asker(kmqd.run))
        until(lambda: len(programs(kmqd)) == looks.OF_ONE, "each has one")
        with asker(kmqd.run) as one:
            [answer] = answers(one)
        assert (answer.status, answer.text) == (75, f"uid {os.getuid()} looks 4 times at once already")
    until(lambda: programs(kmqd) == [], "who is gone holds no place")


def answers(one: socket.socket) -> list[Answer]:
    frames, heard = Reader(), list[Answer]()
    with contextlib.suppress(ConnectionResetError):
        while received := one.recv(1 << 16):
            heard += [frame for frame, _ in frames.feed(received) if isinstance(frame, Answer)]
    return heard


# --- what is refused --------------------------------------------------------------------------------------------------


def asked(run: Path, text: bytes, descriptors: list[int]) -> Answer:
    """How it ends, as `kmq` hears it."""
    with asker(run) as one:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            sent = socket.send_fds(one, [text], descriptors) if descriptors else one.send(text)
            one.sendall(text[sent:])
        return next(answer for answer in answers(one) if answer.status >= 0)


@pytest.mark.parametrize(
    "words",
    [
        ["remove", "--all", "--yes"],
        ["suspend", "--ids-from", "/etc/shadow", "--what-if"],
        ["export", "--all", "--what-if", "--to", "/"],
        ["report", "--log", "/etc/shadow"],
        ["submit", "/etc/shadow", "--to", "a@far.test"],
        ["snapshot", "/tmp/never-made"],
        ["-c", "/etc/shadow", "fsck"],
        ["mailq", "--no-such-option"],
        [],
        ["\0"],
    ],
)
def test_nothing_but_looking_is_done(kmqd: Kmqd, words: list[str]) -> None:
    reading, writing = os.pipe()
    answer = asked(kmqd.run, encode(Look(words)), [writing] * 3)
    os.close(writing)
    said = os.read(reading, 1 << 16).decode()
    os.close(reading)
    assert answer.status == 2
    assert "root:" not in said
    assert not answer.text
    assert len(kmqd.queued()) == 3
    assert not Path("/tmp/never-made").exists()


def test_another_configuration_is_not_opened(kmqd: Kmqd) -> None:
    """-c says only whom to ask: kmqd looks by its own."""
    reading, writing = os.pipe()
    answer = asked(kmqd.run, encode(Look(["-c", "/etc/shadow", "mailq", "--ids"])), [writing] * 3)
    os.close(writing)
    with open(reading) as seen:
        assert (answer.status, len(seen.read().split())) == (0, 3)


def test_only_terminals_and_pipes_are_written_to(kmqd: Kmqd, tmp_path: Path) -> None:
    reading, writing = os.pipe()
    ours, theirs = socket.socketpair()
    path = tmp_path / "file"
    words = encode(Look(["mailq"]))
    with open(path, "w") as file, open(os.devnull) as nothing, ours, theirs:
        for descriptors in (
            [],
            [writing] * 2,
            [writing, file.fileno(), writing],
            [writing, writing, theirs.fileno()],
            [writing, nothing.fileno(), writing],
        ):
            answer = asked(kmqd.run, words, descriptors)
            assert (answer.status, bool(answer.text)) == (2, True), descriptors
        assert asked(kmqd.run, words, [writing, reading, writing]).status not in (0, -1), "it cannot be written to"
    assert path.read_bytes() == b""
    os.close(reading)
    os.close(writing)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"\0" * 100,
        b"GET / HTTP/1.0\r\n\r\n",
        LENGTHS.pack(1 << 31, 1 << 31),
        encode(Answer(status=0)),
        encode(Look(["mailq", "--filter", "x" * 1_000_000])),
        LENGTHS.pack(20, 0) + b'{"t":"look","words":',
    ],
)
def test_nonsense_is_refused(kmqd: Kmqd, text: bytes) -> None:
    reading, writing = os.pipe()
    if text:
        answer = asked(kmqd.run, text, [writing] * 3)
        assert (answer.status, answer.text != "") == (2, True)
    else:
        with asker(kmqd.run) as one:
            one.shutdown(socket.SHUT_WR)
            assert answers(one)[-1].status == 2
    os.close(reading)
    os.close(writing)


def test_of_an_environment_only_the_terminal_counts() -> None:
    good = {"TERM": "xterm-256color", "NO_COLOR": "1", "TZ": "Europe/Vienna"}
    assert all(behalf._ENVIRONMENT[name].fullmatch(value) for name, value in good.items())
    assert behalf._ENVIRONMENT["TZ"].fullmatch("CET-1CEST,M3.5.0,M10.5.0/3")
    for wrong in (":/etc/shadow", "/etc/shadow", "Europe/../../../../etc/shadow", "", "a\n", "x" * 200):
        assert not behalf._ENVIRONMENT["TZ"].fullmatch(wrong), wrong
    assert set(behalf._ENVIRONMENT) == {"TERM", "NO_COLOR", "TZ"}
    assert looks._environment({"PATH": "/bin", "KMQ_CONF": "x", "LD_PRELOAD": "y"}) == {"PATH": "/bin"}


def test_every_verb_is_judged() -> None:
    """What is new is refused, until somebody says that it only looks."""
    assert set(VERBS) >= ALWAYS | FORESEEN
    assert ALWAYS.isdisjoint(FORESEEN)
    whole = parser()
    for words in (
        ["mailq"],
        ["replay", "--list"],
        ["remove", "--all", "--what-if"],
        ["suspend", "--queue", "x", "--what-if"],
    ):
        assert not objection(whole.parse_args(words))
    for words in (
        ["remove", "--all"],
        ["replay", "--since", "1h"],
        ["doctor"],
        ["poison", "list"],
        ["restore", "x", "--what-if"],
    ):
        assert objection(whole.parse_args(words))


def test_who_only_looks_asks_kmqd_for_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last line, should a verb that only looks act one day."""
    monkeypatch.setattr(client, "_looks", False)
    client.only_look()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / client.SOCKET))
        listener.listen()
        with pytest.raises(UsageError, match="remove is not for who only looks"):
            client.ask(tmp_path, "remove", {"all": True})


def test_what_takes_too_much_is_ended() -> None:
    def run(deed: str) -> int:
        return subprocess.run(
            [sys.executable, "-c", f"from kmq.cli import behalf; {deed}"], stderr=subprocess.DEVNULL
        ).returncode

    spin = "behalf.WORK = 1; behalf._limit(False)\nwhile True: pass"
    assert run(spin) == -signal.SIGXCPU
    assert run("behalf.TIME = 1; behalf._limit(False); import time; time.sleep(60)") == -signal.SIGALRM
    assert run("behalf._limit(True); bytearray(2 << 30)") == 1
    assert looks._answer(-signal.SIGXCPU).text == "broken off: this takes too much processor time"
    assert looks._answer(-signal.SIGSEGV).status == 1
    assert resource.getrlimit(resource.RLIMIT_AS)[0] != behalf.MEMORY, "ours are as they were"


@pytest.mark.root
def test_while_kmqd_does_not_run_one_hears_whom_to_ask(kmqd: Kmqd) -> None:
    """Last: the others need it."""
    assert kmqd.stop() == 0
    status, seen = by_member(kmqd, [VIEWERS], "mailq")
    assert (status, "ask as root or as the user that kmqd runs as" in seen) == (78, True)
    assert stat.S_ISSOCK((kmqd.run / client.LOOK_SOCKET).stat().st_mode), "its name stays"
