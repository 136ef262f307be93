"""Archived mail grows old: its folders are compressed at the configured hour, and removed when they are old enough.

Where:    in the index process, in a thread: it is nice, owes nobody an answer within milliseconds, and is begun again
          when it ends. Compressing gives the interpreter free, so that looking at the queue goes on beside it.
Promise:  an hour that was missed, since kmqd did not run, is made up for after the start. What cannot be done is told
          and tried again within the hour; mail is never in its way, nor is it in the way of mail.
On crash: see spool.ageing.
Callers:  run.indexer.
"""

import asyncio
import contextlib
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from kmq import log
from kmq.config import Settings
from kmq.config.backup import BackupSection
from kmq.spool.strays import PERIOD

if TYPE_CHECKING:  # it loads readers and writers of compressed files, which most machines never need
    from kmq.spool.ageing import Aged

#: Seconds from the start to the first look, and at most between two of them.
_FIRST = 20.0
_PAUSE = 3600.0


def times_around(now: float, minute: int) -> tuple[float, float]:
    """The last and the next moment (Unix time) at which local clocks showed, or show, so many minutes after midnight.
    On a day on which the clock leaves that time out it is an hour later, where it comes twice the first counts."""
    day = datetime.fromtimestamp(now).replace(hour=minute // 60, minute=minute % 60, second=0, microsecond=0, fold=0)
    found = [(day + timedelta(days=ahead)).timestamp() for ahead in (-1, 0, 1, 2)]
    return max(at for at in found if at <= now), min(at for at in found if at > now)


class ArchiveAge:
    """Its life in the index process."""

    def __init__(self, settings: Settings) -> None:
        self._section = settings.backup
        self._stop = threading.Event()
        self._thread: ThreadPoolExecutor | None = None
        self._loop = asyncio.get_running_loop()
        self._next_at = 0.0
        self._again(_FIRST)

    def _again(self, seconds: float) -> None:
        self._next_at = self._loop.time() + seconds
        self._timer = self._loop.call_later(seconds, self._look)

    def configure(self, settings: Settings) -> None:
        """Counts from the next look on, which is soon."""
        changed, self._section = settings.backup != self._section, settings.backup
        if changed and self._next_at > self._loop.time() + _FIRST:
            self._timer.cancel()
            self._again(_FIRST)

    def close(self) -> None:
        """The process ends; what is under way stops at its next piece."""
        self._timer.cancel()
        self._stop.set()
        if self._thread is not None:
            self._thread.shutdown(wait=False, cancel_futures=True)

    def _look(self) -> None:
        if not self._section.folder or (self._section.compress_at is None and not self._section.keep):
            self._again(_PAUSE)
            return
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, "archive-age")
        looking = self._loop.run_in_executor(self._thread, self.look, time.time())
        looking.add_done_callback(self._looked)

    def _looked(self, looking: "asyncio.Future[None]") -> None:
        if looking.cancelled() or self._stop.is_set():
            return
        error = looking.exception()
        if error is not None:
            log.warning("old archived mail cannot be looked at, it is tried again", why=str(error))
        wait = _PAUSE
        if self._section.compress_at is not None:
            now = time.time()
            wait = min(_PAUSE, times_around(now, self._section.compress_at)[1] - now + 1.0)
        self._again(wait)

    def look(self, now: float) -> None:
        """In a thread. now: Unix time. What is to be removed first: it need not be compressed."""
        section = self._section
        with contextlib.suppress(FileNotFoundError):  # whoever archives says that the folder is not there
            if any(PERIOD.match(name) for name in os.listdir(section.folder)):
                self._age(section, now)

    def _age(self, section: BackupSection, now: float) -> None:
        from kmq.spool import ageing

        with contextlib.suppress(ageing.Stopped):
            if section.keep:
                for name in ageing.over(section.folder, now - section.keep):
                    self._tell("backup-removed", name, self._remove(name))
            if section.compress_at is not None:
                due, _ = times_around(now, section.compress_at)
                for name in ageing.over(section.folder, due):
                    if not name.endswith(ageing.COMPRESSED):
                        self._compress(name)

    def _remove(self, name: str) -> "Aged | None":
        from kmq.spool import ageing

        try:
            return ageing.remove(self._section.folder, name, self._stop.is_set)
        except FileNotFoundError:
            return None
        except OSError as error:
            log.warning("old archived mail cannot be removed, it is tried again", folder=name, why=str(error))
            return None

    def _compress(self, name: str) -> None:
        from kmq.spool import ageing

        began = time.monotonic()
        try:
            aged = ageing.compress(self._section.folder, name, self._stop.is_set)
        except OSError as error:
            log.warning("archived mail cannot be compressed, it is tried again", folder=name, why=str(error))
        else:
            self._tell("backup-compressed", name, aged, time.monotonic() - began)

    def _tell(self, what: str, name: str, aged: "Aged | None", seconds: float | None = None) -> None:
        if aged is not None:
            took = None if seconds is None else round(seconds * 1000)
            log.event(what, folder=name, messages=aged.messages, left=aged.left or None, ms=took)
