"""Which queues are suspended, by whom and why: in the core, and in a file of the spool.

Does:     writes all that are suspended into state/queues; says them to the core at a start.
Promise:  `keep` returns when what holds in the core at its call is durable. Calls that come while the file is written
          share the next writing, so that ten thousand of them are not ten thousand files. Queues that are empty, or
          that nobody has mail for yet, stay suspended too.
On crash: what was answered holds again after the next start; a queue that was let go and not answered may be held.
Callers:  run.operators at a start, run.operators_queues, whoever holds mail back for a cause of its own.
"""

import asyncio
import time

import msgspec

from kmq import log
from kmq.run.scheduler import Scheduler
from kmq.spool import kept
from kmq.spool.disk import Disk


class Hold(msgspec.Struct, omit_defaults=True):
    """A queue that is suspended. hop: its next hop; by: who holds it and why (QueueFacts.held_by)."""

    hop: str
    by: str


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Hold).decode


class Holds:
    """The queues that are suspended."""

    def __init__(self, core: Scheduler, disk: Disk) -> None:
        self._core = core
        self._disk = disk
        self._writing = asyncio.Lock()
        self._calls = self._covered = 0  #: of `keep`: all, and those of which what held is durable

    def load(self) -> int:
        """At a start: queues that were suspended are; how many."""
        texts, damaged = kept.read(self._disk, kept.QUEUES)
        if damaged:
            log.error("state/queues is damaged: queues that were suspended may send again", lines=damaged)
        now = time.monotonic()
        for text in texts:
            try:
                hold = _decode(text)
            except msgspec.MsgspecError:
                log.error("a line of state/queues is of a later kmq, or none", text=text.decode("utf-8", "replace"))
                continue
            if not self._core.verbs.suspend_queue(hold.hop, now, hold.by, make=True):
                log.error("a queue that was suspended is of a later kmq", queue=hold.hop)
        return len(texts)

    async def keep(self) -> None:
        """Durably, what holds now. OSError: the disk does not take it; in the core it holds all the same."""
        self._calls += 1
        call = self._calls
        async with self._writing:
            if self._covered >= call:
                return
            covers = self._calls
            texts = [_encode(Hold(hop, by)) for hop, by in sorted(self._core.verbs.held_queues().items())]
            await asyncio.get_running_loop().run_in_executor(None, kept.replace, self._disk, kept.QUEUES, texts)
            self._covered = covers
