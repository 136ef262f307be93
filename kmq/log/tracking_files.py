"""The files of the tracking log: begun anew each hour and when they are full, the oldest taken away.

Shape:    `track-2026112212-0001.jsonl`: the hour (UTC) and a number that counts up within it. All processes append
          whole lines to the same file; each finds out by itself which one that is, so nobody has to tell the others.
Promise:  a file grows beyond `file_size` by no more than what each process had gathered. All together stay below
          `total_size`, and none is older than `age`, as of the moment at which a file is begun.
          Never through a link, never into a device. OSError when nothing can be written; the log counts its lines then.
On crash: the kernel has what was written.
Callers:  kmq.log.tracking; `names` and `hour_of` also kmq.admin.tracked.
"""

import os
import re
import time
from pathlib import Path
from typing import NamedTuple

from kmq.log.outlet import LogFile, opened

_NAME = re.compile(r"track-(\d{10})-(\d{4,9})\.jsonl", re.ASCII)
_HOUR = 3600


class Keeping(NamedTuple):
    """Where lines are kept, and how many. Sizes in bytes, age in seconds."""

    folder: Path
    file_size: int
    total_size: int
    age: float


class TrackingFiles(LogFile):
    """The file of this hour."""

    def __init__(self, keeping: Keeping) -> None:
        super().__init__(str(keeping.folder))
        self.keeping = keeping
        self._hour = 0
        self._number = 1

    def front(self, level: int) -> str:
        return ""

    def reopen(self) -> None:
        """Nobody else renames these files."""

    def _put(self, piece: bytes) -> int:
        hour = int(time.time()) // _HOUR
        if hour != self._hour or self._fd < 0 or os.fstat(self._fd).st_size >= self.keeping.file_size:
            self._begin_file(hour)
        return os.write(self._fd, piece)

    def _begin_file(self, hour: int) -> None:
        """The first file of the hour that is not full yet. Whoever makes one takes away what is too much."""
        self.close()
        if hour != self._hour:
            self._hour, self._number = hour, 1
        self.keeping.folder.mkdir(mode=0o750, exist_ok=True)
        while True:
            path = self.keeping.folder / name_of(hour, self._number)
            fd = opened(str(path))
            size = os.fstat(fd).st_size
            if size < self.keeping.file_size:
                self._fd = fd
                break
            os.close(fd)
            self._number += 1
        if not size:
            clean(self.keeping, hour)
        elif _torn(path, size):
            os.write(self._fd, b"\n")


def name_of(hour: int, number: int) -> str:
    """hour: Unix hours."""
    return f"track-{time.strftime('%Y%m%d%H', time.gmtime(hour * _HOUR))}-{number:04}.jsonl"


def names(folder: Path) -> list[str]:
    """The log's files in the order of their beginning. OSError when the folder cannot be read."""
    found = ((_NAME.fullmatch(name), name) for name in os.listdir(folder))
    return [name for *_, name in sorted((match[1], int(match[2]), name) for match, name in found if match)]


def ended_by(name: str) -> float:
    """Unix time after which no line of this file is, but for what a process had gathered; inf when the name is none."""
    match = _NAME.fullmatch(name)
    try:
        return _began(match[1]) + _HOUR if match else float("inf")
    except ValueError:
        return float("inf")


def _began(text: str) -> float:
    import calendar

    return float(calendar.timegm(time.strptime(text, "%Y%m%d%H")))


def clean(keeping: Keeping, hour: int) -> int:
    """Takes away the oldest files until the rest is young and small enough; how many went."""
    oldest = hour * _HOUR - keeping.age
    there = names(keeping.folder)
    sizes = {name: _size(keeping.folder / name) for name in there}
    total = sum(sizes.values()) + keeping.file_size  # room for the one that is begun now
    gone = 0
    for name in there[:-1]:
        if total <= keeping.total_size and ended_by(name) > oldest:
            continue
        try:
            os.unlink(keeping.folder / name)
        except FileNotFoundError:
            pass  # another process began a file at the same moment
        total -= sizes[name]
        gone += 1
    return gone


def _torn(path: Path, size: int) -> bool:
    """Whether the last line has no end, after a power cut: the next one shall not be lost with it."""
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        return os.pread(fd, 1, size - 1) != b"\n"
    finally:
        os.close(fd)


def _size(path: Path) -> int:
    try:
        return os.stat(path, follow_symlinks=False).st_size
    except OSError:
        return 0
