"""From one configuration to the next, in two steps, so that all processes work by the same one.

Does:     offers it to every child that lives; each says that it is ready, or why not. When all are ready it counts for
          all; else for none, and everything is as before.
Promise:  a child that is born meanwhile is offered it too. One that does not answer in time refuses by that, and so
          does one that dies before it has answered: it may have died of it. The scheduler process gives out work under
          the new number only after every worker has said that it is ready for it.
On crash: of the supervisor: the children stop; the next kmqd reads the file.
Callers:  the supervisor; one at a time.
"""

import asyncio
from collections.abc import Callable
from typing import NamedTuple

from kmq.model.frame import Cancel, Commit, Prepared
from kmq.run.children import TEMPORARY, WRONG, Child
from kmq.run.inheritance import Estate

#: Seconds for every child to say that it is ready, and then for every child to work by the new one.
PATIENCE = 15.0


class Refusal(NamedTuple):
    """Why everything stays as it was. status: exit status of whoever asked."""

    problem: str
    status: int


class Changeover:
    """One of them, from the first offer to the last child. heir: what all are to work with."""

    def __init__(self, heir: Estate) -> None:
        self.heir = heir
        self._offered: set[Child] = set()
        self._awaited: set[Child] = set()
        self._refusal: Refusal | None = None
        self._heard = asyncio.Event()

    def offer(self, child: Child) -> None:
        """To a child that works by the old one."""
        frame, descriptors = self.heir.offer(child.role)
        self._offered.add(child)
        if child.tell(frame, descriptors):
            self._awaited.add(child)
        else:
            self._refusal = Refusal(f"{child.name} cannot be told of it; it does not hear", TEMPORARY)
        self._heard.set()

    def born(self, child: Child) -> None:
        """A child was begun: with the old one, while nothing is decided."""
        if child.configuration < self.heir.number:
            self.offer(child)

    def said(self, child: Child, prepared: Prepared) -> None:
        """A child is ready, or says why not; what it says of an earlier changeover does not count."""
        if prepared.n != self.heir.number:
            return
        self._awaited.discard(child)
        if prepared.problem and self._refusal is None:
            self._refusal = Refusal(prepared.problem, WRONG)
        self._heard.set()

    def gone(self, child: Child) -> None:
        """A child is dead; its successor is born with the configuration that counts by then."""
        if child in self._awaited and self._refusal is None:
            self._refusal = Refusal(f"{child.name} ended before it was ready for it; try again", TEMPORARY)
        self._awaited.discard(child)
        self._offered.discard(child)
        self._heard.set()

    def beaten(self) -> None:
        """A child has said by which configuration it works."""
        self._heard.set()

    async def ready(self) -> Refusal | None:
        """None when all are ready; else why they are not."""
        if not await self._until(lambda: self._refusal is not None or not self._awaited):
            names = ", ".join(sorted(child.name for child in self._awaited))
            self._refusal = Refusal(f"no answer within {PATIENCE:g} s from {names}; try again", TEMPORARY)
        return self._refusal

    def cancel(self) -> None:
        """Everything stays as it was."""
        for child in self._offered:
            child.tell(Cancel(self.heir.number))

    def commit(self) -> None:
        """It counts for everybody from here on."""
        for child in self._offered:
            child.tell(Commit(self.heir.number))

    async def done(self) -> list[str]:
        """Waits until everybody works by it; -> the names of those that do not yet."""
        await self._until(lambda: not self._behind())
        return [child.name for child in self._behind()]

    def _behind(self) -> list[Child]:
        return [child for child in self._offered if child.configuration < self.heir.number]

    async def _until(self, true: Callable[[], bool]) -> bool:
        try:
            async with asyncio.timeout(PATIENCE):
                while not true():
                    self._heard.clear()
                    await self._heard.wait()
        except TimeoutError:
            return False
        return True
