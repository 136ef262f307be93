"""How long to wait before the next try.

Does:     first, then doubled with each failure in a row up to the longest, each time a little more or less by chance,
          so that what failed together does not come back together.
Promise:  pure; chance is handed in. Never below a tenth of what it should be, never negative.
Callers:  kmq/run/scheduler: one for a message's deferrals, one for a queue's failed connections.
"""

from collections.abc import Callable
from dataclasses import dataclass

#: After the final dot was sent and no reply came, the message may have arrived: not tried again sooner (seconds).
UNCERTAIN = 300.0

#: An attempt that came back untried is not repeated sooner, so that a worker that gives all back costs no time.
UNTRIED = 1.0

_DOUBLINGS = 40  # 2.0 ** 41 of any interval is longer than every limit; more of them would overflow


@dataclass(frozen=True, slots=True)
class Backoff:
    """first, longest: seconds; jitter: the part of it that chance adds or takes (0.1: a tenth); random: 0 <= x < 1."""

    first: float
    longest: float
    jitter: float
    random: Callable[[], float]

    def delay(self, failures: int) -> float:
        """Seconds to wait after so many failures in a row (1 or more)."""
        plain = min(self.first * 2.0 ** min(failures - 1, _DOUBLINGS), self.longest)
        return float(plain * max(0.1, 1.0 + self.jitter * (2.0 * self.random() - 1.0)))
