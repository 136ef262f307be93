"""How far chance moves a wait, so that what failed together does not come back together.

Promise:  pure; chance is handed in. Never below a tenth of what the schedule says, never negative.
Callers:  kmq/run/scheduler and sequel: for a message's deferrals, and for a queue's failed connections.
"""

from collections.abc import Callable
from dataclasses import dataclass

#: After the final dot was sent and no reply came, the message may have arrived: not tried again sooner (seconds).
UNCERTAIN = 300.0

#: An attempt that came back untried is not repeated sooner, so that a worker that gives all back costs no time.
UNTRIED = 1.0


@dataclass(frozen=True, slots=True)
class Jitter:
    """share: the part of a wait that chance adds or takes (0.1: a tenth); random: 0 <= x < 1."""

    share: float
    random: Callable[[], float]

    def spread(self, wait: float) -> float:
        """Seconds to wait where the schedule says `wait`."""
        return float(wait * max(0.1, 1.0 + self.share * (2.0 * self.random() - 1.0)))
