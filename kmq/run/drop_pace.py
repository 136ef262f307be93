"""How many files a directory gives up within a minute, whichever minute one looks at.

Promise:  pure, time is an argument; exact: no 60 seconds hold more than the limit. At most the limit is remembered.
Callers:  run.drop_taking.
"""

from collections import deque

MINUTE = 60.0


class Pace:
    """per_minute: the limit, which may be changed at any time."""

    def __init__(self, per_minute: int) -> None:
        self.per_minute = per_minute
        self._taken: deque[float] = deque()

    def wait(self, now: float) -> float:
        """Seconds until one more may be taken; 0.0 for at once."""
        while self._taken and self._taken[0] <= now - MINUTE:
            self._taken.popleft()
        if len(self._taken) < self.per_minute:
            return 0.0
        return self._taken[-self.per_minute] + MINUTE - now

    def count(self, now: float) -> None:
        """One is taken."""
        self._taken.append(now)

    def uncount(self) -> None:
        """It was none."""
        if self._taken:
            self._taken.pop()
