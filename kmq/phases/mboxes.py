"""Local delivery into mbox files: a copy of the message for each recipient.

Promise:  each Work is reported once, when all its copies are durable or have their reason why not. A file is one
          thread's at a time; what waits for it shares its next lock and sync. One that is locked by another program
          binds no thread, and its mail waits for `lock_timeout` at most.
On crash: a Work without a report is done again; its second run finds the copies of the first (phases.mbox).
Callers:  phases.local_delivery.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from time import monotonic

from kmq.config.sections import ConnectorSection
from kmq.model import queue_id
from kmq.model.reply import Reply
from kmq.phases import mbox
from kmq.phases.addressee import NO_USER, addressee, copy_text, file_host, place
from kmq.phases.delivery import Delivery
from kmq.phases.mbox import Letter
from kmq.phases.settling import STOPPING, Settling
from kmq.phases.turns import Turns
from kmq.phases.work import Report, Show, Work

WRITERS = 4  #: threads
BATCH = 32  #: copies that share a lock and a sync


@dataclass(slots=True, eq=False)
class _Copy:
    """One recipient's. until: monotonic time at which waiting for a lock ends; create: as in phases.mbox."""

    settling: Settling
    index: int
    root: str
    below: tuple[str, ...]
    create: bool
    letter: Letter
    until: float


class Mboxes:
    """The phase. connectors: by name; hostname: part of the copies' names."""

    def __init__(self, connectors: Mapping[str, ConnectorSection], hostname: str) -> None:
        self._connectors = connectors
        self._host = file_host(hostname)
        self._turns: Turns[_Copy] = Turns(_append, self._ended, WRITERS, BATCH)

    def deliver(self, work: Work, report: Report, show: Show) -> None:
        """Appends a copy for each recipient. Returns at once."""
        section = self._connectors[work.hop.connector]
        settling = Settling(Delivery(work, report, show))
        copies = []
        for index in work.rcpt:
            made = self._copy(settling, index, section)
            if isinstance(made, Reply):
                settling.judge(index, made)
            else:
                copies.append(made)
        for copy in copies:
            self._turns.put((copy.root, copy.below), copy)

    def _copy(self, settling: Settling, index: int, section: ConnectorSection) -> _Copy | Reply:
        work = settling.delivery.work
        found = addressee(work, index, section)
        if isinstance(found, Reply):
            return found
        where = place(section.mbox, found.user, found.domain)
        if where is None:
            return NO_USER
        letter = Letter(
            name=f"{work.head.id}.{index}.{self._host}",
            host=self._host,
            sender=work.head.sender,
            text=copy_text(work, index),
            created=queue_id.created(queue_id.parse(work.head.id)),
            limit=section.quota.bytes,
            final=section.over_quota == "return",
        )
        return _Copy(settling, index, *where, found.create, letter, monotonic() + section.lock_timeout)

    def configure(self, connectors: Mapping[str, ConnectorSection]) -> None:
        """The configuration was read again; what waits goes on as it began."""
        self._connectors = connectors

    async def close(self, grace: float) -> None:
        """Waits up to `grace` seconds for what is being written; what has not been begun is left to the next run."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + grace
        while self._turns.busy and loop.time() < deadline:
            await asyncio.sleep(0.01)
        for copy in self._turns.left():
            copy.settling.judge(copy.index, STOPPING)
        self._turns.stop()

    def _ended(self, copy: _Copy, error: BaseException | None) -> None:
        letter = copy.letter
        copy.settling.end(copy.index, letter.reply, letter.damaged, error)


def _append(copies: list[_Copy]) -> list[_Copy]:
    """In a thread: copies for one file; -> those that wait for its lock."""
    first = copies[0]
    locked = mbox.deliver(first.root, first.below, first.create, [copy.letter for copy in copies])
    if not locked:
        return []
    now = monotonic()
    for copy in copies:
        if now >= copy.until:
            copy.letter.reply = Reply(451, "4.2.0", f"the mailbox is locked: {locked} ({'/'.join(copy.below)})")
    return [copy for copy in copies if now < copy.until]
