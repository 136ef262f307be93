"""A child is forked, and has nothing of its parent's but the program and its share."""

import subprocess
import sys

_PARENT = """
import atexit, os, resource, signal, sys
from kmq.run import birth

signal.signal(signal.SIGTERM, lambda *_: print("the parent's handler", flush=True))
atexit.register(print, "the parent ends")
secret, share = os.open("/dev/zero", os.O_RDONLY), os.open("/dev/zero", os.O_RDONLY)

def live(role, number):
    {life}

try:
    pid, pidfd = birth.bear("worker", 2, live, {{"GIVEN": "this"}}, [share])
except OSError as error:
    print(error.strerror)
else:
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""


def told(life: str) -> list[str]:
    """What parent and child say, and the child's exit status, where this is its life."""
    command = [sys.executable, "-c", _PARENT.format(life=life)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    return (done.stdout + done.stderr).splitlines()


def test_a_child_has_its_share_and_its_surroundings() -> None:
    life = (
        "print(role, number, os.environ['GIVEN'], os.fstat(share).st_rdev == os.stat('/dev/zero').st_rdev, flush=True);"
        "os.fstat(secret)"
    )
    said = told(life)
    assert said[:3] == ["worker 2 this True", "70", "the parent ends"]
    assert "Bad file descriptor" in said[-1], "and it says what it met"


def test_a_child_s_end_is_its_own() -> None:
    assert told("sys.exit(78)") == ["78", "the parent ends"]
    assert told("return 75") == ["75", "the parent ends"]


def test_a_child_hears_no_signal_as_its_parent_would() -> None:
    assert told("os.kill(os.getpid(), signal.SIGINT); os.kill(os.getpid(), signal.SIGTERM)") == [
        "-15",
        "the parent ends",
    ]
    alive = "os.kill(os.getpid(), signal.SIGUSR1); return 3"
    assert told(alive) == ["3", "the parent ends"], "a rotation is not heard before it is heeded"


def test_what_its_threads_do_is_done() -> None:
    life = "import threading, time; threading.Timer(0.05, print, ['done'], {'flush': True}).start(); return 0"
    assert told(life) == ["done", "0", "the parent ends"]


def test_a_child_whose_end_nobody_would_hear_of_is_none() -> None:
    program = _PARENT.format(life="signal.pause()")
    program = program.replace("try:", "resource.setrlimit(resource.RLIMIT_NOFILE, (share + 1, share + 1))\ntry:")
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.splitlines() == ["Too many open files", "the parent ends"]
