"""At the start: what lies in the queue becomes known to the scheduler, beside the mail that flows already.

Promise:  every message of the queue is known in the end; one that somebody names earlier is read at once (`need`). What
          cannot be read as what it should be is set aside in poison/. The loop is never held for more than a moment.
On crash: begun anew.
Callers:  run.queue, run.operators.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from kmq import log
from kmq.model import priority, queue_id
from kmq.model.envelope import State
from kmq.model.event import Failed, Passed
from kmq.run import memory
from kmq.run.numbers import Numbers
from kmq.run.outcasts import Outcasts, removed_quietly
from kmq.run.scheduler import Scheduler
from kmq.run.share import open_parts, waiting_parts
from kmq.spool import layout, loading
from kmq.spool.aside import set_aside
from kmq.spool.effects import Effects
from kmq.spool.loading import Damaged, Loaded, Recalled

#: Seconds until a folder that could not be read is tried again.
_AGAIN = 5.0

#: Messages that become known between two times at which what is known is taken out of the collector's walks.
_SETTLED = 20_000


class Loader:
    """Reads the queue once. done: all of it is known.

    count: messages that were taken in, of them recalled: so many whose envelopes were not read (spool/loading).
    known: called whenever more of the queue is known than before, and may be handed out. seen: told of each message.
    """

    def __init__(
        self,
        core: Scheduler,
        outcasts: Outcasts,
        numbers: Numbers,
        effects: Effects,
        last_id: int,
    ) -> None:
        self.disk = effects.disk
        self.core = core
        self.outcasts = outcasts
        self.numbers = numbers
        self.done = False
        self.count = self.recalled = 0
        self.known: Callable[[], None] = lambda: None
        self.seen: Callable[[int, State], None] = lambda number, state: None
        self._effects = effects
        self._last_id = last_id  # what is newer came in since, and is known
        self._coming: set[int] = set()
        self._gone: set[int] = set()  # left since the start: must not be taken in from a look that is old by now
        self._damaged: dict[int, str] = {}

    async def load(self, damaged: dict[int, str]) -> None:
        """Everything, some hundred messages at a time, read in a thread. damaged: what recovery could not restore."""
        self._damaged = damaged
        began, settled = time.monotonic(), 0
        loop = asyncio.get_running_loop()
        thread = ThreadPoolExecutor(1, "loading")  # one, since the index is asked by whom it was opened
        found = loading.whole_queue(self.disk)
        while True:
            try:
                chunk = await loop.run_in_executor(thread, next, found, None)
            except OSError as error:
                log.error("the queue cannot be read, trying again", why=str(error))
                await asyncio.sleep(_AGAIN)
                found = loading.whole_queue(self.disk)  # what is known is passed over
                continue
            if chunk is None:
                break
            for one in chunk:
                self._take(one)
            if self.count >= settled + _SETTLED:
                settled = self.count
                memory.settle()
            self.known()
        thread.shutdown(wait=False)
        self.done = True
        self._gone.clear()
        for number in await loop.run_in_executor(None, self._promised, list(self.outcasts.poison)):
            self.outcasts.remove_from_poison(number)
        memory.settle()
        memory.give_back()
        took = int((time.monotonic() - began) * 1000)
        log.event("loaded", count=self.count, recalled=self.recalled, ms=took)

    def _promised(self, poison: list[int]) -> list[int]:
        """Messages on their way to poison/ that an operator removed; in a thread."""
        found = []
        for number in poison:
            with contextlib.suppress(OSError):
                one = loading.one(self.disk, number, "poison")
                if isinstance(one, Loaded) and removed_quietly(one.state):
                    found.append(number)
        return found

    def left(self, number: int) -> None:
        """The message has left the queue."""
        if not self.done:
            self._gone.add(number)

    def need(self, number: int) -> None:
        """Somebody names this message: it is known afterwards, if it is in the queue."""
        if not self.done and number <= self._last_id and not self.core.has(number):
            with contextlib.suppress(OSError):  # told by the walk, which tries again
                found = loading.one(self.disk, number)
                if found is not None:
                    self._take(found)

    def number_of(self, number: int, home: str) -> bool:
        """Makes the next event's number of a message known that is not in the queue; False when it cannot be read."""
        found = loading.one(self.disk, number, home)
        if not isinstance(found, Loaded):
            return False
        self.numbers.begin(number, found.state.next_seq)
        return True

    def passed(self, number: int) -> list[Passed]:
        """What the files say that a message of the queue has passed."""
        found = loading.one(self.disk, number)
        return found.state.passed if isinstance(found, Loaded) else []

    def coming(self, number: int) -> None:
        """The message is on its way back from poison/: `when_made` takes it in, and nobody else."""
        self._coming.add(number)

    def when_made(self, number: int) -> None:
        """Takes in a message that came back from poison/, as soon as its files are in the queue."""
        effects_done = self._effects.idle
        found = loading.one(self.disk, number)
        if isinstance(found, Loaded) and found.state.home == "queue":
            self._coming.discard(number)
            self._add(found)
            self.known()
        elif effects_done:
            self._coming.discard(number)  # removed from poison/ before it came
        else:
            asyncio.get_running_loop().call_later(0.02, self.when_made, number)

    def _take(self, one: Loaded | Recalled | Damaged) -> None:
        if one.id > self._last_id or one.id in self._gone or one.id in self._coming or self.core.has(one.id):
            return
        if one.id in self._damaged:
            one = Damaged(one.id, self._damaged[one.id])
        if isinstance(one, Recalled):
            self._recall(one)
        elif isinstance(one, Loaded):
            self._add(one)
        else:
            self._set_aside(one)

    def _set_aside(self, one: Damaged) -> None:
        name = queue_id.text(one.id)
        try:
            set_aside(self.disk, one.id, one.reason)
        except OSError as error:
            log.error("a damaged message cannot be set aside; the next start tries again", id=name, why=str(error))
            return
        self._gone.add(one.id)
        log.warning("a damaged message is set aside in poison/", id=name, why=one.reason)
        if self.disk.status(layout.envelope(one.id, "poison")):
            self._effects.homes.moved(one.id, "poison")
            self.outcasts.poison.add(one.id)

    def _recall(self, one: Recalled) -> None:
        """Ordinary mail, all of which is open: there is nothing else to be known of it."""
        found = one.standing
        self.numbers.begin(one.id, found.next_seq)
        parts = waiting_parts(found.groups, priority.of(found.priority), self.core.verbs.former)
        self.core.loaded(one.id, parts, time.monotonic())
        self.count += 1
        self.recalled += 1

    def _add(self, one: Loaded) -> None:
        self.numbers.begin(one.id, one.state.next_seq)
        if any(passed.headers for passed in one.state.passed):
            self.numbers.edited.add(one.id)
        parts = open_parts(one.state, priority.of(one.head.priority), self.core.verbs.former)
        state = one.state
        if not one.head.sender and any(isinstance(end, Failed) and not end.notice for end in state.done.values()):
            self.outcasts.unnoticed.add(one.id)
        self.seen(one.id, state)
        if state.crashes:
            self.outcasts.crash_numbers[one.id] = state.crash_number
        if self.core.loaded(one.id, parts, time.monotonic(), crashes=state.crashes):
            self.count += 1
            if state.removing:
                self.outcasts.promised(one.id, state)
        else:
            self.left(one.id)
            self.outcasts.finish(one.id)
