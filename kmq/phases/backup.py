"""Backup: archiving by the classes of the configuration, into a folder, to an address, or both.

Does:     decides by the envelope alone whether a message is archived. In the spool's own folder a name is asked for
          (`Passed.archive`), which the scheduler process makes in one record with what is said here (J4b). In another
          one this process writes the files before it says so. A letter goes to the address.
Promise:  what is archived is so once: names follow from the message's ID and the time at which it came. When it cannot
          be archived the message waits, or goes on with an alarm, as `backup_failure` says; a folder that does not
          answer holds each message for LIMIT at most.
On crash: done again, and found done.
Callers:  run.inspectors makes it, run.inspecting asks it.
"""

import asyncio
import os
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from pathlib import Path

from kmq import log
from kmq.config.backup import IN_SPOOL, BackupSection
from kmq.model.envelope import Head, Recipient, head_line, head_tail, lines_of, unseal
from kmq.model.event import Passed
from kmq.model.phase import Phase
from kmq.model.reply import Reply
from kmq.phases.deposit import Deposit, store
from kmq.phases.inspection import Finding, Letter, Matter, put_off
from kmq.phases.work import read

#: Seconds after which a folder counts as one that does not answer.
LIMIT = 60.0
#: Messages whose folder is synced once for all.
_TOGETHER = 32
#: Seconds between two alarms of a worker.
_QUIET = 60.0
#: Seconds for which what was seen of the folder's file system counts.
_LOOK = 1.0
#: How a copy for the archive says where it comes from, and how an alias's message does.
HOW, ALIAS = "archive", "alias"
_FULL = (28, 122)  # ENOSPC, EDQUOT


def class_of(sender: bool, recipient: bool) -> str:
    """By whether sender and recipient are of this server."""
    if sender:
        return "local" if recipient else "outgoing"
    return "incoming" if recipient else "relayed"


def period_of(created: str, period: str) -> str:
    """The folder's name, for a time as in the head of an envelope: 2026-11-22, 2026-W47, 2026-11."""
    if period == "month":
        return created[:7]
    if period == "week":
        year, week, _ = date.fromisoformat(created[:10]).isocalendar()
        return f"{year:04d}-W{week:02d}"
    return created[:10]


class Backup:
    """An inspector (phases.inspection)."""

    phase = Phase.BACKUP
    step = "backup"

    def __init__(self, section: BackupSection, spool: Path, limit: float = LIMIT) -> None:
        self.section = section
        self._spool = spool
        self._limit = limit
        self._in_spool = section.is_in(spool)
        self._depot = Depot(section.folder, limit)
        self._alarmed = -_QUIET
        self._linked, self._looked = False, -_LOOK

    def concerns(self, matter: Matter) -> bool:
        """What aliases made of archived mail is not archived again, unless it has come into another class by that."""
        head, local = matter.head, matter.local
        if head.source.how == ALIAS:
            before = [one.original or one.address for one in head.recipients]
            if self._wants(head, before, local):
                return False
        return self._wants(head, [one.address for one in head.recipients], local)

    def _wants(self, head: Head, addresses: list[str], local: Callable[[str], bool]) -> bool:
        section = self.section
        ours = head.sender != "" and local(head.sender)
        known = _domain(head.sender) in section.domains
        return any(
            getattr(section, class_of(ours, local(one)))
            and (known or not section.domains or _domain(one) in section.domains)
            for one in addresses
        )

    async def close(self) -> None:
        self._depot.close()

    async def inspect(self, matter: Matter) -> Finding:
        section = self.section
        letters = [_copy(section.address)] if section.address else []
        if not section.folder:
            return Finding(Passed(by=section.address, verdict="archived"), letters=letters)
        place = period_of(matter.head.created, section.period)
        linked = self._in_spool and self._is_spool_s()
        if not linked:
            trouble = await self._depot.take(_deposit(matter, place))
            if isinstance(trouble, OSError):
                return self._failed(matter, trouble, letters)
            if trouble is not None:
                raise trouble
        where = f"{section.folder}/{place}"
        by = f"{where}, {section.address}" if section.address else where
        archive = f"{IN_SPOOL}/{place}" if linked else ""
        return Finding(Passed(by=by, verdict="archived", archive=archive), letters=letters)

    def _is_spool_s(self) -> bool:
        """Whether the spool's folder is on the spool's file system: something may be mounted there. What is mounted
        meanwhile the scheduler process finds out, and copies."""
        now = time.monotonic()
        if now - self._looked >= _LOOK:
            self._looked = now
            try:
                self._linked = os.stat(self.section.folder).st_dev == os.stat(self._spool).st_dev
            except OSError:
                self._linked = False
        return self._linked

    def _failed(self, matter: Matter, trouble: OSError, letters: list[Letter]) -> Finding:
        why = trouble.strerror or str(trouble)
        if self.section.backup_failure == "go_on":
            self._alarm(matter.head.id, why)
            return Finding(Passed(by=self.section.folder, verdict=f"not archived: {why}"), letters=letters)
        code = Reply(452, "4.3.1", "") if trouble.errno in _FULL else Reply(451, "4.3.0", "")
        reply = Reply(code.code, code.enhanced, f"it cannot be archived in {self.section.folder}: {why}")
        return put_off(matter, reply)

    def _alarm(self, id_: str, why: str) -> None:
        now = time.monotonic()
        if now - self._alarmed >= _QUIET:
            self._alarmed = now
            log.error("mail goes on without being archived", id=id_, folder=self.section.folder, why=why)


class Depot:
    """The folder elsewhere: one thread writes, and what comes meanwhile is its next batch."""

    def __init__(self, root: str, limit: float) -> None:
        self._root = root
        self._limit = limit
        self._waiting: deque[tuple[Deposit, asyncio.Future[None]]] = deque()
        self._thread: ThreadPoolExecutor | None = None
        self._since: float | None = None  # since when the thread has been at its batch

    async def take(self, deposit: Deposit) -> Exception | None:
        """Stored when this returns None; else why not."""
        loop = asyncio.get_running_loop()
        if self._since is not None and loop.time() - self._since > self._limit:
            return TimeoutError(110, f"it has not answered for {self._limit:.0f} s")
        done = loop.create_future()
        self._waiting.append((deposit, done))
        if self._since is None:
            self._next(loop)
        try:
            await asyncio.wait_for(done, self._limit)
        except TimeoutError:
            return TimeoutError(110, f"it has not answered for {self._limit:.0f} s")
        return deposit.trouble

    def _next(self, loop: asyncio.AbstractEventLoop) -> None:
        batch = [self._waiting.popleft() for _ in range(min(_TOGETHER, len(self._waiting)))]
        batch = [(deposit, done) for deposit, done in batch if not done.done()]
        if not batch:
            self._since = None
            return
        self._since = loop.time()
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, "backup")
        writing = loop.run_in_executor(self._thread, store, self._root, [deposit for deposit, _ in batch])
        writing.add_done_callback(lambda written: self._written(loop, batch, written))

    def _written(
        self,
        loop: asyncio.AbstractEventLoop,
        batch: list[tuple[Deposit, "asyncio.Future[None]"]],
        written: "asyncio.Future[None]",
    ) -> None:
        error = OSError(125, "interrupted") if written.cancelled() else written.exception()
        for deposit, done in batch:
            deposit.trouble = deposit.trouble or (error if isinstance(error, Exception) else None)
            if not done.done():
                done.set_result(None)
        self._since = None
        if self._waiting:
            self._next(loop)

    def close(self) -> None:
        if self._thread is not None:
            self._thread.shutdown(wait=False, cancel_futures=True)


def _domain(address: str) -> str:
    return address.rpartition("@")[2].lower()


def _copy(address: str) -> Letter:
    """The message as it came, from nobody: what cannot be delivered of it is not told to its sender."""
    return Letter("", (Recipient(address),), how=HOW)


def _deposit(matter: Matter, period: str) -> Deposit:
    head, body = matter.head, matter.body
    return Deposit(
        period,
        head.id,
        head.size,
        body.path if body.text is None else "",
        lambda: read(head, body),
        lambda: _envelope(head, body.path.removesuffix(".eml") + ".env"),
    )


def _envelope(head: Head, path: str) -> bytes:
    """Its lines as they are on the disk; the head alone where its file is not made yet."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(fd, "rb") as file:
            lines = [line for line in lines_of(file.read()) if unseal(line) is not None]
    except FileNotFoundError:
        lines = []
    return b"\n".join(lines) or head_line(head.id, head.sha256, head_tail(head))
