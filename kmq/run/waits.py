"""The shares of a queue that wait for their time, by the second.

Promise:  a share comes out once, in the second that it waits for or later, or when all are called early.
          A share that was taken out of its waiting otherwise (held, removed, assigned) stays in its list until then and
          is passed over: it is not WAITING for that second any more.
Memory:   8 bytes a share; shares of one second share the second.
Callers:  kmq/run/hopqueue.
"""

from collections import deque
from heapq import heappop, heappush

from kmq.run.share import WAITING, Share, turn


class Waits:
    """Lists of shares by second, a heap of the seconds, and the lists that were called before their time."""

    __slots__ = ("_early", "_lists", "_seconds")

    def __init__(self) -> None:
        self._lists: dict[int, tuple[int, list[Share]]] = {}
        self._seconds: list[int] = []
        self._early: deque[tuple[int, list[Share]]] = deque()

    def add(self, share: Share) -> None:
        """A share waits until the second that it is due."""
        found = self._lists.get(share.due)
        if found is None:
            found = self._lists[share.due] = (share.due, [])
            heappush(self._seconds, share.due)
        share.due = found[0]
        turn(share, WAITING)
        found[1].append(share)

    def next(self) -> float | None:
        """When the next ones are due; None when nobody waits."""
        if self._early:
            return 0.0
        return self._seconds[0] if self._seconds else None

    def due(self, now: float) -> list[Share]:
        """The shares of one second that is over, or of one that was called; [] when there is none. Ask again."""
        while self._early or (self._seconds and self._seconds[0] <= now):
            second, shares = self._early.popleft() if self._early else self._lists.pop(heappop(self._seconds))
            still = [share for share in shares if share.state is WAITING and share.due == second]
            if still:
                return still
        return []

    def call(self) -> None:
        """All that wait now are due, whatever their time; those that come later wait for theirs."""
        self._early.extend(self._lists[second] for second in sorted(self._seconds))
        self._lists.clear()
        self._seconds.clear()

    def empty(self) -> list[Share]:
        """Everything in the lists, by time, those that were passed over as well; nobody waits here any more."""
        self.call()
        found = [share for _, shares in self._early for share in shares]
        self._early.clear()
        return found
