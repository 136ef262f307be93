"""kmq-deliver, with the rights, limits and system calls of its unit: who is delivered to, as whom, and who is not."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.users import ASKING, MAIL, TREE, USERS, Machine, answer, has_libseccomp, machine, opened
from tests.waiting import until

ROOT = [
    pytest.mark.root,
    pytest.mark.skipif(not shutil.which("setpriv"), reason="needs setpriv (Debian: util-linux)"),
    pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="needs systemd-analyze (Debian: systemd)"),
    pytest.mark.skipif(not has_libseccomp(), reason="needs libseccomp (Debian: libseccomp2)"),
]


@pytest.fixture(scope="module")
def shared() -> Iterator[Machine]:
    """One for all tests that leave it as it was."""
    with machine() as one:
        yield one


@pytest.fixture(autouse=True)
def clean(request: pytest.FixtureRequest) -> None:
    if "shared" in request.fixturenames:
        one: Machine = request.getfixturevalue("shared")
        for name in USERS:
            for path in one.home(name).iterdir():
                path.unlink() if path.is_symlink() or path.is_file() else shutil.rmtree(path)
        for path in one.spool.iterdir():
            path.unlink()


def owner(path: Path) -> tuple[int, int, int]:
    found = path.lstat()
    return found.st_uid, found.st_gid, found.st_mode & 0o7777


# --- the program ------------------------------------------------------------------------------------------------------


def test_it_is_small_and_imports_the_standard_library_alone() -> None:
    """And its children load nothing of the machine's but kmq: a home, where they may be, is no place to import from."""
    assert len((TREE / "kmq/cli/deliver.py").read_text().splitlines()) < 300
    told = (
        "import sys; site = set(sys.modules); import kmq.cli.deliver; "
        "first = set(sys.modules); import kmq.phases.own_hands; "
        "print(*sorted(name for name in first if name.startswith('kmq'))); "
        "print(*sorted({name.split('.')[0] for name in set(sys.modules) - site} - sys.stdlib_module_names)); "
        "print(*sorted(name for name in set(sys.modules) - first if not name.startswith('kmq')))"
    )
    run = subprocess.run([sys.executable, "-c", told], capture_output=True, text=True, check=True)
    own, foreign, later = run.stdout.split("\n")[:3]
    assert own == "kmq kmq.cli kmq.cli.deliver"
    assert foreign == "kmq"
    assert later == ""


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="needs systemd-analyze (Debian: systemd)")
def test_the_unit_gives_little_away_and_has_no_mistakes(tmp_path: Path) -> None:
    for path in (TREE / "systemd").glob("kmq-deliver.*"):
        shutil.copy(path, tmp_path)
    env = {"SYSTEMD_UNIT_PATH": f"{tmp_path}:"}
    unit = tmp_path / "kmq-deliver.service"
    command = ["systemd-analyze", "security", "--offline=true", "--no-pager", str(unit)]
    judged = subprocess.run(command, capture_output=True, text=True, env=env).stdout
    level = re.search(r"Overall exposure level for kmq-deliver.service: ([\d.]+)", judged)
    assert level and float(level[1]) <= 3.0, judged
    for name in ("kmq-deliver.service", "kmq-deliver.socket"):
        verify = ["systemd-analyze", "verify", "--man=no", tmp_path / name]
        complaints = subprocess.run(verify, capture_output=True, text=True, env=env).stderr.splitlines()
        assert [line for line in complaints if not line.endswith("No such file or directory")] == []


def test_kmqd_s_own_unit_has_no_such_right() -> None:
    text = (TREE / "systemd/kmq.service").read_text()
    assert "CAP_SETUID" not in text and "CAP_SETGID" not in text
    bounds = re.findall(r"^CapabilityBoundingSet=(.*)$", (TREE / "systemd/kmq-deliver.service").read_text(), re.M)
    assert bounds == ["CAP_SETUID CAP_SETGID"]


def test_it_does_not_begin_without_a_socket_or_for_nobody(tmp_path: Path) -> None:
    for more, why in (([], "there is no socket"), (["--from", "no-such-user"], "cannot begin")):
        run = subprocess.run(
            [sys.executable, "-m", "kmq.cli.deliver", "--from", "root", *more], capture_output=True, text=True
        )
        assert run.returncode == 71
        assert why in run.stderr


# --- as the user ------------------------------------------------------------------------------------------------------


class TestDeliveries:
    """Each as root would see it afterwards."""

    pytestmark = ROOT

    def test_into_the_maildir_of_his_home_once(self, shared: Machine) -> None:
        for more in ("", " (by an earlier attempt)"):
            said = shared.ask("alice", "maildir")
            assert said == f"250 2.0.0 delivered to alice/Maildir/new/6b031110-00000001.0.mx{more}"
        (path,) = (shared.home("alice") / "Maildir/new").iterdir()
        assert path.read_bytes() == b"Subject: x\n\nhello\n"
        assert owner(path) == (3001, 3001, 0o600)
        assert owner(shared.home("alice") / "Maildir") == (3001, 3001, 0o700)

    def test_into_his_mbox_whose_folder_is_a_group_s(self, shared: Machine) -> None:
        assert shared.ask("bob", "mbox") == "250 2.0.0 delivered to bob"
        assert shared.ask("bob", "mbox").endswith("(by an earlier attempt)")
        path = shared.spool / "bob"
        assert owner(path) == (3002, MAIL, 0o600)
        assert path.read_bytes().startswith(b"From s@x.test ")
        assert path.read_bytes().count(b"\nhello\n") == 1
        assert [one.name for one in shared.spool.iterdir()] == ["bob"], "no lock is left"

    def test_a_folder_a_quota_and_a_size_in_the_name_go_along(self, shared: Machine) -> None:
        said = shared.ask("alice", "maildir", extension="lists", create_folder=True, sized=True)
        assert said == "250 2.0.0 delivered to alice/Maildir/.lists/new/6b031110-00000001.0.mx,S=18,W=21"
        said = shared.ask("alice", "maildir", name="6b031110-00000002.0.mx", limits=(10, 0, True))
        assert said.startswith("552 5.2.2 the mailbox is full: 18 bytes, 1 messages, the quota is 10 bytes")

    def test_a_command_is_his_and_has_no_way_back(self, shared: Machine) -> None:
        names = "^(Uid|Gid|Groups|Cap(Prm|Eff|Bnd|Amb)|NoNewPrivs|Seccomp):"
        shared.command("shows", f'grep -E "{names}" /proc/self/status; ls /proc/self/fd; ulimit -c -n -u; pwd; umask')
        said = " ".join(shared.ask("alice", "command", command="shows").split())
        assert "Uid: 3001 3001 3001 3001 Gid: 3001 3001 3001 3001 Groups: 3001 3300 " in said
        assert "CapPrm: 0000000000000000 CapEff: 0000000000000000 CapBnd: 00000000000000c0" in said
        assert "CapAmb: 0000000000000000 NoNewPrivs: 1 Seccomp: 2 0 1 2 3 " in said, "and ls's own descriptor"
        assert f"{shared.home('alice')} 0077" in said

    def test_a_command_reads_the_message_and_is_told_whose_it_is(self, shared: Machine) -> None:
        shared.command("keeps", 'cat > "$HOME/kept"; echo "$@" $USER $RECIPIENT $EXTENSION; id -un 2>/dev/null; exit 0')
        said = shared.ask("bob", "command", command="keeps", extension="x y", recipient="bob+x@here.test")
        assert said.startswith("250 2.0.0 delivered to keeps.sh: x y from=s@x.test bob bob+x@here.test x y")
        assert (shared.home("bob") / "kept").read_bytes() == b"Subject: x\n\nhello\n"
        assert owner(shared.home("bob") / "kept") == (3002, 3002, 0o600)

    def test_what_a_command_says_is_the_reply(self, shared: Machine) -> None:
        shared.command("refuses", "echo we know no such person; exit 67")
        said = shared.ask("alice", "command", command="refuses")
        assert said == "550 5.1.1 refuses.sh: user unknown: we know no such person"

    def test_the_text_is_not_the_command_s_to_change(self, shared: Machine) -> None:
        shared.command("writes", "echo more >&0 || exit 75")
        assert shared.ask("alice", "command", command="writes").startswith("451 4.3.0 writes.sh: temporary failure")


# --- nobody else ------------------------------------------------------------------------------------------------------


class TestRefusals:
    """Whatever is wrong is temporary: mail waits."""

    pytestmark = ROOT

    @pytest.mark.parametrize(
        ("user", "why"),
        [
            ("root", "root is no person: uid 0 is not in 1000 to 60000"),
            ("daemon", "daemon is no person: uid 1"),
            ("nobody", "nobody is no person: uid 65534"),
            ("boss", "boss would be a member of root's group"),
            ("stranger", "there is no user 'stranger'"),
            ("../alice", "there is no user '../alice'"),
            ("", "there is no user ''"),
        ],
    )
    def test_only_people_are_delivered_to(self, shared: Machine, user: str, why: str) -> None:
        for kind in ("maildir", "mbox", "command"):
            assert shared.ask(user, kind).startswith(f"451 4.3.5 kmq-deliver: {why}")

    def test_only_the_user_who_may_ask_is_heard(self, shared: Machine) -> None:
        assert as_uid(ASKING, shared) == "451 4.3.5 kmq-deliver: a request is one packet with one descriptor"
        for uid in (3002, 1, 65534):
            assert as_uid(uid, shared) == f"451 4.3.5 kmq-deliver: uid {uid} is not heard here"

    @pytest.mark.parametrize(
        "request_",
        [
            b"",
            b"\n",
            b"2 alice maildir 5\n{}",
            b"1 alice shell 5\n{}",
            b"1 alice maildir -1\n{}",
            b"1 alice\n",
            b"\xff",
        ],
    )
    def test_what_is_no_request_is_nothing(self, shared: Machine, request_: bytes) -> None:
        assert raw(shared, request_, 1).startswith("451 4.3.")
        assert shared.home("alice").exists() and not list(shared.home("alice").iterdir())

    @pytest.mark.parametrize(
        "words",
        [
            b"",
            b"null",
            b"[]",
            b'{"name":"../x","created":1}',
            b'{"name":"/etc/x","created":1}',
            b'{"name":".x","created":1}',
            b'{"name":"x","created":1,"limits":[1]}',
            b'{"name":"x","created":1,"home":"/etc"}',
            b"\xff\xfe",
            b'{"name":5,"created":"x"}',
        ],
    )
    def test_words_that_mean_nothing_do_nothing(self, shared: Machine, words: bytes) -> None:
        for kind in (b"maildir", b"mbox", b"command"):
            assert raw(shared, b"1 alice %b 5\n" % kind + words, 1).startswith("451 4.")
        assert not list((shared.home("alice")).rglob("new/*"))

    def test_a_request_has_one_file_that_is_read(self, shared: Machine, tmp_path: Path) -> None:
        line = b"1 alice maildir 5\n{}"
        for count in (0, 2, 4):
            assert raw(shared, line, count).endswith("a request is one packet with one descriptor")
        assert "open for reading alone" in raw(shared, line, 1, os.O_RDWR)
        with shared.connected() as connection:
            reading, writing = os.pipe()
            socket.send_fds(connection, [line], [reading])
            assert "open for reading alone" in answer(connection)
            os.close(reading)
            os.close(writing)
        assert "one packet" in raw(shared, line + b"x" * 40_000, 1)

    def test_no_link_of_his_leads_elsewhere(self, shared: Machine) -> None:
        """Nor into what another user could reach."""
        (shared.home("alice") / "Maildir").symlink_to(shared.home("bob"))
        assert shared.ask("alice", "maildir").startswith("451 4.3.5 not a folder of its own, or a link")
        (shared.spool / "alice").symlink_to("/etc/passwd")
        assert shared.ask("alice", "mbox").startswith("451 4.3.5 not a folder of its own, or a link")
        assert list(shared.home("bob").iterdir()) == []

    def test_what_he_may_not_write_is_not_written(self, shared: Machine) -> None:
        box = shared.home("alice") / "Maildir"
        box.mkdir()
        assert shared.ask("alice", "maildir").startswith("451 4.3.0 local storage error: Permission denied")
        shared.home("alice").rename(shared.folder / "away")
        try:
            assert shared.ask("alice", "maildir").startswith("451 4.3.0 local storage error: No such file")
        finally:
            (shared.folder / "away").rename(shared.home("alice"))

    def test_a_command_is_one_that_root_named(self, shared: Machine) -> None:
        assert "names no command 'sh'" in shared.ask("alice", "command", command="sh")
        with shared.commands.open("a") as file:
            file.write("short = sh -c true\nempty =\n")
        assert "has no whole path" in shared.ask("alice", "command", command="short")
        assert "has no whole path" in shared.ask("alice", "command", command="empty")
        shared.commands.chmod(0o666)
        try:
            assert "is not root's alone to write" in shared.ask("alice", "command", command="short")
        finally:
            shared.commands.chmod(0o644)

    @pytest.mark.parametrize(("extension", "why"), [("-rf", "begins with a hyphen"), ("a\nb", "characters that no")])
    def test_an_address_is_no_option(self, shared: Machine, extension: str, why: str) -> None:
        shared.command("echoes", "echo never")
        said = shared.ask("alice", "command", command="echoes", extension=extension)
        assert said.startswith("553 5.1.3") and why in said


def raw(one: Machine, request: bytes, count: int, flags: int = os.O_RDONLY) -> str:
    with one.connected() as connection, opened(b"x\n", flags) as body:
        socket.send_fds(connection, [request], [body] * count) if count else connection.send(request)
        return answer(connection)


def as_uid(uid: int, one: Machine) -> str:
    """What a user hears who says something."""
    ours, theirs = socket.socketpair()
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setresgid(uid, uid, uid)
            os.setresuid(uid, uid, uid)
            with one.connected() as connection:
                if uid == ASKING:
                    connection.send(b"1 alice maildir 5")
                theirs.send(connection.recv(4096))
        finally:
            os._exit(0)
    theirs.close()
    with ours:
        said = ours.recv(4096).decode()
    os.waitpid(child, 0)
    return said


# --- limits -----------------------------------------------------------------------------------------------------------


class TestLimits:
    """One user's trouble is his own."""

    pytestmark = ROOT

    def test_a_command_that_takes_too_long_is_ended_with_all_that_it_began(self, shared: Machine) -> None:
        shared.command("hangs", "sleep 600 & echo $! > $HOME/pid; wait")
        said = shared.ask("alice", "command", command="hangs", seconds=1)
        assert said.startswith("451 4.3.0 hangs.sh was ended: it took longer than time_limit")
        pid = int((shared.home("alice") / "pid").read_text())
        until(lambda: ended(pid), "what it began is ended, too")

    def test_who_is_stuck_keeps_others_from_nothing(self) -> None:
        with machine("--per-user", "2", "--children", "4") as one:
            one.command("stuck", "touch $HOME/begun-$EXTENSION; exec sleep 600")
            with (
                one.asked("alice", "command", command="stuck", extension="1"),
                one.asked("alice", "command", command="stuck", extension="2"),
            ):
                until(lambda: len(list(one.home("alice").iterdir())) == 2, "both have begun")
                assert one.ask("alice", "maildir") == "451 4.3.5 kmq-deliver: alice has 2 deliveries in hand already"
                assert one.ask("bob", "maildir").startswith("250 2.0.0 delivered")

    def test_a_child_that_a_user_kills_answers_nothing(self) -> None:
        with machine() as one:
            one.command("kills", "kill -KILL $PPID")
            assert one.ask("alice", "command", command="kills") == ""
            assert one.ask("alice", "maildir").startswith("250 2.0.0 delivered")

    def test_a_stopped_child_is_only_its_user_s(self) -> None:
        with machine("--per-user", "1") as one:
            one.command("stops", "kill -STOP $PPID; touch $HOME/stopped; exit 0")
            with one.asked("alice", "command", command="stops", seconds=1):
                until(lambda: (one.home("alice") / "stopped").exists(), "it has stopped its parent")
                assert "in hand already" in one.ask("alice", "maildir")
                assert one.ask("bob", "mbox").startswith("250 2.0.0 delivered")

    def test_a_text_that_is_too_large_is_not_begun(self) -> None:
        with machine("--size-limit", "1000") as one:
            said = one.ask("alice", "maildir", b"x" * 1001)
            assert said == "451 4.3.5 kmq-deliver: the text has 1001 bytes, --size-limit is 1000"
            assert one.ask("alice", "maildir", b"x" * 1000).startswith("250")

    def test_what_is_in_hand_is_brought_to_its_end(self) -> None:
        with machine() as one:
            one.command("slow", "touch $HOME/begun; until test -e $HOME/go; do sleep 0.05; done")
            with one.asked("alice", "command", command="slow") as connection:
                until(lambda: (one.home("alice") / "begun").exists(), "it has begun")
                assert one.process is not None
                one.process.send_signal(signal.SIGTERM)
                with pytest.raises(subprocess.TimeoutExpired):
                    one.process.wait(1)  # systemd ends what is left when it has gone
                (one.home("alice") / "go").touch()
                assert answer(connection).startswith("250 2.0.0 delivered to slow.sh")
            assert one.process.wait(60) == 0


def ended(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True
