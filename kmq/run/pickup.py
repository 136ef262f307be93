"""The pickup process: files of the drop directories in, at one end; the scheduler process at the other.

Does:     watches the directories of [pickup] and [replay] (drop_taking), and keeps a connection to the scheduler
          process for the messages that their files become, made anew whenever it ends.
Promise:  the scheduler process may die and come back: what was sent is asked for, and nothing is sent twice. Asked to
          stop, it begins no more files and waits `GRACE` seconds for those on their way.
On crash: files stay as `.tmp`, and the next process takes them up; those that are messages already are refused (J12).
Callers:  cli.kmqd starts it; one loop (uvloop).
"""

import asyncio
import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

from kmq import log
from kmq.config import Settings
from kmq.config.drop import PickupSection, ReplaySection
from kmq.intake.completion import Completion
from kmq.intake.dropped import Reader
from kmq.intake.pickup import Pickup
from kmq.intake.replay import Replay
from kmq.intake.submission import Submission
from kmq.model.frame import AnyFrame, Frame, Hello
from kmq.run import rotation
from kmq.run.cord import Gift, Ward
from kmq.run.drop_file import Ground
from kmq.run.drop_taking import Taking
from kmq.run.inheritance import Inheritance
from kmq.run.link import Link
from kmq.spool.disk import Disk
from kmq.spool.status import StatusFile

ROLE = "pickup"
GRACE = 8.0
_TICK = 1.0
#: Threads that read files of one directory, and look at it.
_THREADS = 6


class PickupProcess:
    """One process with its directories, the door behind them, and the connection behind that."""

    def __init__(self, given: Inheritance, number: int, status: StatusFile, started: float) -> None:
        self.settings = given.settings
        self.number = number
        self.status = status
        self.started = started
        self.ward = Ward(given.cord, given.number, self._make)
        self._disk = Disk(self.settings.kmq.spool)
        self.submission = Submission(self._send, self._disk, number)
        self._loop = asyncio.get_running_loop()
        self._link: Link | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._stopping = asyncio.Event()
        self._hasty = asyncio.Event()
        self._failed = self._loop.create_future()
        self.takings: dict[str, Taking] = {}
        self._running: dict[Taking, asyncio.Task[None]] = {}

    # --- the whole life ----------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Takes files until told to stop."""
        self.ward.begin()
        self._connect()
        self._work_by(self.settings)
        self.ward.serves()
        self._tick()
        stopping = self._loop.create_task(self._stopping.wait())
        await asyncio.wait((stopping, self._failed), return_when=asyncio.FIRST_COMPLETED)
        if self._failed.done():
            self._failed.result()
        await self._close()

    def stop(self) -> None:
        """Begins no more files; said again, waits for none."""
        (self._hasty if self._stopping.is_set() else self._stopping).set()

    def _make(self, gift: Gift) -> Callable[[], None]:
        """A new configuration, ready to count for files that are taken from then on."""

        def count() -> None:
            log.start(f"{ROLE}-{self.number}", gift.settings.kmq.log_level, gift.settings.kmq.mail_log)
            self._work_by(gift.settings)

        return count

    def _work_by(self, settings: Settings) -> None:
        """Directories come and go; one that stays goes on, by the new limits."""
        self.settings = settings
        ways = {name: (section, reader) for name, section, reader in _ways(settings)}
        for name, taking in list(self.takings.items()):
            if name not in ways or ways[name][0].directory != taking.directory:
                del self.takings[name]
                self._end(taking)
        for name, (section, reader) in ways.items():
            if name in self.takings:
                self.takings[name].configure(section, reader)
            else:
                self._begin(Taking(name, section, reader, self._ground_of(name)))

    def _ground_of(self, name: str) -> Ground:
        """Threads of its own: a disk that does not answer is one directory's."""
        threads = ThreadPoolExecutor(_THREADS, f"drop-{name}")
        small_body = self.settings.queue.small_body
        return Ground(self._disk, self.submission, threads, lambda: self._link is not None, small_body)

    def _begin(self, taking: Taking) -> None:
        self.takings[taking.name] = taking
        self._running[taking] = self._loop.create_task(taking.run())
        self._running[taking].add_done_callback(self._ended_by_itself)

    def _end(self, taking: Taking) -> asyncio.Task[None]:
        self._running.pop(taking).cancel()
        self._ending = self._loop.create_task(taking.stop(GRACE))
        return self._ending

    def _ended_by_itself(self, task: asyncio.Task[None]) -> None:
        """Our program failed: this process ends with it, and the next one goes on."""
        error = None if task.cancelled() else task.exception()
        if error is not None and not self._failed.done():
            self._failed.set_exception(error)

    async def _close(self) -> None:
        """What is under way comes to its end, if that is soon."""
        ending = asyncio.gather(*(self._end(taking) for taking in self.takings.values()))
        hasty = asyncio.ensure_future(self._hasty.wait())
        await asyncio.wait((ending, hasty), return_when=asyncio.FIRST_COMPLETED)
        hasty.cancel()
        ending.cancel()
        if self._connecting is not None:
            self._connecting.cancel()
        if self._link is not None:
            link, self._link = self._link, None
            link.close()
        self.ward.close()

    # --- the scheduler process ---------------------------------------------------------------------------------------

    def _connect(self) -> None:
        self._connecting = self._loop.create_task(self._introduce())

    async def _introduce(self) -> None:
        """Who we are, then what we want to know of before (J10), then what waited."""
        link: Link | None = None
        while link is None or not link.open:  # it may have ended by the time that we hear of it
            link = Link(self._heard, self._ended, lambda _: self.submission.resume())
            await link.connect(self.settings.kmq.run_directory / "queue.sock")
        self._link = link
        link.send(Hello(ROLE, self.number, os.getpid(), self.started))
        self.submission.reconnected()

    def _ended(self, link: Link) -> None:
        """The scheduler process is gone; the supervisor begins another."""
        if link is self._link:
            self._link = None
            self._connect()

    def _heard(self, link: Link, frame: AnyFrame, raw: bytes) -> None:
        if not self.submission.heard(frame):
            log.warning("a frame that the pickup process does not understand", frame=type(frame).__name__)

    def _send(self, frame: Frame, raw: bytes) -> bool:
        link = self._link
        return link is not None and not link.full and link.send(frame, raw)

    # --- each second -------------------------------------------------------------------------------------------------

    def _tick(self) -> None:
        self._loop.call_later(_TICK, self._tick)
        self.submission.tick()
        for name, taking in self.takings.items():
            taking.tick()
            for what, count in taking.counts.items():
                self.status.counters[f"{name}_{what}"] = count
        self.status.counters["log_lines_lost"] = log.lost()
        self.status.flush()


def _ways(settings: Settings) -> Iterator[tuple[str, PickupSection | ReplaySection, Reader]]:
    """(name, section, reader) of each directory that is used."""
    home = settings.kmq.local_domains[0] if settings.kmq.local_domains else settings.kmq.hostname
    completion = Completion(settings.kmq.hostname, home)
    if settings.pickup.directory:
        yield "pickup", settings.pickup, Pickup(settings.pickup, completion)
    if settings.replay.directory:
        yield "replay", settings.replay, Replay(settings.replay, completion)


def main(given: Inheritance, number: int, started: float) -> int:
    """The process; -> its exit status."""
    import uvloop

    status = StatusFile(given.settings.kmq.spool / "status", ROLE, number)

    async def pick_up() -> int:
        loop = asyncio.get_running_loop()
        log.gather(loop)
        process = PickupProcess(given, number, status, started)
        loop.add_signal_handler(signal.SIGTERM, process.stop)
        loop.add_signal_handler(signal.SIGINT, lambda: None)  # the supervisor says when
        rotation.heed(loop)
        try:
            await process.run()
        finally:
            process.submission.close()
        return 0

    ended = uvloop.run(pick_up())
    status.close()
    return ended
