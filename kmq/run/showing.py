"""What the scheduler process shows of itself: the counters in its status file, and that something has changed.

Promise:  a change is rung (spool/bell) within a quarter of a second, and many at once ring once: a burst of mail costs
          four system calls a second. Nothing rings while nothing changes.
On crash: the status file stays; whoever watches is told by the kernel that its writer is gone.
Callers:  run/queue.
"""

import asyncio
from collections.abc import Callable

from kmq import log
from kmq.model.event import Deferred, Delivered, Failed
from kmq.run.arrivals import Arrivals
from kmq.run.outcasts import Outcasts
from kmq.run.overdue import Brakeman
from kmq.run.results import Results
from kmq.run.scheduler import Scheduler
from kmq.run.storage import Storage
from kmq.spool.status import StatusFile

#: Seconds from the first change to the ring that tells of it and of all that followed meanwhile.
SOON = 0.25


class Showing:
    """The status file of the scheduler process, kept. rung: called when it was told that something has changed."""

    def __init__(self, status: StatusFile, core: Scheduler, storage: Storage) -> None:
        self._status = status
        self._core = core
        self._storage = storage
        self._brakeman = Brakeman(core)
        self._due = False
        self._marks = 0
        self.rung: Callable[[], None] = lambda: None

    def changed(self) -> None:
        """Messages, or the state of a queue, are not what they were."""
        if not self._due:
            self._due = True
            asyncio.get_running_loop().call_later(SOON, self._ring)

    def _ring(self) -> None:
        self._due = False
        self._status.stir()
        self._status.flush()
        self.rung()

    def beat(self, arrivals: Arrivals, results: Results, outcasts: Outcasts) -> None:
        """The counters as they are now."""
        storage = self._storage
        if self._marks != self._core.verbs.marks:
            self._marks = self._core.verbs.marks
            self._status.stir()
        self._status.counters.update(
            queued=len(self._core),
            in_hand=self._core.in_hand,
            accepted=arrivals.accepted,
            refused=arrivals.refused,
            delivered=results.told[Delivered],
            failed=results.told[Failed],
            deferred=results.told[Deferred],
            removed=outcasts.removed,
            poison=len(outcasts.poison),
            syncs=storage.syncs,
            failed_syncs=storage.failed_syncs,
            checkpoints=storage.checkpoints,
            journal_bytes=storage.store.written_bytes,
            uncovered=int(storage.uncovered),
            log_lines_lost=log.lost(),
            expiry_stopped=self._brakeman.look(),
            grace_holds=len(results.grace.queues) if results.grace is not None else 0,
        )
        self._status.flush()
