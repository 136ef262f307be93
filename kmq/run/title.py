"""What a process is called in ps and top: a forked child has its parent's command line, until it is given its own.

Promise:  ps shows `kmqd: worker-1` (cut, where the command that started kmqd was shorter than that). The process's
          name, which top shows, is `kmqd-worker`: nobody but the supervisor is just `kmqd`, so `pkill -x kmqd` and
          `killall kmqd` reach it alone (without -x, pkill and pgrep mean each name that has `kmqd` in it). Where the
          kernel does not tell where a command line lies, it stays as it is.
Callers:  run/birth.
"""

import ctypes
from pathlib import Path

#: prctl(2).
_SET_NAME = 15

#: Of /proc/self/stat, counted behind the name (proc_pid_stat(5): arg_start and arg_end are numbers 48 and 49).
_ARGUMENTS = slice(45, 47)


def call(role: str, number: int) -> None:
    """This process is this child of kmqd."""
    ctypes.CDLL(None).prctl(_SET_NAME, f"kmqd-{role}".encode(), 0, 0, 0)
    try:
        begin, end = map(int, Path("/proc/self/stat").read_text().rpartition(")")[2].split()[_ARGUMENTS])
    except (OSError, ValueError):
        return
    room = end - begin
    if begin and room > 0:
        ctypes.memmove(begin, f"kmqd: {role}-{number}".encode()[: room - 1].ljust(room, b"\0"), room)
