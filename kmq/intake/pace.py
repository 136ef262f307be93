"""How often each client has done something in the last minute, over all receiver processes together.

Shape:    rows (intake.rows): for each place that clients fall in a minute, what was done in it, and what was done in
          the minute before. Several meters may lie side by side in a row.
Law:      the last minute is what was done in this one, and of the one before as much as still lies within 60 s. What
          is refused does not count.
On crash: as there.
Callers:  `local` for users of this machine, `rates` for clients of the net.
"""

import mmap

from kmq.intake.rows import PLACES, Rows, mapped

#: What the memory for users of this machine is called among those that receivers are handed.
MEMORY = "sendmail pace"


def memory_of(receiver: str) -> str:
    """The same of the clients of a receiver. No section's name has a colon."""
    return f"{receiver}:rates"


_METER = 3 * PLACES
_MINUTE = 60.0


def shared(fd: int, rows: int, meters: int = 1) -> mmap.mmap:
    """The memory of `rows` processes behind a descriptor that all of them were handed (os.memfd_create)."""
    return mapped(fd, rows * meters * _METER * 4)


class Pace(Rows):
    """A limit. limit: how often one client may in a minute; row: the number of this process among `rows`, from 0;
    meter: which of so many `meters` in the memory."""

    def __init__(
        self,
        limit: int,
        memory: bytearray | mmap.mmap | None = None,
        row: int = 0,
        rows: int = 1,
        meter: int = 0,
        meters: int = 1,
    ) -> None:
        super().__init__(meters * _METER, memory, row, rows)
        self.limit = limit
        self._meter = meter * _METER
        self._empty(self._meter, self._meter + _METER)

    def take(self, who: int, now: float) -> bool:
        """Once more, if that often may be. who: a user's number, or a place; now: Unix time."""
        place = self._meter + 3 * (who % PLACES)
        minute = int(now // _MINUTE)
        done, before = 0, 0
        for row in self._rows:
            counted, current, previous = self._counts[row + place : row + place + 3]
            if counted == minute:
                done, before = done + current, before + previous
            elif counted == minute - 1:
                before += current
        if done + before * (1 - now % _MINUTE / _MINUTE) + 1 > self.limit:
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
