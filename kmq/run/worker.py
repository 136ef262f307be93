"""The worker process: carries out assignments, and keeps each result until the scheduler process has it durably.

What:     an assignment goes into `walk`, its result comes back and is said, and forgotten when it is known.
Promise:  a result is sent at once, sent again over every new connection, and forgotten only when it is known (J10).
On crash: the status file says what was in hand; the scheduler process gives it out again when we are reaped (J9).
Callers:  cli.kmqd starts it; one asyncio loop.
"""

import asyncio
import os
import signal
import time
from collections.abc import Callable

from kmq import log
from kmq.model.frame import AnyFrame, Assign, Closed, Hello, Holding, Known, Show, Stop, Unshow, laden
from kmq.routing.table import Routes
from kmq.run import rotation
from kmq.run.cord import Gift, Ward
from kmq.run.inheritance import Inheritance
from kmq.run.job import Job
from kmq.run.link import Link
from kmq.run.telling import NO_FATE, Fate, Teller
from kmq.run.upstream import Upstream
from kmq.run.walk import Walk
from kmq.spool.rhythm import QUIET, pause
from kmq.spool.status import StatusFile

_STATUS_PAUSE = 0.1
#: The worker that asks servers for the mail that they keep for us: one does it for all.
ASKING = 1


class Worker:
    """The work of one process."""

    def __init__(self, given: Inheritance, number: int, status: StatusFile, started: float) -> None:
        self.number = number
        self.status = status
        self.started = started
        self.stopping = False
        self._link: Link | None = None  #: over which the scheduler process has been told who we are
        self._stop_asked = asyncio.Event()
        self._ended = asyncio.Event()
        self._flush_due = False
        self._early: list[tuple[Assign, bytes]] = []  #: work under a configuration that we do not have yet
        self.settings = given.settings
        self.walk = Walk(given.settings, number, status, self._done)
        status.on_change = self._flush_soon
        self.walk.configuration = given.number
        self.ward = Ward(given.cord, given.number, self._make)
        self.jobs = self.walk.jobs
        self.teller = Teller()
        self.upstream = Upstream(given.settings) if number == ASKING else None

    def _make(self, gift: Gift) -> Callable[[], None]:
        """A new configuration, ready to count; what is under way by then ends as it began."""
        routes = Routes(gift.settings)

        def count() -> None:
            self.settings = gift.settings
            self.walk.configure(gift.settings, routes)
            self.walk.configuration = self.ward.number
            if self.upstream is not None:
                self.upstream.configure(gift.settings)
            log.begin(f"worker-{self.number}", gift.settings.kmq)
            asyncio.get_running_loop().call_soon(self._begin_early)

        return count

    def _begin_early(self) -> None:
        early, self._early = self._early, []
        for said, raw in early:
            self._assigned(said, raw)

    def _assigned(self, said: Assign, raw: bytes) -> None:
        """Work is done by the configuration under which it was given out, or a later one."""
        if said.configuration <= self.ward.number or self.ward.catch_up(said.configuration):
            self.walk.begin(said, raw)
        else:
            self._early.append((said, self.walk.text(said, raw)))

    # --- the link ----------------------------------------------------------------------------------------------------

    async def connect(self) -> None:
        """Finds the scheduler process and says who we are and what we hold; results that nobody acknowledged follow.

        Nothing goes over a connection before that: a result of a stranger would be nobody's.
        """
        link: Link | None = None
        while link is None or not link.open:  # it may have ended by the time that we hear of it
            link = Link(self._on_frame, self._on_end)
            await link.connect(self.settings.kmq.run_directory / "queue.sock")
        self._link = link
        link.send(Hello("worker", self.number, os.getpid(), self.started))
        assigned = [job.assign for job in self.jobs.values() if job.done is None]
        assigned += [early for early, _ in self._early]
        held = [(one.n, one.m, one.hop, one.rcpt, one.attempt) for one in assigned]
        link.send(*laden(Holding(held)))
        for job in self.jobs.values():
            if job.done is not None:
                link.send(job.done, job.raw)
        if self.stopping:
            link.send(Stop())

    def _on_end(self, link: Link) -> None:
        if link is self._link and not self._ended.is_set():
            self._link = None
            self.walk.unshow()
            self._connecting = asyncio.get_running_loop().create_task(self.connect())

    def _on_frame(self, link: Link, said: AnyFrame, raw: bytes) -> None:
        match said:
            case Assign():
                self._assigned(said, raw)
            case Known():
                for number in said.numbers:
                    self._known(number, said.fates.get(number, NO_FATE))
            case Show():
                self.walk.show(said, raw)
            case Unshow():
                self.walk.unshow()
            case Closed():
                self.walk.closed = frozenset(said.hops)
            case Stop():
                self.stop()
            case _:
                log.warning("a frame that no worker understands", frame=type(said).__name__)

    # --- results -----------------------------------------------------------------------------------------------------

    def _done(self, job: Job) -> None:
        if job.done is not None and self._link is not None:  # else it is said when we are connected again
            self._link.send(job.done, job.raw)

    def _known(self, number: int, fate: Fate) -> None:
        job = self.jobs.pop(number, None)
        if job is not None:
            self.teller.known(job, fate)
        if self.stopping and not self.jobs:
            self._ended.set()

    # --- status and end ----------------------------------------------------------------------------------------------

    def _flush_soon(self) -> None:
        if not self._flush_due:
            self._flush_due = True
            asyncio.get_running_loop().call_later(_STATUS_PAUSE, self._flush)

    def _flush(self) -> None:
        self._flush_due = False
        self.status.counters["in_hand"] = len(self.jobs)
        self.status.flush()

    def stop(self) -> None:
        """Finishes what is in hand, and asks for nothing new."""
        if not self.stopping:
            self.stopping = self.walk.draining = True
            self._stop_asked.set()
            if self._link is not None:
                self._link.send(Stop())
        if not self.jobs:
            self._ended.set()

    async def run(self, grace: float) -> None:
        """Until the end. grace: seconds that stopping may take; what is not done then is done by the next worker."""
        self.ward.begin()
        await self.connect()
        self.ward.serves()
        self._look()
        await self._stop_asked.wait()
        if self.upstream is not None:
            self.upstream.close()
        try:
            async with asyncio.timeout(grace):
                await self._ended.wait()
        except TimeoutError:
            log.warning("stopped with messages in hand; they are tried again", count=len(self.jobs))
        self._ended.set()
        self.walk.abandon()
        try:
            await self.walk.close()
        finally:
            self.teller.close()
        if self._link is not None:
            self._link.close()
        self.ward.close()

    def _look(self) -> None:
        """Shows that this process lives. Whoever has mail in hand is never at rest: by these beats the scheduler
        process knows how long its loop has stood still."""
        if self._ended.is_set():
            return
        self.status.counters["log_lines_lost"] = log.lost()
        self.status.flush()
        now = time.monotonic()
        stirred = now if self.jobs or self.settings.queue.phase_limit < QUIET else self.status.stirred_at
        asyncio.get_running_loop().call_later(pause(now, stirred), self._look)


GRACE = 30.0


def main(given: Inheritance, number: int, started: float) -> int:
    """The process; -> its exit status."""
    status = StatusFile(given.settings.kmq.spool / "status", "worker", number)

    async def work() -> None:
        loop = asyncio.get_running_loop()
        log.gather(loop)
        rotation.heed(loop)
        worker = Worker(given, number, status, started)
        loop.add_signal_handler(signal.SIGTERM, worker.stop)
        loop.add_signal_handler(signal.SIGINT, lambda: None)  # the supervisor says when
        await worker.run(GRACE)

    import uvloop

    uvloop.run(work())
    status.close()
    return 0
