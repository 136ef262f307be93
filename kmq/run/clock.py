"""The scheduler process's clock: when it looks at what time alone changes.

Promise:  each second, or less often at rest (spool/rhythm); and at the next second as soon as something happens.
Callers:  run/queue.
"""

import asyncio
import time
from collections.abc import Callable

from kmq.spool.rhythm import pause, until_next
from kmq.spool.status import BEAT, StatusFile


class Clock:
    """look: what is called. status: of this process, which says when something happened last."""

    def __init__(self, look: Callable[[], None], status: StatusFile) -> None:
        self._look = look
        self._status = status
        self._loop = asyncio.get_running_loop()
        self._next: asyncio.TimerHandle | None = None
        self._due = 0.0  # of the loop's time

    def wind(self, now: float) -> None:
        """The look of now is being had; says when the next one is."""
        self._look_in(pause(now, self._status.stirred_at))

    def hurry(self) -> None:
        """Something happens: what was due in some seconds is due at the next one."""
        if self._next is not None and self._due - self._loop.time() > BEAT:
            self._next.cancel()
            self._look_in(until_next(BEAT, time.monotonic()))

    def _look_in(self, seconds: float) -> None:
        self._next = self._loop.call_later(seconds, self._look)
        self._due = self._loop.time() + seconds
