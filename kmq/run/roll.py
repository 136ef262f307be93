"""The roll of workers: who is there, who is dead, and when the affairs of a dead one may be settled.

Promise:  J9: a worker is settled once, when it is reaped and all that it wrote has been read, whichever is heard of
          first; a dead one whose connection still waits to be accepted is given a moment to be heard. Whoever takes its
          number speaks after that. A worker whose socket ends while it lives is ended, for what was on its way to it is
          lost; so is one whose loop stands still.
          J10: a worker that lived when we began is on the roll before it has come.
On crash: of the scheduler process: the supervisor tells a new one who lives.
Callers:  run.queue, in its loop.
"""

import asyncio
import os
from collections.abc import Callable
from enum import Enum
from pathlib import Path

from kmq import log
from kmq.model.frame import AnyFrame, End, Frame, Hello, Living, Reaped
from kmq.run.deaths import WorkerProcess
from kmq.run.link import Link
from kmq.spool.processes import read as read_status
from kmq.spool.status import status_path

#: Seconds for a dead worker's connection to come out of the backlog, where whatever it wrote lies already.
_BACKLOG = 0.2
#: Most seconds between two looks at the beats of the workers.
_BEATS = 5.0
#: Seconds that a worker without a socket may take to die before it is ended, and before it is asked for again.
_WITHOUT_LINK = 2.0
_AGAIN = 10.0


class Voice(Enum):
    """Who says Hello."""

    WORKER = "worker"  #: one that may be given work
    FORMER = "former"  #: dead, and its number is another's by now: only its results count
    LEAVING = "leaving"  #: about to be ended: the same
    LATER = "later"  #: has the number of a dead one that is not settled yet: heard after that


class Roll:
    """workers: number -> the process that has it. kept_back: what those say who are LATER. settle: called with one that
    is dead and has said its last word.

    again: hears the frames of a LATER one when its time has come. end: asks the supervisor to end a process.
    """

    def __init__(
        self,
        folder: Path,
        settle: Callable[[WorkerProcess], None],
        again: Callable[[Link, AnyFrame, bytes], None],
        end: Callable[[End], bool],
    ) -> None:
        self.workers: dict[int, WorkerProcess] = {}
        self._folder = folder
        self._settle, self._again, self._end = settle, again, end
        self.kept_back: dict[Link, list[tuple[AnyFrame, bytes]]] = {}
        self._ended: set[Link] = set()  # of those, whose socket has ended meanwhile
        self._reaped: dict[tuple[int, int], Reaped] = {}
        self._looked = 0.0

    # --- who lives ---------------------------------------------------------------------------------------------------

    def living(self, living: Living) -> None:
        """The supervisor's list. Who is not on it is dead, unless it was born after the list was made."""
        alive = {n: pid for role, n, pid in living.children if role == "worker"}
        for n, pid in alive.items():
            if n not in self.workers:
                self.workers[n] = WorkerProcess(n, pid, None)
        for worker in list(self.workers.values()):
            if alive.get(worker.n) != worker.pid and not _exists(worker.pid):
                self.reaped(Reaped("worker", worker.n, worker.pid, itself=False))

    def tell(self, frame: Frame) -> None:
        """Every worker that is connected hears so."""
        for worker in self.workers.values():
            if worker.link is not None:
                worker.link.send(frame)

    def hello(self, link: Link, hello: Hello) -> Voice:
        """A process says that it is worker n."""
        before = self.workers.get(hello.n)
        if before is None:
            reaped = self._reaped.pop((hello.n, hello.pid), None) or _dead(hello)
            self.workers[hello.n] = WorkerProcess(hello.n, hello.pid, link, reaped, came=True)
            return Voice.WORKER
        if before.pid == hello.pid:
            return self._again_there(before, link)
        if _dead(hello):
            return Voice.FORMER
        self.kept_back[link] = [(hello, b"")]
        self.reaped(before.reaped or Reaped("worker", before.n, before.pid, itself=False))
        return Voice.LATER

    def _again_there(self, worker: WorkerProcess, link: Link) -> Voice:
        """One that was expected; or one whose socket ended while it runs (J9)."""
        worker.link = link
        if not worker.came:
            worker.came = True
            return Voice.WORKER
        self._ask_to_end(worker, hung=False)
        return Voice.LEAVING

    def later(self, link: Link, frame: AnyFrame, raw: bytes) -> bool:
        """Keeps what a LATER one says; False for everybody else's frames."""
        kept = self.kept_back.get(link)
        if kept is None:
            return False
        kept.append((frame, raw))
        return True

    # --- who is dead -------------------------------------------------------------------------------------------------

    def ended(self, link: Link) -> None:
        """A worker's socket has ended, and all that was in it has been heard."""
        if link in self.kept_back:
            self._ended.add(link)
            return
        for worker in self.workers.values():
            if worker.link is link:
                worker.link = None
                worker.ended_at = asyncio.get_running_loop().time()
                self._settle_if_silent(worker)
                return

    def link(self, number: int) -> Link | None:
        """To the worker of this number, if there is one."""
        worker = self.workers.get(number)
        return worker.link if worker is not None else None

    def reaped(self, reaped: Reaped) -> None:
        """The supervisor's word about a death."""
        worker = self.workers.get(reaped.n)
        if worker is None or worker.pid != reaped.pid:
            self._reaped[reaped.n, reaped.pid] = reaped
            return
        worker.reaped = reaped
        if worker.came:
            self._settle_if_silent(worker)
        else:
            asyncio.get_running_loop().call_later(_BACKLOG, self._never_came, worker)

    def _never_came(self, worker: WorkerProcess) -> None:
        if self.workers.get(worker.n) is worker:
            self._settle_if_silent(worker)

    def _settle_if_silent(self, worker: WorkerProcess) -> None:
        """J9: both must have happened, the end of its socket and the reaping."""
        if worker.reaped is None or worker.link is not None:
            return
        del self.workers[worker.n]
        self._settle(worker)
        later, self.kept_back = self.kept_back, {}
        for link, frames in later.items():
            for frame, raw in frames:
                self._again(link, frame, raw)
            if link in self._ended:
                self._ended.discard(link)
                self.ended(link)

    # --- who must go -------------------------------------------------------------------------------------------------

    def watch(self, now: float, limit: float) -> None:
        """Each second, or each five at rest: ends workers without a socket, and those whose loop stands still for more
        than `limit`."""
        for worker in self.workers.values():
            if worker.came and worker.link is None and worker.reaped is None and now > worker.ended_at + _WITHOUT_LINK:
                self._ask_to_end(worker, hung=False)
        if now < self._looked + min(_BEATS, limit):
            return
        self._looked = now
        for worker in self.workers.values():
            status = read_status(status_path(self._folder, f"worker-{worker.n}"))
            if status.pid == worker.pid and status.beat and status.silence > limit:
                self._ask_to_end(worker, hung=True)

    def _ask_to_end(self, worker: WorkerProcess, hung: bool) -> None:
        if self._end(End("worker", worker.n, worker.pid, hung)):
            log.warning("a worker is ended", worker=worker.n, pid=worker.pid, why="hangs" if hung else "socket gone")
            worker.ended_at = asyncio.get_running_loop().time() + _AGAIN


def _dead(hello: Hello) -> Reaped | None:
    """What the supervisor has said, or would have said, of a process that is gone."""
    return None if _exists(hello.pid) else Reaped(hello.role, hello.n, hello.pid, itself=False)


def _exists(pid: int) -> bool:
    """Whether there is such a process, if only one that waits to be reaped."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
