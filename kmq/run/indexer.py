"""The index process: keeps the index (spool/index) as the files are, so that looking at the queue costs kmqd nothing.

Does:     hears from the scheduler process which messages have changed, reads their envelopes, and says in a file of
          which moment the index is (`index/as_of`). At first, and whenever something was lost, it compares all.
          Beside that it has others begun that look for who cannot read the files (`Looks`, as the wiring gives it),
          and archived mail compressed when it is old (`ArchiveAge`).
Promise:  never in the way of mail: it is nice where it may be, it works in small portions, and the scheduler process
          waits for none of its words. When the index cannot be written nothing else suffers: who looks reads the files.
On crash: the next one compares. A damaged index is thrown away and made anew.
Callers:  cli.kmqd starts it; one loop (uvloop).
"""

import asyncio
import contextlib
import os
import signal
import socket
import sqlite3
import time
from array import array
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import Protocol

from kmq import log
from kmq.config import Settings
from kmq.errors import SpoolError
from kmq.model.frame import AnyFrame, Changed, Hello, Indexed
from kmq.run import rotation
from kmq.run.archive_age import ArchiveAge
from kmq.run.changes import ROLE, TYPECODE
from kmq.run.cord import Gift, Ward
from kmq.run.inheritance import Inheritance
from kmq.run.link import Link
from kmq.run.listeners import LOOK
from kmq.spool import index
from kmq.spool.as_of import AsOf
from kmq.spool.rhythm import pause
from kmq.spool.status import StatusFile

#: Messages that are read before the loop has its turn.
_PORTION = 100
#: Others go first.
_NICE = 10
#: Words after which next hops that nothing waits for are looked for.
_TIDIED = 600
#: Seconds after which an index that could not be written is tried again.
_AGAIN = 30.0


class Looks(Protocol):
    """Who serves those that may look: admin.looks. settings: of the configuration that counts."""

    settings: Settings

    def serve(self, listener: socket.socket) -> None:
        """Begins to serve; the listener is its own from here."""

    async def close(self) -> None:
        """Ends what was begun."""


class IndexProcess:
    """One process with its index, and the connection behind it."""

    def __init__(self, given: Inheritance, number: int, status: StatusFile, started: float, looks: Looks) -> None:
        self.settings = given.settings
        self._looks = looks
        self._listener = given.sockets.get(LOOK)
        self.ward = Ward(given.cord, given.number, self._make)
        self.status = status
        self._number = number
        self._hello = Hello(ROLE, number, os.getpid(), started)
        self._loop = asyncio.get_running_loop()
        self._stopping = asyncio.Event()
        self._words: asyncio.Queue[tuple[Link, Changed, bytes]] = asyncio.Queue()
        self._spool = given.settings.kmq.spool
        self._index: index.Index | None = None
        self._as_of = AsOf(self._spool)
        self._troubled = False
        self._said = 0
        self._archive = ArchiveAge(given.settings)
        self._comparing = ThreadPoolExecutor(1, "comparing")

    async def run(self) -> None:
        """Keeps the index until told to stop."""
        self.ward.begin()
        self._joining = self._loop.create_task(self._join())
        if self._listener is not None:
            self._looks.serve(self._listener)
        working = self._loop.create_task(self._work())
        self.ward.serves()
        self._tick()
        stopping = self._loop.create_task(self._stopping.wait())
        await asyncio.wait((stopping, working), return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            working.result()
        working.cancel()
        self._joining.cancel()
        self._archive.close()
        await self._looks.close()
        self._comparing.shutdown(cancel_futures=True)  # the folder in hand, whose thread has the index
        self._close(clean=True)
        self.ward.close()

    def stop(self) -> None:
        self._stopping.set()

    def _make(self, gift: Gift) -> Callable[[], None]:
        return lambda: self._count(gift.settings)

    def _count(self, settings: Settings) -> None:
        log.begin(f"{ROLE}-{self._number}", settings.kmq)
        self._looks.settings = settings
        self._archive.configure(settings)

    # --- the scheduler process ---------------------------------------------------------------------------------------

    async def _join(self) -> None:
        link: Link | None = None
        while link is None or not link.open:
            link = Link(self._heard, self._ended)
            await link.connect(self.settings.kmq.run_directory / "queue.sock")
        link.send(self._hello)

    def _ended(self, link: Link) -> None:
        """The scheduler process is gone; the next one will have all compared."""
        self._joining = self._loop.create_task(self._join())

    def _heard(self, link: Link, frame: AnyFrame, raw: bytes) -> None:
        if isinstance(frame, Changed):
            self._words.put_nowait((link, frame, raw))

    # --- the work ----------------------------------------------------------------------------------------------------

    async def _work(self) -> None:
        while True:
            link, word, raw = await self._words.get()
            try:
                await self._follow(word, raw)
            except (sqlite3.Error, OSError, SpoolError) as error:
                await self._give_up(error)
            link.send(Indexed())

    async def _follow(self, word: Changed, raw: bytes) -> None:
        """Does what the word says; then the index is of the moment at which it was said."""
        whole = self._index is None or word.lost
        if self._index is None:
            self._index = index.Index.to_write(self._spool)
        if whole:
            await self._compare(self._index)
        else:
            await self._look(self._index, iter(array(TYPECODE, raw)))
        self._as_of.tell(word.at)
        self._said += 1
        if whole or self._said % _TIDIED == 0:
            self._index.tidy()
        if self._troubled:
            self._troubled = False
            log.event("index-mended")

    async def _compare(self, kept: index.Index) -> None:
        """Folder by folder; what one of 65,000 messages holds is found out in a thread, for it takes half a second."""
        stale = kept.stale()
        while (numbers := await self._loop.run_in_executor(self._comparing, next, stale, None)) is not None:
            await self._look(kept, iter(numbers))

    async def _look(self, kept: index.Index, numbers: Iterator[int]) -> None:
        while portion := list(islice(numbers, _PORTION)):
            kept.look_again(portion)
            await asyncio.sleep(0)

    async def _give_up(self, error: Exception) -> None:
        """It is thrown away, and made anew with a later word, whatever that says."""
        if not self._troubled:
            self._troubled = True
            log.warning("the index cannot be kept; listings read the files meanwhile", why=str(error))
        self._close(clean=False)
        with contextlib.suppress(OSError):
            index.discard(self._spool)
        await asyncio.sleep(_AGAIN)

    def _close(self, clean: bool) -> None:
        self._as_of.forget()
        kept, self._index = self._index, None
        if kept is not None:
            try:
                kept.close(clean)
            except (sqlite3.Error, SpoolError) as error:
                log.warning("the index was not closed in order, and is made anew", why=str(error))

    # --- now and then ------------------------------------------------------------------------------------------------

    def _tick(self) -> None:
        self.status.counters["log_lines_lost"] = log.lost()
        self.status.flush()
        self._loop.call_later(pause(time.monotonic(), self.status.stirred_at), self._tick)


def main(given: Inheritance, number: int, started: float, looks: Looks) -> int:
    """The process; -> its exit status."""
    import uvloop

    with contextlib.suppress(OSError):  # kmq.service forbids it (@resources); then small portions must do
        os.nice(_NICE)
    status = StatusFile(given.settings.kmq.spool / "status", ROLE, number)

    async def keep() -> int:
        loop = asyncio.get_running_loop()
        log.gather(loop)
        process = IndexProcess(given, number, status, started, looks)
        loop.add_signal_handler(signal.SIGTERM, process.stop)
        loop.add_signal_handler(signal.SIGINT, lambda: None)  # the supervisor says when
        rotation.heed(loop)
        await process.run()
        return 0

    ended = uvloop.run(keep())
    status.close()
    return ended
