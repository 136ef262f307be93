"""The safety net at work: what is kept by the configuration, and for how long.

Does:     tells `keeping` what counts; looks once a minute whether a day is over or too much is kept, beside the loop.
Promise:  mail never waits for it. What could not be kept is told in the log, at most once a minute.
On crash: nothing of it is kept; the next one weighs anew.
Callers:  run.queue.
"""

import asyncio
import time

from kmq import log
from kmq.config import Settings
from kmq.run.keeping import Keeping
from kmq.run.storage import Storage
from kmq.spool import net_clean

#: Seconds between two looks, and before the first.
_PAUSE = 60.0
_FIRST = 5.0


class SafetyNet:
    """Its life in the scheduler process."""

    def __init__(self, settings: Settings, storage: Storage, keeping: Keeping) -> None:
        self._storage = storage
        self._keeping = keeping
        self._disk = storage.store.disk
        self._net = storage.store.effects.net
        self._weight = -1  # bytes that are kept, but for `_net.bytes`; -1: not weighed yet
        self._lost = 0
        self.configure(settings)
        self._loop = asyncio.get_running_loop()
        self._loop.call_later(_FIRST, self._look)

    def configure(self, settings: Settings) -> None:
        """Counts from here on."""
        self._settings = settings.queue
        self._keeping.configure(settings)

    def _look(self) -> None:
        self._tell_lost()
        cleaning = self._loop.run_in_executor(None, self.clean, time.time())
        cleaning.add_done_callback(self._cleaned)

    def _cleaned(self, cleaning: "asyncio.Future[None]") -> None:
        if not cleaning.cancelled() and (error := cleaning.exception()) is not None:
            log.warning("the safety net cannot be cleaned, it is tried again", why=str(error))
        self._loop.call_later(_PAUSE, self._look)

    def _tell_lost(self) -> None:
        lost, self._lost = self._net.lost - self._lost, self._net.lost
        if lost:
            log.warning("delivered mail could not be kept in the safety net", messages=lost, why=str(self._net.why))

    def clean(self, now: float) -> None:
        """In a thread. now: Unix time. Days first, then bytes."""
        hold = self._settings.safety_net_hold_time
        messages = net_clean.let_go_of_days(self._disk, hold, now)
        if messages:
            log.event("safety-net-cleaned", messages=messages, why="its time is over" if hold else "it is off")
            self._weight = -1
        if not hold:
            return
        if self._weight < 0:
            before = self._net.bytes
            self._weight = net_clean.weigh(self._disk) - before
        excess = self._weight + self._net.bytes - self._settings.safety_net_size
        if excess > 0:
            gone = net_clean.let_go_of_bytes(self._disk, excess)
            self._weight -= gone.bytes
            log.event("safety-net-cleaned", messages=gone.messages, why="safety_net_size")
