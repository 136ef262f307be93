"""The store at work: its two threads beside the scheduler process's loop.

The journal's thread writes and syncs one batch at a time, the files' thread applies effects and makes checkpoints; the
loop decides and is told. Both threads spend their time in the kernel, so the loop goes on beside them.

Promise:  `on_durable` and `on_refused` are called in the loop, records in the order in which they were added. Effects
          begin `effects_delay` after their record was added, so that mail which leaves at once needs no file at all.
On crash: recovery. A thread that meets what must not happen says so through `on_fatal`; the process ends then.
Callers:  run.queue.
"""

import asyncio
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from itertools import chain
from typing import Final

from kmq import log
from kmq.config import QueueSection
from kmq.errors import StorageFailed
from kmq.model.reply import Reply
from kmq.run import memory
from kmq.run.company import Company
from kmq.spool.record import Operation
from kmq.spool.store import JournalStore, Pending, Store

_TURN: Final = "turn"
_GATHER = 0.02  #: seconds between two looks of the files' thread, so that it wakes for many effects at once
_OWED_AGAIN = 1.0  #: seconds between two tries of what is owed
_STUCK_AGAIN = 60.0  #: seconds between two lines about a dropped file that cannot be unlinked
_LONGEST_WAIT = 5.0  #: seconds between two tries to begin a segment after a failed sync (J8)
_SICK = 3  #: failed syncs ..
_SICKNESS = 60.0  #: .. in so many seconds that close the door until they are so long ago
#: Records that wait for their effects; above this the journal waits for a slow disk, and mail for it.
FAR_BEHIND = 8192
#: Bodies that wait for their effects; above this the intake hears 452, so that memory is bounded.
BACKLOG_LIMIT = 128 << 20

FULL = Reply(452, "4.3.1", "Insufficient system storage")
BROKEN = Reply(451, "4.3.0", "Local storage error, try again later")


class Storage:
    """One store with its threads."""

    def __init__(
        self,
        store: Store,
        settings: QueueSection,
        on_durable: Callable[[list[Pending]], None],
        on_refused: Callable[[list[Pending]], None],
        on_fatal: Callable[[str], None],
    ) -> None:
        self.store = store
        self.settings = settings
        self.checkpoints = 0
        self.syncs = 0
        self.failed_syncs = 0
        self._failures: deque[float] = deque(maxlen=_SICK)  #: when syncs failed, the last ones
        self._on_durable, self._on_refused, self._on_fatal = on_durable, on_refused, on_fatal
        #: Told of mail that is synced alone, while it is; and when all that hear of a batch have heard.
        self.on_alone: Callable[[Pending], None] = lambda one: None
        self.on_told: Callable[[], None] = lambda: None
        self._loop = asyncio.get_running_loop()
        self._jobs: queue.SimpleQueue[list[Pending] | str | None] = queue.SimpleQueue()
        self._wake = threading.Event()
        self._kicked = False
        self._company = Company()
        self._waiting: asyncio.TimerHandle | None = None  #: for company; unset while it is not `_kicked`
        self._meanwhile: tuple[Callable[[], None], asyncio.TimerHandle] | None = None  #: and its deadline
        self._last_batch = 0
        self._batch: list[Pending] = []  # in the journal's thread
        self._began = 0.0  # its sync
        self._turning = False
        self._turn_asked = False
        self._stopping = False
        self._broken = False  # the journal's thread cannot begin a segment
        self._short = False  # no room for spare segments
        self._covered = store.coverable
        self._last_checkpoint = time.monotonic()
        self._last_bytes = 0
        self._prepared = -1
        self._told_stuck = -_STUCK_AGAIN
        self._threads = [
            threading.Thread(target=self._guarded, args=(work,), name=work.__name__, daemon=True)
            for work in (self._journal_thread, self._files_thread)
        ]
        for thread in self._threads:
            thread.start()

    # --- the loop ------------------------------------------------------------------------------------------------

    def add(self, operations: list[Operation], ticket: object, refusable: bool = False) -> None:
        """One record; it is written with all that is added in this turn of the loop."""
        now = time.monotonic()
        self.store.add(operations, ticket, now, refusable)
        if refusable:
            self._company.came(now)
        if self.store.in_flight:
            return
        if not self._kicked:
            self.kick()
        elif self._waiting is not None and self._slow and (refusable or self._full):
            self._waiting.cancel()
            self._waited()

    def kick(self) -> None:
        """Writes what waits, when the batch before is durable and there has been time for company."""
        if self._kicked or self.store.in_flight or self._turning:
            return
        self._kicked = True
        wait = self._wait_for_company()
        if wait > 0:
            self._waiting = self._loop.call_later(wait, self._waited)
        else:
            self._loop.call_soon(self._go)

    def _waited(self) -> None:
        """For long enough, or one of those who are waited for is there: is the next one worth a wait too?"""
        self._waiting, self._kicked = None, False
        if self._slow:
            self.kick()
        else:
            self._go()

    @property
    def _slow(self) -> bool:
        """Whether a sync takes longer than a record is to wait for company anyway."""
        return 0 < self.settings.queue_database_batch_timeout < self._company.sync

    @property
    def _full(self) -> bool:
        return len(self.store.pending) >= self.settings.queue_database_batch_size

    def _wait_for_company(self) -> float:
        """Seconds. What comes alone is not kept waiting, nor what has waited already for the sync before it."""
        pending = self.store.pending
        if not pending or self._full:
            return 0.0
        if self._slow:
            return self._company.wait(time.monotonic())
        if self._last_batch < 2:
            return 0.0
        return pending[0].at + self.settings.queue_database_batch_timeout - time.monotonic()

    def _go(self) -> None:
        self._kicked = False
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None
        if self._turning:
            return
        if self.store.effects.behind > FAR_BEHIND:
            self._kicked = True
            self._loop.call_later(_GATHER, self._go)
            return
        batch = self.store.take()
        if batch:
            self._batch = batch
            self._last_batch = len(batch)
            self._began = time.monotonic()
            self._jobs.put(batch)
            if self._meanwhile is not None:
                self._loop.call_soon(self._do_meanwhile)
            self._company.begun(sum([one.refusable for one in batch]))
            if len(batch) == 1 and batch[0].refusable:  # a turn later: the journal's thread needs the interpreter first
                self._loop.call_soon(self._alone, batch)

    def meanwhile(self, do: Callable[[], None]) -> None:
        """Has it done once while a sync is under way: soon, and no later than a record waits for company."""
        if self.store.in_flight:
            self._loop.call_soon(do)
            return
        latest = self._loop.call_later(self.settings.queue_database_batch_timeout, self._do_meanwhile)
        self._meanwhile = do, latest

    def _do_meanwhile(self) -> None:
        if self._meanwhile is not None:
            (do, latest), self._meanwhile = self._meanwhile, None
            latest.cancel()
            do()

    def _alone(self, batch: list[Pending]) -> None:
        if self._batch is batch:
            self.on_alone(batch[0])

    def _synced(self, batch: list[Pending], generation: int) -> None:
        self._broken = False
        self._batch = []
        self.syncs += 1
        now = time.monotonic()
        self._company.ended(now, now - self._began)
        idle = self.store.effects.idle
        self.store.settle(batch, generation)
        if idle:
            # Nothing is due before, and a thread that wakes now is in the way of what goes out. The first time it has
            # to make the next segment ready.
            wait = self.settings.effects_delay if self._prepared >= 0 else 0.0
            self._loop.call_later(wait, self._wake.set)
        if self._wait_for_company() > 0:
            self.kick()
        else:
            self._go()  # the next batch is on its way before anybody is told of this one
        self._on_durable(batch)
        self.on_told()

    def _unsynced(self, batch: list[Pending]) -> None:
        self._batch = []
        refused = self.store.refuse(batch)
        for one in refused:
            for operation in one.operations:
                if dropped := getattr(operation, "dropped", None):
                    self.store.effects.unclaim(dropped)
        self._go()
        self._on_refused(refused)
        self.on_told()

    def _turned(self) -> None:
        self._turning = self._turn_asked = False
        self._wake.set()
        self._go()

    def _turn(self) -> None:
        """Ends the generation between two batches."""
        if self.store.in_flight:
            self._loop.call_later(0.001, self._turn)
        elif not self._turning:
            self._turning = True
            self._jobs.put(_TURN)

    @property
    def broken(self) -> bool:
        """Whether the journal takes no records now: what is begun could not be written down when it is done."""
        return self._broken

    @property
    def _sick(self) -> bool:
        """A disk that fails again and again gets no new mail for a while; what is queued goes on."""
        return len(self._failures) == _SICK and time.monotonic() - self._failures[0] < _SICKNESS

    def tickets(self) -> Iterator[object]:
        """Those of the records that are not durable yet."""
        return (one.ticket for one in chain(self._batch, self.store.pending))

    @property
    def undurable_since(self) -> float | None:
        """When the oldest record was added that is not durable yet."""
        return next((one.at for one in chain(self._batch, self.store.pending)), None)

    @property
    def refusal(self) -> Reply | None:
        """Why nothing may come in now, or None. Cheap enough to be asked every second."""
        if self._broken or self._sick:
            return BROKEN
        free, inodes = self.store.disk.free()
        if free < self.settings.minimum_free or inodes < self.settings.minimum_free_inodes or self._short:
            return FULL
        effects = self.store.effects
        if effects.trouble is not None or effects.waiting_bytes > BACKLOG_LIMIT:
            return FULL
        return None

    async def stop(self) -> None:
        """Writes what waits, applies every effect, makes a checkpoint, ends the threads."""
        await self._until(lambda: not (self.store.pending or self.store.in_flight or self._turning))
        self._stopping = True
        if not self._broken:
            self._turn()
            await self._until(lambda: not self._turning)
        self._wake.set()
        files = self._threads[1]
        await asyncio.get_running_loop().run_in_executor(None, files.join, 60)
        self._jobs.put(None)
        await asyncio.get_running_loop().run_in_executor(None, self._threads[0].join, 10)

    async def _until(self, reached: Callable[[], bool]) -> None:
        while not reached():
            self.kick()
            await asyncio.sleep(0.005)

    # --- threads -------------------------------------------------------------------------------------------------

    def _guarded(self, work: Callable[[], None]) -> None:
        try:
            work()
        except StorageFailed as error:
            self._loop.call_soon_threadsafe(self._on_fatal, str(error))
        except Exception as error:
            self._loop.call_soon_threadsafe(self._on_fatal, f"the {work.__name__} met {log.traced(error)}")

    def _journal_thread(self) -> None:
        while (job := self._jobs.get()) is not None:
            if isinstance(job, str):
                self._end_generation()
                self._loop.call_soon_threadsafe(self._turned)
                continue
            try:
                generation = self.store.sync(job)
            except OSError as error:
                self._begin_anew(error)
                self._loop.call_soon_threadsafe(self._unsynced, job)
            else:
                self._loop.call_soon_threadsafe(self._synced, job, generation)

    def _end_generation(self) -> None:
        try:
            self.store.turn()
        except OSError as error:
            self._begin_anew(error)

    def _begin_anew(self, error: OSError) -> None:
        """J8: nothing is acknowledged until a new segment's header is durable; the old one is never touched again."""
        self._broken = True
        self.failed_syncs += 1
        self._failures.append(time.monotonic())
        log.error("the journal could not be written, a new segment begins; new mail hears 451", why=str(error))
        wait = 0.05
        while True:
            try:
                self.store.abandon()
                self._broken = False  # a header is durable: the journal takes records again
                return
            except OSError as again:
                log.error("no new journal segment can be begun, trying again", why=str(again))
                time.sleep(wait)
                wait = min(2 * wait, _LONGEST_WAIT)

    def _files_thread(self) -> None:
        while True:
            self._wake.wait(self._pause())
            self._wake.clear()
            if self.store.effects_behind:
                self._apply_due()
                self._prepare()
                self._checkpoint_when_due()
            if self._stopping and self._finish():
                return

    def _pause(self) -> float | None:
        """Seconds until there is something to do, None for: until somebody wakes us."""
        effects, now = self.store.effects, time.monotonic()
        if self._stopping:
            return 0.02
        if effects.owed:
            return _OWED_AGAIN
        at = effects.next_at()
        due = [at + self.settings.effects_delay - now] if at is not None else []
        if self.uncovered and not self._turn_asked:
            due.append(self._last_checkpoint + self.settings.checkpoint_interval - now)
        return max(_GATHER, min(due)) if due else None

    @property
    def uncovered(self) -> bool:
        """Whether the journal holds anything that no checkpoint covers."""
        return self.store.dirty or self.store.coverable > self._covered

    def _apply_due(self) -> None:
        effects = self.store.effects
        until = time.monotonic() - (0 if self._stopping else self.settings.effects_delay)
        while (at := effects.next_at()) is not None and at <= until:
            effects.apply_next()
        effects.let_go()
        if effects.owed:
            self._tell_owed()

    def _tell_owed(self) -> None:
        effects = self.store.effects
        if effects.retry_owed():
            log.event("storage-recovered")
        elif effects.trouble is not None:
            log.warning("a file in the queue cannot be written, new mail hears 452", why=str(effects.trouble))
        elif time.monotonic() - self._told_stuck > _STUCK_AGAIN:
            self._told_stuck = time.monotonic()
            text = (
                "a dropped file is a message and cannot be unlinked; it is tried again, and the journal grows meanwhile"
            )
            log.warning(text, why=str(effects.stuck))

    def _prepare(self) -> None:
        """The next segment is made ready beside the writing, and the reserve is filled."""
        if not isinstance(self.store, JournalStore) or (
            self._prepared == self.store.log.generation and not self._short
        ):
            return
        try:
            self._prepared = self.store.log.generation
            self.store.log.prepare()
            self._short = False
        except OSError as error:
            if not self._short:
                log.warning("no room for spare journal segments, new mail hears 452", why=str(error))
            self._short = True

    def _checkpoint_when_due(self) -> None:
        store = self.store
        late = time.monotonic() - self._last_checkpoint >= self.settings.checkpoint_interval
        large = store.written_bytes - self._last_bytes >= self.settings.checkpoint_size
        if not self.uncovered or not (late or large):
            return
        if store.coverable > self._covered:
            self._checkpoint(store.coverable)
        elif not self._turn_asked:
            self._turn_asked = True
            self._loop.call_soon_threadsafe(self._turn)

    def _checkpoint(self, generation: int) -> None:
        """J3, when the effects that it covers are done; what is owed holds it, not the writing."""
        effects = self.store.effects
        while not effects.finished(generation) and not effects.owed and effects.next_at() is not None:
            effects.apply_next()
        if not effects.finished(generation):
            return
        began = time.monotonic()
        self._last_bytes = self.store.written_bytes
        try:
            for _ in self.store.checkpoint(generation):
                pass
        except OSError as error:  # a full disk: nothing is covered, the segments stay, and it is tried again
            self._last_checkpoint = time.monotonic()
            log.warning("a checkpoint could not be made, it is tried again", why=str(error))
            return
        self._covered = generation
        self._last_checkpoint = time.monotonic()
        self.checkpoints += 1
        memory.give_back()
        log.event("checkpoint", generation=generation, ms=int((self._last_checkpoint - began) * 1000))

    def _finish(self) -> bool:
        """While stopping: whether nothing is left to be done. What is owed is in the journal, and stays there."""
        effects = self.store.effects
        if not effects.idle and not effects.owed:
            return False
        if self.store.coverable > self._covered and not effects.owed:
            self._checkpoint(self.store.coverable)
        return True
