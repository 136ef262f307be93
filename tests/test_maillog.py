"""The mail log: words and keys in their order, nothing forged, nothing lost without being counted."""

import ast
import asyncio
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as some

from kmq import log
from kmq.log import mail
from kmq.log.lines import KEEP, Log
from kmq.log.outlet import LogFile, Syslog
from kmq.log.text import shown, unshown

KMQ = Path(log.__file__).parents[1]
ID = "69212ad0-0000a1f3"
TIME = re.compile(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z ")


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    """Whatever a test made of this process's log."""
    yield
    log.start("tests", "info", "stderr")


def lines_of(path: Path) -> list[str]:
    lines = path.read_text().splitlines()
    assert all(TIME.match(line) for line in lines)
    return [re.sub(r"\[\d+\]", "[]", TIME.sub("", line)) for line in lines]


# --- words and keys ---------------------------------------------------------------------------------------------------


def test_every_word_has_its_keys_in_the_order_of_the_table() -> None:
    order = list(mail.KEYS)
    for word, found in mail.WORDS.items():
        places = [order.index(key) for key in found.keys]
        assert places == sorted(places), word
    used = {key for found in mail.WORDS.values() for key in found.keys}
    assert used == set(mail.KEYS), "a key that no line has"


def test_a_line_has_the_order_of_the_table_however_it_was_said(tmp_path: Path) -> None:
    log.start("worker-1", "info", str(tmp_path / "mail"))
    said = {key: f"v{place}" for place, key in enumerate(mail.KEYS) if key in mail.WORDS["delivered"].keys}
    mail.tell("delivered", ID, dict(reversed(said.items())))
    mail.tell("accepted", ID, {"from": "", "to": "a b@example.org", "size": 0, "user": None}, helo="")
    mail.tell("flush", by="uid 0", new=1)
    first, second, third = lines_of(tmp_path / "mail")
    assert re.findall(r" (\w+)=", first) == list(mail.WORDS["delivered"].keys)
    assert first.startswith(f"worker-1[]: delivered {ID} from=<v0> to=<v1> orig_to=<v2> relay=v3 ")
    assert second == f'worker-1[]: accepted {ID} from=<> to="<a b@example.org>" helo="" size=0'
    assert third == 'worker-1[]: flush by="uid 0" new=1', "what has no place is at the end, not nowhere"


def test_what_the_program_says_stands_in_the_tables() -> None:
    """Every literal word of a `tell`, with its literal keys."""
    count = 0
    for path in KMQ.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if not (isinstance(node, ast.Call) and ast.unparse(node.func) == "mail.tell"):
                continue
            count += 1
            keys = {word.arg for word in node.keywords} - {None, "keys", "besides"}
            where = f"{path.name}:{node.lineno}"
            assert keys <= set(mail.KEYS), where
            if node.args and isinstance(node.args[0], ast.Constant):
                assert node.args[0].value in mail.WORDS, where
                assert keys <= set(mail.WORDS[node.args[0].value].keys), where
    assert count >= 5, "the test looks for calls that are not there any more"


def test_the_manual_has_every_word_and_key() -> None:
    text = (KMQ.parent / "man" / "kmq-log.5").read_text()
    words = re.findall(r"^\.It Ic ([a-z-]+)\n(.*)\n\.br\n(.*)$", text.partition(".Ss Words")[2], re.MULTILINE)
    assert words == [(word, found.means, " ".join(found.keys)) for word, found in mail.WORDS.items()]
    keys = re.findall(r"^\.It ([a-z_]+)\n(.*)$", text.partition(".Ss Keys")[2], re.MULTILINE)
    assert keys == list(mail.KEYS.items())


@given(some.text(max_size=300))
@example('" status=sent to=<x@y>\n2026-11-22T05:50:11.123Z worker-1[1]: delivered')
@example("\\x0a")
@example("\x1b[2J\u2028")
def test_a_value_is_read_back_as_it_was(text: str) -> None:
    visible = shown(text)
    assert "\n" not in visible and visible.isprintable()
    assert unshown(visible) == text or any("\ud800" <= one <= "\udfff" for one in text)


def test_a_stranger_cannot_forge_a_line(tmp_path: Path) -> None:
    log.start("receiver-1", "info", str(tmp_path / "mail"))
    attack = f'x\x1b[2J\n2026-11-22T05:50:11.123Z worker-1[1]: delivered {ID} to=<victim@example.org> status=sent "'
    keys = {name: attack for name in ("from", "to", "reply", "helo", "user")}
    mail.tell("refused", "", keys, client="192.0.2.1")
    (line,) = lines_of(tmp_path / "mail")
    bare = re.sub(r'"(?:[^"\\]|\\.)*"', "QUOTED", line)
    assert bare == "receiver-1[]: refused from=QUOTED to=QUOTED reply=QUOTED client=192.0.2.1 helo=QUOTED user=QUOTED"


@pytest.mark.parametrize(
    ("reply", "status"),
    [
        ("250 2.0.0 Ok: queued", "2.0.0"),
        ("550 5.1.1 no such user", "5.1.1"),
        ("550 5.1.1", "5.1.1"),
        ("250 ok", "2.0.0"),
        ("421", "4.0.0"),
        ("550 4.7.1 mixed up", "5.0.0"),
        ("451 4.4.x odd", "4.0.0"),
        ("rubbish", "4.0.0"),
        ("", "4.0.0"),
    ],
)
def test_the_status_code_of_a_reply(reply: str, status: str) -> None:
    assert mail.status_of(reply) == status


# --- where lines go ---------------------------------------------------------------------------------------------------


def test_without_a_word_they_stand_with_all_others() -> None:
    says = (
        "from kmq import log; from kmq.log import mail\n"
        "log.start('worker-1', 'warning')\n"
        "mail.tell('flush', by='uid 0'); mail.tell('poison', 'ID', reason='r'); log.event('quiet')\n"
    )
    done = subprocess.run([sys.executable, "-c", says], capture_output=True, text=True, check=True)
    (line,) = done.stderr.splitlines()
    assert line.endswith("]: poison ID reason=r"), "log_level holds for standard error"


def test_a_file_has_mail_alone_whatever_the_level(tmp_path: Path) -> None:
    says = (
        "import sys; from kmq import log; from kmq.log import mail\n"
        "log.start('worker-1', 'error', sys.argv[1])\n"
        "mail.tell('flush', by='uid 0'); log.event('checkpoint'); log.error('odd')\n"
    )
    done = subprocess.run([sys.executable, "-c", says, tmp_path / "mail"], capture_output=True, text=True, check=True)
    assert lines_of(tmp_path / "mail") == ['worker-1[]: flush by="uid 0"']
    assert [line.split(": ", 1)[1] for line in done.stderr.splitlines()] == ["error: odd"]
    assert (tmp_path / "mail").stat().st_mode & 0o777 == 0o640 & ~_umask()


def _umask() -> int:
    was = os.umask(0)
    os.umask(was)
    return was


def test_after_a_rotation_lines_go_to_the_new_file(tmp_path: Path) -> None:
    path = tmp_path / "mail"
    log.start("worker-1", "info", str(path))

    async def story() -> None:
        log.gather(asyncio.get_running_loop())
        mail.tell("flush", by="one")
        log.reopen()
        path.rename(tmp_path / "mail.1")
        mail.tell("flush", by="two")  # said before the signal: it belongs to the old file
        log.reopen()
        mail.tell("flush", by="three")
        log.flush()

    asyncio.run(story())
    everything = lines_of(tmp_path / "mail.1") + lines_of(path)
    assert everything == [f"worker-1[]: flush by={one}" for one in ("one", "two", "three")]
    assert lines_of(path)[-1].endswith("by=three")


def test_another_configuration_moves_the_log(tmp_path: Path) -> None:
    log.start("worker-1", "info", str(tmp_path / "one"))
    mail.tell("flush", by="a")
    log.start("worker-1", "info", str(tmp_path / "two"))
    mail.tell("flush", by="b")
    assert lines_of(tmp_path / "one") == ["worker-1[]: flush by=a"]
    assert lines_of(tmp_path / "two") == ["worker-1[]: flush by=b"]


def test_a_link_or_a_pipe_in_its_place_is_not_written_to(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("")
    (tmp_path / "link").symlink_to(victim)
    os.mkfifo(tmp_path / "pipe")
    for name in ("link", "pipe"):
        ours = Log(LogFile(str(tmp_path / name)))
        ours.event("said", "", {})
        assert ours.lost == 1
    assert victim.read_text() == ""


def test_a_file_that_cannot_be_made_is_told_of_once_and_found_when_it_can(tmp_path: Path, capfd: object) -> None:
    path = tmp_path / "not-yet" / "mail"
    log.start("worker-1", "info", str(path))
    before = log.lost()
    for _ in range(3):
        mail.tell("flush", by="a")
    assert log.lost() == before + 3
    told = capfd.readouterr().err  # type: ignore[attr-defined]
    assert told.count("the mail log cannot be written") == 1 and "No such file" in told
    path.parent.mkdir()
    mail.tell("flush", by="b")
    assert lines_of(path) == [
        "worker-1[]: flush by=b",
        "worker-1[]: warning: 3 lines of this log could not be written so far",
    ]


class Torn(LogFile):
    """A disk that becomes full in the middle of a line, and has room again later."""

    room = 100

    def _put(self, piece: bytes) -> int:
        if self.room <= 0:
            raise OSError(28, "No space left on device")
        done = super()._put(piece[: self.room])
        self.room -= done
        return done


def test_a_line_that_a_full_disk_tore_spoils_no_other(tmp_path: Path) -> None:
    outlet = Torn(str(tmp_path / "mail"))
    ours = Log(outlet, "worker-1[1]")
    for number in range(3):
        ours.event("said", "", {"number": number, "text": "x" * 20})
    assert ours.lost == 2
    outlet.room = 1000
    ours.event("said", "", {"number": 3})
    first, torn, *rest = (tmp_path / "mail").read_text().splitlines()
    assert first.endswith(f"number=0 text={'x' * 20}")
    assert TIME.match(torn) is None or "text=" not in torn
    assert [TIME.sub("", line) for line in rest] == [
        "worker-1[1]: said number=3",
        "worker-1[1]: warning: 2 lines of this log could not be written so far",
    ]


# --- syslog -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[tuple[socket.socket, str]]:
    path = str(tmp_path / "log")
    with listening(path) as listener:
        yield listener, path


def listening(path: str) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    listener.bind(path)
    listener.settimeout(10)
    return listener


def test_syslog_gets_a_datagram_a_line_of_facility_mail(daemon: tuple[socket.socket, str]) -> None:
    listener, path = daemon
    ours = Log(Syslog(path), "worker-1[42]")
    ours.add(20, "delivered")
    ours.add(30, "poison")
    pattern = (
        r"<(\d+)>(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec) [ \d]\d \d\d:\d\d:\d\d kmq/worker-1\[42\]: (\w+)"
    )
    found = [re.fullmatch(pattern, listener.recv(4096).decode()) for _ in range(2)]
    assert [one and (one[1], one[2]) for one in found] == [("22", "delivered"), ("20", "poison")]


def test_a_syslog_daemon_that_was_started_anew_is_found_again(daemon: tuple[socket.socket, str]) -> None:
    listener, path = daemon
    ours = Log(Syslog(path), "worker-1[42]")
    ours.add(20, "one")
    assert listener.recv(4096).endswith(b"one")
    listener.close()
    os.unlink(path)
    ours.add(20, "two")
    ours.add(20, "three")
    with listening(path) as another:
        ours.flush()
        assert [another.recv(4096).split()[-1] for _ in range(2)] == [b"two", b"three"]
    assert ours.lost == 0


def test_a_syslog_daemon_that_reads_nothing_stops_nobody(daemon: tuple[socket.socket, str]) -> None:
    listener, path = daemon
    ours = Log(Syslog(path), "worker-1[42]")
    said = 0
    while ours.lost < 10:
        ours.add(20, f"{said:08} {'x' * 500}")
        said += 1
    assert said * 600 > KEEP
    heard: list[int] = []
    while len(heard) + ours.lost < said:
        heard.append(int(listener.recv(4096).split()[4]))
        ours.flush()
    assert heard == list(range(len(heard)))


def test_no_syslog_at_all_is_counted_after_a_while(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from kmq.log import outlet

    ours = Log(Syslog(str(tmp_path / "nobody")), "worker-1[42]")
    troubles: list[OSError] = []
    ours.on_trouble = troubles.append
    ours.add(20, "one")
    assert ours.lost == 0, "it may come back"
    monkeypatch.setattr(outlet, "_AWAY", -1.0)
    ours.add(20, "two")
    ours.add(20, "three")
    assert ours.lost == 3
    assert len(troubles) == 1
