"""Room for those who ask over the control socket: who may only look never takes what operators need.

What:     places, of which viewers get half, and each of them a few; and turns: the questions of one viewer are answered
          one after the other, with a rest after each that is some times as long as the answer took, however many
          connections he has. Operators wait for nobody.
On crash: nothing is kept.
Callers:  admin.control, in its loop.
"""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from kmq.admin.rights import Caller, Right

#: Connections at once: of all, of all who may only look, and of one of these.
CONNECTIONS, VIEWERS, OF_ONE = 64, 32, 8

#: A rest is so many times as long as the answer took, and at most so many seconds: a fifth of a viewer's time is ours.
_REST, _LONGEST = 4.0, 1.0


class Room:
    """Who is here."""

    def __init__(self) -> None:
        self._here = 0
        self._viewers: Counter[int] = Counter()
        self._turns: dict[int, asyncio.Lock] = {}

    def enter(self, caller: Caller, right: Right) -> str:
        """Takes a place; why there is none, "" when he is in."""
        if self._here >= CONNECTIONS:
            return "too many operators at once, try again"
        if right is Right.LOOK:
            if self._viewers[caller.uid] >= OF_ONE:
                return f"uid {caller.uid} has {OF_ONE} connections already, try again"
            if self._viewers.total() >= VIEWERS:
                return "too many look at once, try again"
            self._viewers[caller.uid] += 1
        self._here += 1
        return ""

    def leave(self, caller: Caller, right: Right) -> None:
        """Gives it back."""
        self._here -= 1
        if right is Right.LOOK:
            self._viewers[caller.uid] -= 1
            if not self._viewers[caller.uid]:
                del self._viewers[caller.uid]
                self._turns.pop(caller.uid, None)

    @asynccontextmanager
    async def turn(self, caller: Caller, right: Right) -> AsyncIterator[None]:
        """Within it one question is answered."""
        if right is not Right.LOOK:
            yield
            return
        async with self._turns.setdefault(caller.uid, asyncio.Lock()):
            began = time.monotonic()
            try:
                yield
            finally:
                task = asyncio.current_task()
                if task is None or not task.cancelling():
                    await asyncio.sleep(min(_REST * (time.monotonic() - began), _LONGEST))
