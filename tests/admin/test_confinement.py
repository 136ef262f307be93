"""What a confined child cannot do, also as the user to whom the queue belongs, and below Python."""

import ctypes
import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from kmq.admin.confinement import Fate, Limits, confined

LIMITS = Limits(20.0, 256 << 20)
#: Not root: root becomes nobody in the child, who owns nothing.
USER = 4711

_libc = ctypes.CDLL(None, use_errno=True)


def below(name: str, *arguments: object) -> None:
    """A call that Python does not see."""
    if getattr(_libc, name)(*arguments) < 0:
        raise OSError(ctypes.get_errno(), name)


DEEDS: dict[str, Callable[[str], object]] = {
    "write": lambda there: os.open(there, os.O_WRONLY),
    "write below": lambda there: below("open", there.encode(), os.O_WRONLY),
    "truncate": lambda there: os.truncate(there, 0),
    "truncate below": lambda there: below("truncate", there.encode(), 0),
    "truncate while reading": lambda there: os.open(there, os.O_RDONLY | os.O_TRUNC),
    "mode": lambda there: os.chmod(there, 0),
    "mode below": lambda there: below("chmod", there.encode(), 0),
    "times": lambda there: os.utime(there, (0, 0)),
    "attributes": lambda there: os.setxattr(there, "user.kmq", b"x"),
    "unlink": lambda there: os.unlink(there),
    "rename": lambda there: os.rename(there, f"{there}.other"),
    "link": lambda there: os.link(there, f"{there}.other"),
    "new file": lambda there: os.open(f"{there}.other", os.O_CREAT | os.O_WRONLY),
    "new folder": lambda there: os.mkdir(f"{there}.other"),
    "new fifo": lambda there: os.mkfifo(f"{there}.other"),
    "a signal": lambda there: os.kill(os.getppid(), 0),
    "a signal below": lambda there: below("kill", os.getppid(), 0),
    "a signal to all": lambda there: below("kill", -1, 0),
    "limits of another": lambda there: resource.prlimit(os.getppid(), resource.RLIMIT_NOFILE, (1, 1)),
    "fork below": lambda there: below("fork"),
    "socket below": lambda there: below("socket", 1, 1, 0),
}


def tried(there: str) -> list[str]:
    said = []
    for name, deed in DEEDS.items():
        try:
            deed(there)
            said.append(name)
        except OSError:
            pass
    return said


@pytest.mark.parametrize("uid", [0, USER], ids=["as root", "as the queue's user"])
def test_nothing_is_changed_and_nobody_else_hears_of_it(tmp_path: Path, uid: int) -> None:
    if os.geteuid() != 0:
        uid = os.geteuid()  # who is not root can only be himself
    there = tmp_path / "there"
    there.write_text("kept")
    there.chmod(0o666)
    for one in (tmp_path, there):
        os.chown(one, uid, uid)
    before = there.stat()
    for folder in [tmp_path, *tmp_path.parents[:2]]:
        folder.chmod(0o777)
    assert _as(uid, str(there)) == (Fate.PASSED.name, [], "kept")
    assert there.read_text() == "kept"
    after = there.stat()
    assert (after.st_mode, after.st_mtime_ns, after.st_nlink) == (before.st_mode, before.st_mtime_ns, before.st_nlink)
    assert [one.name for one in tmp_path.iterdir()] == ["there"]


def _as(uid: int, there: str) -> tuple[str, list[str], str]:
    """The fate, the deeds that could be done, and what was read, in a process of this user."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            if os.geteuid() != uid:
                os.setgroups([])
                os.setgid(uid)
                os.setuid(uid)
            ending = confined(lambda: [*tried(there), Path(there).read_text()], LIMITS)
            os.write(writing, json.dumps([ending.fate.name, ending.said[:-1], ending.said[-1]]).encode())
        finally:
            os._exit(0)
    os.close(writing)
    with open(reading, "rb") as answer:
        text = answer.read()
    os.waitpid(pid, 0)
    fate, said, read = json.loads(text)
    return fate, said, read


def test_a_signal_to_itself_is_what_it_is() -> None:
    for number in (signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS):
        ending = confined(lambda number=number: [signal.raise_signal(number)], LIMITS)  # type: ignore[misc,list-item]
        assert (ending.fate, ending.cause) == (Fate.CRASHED, number.name)
    ending = confined(lambda: [_libc.abort()], LIMITS)
    assert (ending.fate, ending.cause) == (Fate.CRASHED, "SIGABRT")


def test_ctrl_c_leaves_no_child_behind() -> None:
    program = (
        "import os, time\n"
        "from kmq.admin.confinement import Limits, confined\n"
        "def work():\n"
        "    os.write(1, b'%d\\n' % os.getpid())\n"
        "    time.sleep(60)\n"
        "confined(work, Limits(60.0))\n"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as running:
        assert running.stdout is not None
        child = int(running.stdout.readline())
        running.send_signal(signal.SIGINT)
        _, err = running.communicate(timeout=30)
    assert b"KeyboardInterrupt" in err
    assert not Path(f"/proc/{child}").exists()
