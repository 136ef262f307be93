"""How many messages each user of this machine has begun in the last minute, over all receiver processes together.

Shape:    memory that the receivers share: a row for each process, in it three 32-bit numbers for each user: a minute,
          the messages begun in it, and those of the minute before. Each process writes its own row alone and reads
          all, so there is no lock; two that let somebody in at the same moment may go one above the limit.
Law:      the last minute is what was begun in this one, and of the one before as much as still lies within 60 s.
On crash: a dead process's row counts on for the minute, or is emptied by its successor.
Callers:  `local`.
"""

import mmap

from kmq.intake import tally

#: What its memory is called among those that receivers are handed.
MEMORY = "sendmail pace"

_PLACES = 8192  #: users whose numbers fall in one place are counted together
_ROW = 3 * _PLACES
_MINUTE = 60.0


def shared(fd: int, rows: int) -> mmap.mmap:
    """The memory of `rows` processes behind a descriptor that all of them were handed (os.memfd_create)."""
    return tally.mapped(fd, rows * _ROW * 4)


class Pace:
    """The limit. limit: messages of one user in a minute; row: the number of this process among `rows`, from 0."""

    def __init__(self, limit: int, memory: bytearray | mmap.mmap | None = None, row: int = 0, rows: int = 1) -> None:
        self.limit = limit
        self._counts = memoryview(memory or bytearray(rows * _ROW * 4)).cast("B").cast("I")
        self._rows = range(0, rows * _ROW, _ROW)
        self._own = row * _ROW
        for at in range(self._own, self._own + _ROW):
            self._counts[at] = 0

    def see(self, memory: mmap.mmap, rows: int) -> None:
        """There are more processes now, or fewer, in the same memory."""
        self._counts = memoryview(memory).cast("B").cast("I")
        self._rows = range(0, rows * _ROW, _ROW)

    def take(self, uid: int, now: float) -> bool:
        """One more message of a user, if that many may be. now: Unix time."""
        place = 3 * (uid % _PLACES)
        minute = int(now // _MINUTE)
        begun, before = 0, 0
        for row in self._rows:
            counted, current, previous = self._counts[row + place : row + place + 3]
            if counted == minute:
                begun, before = begun + current, before + previous
            elif counted == minute - 1:
                before += current
        if begun + before * (1 - now % _MINUTE / _MINUTE) + 1 > self.limit:
            return False
        self._count(self._own + place, minute)
        return True

    def _count(self, at: int, minute: int) -> None:
        """In the own row, whose numbers may be of an earlier minute."""
        counts = self._counts
        if counts[at] != minute:
            counts[at + 2] = counts[at + 1] if counts[at] == minute - 1 else 0
            counts[at], counts[at + 1] = minute, 0
        counts[at + 1] += 1
