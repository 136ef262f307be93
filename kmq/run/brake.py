"""The brake on expiry: when too much mail would be given up at once, nothing is given up until an operator says so.

Law:      more than 1 % of the queue, and at least `limit` (20) within a minute: it is likely that our own line, clock
          or name server is what failed, and a bounce cannot be taken back. What is held back is tried again as before.
          An operator lets go (`kmq expire`) what was over by then; what comes to its end later is counted anew.
Promise:  pure; time is an argument.
On crash: nothing is kept: a new scheduler process counts anew, and stops again at the same number.
Callers:  kmq/run/expiry; the scheduler process, which tells of it.
"""

from collections import deque

#: Seconds that are looked at together, and the part of the queue that is too much.
WINDOW = 60.0
PART = 0.01


class Brake:
    """limit: so many in a minute, 0 for no limit. stopped: nothing is given up now. held: how often it said no."""

    __slots__ = ("_passed", "_released", "held", "limit", "stopped")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.stopped = False
        self.held = 0
        self._passed: deque[float] = deque()
        self._released = 0.0

    def passes(self, ended: float, now: float, queued: int) -> bool:
        """Whether a message may be given up. ended: Unix time at which it came to its end; now: monotonic."""
        if not self.limit or ended <= self._released:
            return True
        if not self.stopped:
            self._count(now, queued)
        if self.stopped:
            self.held += 1
        return not self.stopped

    def _count(self, now: float, queued: int) -> None:
        passed = self._passed
        while passed and passed[0] <= now - WINDOW:
            passed.popleft()
        passed.append(now)
        if len(passed) >= self.limit and len(passed) > queued * PART:
            self.stopped = True
            passed.clear()

    def release(self, wall: float) -> None:
        """An operator's word at this Unix time."""
        self.stopped = False
        self.held = 0
        self._released = wall
