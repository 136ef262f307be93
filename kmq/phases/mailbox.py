"""Local delivery into Maildirs: a copy of the message for each recipient.

Promise:  each Work is reported once, when all its copies are durable or have their reason why not. The loop never waits
          for the disk: a few threads write, and what comes while they are busy shares their next syncs.
On crash: a Work without a report is done again; its second run finds the copies of the first (phases.maildir).
Callers:  phases.local_delivery; a trial of a poisoned message.
"""

import asyncio
from collections import deque
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import NamedTuple

from kmq.config.sections import ConnectorSection
from kmq.model import queue_id
from kmq.model.hop import NextHop
from kmq.model.reply import Reply
from kmq.phases import maildir
from kmq.phases.addressee import NO_USER, addressee, copy_text, file_host, place
from kmq.phases.delivery import Delivery
from kmq.phases.maildir import Copy
from kmq.phases.maildir_quota import Limits
from kmq.phases.work import Outcome, Report, Show, Work

WRITERS = 4  #: threads; their syncs share the file system's commits
BATCH = 64  #: copies that one thread takes at a time

STOPPING = Reply(421, "4.3.2", "kmq is stopping")


class Letter(NamedTuple):
    """A Work with its copies: (index of the recipient, copy)."""

    delivery: Delivery
    copies: list[tuple[int, Copy]]


class Mailbox:
    """The phase. connectors: by name; hostname: part of the files' names, as Maildirs have it."""

    def __init__(self, connectors: Mapping[str, ConnectorSection], hostname: str) -> None:
        self._connectors = connectors
        self._host = file_host(hostname)
        self._waiting: deque[Letter] = deque()
        self._writing = 0
        self._threads = ThreadPoolExecutor(WRITERS, thread_name_prefix="kmq-maildir")

    def ready(self, hop: NextHop) -> bool:
        """A fresh message could be begun now."""
        return hop.connector in self._connectors

    def deliver(self, work: Work, report: Report, show: Show) -> None:
        """Writes a copy for each recipient. Returns at once."""
        section = self._connectors.get(work.hop.connector)
        if section is None:
            why = f"the configuration has no connector {work.hop.connector!r}"
            return report(Outcome(unavailable=Reply(451, "4.3.5", why)))
        delivery = Delivery(work, report, show)
        copies: list[tuple[int, Copy]] = []
        for index in work.rcpt:
            made = copy_for(work, index, section, self._host)
            if isinstance(made, Copy):
                copies.append((index, made))
            else:
                delivery.judge([(index, made)], "")
        if not copies:
            return delivery.finish()
        self._waiting.append(Letter(delivery, copies))
        return self._start()

    def configure(self, connectors: Mapping[str, ConnectorSection]) -> None:
        """The configuration was read again; what waits goes on as it began."""
        self._connectors = connectors

    async def close(self, grace: float) -> None:
        """Waits up to `grace` seconds for what is being written; what has not been begun is left to the next run."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + grace
        while (self._writing or self._waiting) and loop.time() < deadline:
            await asyncio.sleep(0.01)
        waiting, self._waiting = self._waiting, deque()
        for letter in waiting:
            letter.delivery.judge_left(STOPPING, "")
            letter.delivery.finish()
        self._threads.shutdown(wait=False)

    def _start(self) -> None:
        while self._waiting and self._writing < WRITERS:
            batch: list[Letter] = []
            count = 0
            while self._waiting and count < BATCH:
                letter = self._waiting.popleft()
                batch.append(letter)
                count += len(letter.copies)
            self._writing += 1
            copies = [copy for letter in batch for _, copy in letter.copies]
            writing = asyncio.get_running_loop().run_in_executor(self._threads, maildir.deliver, copies)
            writing.add_done_callback(partial(self._written, batch))

    def _written(self, batch: list[Letter], writing: "asyncio.Future[None]") -> None:
        self._writing -= 1
        self._start()
        error = None if writing.cancelled() else writing.exception()
        for letter in batch:
            _settle(letter, error)


def _settle(letter: Letter, error: BaseException | None) -> None:
    """The report of one Work. What no thread has come to, or died of, is temporary."""
    damage = next((copy.damaged for _, copy in letter.copies if copy.damaged), "")
    unknown = Reply(451, "4.3.0", f"local storage error: {error!r}" if error else "local storage error")
    delivery = letter.delivery
    delivery.judge([(index, copy.reply or unknown) for index, copy in letter.copies if not copy.damaged], "")
    if damage:
        delivery.damaged(damage)
    else:
        delivery.finish()


# --- one copy, decided without a look at the disk -------------------------------------------------------------------


def copy_for(work: Work, index: int, section: ConnectorSection, host: str) -> Copy | Reply:
    """Where the copy of a recipient goes and what stands ahead of it, or why there can be none."""
    found = addressee(work, index, section)
    if isinstance(found, Reply):
        return found
    where = place(section.maildir, found.user, found.domain)
    if where is None:
        return NO_USER
    root, below = where
    return Copy(
        root=root,
        below=below,
        create=found.create,
        name=f"{work.head.id}.{index}.{host}",
        text=copy_text(work, index),
        created=queue_id.created(queue_id.parse(work.head.id)),
        folder=found.extension,
        create_folder=section.create_folders,
        sized=section.sizes_in_names,
        limits=Limits(*section.quota, section.over_quota == "return") if any(section.quota) else None,
        least=work.body.size // 2,
    )
