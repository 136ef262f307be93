"""Answers of the DNS, remembered for as long as they hold.

Promise:  a question that is under way is asked once, whoever else wants to know; answers are kept for their TTL, within
          bounds, faults not at all: who asks again gets another attempt. Memory and questions at once are bounded.
On crash: forgotten.
Callers:  routing.mail_hosts. One asyncio loop.
"""

import asyncio
from collections.abc import Awaitable, Callable

from kmq.routing.resolver import Absent, Answer, Fault, Found

LEAST = 10.0  #: seconds for which every answer holds, whatever its zone says
MOST = 86400.0  #: and no longer than this
MOST_NOTHING = 3600.0  #: nor that there is nothing (RFC 2308 5)
LIMIT = 10_000  #: answers that are kept
AT_ONCE = 100  #: questions under way

Question = tuple[str, str]
Ask = Callable[[str, str], Awaitable[Answer]]


class Lookups:
    """See above. ask: (name, kind) -> answer, as Resolver.ask; clock: monotonic seconds."""

    def __init__(self, ask: Ask, clock: Callable[[], float]) -> None:
        self._ask = ask
        self._clock = clock
        self._known: dict[Question, tuple[Answer, float]] = {}
        self._asked: dict[Question, asyncio.Task[Answer]] = {}
        self._room = asyncio.Semaphore(AT_ONCE)

    def known(self, name: str, kind: str) -> Answer | None:
        """The answer that holds now, without asking."""
        found = self._known.get((name, kind))
        return found[0] if found is not None and self._clock() < found[1] else None

    async def look(self, name: str, kind: str) -> Answer:
        """The answer."""
        known = self.known(name, kind)
        if known is not None:
            return known
        question = name, kind
        asking = self._asked.get(question)
        if asking is None:
            asking = self._asked[question] = asyncio.create_task(self._find(question))
            asking.add_done_callback(lambda _: self._asked.pop(question))
        return await asyncio.shield(asking)  # whoever gives up takes nothing from those who wait on

    @property
    def asking(self) -> int:
        """Questions under way."""
        return len(self._asked)

    def forget(self) -> None:
        """Every answer is asked for anew."""
        self._known.clear()

    async def close(self) -> None:
        """Nobody wants to know any more."""
        asking = list(self._asked.values())
        for one in asking:
            one.cancel()
        if asking:
            await asyncio.wait(asking, timeout=1)

    async def _find(self, question: Question) -> Answer:
        async with self._room:
            answer = await self._ask(*question)
        if not isinstance(answer, Fault):
            self._keep(question, answer)
        return answer

    def _keep(self, question: Question, answer: Found | Absent) -> None:
        if len(self._known) >= LIMIT:
            self._known.clear()  # to begin anew costs a question each; to keep track of use would cost each time
        most = MOST_NOTHING if isinstance(answer, Absent) else MOST
        self._known[question] = answer, self._clock() + max(LEAST, min(answer.ttl, most))
