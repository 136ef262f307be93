"""The pickup process: files of the drop directories in, at one end; the scheduler process at the other.

Does:     watches the directories of [pickup] and [replay] (drop_taking), and brings the messages that their files
          become in through its doorway.
Promise:  the scheduler process may die and come back: what was sent is asked for, and nothing is sent twice. Asked to
          stop, it begins no more files and waits `GRACE` seconds for those on their way.
On crash: files stay as `.tmp`, and the next process takes them up; those that are messages already are refused (J12).
Callers:  cli.kmqd starts it; one loop (uvloop).
"""

import asyncio
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

from kmq import log
from kmq.config import Settings
from kmq.config.drop import PickupSection, ReplaySection
from kmq.intake.completion import Completion
from kmq.intake.dropped import Reader
from kmq.intake.pickup import Pickup
from kmq.intake.priority import urgent_size
from kmq.intake.replay import Replay
from kmq.run import rotation
from kmq.run.cord import Gift, Ward
from kmq.run.doorway import Doorway
from kmq.run.drop_file import Ground
from kmq.run.drop_original import Once
from kmq.run.drop_taking import Taking
from kmq.run.inheritance import Inheritance
from kmq.spool.disk import Disk
from kmq.spool.rhythm import pause
from kmq.spool.status import StatusFile

ROLE = "pickup"
GRACE = 8.0
#: Threads that read files of one directory, and look at it.
_THREADS = 6


class PickupProcess:
    """One process with its directories, the door behind them, and the connection behind that."""

    def __init__(self, given: Inheritance, number: int, status: StatusFile, started: float) -> None:
        self.settings = given.settings
        self.number = number
        self.status = status
        self.ward = Ward(given.cord, given.number, self._make)
        self._disk = Disk(self.settings.kmq.spool)
        self.doorway = Doorway(self.settings, self._disk, ROLE, number, started)
        self.submission = self.doorway.submission
        self._loop = asyncio.get_running_loop()
        self._stopping = asyncio.Event()
        self._hasty = asyncio.Event()
        self._failed = self._loop.create_future()
        self.takings: dict[str, Taking] = {}
        self._running: dict[Taking, asyncio.Task[None]] = {}

    # --- the whole life ----------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Takes files until told to stop."""
        self.ward.begin()
        self.doorway.connect()
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
            log.begin(f"{ROLE}-{self.number}", gift.settings.kmq)
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
        ground = Ground(self._disk, self.submission, threads, lambda: self.doorway.connected, small_body)
        ground.urgent_size = lambda: urgent_size(self.settings.queue)
        return ground

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
        self.doorway.close()
        self.ward.close()

    # --- now and then ------------------------------------------------------------------------------------------------

    def _tick(self) -> None:
        self._loop.call_later(pause(time.monotonic(), self.status.stirred_at), self._tick)
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
        yield "replay", settings.replay, Once(Replay(settings.replay, completion), settings.kmq.spool)


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
