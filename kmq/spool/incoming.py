"""Names in incoming/: each tells which process made it for a large body: a receiver, or a worker for an alias (J6).

Shape:    `<number>-<pid>-<start>-<serial>`, the number being the receiver's, or 0 for a worker; the start is the
          kernel's, in clock ticks since the machine came up: a pid that is used again is not mistaken for the process
          that had it before.
Promise:  `lives` is true for every file that a living process may still hand over; what it is false for may go when
          no record names it.
On crash: a file stays; recovery, or the scheduler process when it hears that the process is reaped, removes it.
Callers:  intake.large and run.linking make names; recovery and run.opening ask about them.
"""

import os
from typing import NamedTuple

FOLDER = "incoming"


class Maker(NamedTuple):
    """The process behind a name."""

    number: int
    pid: int
    start: int


def maker_here(number: int) -> Maker:
    """This process, as receiver `number`."""
    return Maker(number, os.getpid(), _start_of(os.getpid()))


def name(maker: Maker, serial: int) -> str:
    """The name below incoming/ of this process's `serial`th large body."""
    return f"{maker.number}-{maker.pid}-{maker.start}-{serial}"


def maker(name: str) -> Maker | None:
    """Who made a name; None when it is none of ours."""
    parts = name.split("-")
    if len(parts) != 4 or not all(part.isascii() and part.isdigit() for part in parts):
        return None
    return Maker(*map(int, parts[:3]))


def lives(name: str) -> bool:
    """Whether the receiver that made this name is still there. A name that is none of ours is nobody's."""
    made = maker(name)
    return made is not None and made.start > 0 and _start_of(made.pid) == made.start


def _start_of(pid: int) -> int:
    """When a process began, 0 when it is gone or has only its parent's wait before it (proc(5), /proc/pid/stat)."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            # The program's name stands in brackets and may hold anything; state and numbers follow the last one.
            fields = file.read().rpartition(b")")[2].split()
        return 0 if fields[0] in (b"Z", b"X") else int(fields[19])
    except (OSError, IndexError, ValueError):
        return 0
