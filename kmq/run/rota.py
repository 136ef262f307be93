"""Whose turn is it? The queues that have ready shares take turns, one share each.

Promise:  no queue starves another: a queue may have out at most four times as many shares as slots are still free, so
          some are left for whoever comes, however slow the others are. Doubtful queues (the last attempt failed, or
          a remote hop has not spoken yet) share a third of the slots, and have their own circle.
          A queue that has nothing to hand out leaves its circle; whoever changes that lists it again.
Callers:  kmq/run/lines, scheduler.
"""

from collections import deque
from collections.abc import Callable

from kmq.run.hopqueue import HopQueue
from kmq.run.share import READY

#: Slots a queue may hold for each one that is free.
SHARE_OF_FREE = 4

#: The part of all slots that doubtful queues may have together: one of so many.
DOUBTFUL_PART = 3


class Rota:
    """Two circles of queues, `sure` and `doubtful`, and how many slots the doubtful ones have.

    parks: told of queues that have something and may not hand it out; carried: whether one of these workers is free.
    """

    __slots__ = ("_turn", "carried", "doubtful", "doubtful_out", "parks", "sure")

    def __init__(self) -> None:
        self.sure: deque[HopQueue] = deque()
        self.doubtful: deque[HopQueue] = deque()
        self._turn = False
        self.doubtful_out = 0
        self.parks: Callable[[HopQueue, float], None] = lambda queue, now: None
        self.carried: Callable[[frozenset[int]], bool] = lambda carriers: True

    def list(self, queue: HopQueue, now: float) -> None:
        """Something has changed for the better: the queue takes its turns, if it has anything to hand out."""
        if queue.listed or not queue.tally[READY]:
            return
        if queue.room(now):
            queue.listed = True
            if queue.throttle is not None:
                queue.throttle.parked = 0.0
            (self.doubtful if queue.doubtful else self.sure).append(queue)
        elif queue.throttle is not None:
            self.parks(queue, now)

    def judge(self, queue: HopQueue, doubtful: bool) -> None:
        """The queue becomes doubtful or sure, with all that it has out."""
        if queue.doubtful != doubtful:
            queue.doubtful = doubtful
            self.doubtful_out += queue.in_flight if doubtful else -queue.in_flight

    def next(self, now: float, free: int, slots: int) -> HopQueue | None:
        """The queue whose turn it is: it has a ready share and may hand it out. None when there is no such queue."""
        if not self.doubtful:
            return self._from(self.sure, now, free)
        while self.doubtful and not self.doubtful[0].doubtful:  # it spoke since it was listed
            self.sure.append(self.doubtful.popleft())
        may_doubt = self.doubtful_out < max(1, slots // DOUBTFUL_PART)
        self._turn = not self._turn
        if self._turn and may_doubt and self.doubtful:
            return self._from(self.doubtful, now, free) or self._from(self.sure, now, free)
        found = self._from(self.sure, now, free)
        if found is None and may_doubt and self.doubtful:
            found = self._from(self.doubtful, now, free) or self._from(self.sure, now, free)
        return found

    def _from(self, circle: deque[HopQueue], now: float, free: int) -> HopQueue | None:
        for _ in range(len(circle)):
            queue = circle[0]
            if not queue.tally[READY] or not queue.room(now):
                circle.popleft()
                queue.listed = False
                if queue.tally[READY]:
                    self.list(queue, now)
            elif queue.doubtful != (circle is self.doubtful):
                circle.popleft()
                (self.doubtful if queue.doubtful else self.sure).append(queue)
            else:
                circle.rotate(-1)
                if queue.in_flight < SHARE_OF_FREE * free and (queue.carriers is None or self.carried(queue.carriers)):
                    return queue
        return None

    def __len__(self) -> int:
        return len(self.sure) + len(self.doubtful)
