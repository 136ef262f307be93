"""The connections of one connector in one process, counted over all its queues.

Promise:  never more than `limit`; a queue that found no place has its turn when one is free, in the order of asking.
On crash: nothing is kept.
Callers:  phases.outlet, phases.smtp_hop.
"""

import asyncio
from typing import Protocol


class Seeker(Protocol):
    """A queue, as far as it matters here."""

    def open_more(self) -> None: ...


class Places:
    """taken: connections and openings."""

    __slots__ = ("_wanted", "limit", "taken")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.taken = 0
        self._wanted: dict[Seeker, None] = {}

    @property
    def wanted(self) -> bool:
        """A queue waits for a place."""
        return bool(self._wanted)

    def take(self, seeker: Seeker) -> bool:
        """One more connection, if that many may be; then `leave` is due."""
        if self.taken >= self.limit:
            self._wanted.setdefault(seeker)
            return False
        self.taken += 1
        return True

    def leave(self) -> None:
        """A connection is gone, or was not opened."""
        self.taken -= 1
        if self._wanted and self.taken < self.limit:
            seeker = next(iter(self._wanted))
            del self._wanted[seeker]
            asyncio.get_running_loop().call_soon(seeker.open_more)
