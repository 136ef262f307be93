"""Foreign connector: mail becomes files in a folder, from which a gateway takes it (Exchange's foreign connector).

Promise:  each Work is reported once, when its file is durable, or has its reason why not. The loop never waits for the
          disk; a folder that stands still (a network drive) occupies one thread, and the messages of this connector
          that the scheduler gives, nothing else. One thread counts the quota, so only workers beside each other may go
          beyond it, by a file each.
On crash: a Work without a report is done again; its second run finds the file of the first (phases.drop_folder).
Callers:  phases.ways.
"""

import asyncio
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from kmq.config.sections import ConnectorSection
from kmq.model.reply import Reply
from kmq.phases.allotment import Allotment
from kmq.phases.delivery import Delivery
from kmq.phases.drop_folder import Sheet, fill, prepare
from kmq.phases.rendering import note_rewritten

BATCH = 64  #: files that are written before the sync of their folder


class Foreign:
    """One connector. spool: below which its folder lies, unless it says another one."""

    def __init__(self, section: ConnectorSection, spool: str) -> None:
        self._section = section
        self._spool = spool
        prepare(section, spool)
        self._waiting: deque[tuple[Delivery, Sheet]] = deque()
        self._writing = False
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="kmq-drop")

    @property
    def busy(self) -> bool:
        return bool(self._waiting) or self._writing

    def take(self, delivery: Delivery) -> None:
        """Writes a file for its recipients. Returns at once."""
        self._waiting.append((delivery, Sheet(delivery.work, delivery.rewriter)))
        self._start()

    def replace(self, section: ConnectorSection) -> None:
        """The configuration changed; what is being written ends as it began."""
        self._section = section
        prepare(section, self._spool)

    def allot(self, allotment: Allotment) -> None:
        """What workers share does not concern it."""

    def retire(self) -> None:
        """The connector is no more; what waits is written still."""

    async def close(self, grace: float, why: Reply) -> None:
        """Lets files that are being written come to their end; what has not been begun is left to the next run."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + grace
        while self.busy and loop.time() < deadline:
            await asyncio.sleep(0.01)
        waiting, self._waiting = self._waiting, deque()
        for delivery, _ in waiting:
            delivery.unreachable(why)
        self._thread.shutdown(wait=False)

    def _start(self) -> None:
        if not self._waiting or self._writing:
            return
        batch = [self._waiting.popleft() for _ in range(min(BATCH, len(self._waiting)))]
        self._writing = True
        section, sheets = self._section, [sheet for _, sheet in batch]
        writing = asyncio.get_running_loop().run_in_executor(self._thread, fill, section, self._spool, sheets)
        writing.add_done_callback(partial(self._written, batch))

    def _written(self, batch: list[tuple[Delivery, Sheet]], writing: "asyncio.Future[None]") -> None:
        self._writing = False
        error = None if writing.cancelled() else writing.exception()
        for delivery, sheet in batch:
            _settle(delivery, sheet, error)
        self._start()


def _settle(delivery: Delivery, sheet: Sheet, error: BaseException | None) -> None:
    """The report. What no thread has come to, or died of, is temporary."""
    if sheet.damaged:
        delivery.damaged(sheet.damaged)
    elif sheet.unavailable is not None:
        delivery.unreachable(sheet.unavailable)
    else:
        unknown = Reply(451, "4.3.0", f"the file was not written: {error!r}" if error else "the file was not written")
        reply = sheet.reply or unknown
        if reply.done:
            note_rewritten(delivery.work, delivery.rewriter)
            delivery.relayed += delivery.left
        delivery.judge_left(reply, delivery.work.hop.connector)
        delivery.finish()
