"""Is a message older than it may be?

Does:     compares the second in a message's ID with the wall clock, and the wall clock with the monotonic one.
Promise:  a wall clock that jumped ahead by more than an hour makes nothing too old for one cycle, so that a wrong clock
          that is set right again has done no harm. The start is judged like a jump, by the last ID that was issued:
          time that nobody saw pass is not believed at once. A clock that goes back only makes messages younger.
On crash: nothing is kept; the next start judges again.
Callers:  kmq/run/scheduler, expiry.
"""

from kmq.model import queue_id

#: A wall clock that gained more than this many seconds on the monotonic one has jumped.
JUMP = 3600.0


class Lifetime:
    """cycle: seconds for which no age is believed after a jump."""

    def __init__(self, cycle: float, now: float, wall: float, last_id: int = 0) -> None:
        self.cycle = cycle
        self._offset = wall - now
        self._held_until = now
        if last_id and wall - queue_id.created(last_id) > JUMP:
            self._held_until = now + cycle

    def clock(self, now: float, wall: float) -> float:
        """Takes the time of both clocks; by how many seconds the wall clock jumped ahead, 0.0 when it did not."""
        jump = wall - now - self._offset
        self._offset = wall - now
        if jump <= JUMP:
            return 0.0
        self._held_until = now + self.cycle
        return jump

    def wall(self, now: float) -> float:
        """The Unix time at a monotonic time, by the last look at both."""
        return now + self._offset

    def older(self, mid: int, seconds: float, now: float) -> bool:
        """Whether the message is older than that, by clocks that can be believed."""
        return now >= self._held_until and now + self._offset - queue_id.created(mid) > seconds
