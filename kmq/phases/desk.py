"""The places that a worker has at one scanner, and whether it is any use to ask there now.

Does:     lets so many questions be asked at once; others wait for a place, in their order. Who asks for nothing hears
          why: that the scanner cannot be reached, that it said nothing in time, or that nobody gave up a place.
Closed:   when nobody listens, at once; when questions hang or break off, after as many of them in a row as there are
          places (one message that a scanner chokes on is no reason to keep others from it). While it is closed nobody
          waits; then one asks ahead of the others, and the time grows with each one that asks in vain.
Promise:  a place is given back whatever becomes of the question, also when it is cancelled. Nobody waits longer than
          the time limit for a place, and as long again for the answer.
On crash: nothing is kept.
Callers:  phases.antivirus, phases.antispam.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import TypeVar

from kmq.phases.peers import Unanswered, unanswered

Answer = TypeVar("Answer")

#: Seconds for which nobody asks, after the first failure, the second, ...
_PAUSES = (1.0, 2.0, 5.0, 10.0, 20.0)
#: Most of them where nobody listens: to look costs next to nothing, and whoever has started the scanner again and says
#: `kmq retry` does not see his mail put off once more.
_ABSENT = 2.0


class Desk:
    """places: questions at once; time_limit: seconds. Both may be changed."""

    def __init__(self, places: int, time_limit: float, clock: Callable[[], float]) -> None:
        self.places = places
        self.time_limit = time_limit
        self._clock = clock
        self._busy = 0
        self._waiting: deque[asyncio.Future[Unanswered | None]] = deque()
        self._hung = 0  # in a row
        self._failures = 0  # looks in vain since it closed
        self._until = 0.0
        self._why: Unanswered | None = None  # it is closed
        self._looking = False

    @property
    def closed(self) -> Unanswered | None:
        """Why nobody need ask now; None when one may."""
        if self._why is None or (self._clock() >= self._until and not self._looking):
            return None
        return self._why

    async def ask(self, question: Callable[[], Awaitable[Answer | Unanswered]]) -> Answer | Unanswered:
        """The answer, once there is a place; OSError counts as none. What else it raises is its own."""
        refused = self.closed or await self._place()
        if refused is not None:
            return refused
        try:
            closed = self.closed
            return await self._asked(question) if closed is None else closed
        finally:
            self._leave()

    async def _asked(self, question: Callable[[], Awaitable[Answer | Unanswered]]) -> Answer | Unanswered:
        looking = self._looking = self._why is not None  # when it is closed and its time is over, one asks ahead
        try:
            answer = await self._answered(question)
        finally:
            self._looking = self._looking and not looking
        if not isinstance(answer, Unanswered):
            self._open()
        elif looking or self._why is None:  # what was begun before it closed says nothing new
            self._failed(answer)
        return answer

    async def _answered(self, question: Callable[[], Awaitable[Answer | Unanswered]]) -> Answer | Unanswered:
        try:
            async with asyncio.timeout(self.time_limit):
                return await question()
        except TimeoutError:
            return Unanswered(f"no answer within {self.time_limit:g} s")
        except OSError as error:
            return unanswered(error)

    # --- places ------------------------------------------------------------------------------------------------------

    async def _place(self) -> Unanswered | None:
        """Takes a place; why there is none."""
        if self._busy < self.places and not self._waiting:
            self._busy += 1
            return None
        loop = asyncio.get_running_loop()
        mine: asyncio.Future[Unanswered | None] = loop.create_future()
        self._waiting.append(mine)
        late = loop.call_later(self.time_limit, self._too_late, mine)
        try:
            return await mine
        except asyncio.CancelledError:
            self._forget(mine)
            if mine.done() and not mine.cancelled() and mine.result() is None:
                self._leave()
            raise
        finally:
            late.cancel()

    def _too_late(self, mine: asyncio.Future[Unanswered | None]) -> None:
        if not mine.done():
            self._forget(mine)
            why = f"all {self.places} connections of this worker are busy for {self.time_limit:g} s"
            mine.set_result(Unanswered(why))

    def _forget(self, one: asyncio.Future[Unanswered | None]) -> None:
        if one in self._waiting:
            self._waiting.remove(one)

    def _leave(self) -> None:
        """A place is free: it is that of who has waited longest."""
        self._busy -= 1
        while self._waiting and self._busy < self.places:
            next_one = self._waiting.popleft()
            if not next_one.done():
                self._busy += 1
                next_one.set_result(None)

    # --- what is known of the scanner --------------------------------------------------------------------------------

    def _open(self) -> None:
        self._hung = self._failures = 0
        self._why = None

    def _failed(self, why: Unanswered) -> None:
        self._hung += 1
        if why.absent or self._hung >= max(2, self.places) or self._why is not None:
            self._close(why)

    def _close(self, why: Unanswered) -> None:
        """Nobody asks for a while, and nobody waits for a place."""
        self._why = why
        pause = _PAUSES[min(self._failures, len(_PAUSES) - 1)]
        self._until = self._clock() + (min(pause, _ABSENT) if why.absent else pause)
        self._failures += 1
        while self._waiting:
            one = self._waiting.popleft()
            if not one.done():
                one.set_result(why)
