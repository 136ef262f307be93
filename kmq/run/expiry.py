"""Which messages get no further attempt because their time is over.

Does:     a message expires only on a failed attempt made after its lifetime: its own deferral, or the failed probe of
          its queue, which was everybody's attempt. The worker is then told to make the notice.
Promise:  a queue is looked through in portions, so that a hundred thousand messages that expire together stop nobody;
          a hop that speaks meanwhile ends the look, since what is left can be delivered.
On crash: nothing is kept; the next failed attempt finds the same messages.
Callers:  kmq/run/scheduler.
"""

from collections import deque

from kmq.run.hopqueue import HopQueue
from kmq.run.lifetime import Lifetime
from kmq.run.lines import Lines
from kmq.run.share import EXPIRING, READY, Share

#: Shares looked at in one portion.
PORTION = 500

#: The look has not begun: all retries that are in line then are still to be looked at.
WHOLE = -1


class Expiry:
    """The looks that are under way, and the line of those that wait for their notice."""

    def __init__(self, lines: Lines, lifetime: Lifetime) -> None:
        self.lifetime = lifetime
        self._lines = lines
        self._looks: deque[HopQueue] = deque()

    def begin(self, queue: HopQueue, reply: str) -> None:
        """The queue's attempt failed with this reply: those whose time is over expire, portion by portion."""
        if not queue.sweeping:
            self._looks.append(queue)
        queue.sweeping = reply
        queue.sweep = WHOLE

    @property
    def looking(self) -> bool:
        """Whether `look` has more to do."""
        return bool(self._looks)

    def look(self, now: float) -> None:
        """One portion."""
        if self._looks:
            queue = self._looks[0]
            if self._portion(queue, now):
                self._looks.popleft()
                queue.sweeping = ""
            else:
                self._looks.rotate(-1)

    def _portion(self, queue: HopQueue, now: float) -> bool:
        """True when the look has come to its end."""
        budget = PORTION
        if queue.sweep == WHOLE:  # counted now, not in `begin`: what failed together has come back into line
            queue.sweep = len(queue.again)
        while budget and queue.sweeping and queue.fresh:
            share = queue.fresh[0]
            if self._in_line(share, queue) and not self.lifetime.over(share.mid, now):
                break  # the line of fresh mail is in order of age
            queue.fresh.popleft()
            self._end(share, queue, now)
            budget -= 1
        while budget and queue.sweeping and queue.sweep and queue.again:
            share = queue.again.popleft()
            if self._in_line(share, queue) and not self.lifetime.over(share.mid, now):
                queue.again.append(share)
            else:
                self._end(share, queue, now)
            queue.sweep -= 1
            budget -= 1
        return budget > 0

    @staticmethod
    def _in_line(share: Share, queue: HopQueue) -> bool:
        return share.state is READY and share.queue is queue

    def _end(self, share: Share, queue: HopQueue, now: float) -> None:
        if self._in_line(share, queue):
            share.expire = queue.sweeping
            self._lines.line_up(share, now)

    def next(self) -> Share | None:
        """The next share that is to get its notice; None when there is none."""
        line = self._lines.expiring
        while line:
            share = line.popleft()
            if share.state is EXPIRING:
                return share
        return None
