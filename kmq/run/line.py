"""The lines of a queue: fresh mail and retries, of each priority by itself.

Does:     fresh mail goes before retries, but every eighth turn is a retry's. When some mail of the queue is urgent, or
          can wait, each priority has lines of its own (`Ranks`): the more urgent goes first, but nobody is passed over
          for ever.
Promise:  pure; a share that left its state is passed over, and lines never hold more than twice their ready shares (and
          64). Without priorities it costs one look whether there are any.
Callers:  kmq/run/hopqueue; kmq/run/expiry looks through what waits here.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING, Final

from kmq.model.priority import LOW, NORMAL, Priority
from kmq.run.share import READY, Share

if TYPE_CHECKING:
    from kmq.run.hopqueue import HopQueue

#: Every so many turns of a queue the next one is a retry's, so that endless fresh mail does not starve them.
RETRY_TURN = 8

#: How many places from the front a share that came back looks for its own.
RETURNED = 64

#: How many turns of others a priority lets pass while its mail waits; then it has one, the most patient first.
PATIENCE: Final[dict[Priority, int]] = {LOW: 16, NORMAL: 4}


class Line:
    """Of one priority. sweep: retries that are still to be looked at for a notice that is due."""

    __slots__ = ("again", "fresh", "sweep", "turns")

    def __init__(self) -> None:
        self.fresh: deque[Share] = deque()
        self.again: deque[Share] = deque()
        self.turns = self.sweep = 0

    def put(self, share: Share, front: bool, warned: bool) -> None:
        """front: it stood there before, and goes behind older ones like it. warned: its sender knows that it takes
        longer; such mail is not fresh any more."""
        line = self.fresh if share.attempt == 1 and not warned else self.again
        if not front:
            line.append(share)
            return
        place = 0
        for other in islice(line, RETURNED):
            if other.mid > share.mid:
                break
            place += 1
        line.insert(place, share)

    def take(self, queue: HopQueue) -> Share | None:
        """The next ready share of the queue, out of the line; None when there is none."""
        self.turns += 1
        lines = (self.fresh, self.again)
        if self.turns >= RETRY_TURN:
            self.turns = 0
            lines = (self.again, self.fresh)
        for line in lines:
            while line:
                share = line.popleft()
                if share.state is READY and share.queue is queue:
                    return share
        return None

    def waits(self, queue: HopQueue) -> bool:
        """Whether a share is ready. Those in front that are not leave the line."""
        for line in (self.fresh, self.again):
            while line:
                if line[0].state is READY and line[0].queue is queue:
                    return True
                line.popleft()
        return False

    def tidy(self, queue: HopQueue) -> None:
        """Lets go of shares that left otherwise."""
        for line in (self.fresh, self.again):
            still = dict.fromkeys(share for share in line if share.state is READY and share.queue is queue)
            line.clear()
            line.extend(still)

    def empty(self) -> Iterator[Share]:
        """All that stood here; the line is empty then."""
        found = [*self.fresh, *self.again]
        self.fresh.clear()
        self.again.clear()
        return iter(found)

    def __len__(self) -> int:
        return len(self.fresh) + len(self.again)


class Ranks:
    """The lines of all priorities of one queue, which has some of another than normal."""

    __slots__ = ("_passed", "lines")

    def __init__(self, normal: Line) -> None:
        self.lines = (Line(), normal, Line())
        self._passed = [0, 0, 0]

    def room(self, queue: HopQueue) -> bool:
        """Whether mail is ready whose priority has not all of its connections."""
        return any(self._open(rank, queue) for rank in Priority)

    def take(self, queue: HopQueue) -> Share | None:
        """The next ready share, of the priority whose turn it is; None when there is none that may go."""
        ready = [rank for rank in Priority if self._open(rank, queue)]
        if not ready:  # a probe, or what is to be run alone, is not counted by priority
            ready = [rank for rank in Priority if self.lines[rank].waits(queue)]
        if not ready:
            return None
        turn = next((rank for rank in PATIENCE if rank in ready and self._passed[rank] >= PATIENCE[rank]), ready[0])
        for rank in ready:
            self._passed[rank] += 1
        self._passed[turn] = 0
        return self.lines[turn].take(queue)

    def _open(self, rank: Priority, queue: HopQueue) -> bool:
        return queue.admits(rank) and self.lines[rank].waits(queue)
