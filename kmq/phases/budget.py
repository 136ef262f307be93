"""How much of something there may be: so much at once, and so much more with each second.

Promise:  pure; time is an argument (monotonic seconds).
Callers:  phases.agent_program.
"""


class Budget:
    """At most `burst` at once; `rate` comes back each second."""

    __slots__ = ("_at", "_burst", "_left", "_rate")

    def __init__(self, burst: float, rate: float) -> None:
        self._burst = self._left = burst
        self._rate = rate
        self._at = 0.0

    def spend(self, amount: float, now: float) -> bool:
        """Takes it when it is there; False when it is not, and nothing is taken."""
        self._left = min(self._burst, self._left + max(0.0, now - self._at) * self._rate)
        self._at = now
        if amount > self._left:
            return False
        self._left -= amount
        return True
