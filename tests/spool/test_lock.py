"""The spool has one owner, whatever happens to the owner, its lock file, or its children."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kmq.errors import SpoolLocked
from kmq.spool.lock import SPOOL_LOCK, Lock, SpoolLock, held, spool_held

#: Takes the spool's lock, says so, and keeps it until its standard input ends.
OWNER = """
import sys
from pathlib import Path
from kmq.errors import SpoolLocked
from kmq.spool.lock import SpoolLock
sys.stdin.readline()
try:
    lock = SpoolLock(Path(sys.argv[1]))
except SpoolLocked as locked:
    print(locked, flush=True)
    sys.exit(locked.exit_status)
print("won", flush=True)
sys.stdin.readline()
"""


Start = Callable[[str, Path], "subprocess.Popen[str]"]


@pytest.fixture
def start() -> Iterator[Start]:
    running: list[subprocess.Popen[str]] = []

    def begin(program: str, spool: Path) -> subprocess.Popen[str]:
        child = subprocess.Popen(
            [sys.executable, "-c", program, str(spool)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        running.append(child)
        return child

    yield begin
    for child in running:
        child.kill()
        child.communicate()


def say(child: "subprocess.Popen[str]") -> None:
    assert child.stdin
    child.stdin.write("\n")
    child.stdin.flush()


def hear(child: "subprocess.Popen[str]") -> str:
    assert child.stdout
    return child.stdout.readline().strip()


def test_of_ten_that_start_at_once_one_wins_and_the_others_name_it(start: Start, tmp_path: Path) -> None:
    children = [start(OWNER, tmp_path) for _ in range(10)]
    for child in children:
        say(child)
    words = {child.pid: hear(child) for child in children}
    winners = [pid for pid, word in words.items() if word == "won"]
    assert len(winners) == 1
    losers = [child for child in children if child.pid != winners[0]]
    assert [child.wait(10) for child in losers] == [75] * 9
    assert all(words[child.pid].endswith(f"already running (pid {winners[0]})") for child in losers)


def test_a_lock_file_that_is_deleted_while_held_lets_nobody_in(tmp_path: Path) -> None:
    owner = SpoolLock(tmp_path)
    (tmp_path / SPOOL_LOCK).unlink()
    with pytest.raises(SpoolLocked):
        SpoolLock(tmp_path)
    assert spool_held(tmp_path)
    owner.release()
    SpoolLock(tmp_path).release()


def test_a_dead_owner_leaves_the_spool_free_though_its_child_lives_and_its_pid_is_in_the_file(
    start: Start, tmp_path: Path
) -> None:
    program = OWNER.replace(
        'print("won", flush=True)',
        "import subprocess; print(subprocess.Popen(['sleep', '60'], close_fds=False).pid, flush=True)",
    )
    owner = start(program, tmp_path)
    say(owner)
    child = int(hear(owner))
    try:
        assert spool_held(tmp_path) is True
        owner.send_signal(signal.SIGKILL)
        owner.wait(10)
        assert spool_held(tmp_path) is False
        SpoolLock(tmp_path).release()
        os.kill(child, 0)
    finally:
        os.kill(child, signal.SIGKILL)


def test_the_pid_in_the_file_is_only_information(tmp_path: Path) -> None:
    (tmp_path / SPOOL_LOCK).write_text("1\n")
    lock = SpoolLock(tmp_path)
    assert (tmp_path / SPOOL_LOCK).read_text() == f"{os.getpid()}\n"
    lock.release()
    assert (tmp_path / SPOOL_LOCK).exists(), "a lock file is never unlinked"


def test_a_reader_sees_who_holds_and_disturbs_nobody(tmp_path: Path) -> None:
    path = tmp_path / "worker-1.lock"
    assert held(path) is None
    lock = Lock(path)
    assert held(path) is True
    with pytest.raises(SpoolLocked):
        Lock(path, wait=0)
    lock.release()
    assert held(path) is False
    Lock(path).release()
    assert held(path) is False


def test_a_symlink_or_a_pipe_in_place_of_a_lock_says_nothing(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").touch()
    (tmp_path / "link.lock").symlink_to(tmp_path / "elsewhere")
    assert held(tmp_path / "link.lock") is None
    os.mkfifo(tmp_path / "pipe.lock")
    assert held(tmp_path / "pipe.lock") is not True
