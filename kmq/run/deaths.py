"""When a worker dies: what it had is free again, and what may have killed it is looked at.

Promise:  J9: nothing is free before the worker is reaped and its socket read to the end. Only a death by itself makes
          suspects: the messages that its status file shows in a phase on local bytes or does not show yet (all that
          it had, when the file says nothing). Only a death with nothing else in hand is counted against a message.
On crash: of the scheduler process: a new one is told who lives, and counts nothing of what it did not see.
Callers:  run.queue, run.roll.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from kmq import log
from kmq.model import queue_id
from kmq.model.envelope import event_line
from kmq.model.frame import Reaped
from kmq.model.phase import Phase
from kmq.model.queue_id import parse
from kmq.run.assignment import Assignment
from kmq.run.link import Link
from kmq.run.numbers import Numbers
from kmq.run.outcasts import Outcasts
from kmq.run.scheduler import Scheduler
from kmq.run.storage import Storage
from kmq.spool.processes import last_words
from kmq.spool.record import Append
from kmq.spool.status import LOCAL_STATUS


@dataclass(slots=True)
class WorkerProcess:
    """A worker as we know it. link: None when its socket has ended, or before it `came`; reaped: what the supervisor
    said of its death; ended_at: when its socket ended.
    """

    n: int
    pid: int
    link: Link | None
    reaped: Reaped | None = None
    came: bool = False
    ended_at: float = 0.0


class Deaths:
    """Settles the affairs of dead workers. record: called with what is to be written, for its ticket."""

    def __init__(
        self,
        core: Scheduler,
        storage: Storage,
        outcasts: Outcasts,
        numbers: Numbers,
        status_folder: Path,
        ticket: Callable[[], object],
    ) -> None:
        self.core = core
        self.storage = storage
        self.outcasts = outcasts
        self.numbers = numbers
        self._folder = status_folder
        self._ticket = ticket

    def settle(self, worker: WorkerProcess) -> None:
        """The worker is reaped and said its last word."""
        assert worker.reaped is not None and worker.link is None
        held = self.core.worker_gone(worker.n, time.monotonic())
        if not (worker.reaped.itself or worker.reaped.hung) or not held:
            return
        guilty = self._suspects(worker, held)
        cause = worker.reaped.cause or "it died by itself"
        log.warning("a worker died", worker=worker.n, pid=worker.pid, why=cause, held=len(held), suspects=len(guilty))
        if len(held) == 1 and held[0].alone:
            self._count(held[0].mid, guilty.get(held[0].mid, ""), cause)
        else:
            self.core.suspect(guilty, time.monotonic())

    def _suspects(self, worker: WorkerProcess, held: list[Assignment]) -> dict[int, str]:
        """ID -> phase."""
        mids = {one.mid for one in held}
        words = last_words(self._folder, "worker", worker.n, worker.pid)
        if words is None or words.trouble:
            return dict.fromkeys(mids, "")
        shown = {parse(line.id): line.status for line in words.in_hand if queue_id.PATTERN.fullmatch(line.id)}
        # What the file does not show was taken in hand a moment ago, and is in the first phase (spool.status).
        phases = {mid: shown.get(mid, Phase.EXECUTING.text) for mid in mids}
        if worker.reaped is not None and worker.reaped.hung:
            return phases
        return {mid: status for mid, status in phases.items() if status in LOCAL_STATUS} or phases

    def _count(self, number: int, phase: str, cause: str) -> None:
        event = self.outcasts.crashed(number, phase or "unknown", cause)
        event.seq = self.numbers.next(number)
        self.storage.add([Append(number, event.seq, event_line(event))], self._ticket())
        self.outcasts.judge(number)
