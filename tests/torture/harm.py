"""Killing: which process dies next, and what its death looked like from outside.

Every blow is chosen by a seeded die, so a run's order of blows can be made again; what the machine does in between
cannot. A blow may fall while the one before it is still being recovered from, which is where faults live.
"""

import asyncio
import contextlib
import os
import shutil
import signal
import time
from collections import Counter
from collections.abc import Mapping
from math import inf, isinf
from random import Random

from tests.torture.image import KEEP_LOG, LOSE_LOG, Image
from tests.torture.kmqd import Kmqd
from tests.torture.ledger import Death, Ledger

#: What may happen, and how often beside the others.
EVERYTHING: Mapping[str, int] = {
    "worker-1": 4,
    "worker-2": 4,
    "receiver-1": 4,
    "scheduler-1": 8,
    "all": 3,
    "kmqd": 1,
    "stop worker-1": 2,
    "scheduler-1 and worker-1": 2,
}


class Harm:
    """Hits a kmqd again and again. blows: what was done, counted; image: the disk whose power is cut."""

    def __init__(
        self,
        kmqd: Kmqd,
        ledger: Ledger,
        chance: Random,
        choice: Mapping[str, int] = EVERYTHING,
        image: Image | None = None,
    ) -> None:
        self.blows: Counter[str] = Counter()
        self._image = image
        self._kmqd = kmqd
        self._ledger = ledger
        self._chance = chance
        self._choice = choice
        self._watches: set[asyncio.Task[None]] = set()

    async def strike(self) -> None:
        """One blow; returns when it has fallen, not when kmqd is whole again."""
        blow = self._chance.choices(list(self._choice), list(self._choice.values()))[0]
        self.blows[blow] += 1
        if blow == "all":
            await self._everything()
        elif blow == "power":
            await self._power()
        elif blow == "kmqd":
            await self._supervisor()
        elif blow.startswith("stop "):
            await self._pause(blow.removeprefix("stop "))
        else:
            for name in blow.split(" and "):
                self._kill(name)

    async def healed(self) -> None:
        """Returns when every process that died has its successor."""
        await asyncio.gather(*self._watches)
        await asyncio.to_thread(self._kmqd.ready)

    def _kill(self, name: str) -> None:
        at = time.time()
        pid = self._kmqd.kill(name)
        if pid:
            self._watch(Death(name, at, inf, frozenset({pid})), pid, name)

    def _watch(self, death: Death, pid: int, name: str) -> None:
        watch = asyncio.create_task(self._await_successor(death, pid, name))
        self._watches.add(watch)
        watch.add_done_callback(self._watches.discard)

    async def _await_successor(self, death: Death, pid: int, name: str) -> None:
        """Notes the death at once as one that lasts; with its whole length as soon as that is known."""
        place = len(self._ledger.deaths)
        self._ledger.deaths.append(death)
        while (status := self._kmqd.status(name)) is None or status.pid == pid:
            await asyncio.sleep(0.02)
        self._ledger.deaths[place] = death._replace(back=time.time())

    async def _everything(self) -> None:
        """Sometimes the next blow falls while all are still starting."""
        at = time.time()
        death = Death("all", at, inf, self._kmqd.kill_all())
        self._kmqd.begin()
        self._watch(death, 0, "scheduler-1")
        if self._chance.random() < 0.5:
            await asyncio.to_thread(self._kmqd.ready, 60)

    async def _power(self) -> None:
        """The machine stops, and starts again: what nobody synced is gone, and so is what lies in memory alone."""
        assert self._image is not None
        at = time.time()
        self._image.cut(self._chance.choice((LOSE_LOG, LOSE_LOG, KEEP_LOG)))
        death = Death("power", at, inf, self._kmqd.kill_all())
        await asyncio.to_thread(self._image.unmount)
        shutil.rmtree(self._kmqd.run)
        self._image.mount()
        self._kmqd.begin()
        self._watch(death, 0, "scheduler-1")
        if self._chance.random() < 0.7:
            await asyncio.to_thread(self._kmqd.ready, 60)

    async def _supervisor(self) -> None:
        """Its children end in order, and a new kmqd waits for them. Without a scheduler process they end with results
        that nobody took."""
        dying = any(one.name == "scheduler-1" and isinf(one.back) for one in self._ledger.deaths)
        deaf = dying or self._kmqd.status("scheduler-1") is None
        orphans = frozenset(self._kmqd.children().values())
        at = time.time()
        self._kmqd.kill_supervisor()
        self._kmqd.begin()
        await asyncio.to_thread(self._kmqd.ready, 100)
        back = time.time()
        self._ledger.deaths.append(Death("kmqd", at, back, orphans if deaf else frozenset()))

    async def _pause(self, name: str) -> None:
        """Stops a process for a moment, as a debugger or a busy machine does."""
        pid = self._kmqd.kill(name, signal.SIGSTOP)
        if pid:
            await asyncio.sleep(self._chance.uniform(0.1, 1.5))
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
