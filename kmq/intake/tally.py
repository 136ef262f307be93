"""How many sessions there are: in all, and from each client, over all receiver processes together.

Shape:    rows (intake.rows): a counter for all sessions, and one for each place that clients fall in.
On crash: as there.
Callers:  `smtpd`, once per connection.
"""

import mmap

from kmq.intake.rows import PLACES, Rows, mapped, place_of

_ROW = 1 + PLACES


def shared(fd: int, rows: int) -> mmap.mmap:
    """The memory of `rows` processes behind a descriptor that all of them were handed (os.memfd_create)."""
    return mapped(fd, rows * _ROW * 4)


class Tally(Rows):
    """The limits on sessions. row: the number of this process among `rows`, from 0."""

    def __init__(
        self, total: int, per_client: int, memory: bytearray | mmap.mmap | None = None, row: int = 0, rows: int = 1
    ) -> None:
        super().__init__(_ROW, memory, row, rows)
        self.total = total
        self.per_client = per_client
        self._empty(0, _ROW)

    def enter(self, who: str, unlimited: bool = False) -> bool:
        """One more session of a client, if that many may be; then `leave` is due. unlimited: he may have all."""
        place = 1 + place_of(who)
        counts = self._counts
        sessions = his = 0
        for row in self._rows:
            sessions += counts[row]
            his += counts[row + place]
        if sessions >= self.total or (his >= self.per_client and not unlimited):
            return False
        counts[self._own] += 1
        counts[self._own + place] += 1
        return True

    def leave(self, who: str) -> None:
        """A session of the client that had entered is over."""
        self._counts[self._own] -= 1
        self._counts[self._own + 1 + place_of(who)] -= 1

    @property
    def sessions(self) -> int:
        """Of all processes."""
        return sum(self._counts[row] for row in self._rows)
