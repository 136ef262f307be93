"""What is overdue, and the operator's word that it may be given up although it is much (run/brake).

Promise:  counting costs the loop a moment per thousand messages, and nothing is read from disk for it.
On crash: nothing is kept; the word is good for what was overdue when it was said.
Callers:  run.operators, run.showing; kmq.admin reads what they tell.
"""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping

from kmq import log
from kmq.model import hop as hops
from kmq.model.frame import Answer
from kmq.run.scheduler import Scheduler

#: Messages that are looked at before the loop has its turn.
_CHUNK = 1000

STOPPED = (
    "expiry is stopped, since too many messages would have been given up at once (mass_expiry): they are tried again as"
    " before. kmq expire --what-if counts them, kmq expire lets them be given up"
)


async def look(core: Scheduler) -> AsyncIterator[Mapping[str, object] | Answer]:
    """How many messages are overdue in each queue: given up when their next attempt fails, if nothing stops it."""
    found = await _count(core)
    for name, count in found.items():
        yield {"Queue": name, "Overdue": count}
    state = STOPPED if core.brake.stopped else "expiry goes on by itself"
    yield Answer(status=0, text=f"{_overdue(found.total())}; {state}")


async def let_go(core: Scheduler, by: str) -> AsyncIterator[Mapping[str, object] | Answer]:
    """What is overdue now may be given up, however much it is; queues whose last attempt failed are looked at now."""
    found = await _count(core)
    was_stopped = core.brake.stopped
    core.expire_held(time.monotonic())
    log.event("expire", by=by, count=found.total(), stopped=int(was_stopped))
    where = "given up at once where the last attempt failed, else with the next one, which `kmq flush` makes now"
    text = f"{_overdue(found.total())}: {where}"
    yield Answer(status=0, text=text if found else "nothing is overdue; expiry goes on by itself")


def _overdue(count: int) -> str:
    return f"{count:,} {'message is' if count == 1 else 'messages are'} overdue"


async def _count(core: Scheduler) -> Counter[str]:
    """Queue -> messages. One that waits in two queues counts in both."""
    found: Counter[str] = Counter()
    for place, number in enumerate(core.mids):
        if place % _CHUNK == 0:
            await asyncio.sleep(0)
        found.update(hops.parse(one).name for one in core.overdue(number, time.monotonic()))
    return found


class Brakeman:
    """Tells once when expiry is stopped, and once when it goes on."""

    def __init__(self, core: Scheduler) -> None:
        self._brake = core.brake
        self._told = False

    def look(self) -> int:
        """Called each second, or each five at rest; -> 1 while expiry is stopped."""
        stopped = self._brake.stopped
        if stopped != self._told:
            self._told = stopped
            if stopped:
                log.error(STOPPED, limit=self._brake.limit)
            else:
                log.warning("expiry goes on")
        return int(stopped)
