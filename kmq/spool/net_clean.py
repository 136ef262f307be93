"""The net lets go: of whole days that are over, and of the oldest mail when there is too much of it.

Promise:  the folder of a day that is over gets another name first (`2026-11-20.old`), so that nobody reads it any more,
          and what is left of it by a crash is known for what it is. Of a message the envelope goes first. Nothing is
          synced: what comes back with a power cut goes the next time.
On crash: the next look goes on.
Callers:  run.safety_net, in a thread of its own.
"""

import calendar
import contextlib
import os
import time
from collections.abc import Iterator
from typing import NamedTuple

from kmq.model import queue_id
from kmq.spool import layout
from kmq.spool.disk import Disk
from kmq.spool.strays import DAY

OLD = ".old"
_DAY_SECONDS = 86400
#: Names that are looked at, or unlinked, before other threads have their turn.
_PORTION = 200
_PAUSE = 0.002


class Gone(NamedTuple):
    """What the net let go of."""

    messages: int = 0
    bytes: int = 0


def days(disk: Disk) -> list[str]:
    """The days of which something is kept, oldest first."""
    return [name for name in disk.names(layout.SENT) if DAY.fullmatch(name)]


def is_over(day: str, hold: float, now: float) -> bool:
    """Whether all that was delivered on this day has been kept for so many seconds."""
    try:
        begin = calendar.timegm(time.strptime(day, "%Y-%m-%d"))
    except ValueError:
        return False
    return begin + _DAY_SECONDS + hold <= now


def let_go_of_days(disk: Disk, hold: float, now: float) -> int:
    """Whole days; -> how many messages. hold: seconds, 0 for: nothing is kept any more."""
    for day in days(disk):
        if not hold or is_over(day, hold, now):
            with contextlib.suppress(FileExistsError, OSError):
                disk.rename(layout.kept_on(day), layout.kept_on(day) + OLD)
    old = [name for name in disk.names(layout.SENT) if name.endswith(OLD) and DAY.fullmatch(name[: -len(OLD)])]
    return sum(_empty(disk, layout.kept_on(name)) for name in old)


def _empty(disk: Disk, folder: str) -> int:
    count = 0
    for place, name in enumerate(sorted(disk.names(folder), key=lambda name: not name.endswith(".env"))):
        _breathe(place)
        with contextlib.suppress(FileNotFoundError):
            disk.unlink(f"{folder}/{name}")
            count += name.endswith(".env")
    with contextlib.suppress(OSError):
        disk.remove_folder(folder)
    return count


def weigh(disk: Disk) -> int:
    """Bytes of all that is kept; looks at every file once."""
    return sum(size for day in days(disk) for _, size in _messages(disk, day))


def let_go_of_bytes(disk: Disk, excess: int) -> Gone:
    """So many bytes or a little more, the oldest messages first."""
    messages = freed = 0
    for day in days(disk):
        for stem, size in _messages(disk, day):
            if freed >= excess:
                return Gone(messages, freed)
            for ending in (".env", ".eml"):
                with contextlib.suppress(FileNotFoundError):
                    disk.unlink(f"{layout.kept_on(day)}/{stem}{ending}")
            messages, freed = messages + 1, freed + size
        with contextlib.suppress(OSError):  # mail of this day may have come meanwhile
            disk.remove_folder(layout.kept_on(day))
    return Gone(messages, freed)


def _messages(disk: Disk, day: str) -> Iterator[tuple[str, int]]:
    """ID and bytes of each message of a day, oldest first."""
    folder = layout.kept_on(day)
    names = disk.names(folder)
    at = 0
    while at < len(names):
        stem, size = names[at][: queue_id.LENGTH], 0
        while at < len(names) and names[at].startswith(stem):
            _breathe(at)
            found = disk.status(f"{folder}/{names[at]}")
            size += found.st_size if found is not None else 0
            at += 1
        yield stem, size


def _breathe(place: int) -> None:
    if place % _PORTION == _PORTION - 1:
        os.sched_yield()
        time.sleep(_PAUSE)
