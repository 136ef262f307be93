"""A connector bears another name: its queues go on under it, with their messages, retry times and suspensions.

Does:     tells the core, keeps the GUIDs (identities) and the suspended queues (holds), and writes the new next hop
          into the envelopes of what waits there, some at a time.
Promise:  what waits is not routed anew, and waits as long as before. Until its envelope says so, the former name leads
          to the new one, also after the next start.
On crash: the same configuration is compared with what was kept, and means the same.
Callers:  run.operators.
"""

import asyncio
import time
from collections.abc import Coroutine, Sequence

from kmq import log
from kmq.config import ConnectorSection
from kmq.model import recipients
from kmq.model.event import Routed
from kmq.run.holds import Holds
from kmq.run.identities import Identities
from kmq.run.scheduler import Scheduler
from kmq.run.taking_out import Entries
from kmq.run.told import Told

#: Messages whose envelopes are written before the loop has its turn.
_CHUNK = 200


class Renaming:
    """The names of connectors, as they change."""

    def __init__(self, core: Scheduler, identities: Identities, holds: Holds, entries: Entries) -> None:
        self._core = core
        self._identities = identities
        self._holds = holds
        self._entries = entries
        self._keeping: set[asyncio.Task[None]] = set()
        self._turn = asyncio.Lock()

    def begin(self, connectors: Sequence[ConnectorSection]) -> None:
        """At a start: former names lead to the new ones, for what is read from the disk from now on."""
        renamed, changed = self._identities.take(connectors)
        self._core.verbs.formerly(self._identities.former)
        if changed:
            self._beside(self._keep(renamed))

    def configure(self, connectors: Sequence[ConnectorSection]) -> None:
        """A new configuration counts."""
        renamed, changed = self._identities.take(connectors)
        now = time.monotonic()
        for old, new in renamed.items():
            found = self._core.verbs.rename_connector(old, new, now)
            log.event("renamed", connector=new, before=old, queues=len(found))
        self._core.verbs.formerly(self._identities.former)
        if changed:
            self._beside(self._keep_and_write(renamed))

    def _beside(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._keeping.add(task)
        task.add_done_callback(self._keeping.discard)

    async def _keep_and_write(self, renamed: dict[str, str]) -> None:
        await self._keep(renamed)
        if renamed:
            await self._write({new: old for old, new in renamed.items()})

    async def _keep(self, renamed: dict[str, str]) -> None:
        """One after the other, however soon the next configuration comes; a full disk keeps nobody from starting."""
        async with self._turn:
            try:
                await asyncio.get_running_loop().run_in_executor(None, self._identities.keep)
                if renamed:
                    await self._holds.keep()
            except OSError as error:
                log.error("state/ cannot be written; the next configuration tries again", why=str(error))

    async def _write(self, before: dict[str, str]) -> None:
        """New name -> former one: what waits there has its new next hop in its envelope."""
        told: Told | None = None
        for place, mid in enumerate(self._core.mids):
            if place % _CHUNK == 0:
                await (
                    told.durable if told is not None else asyncio.sleep(0)
                )  # no more than a chunk waits to be written
                told = None
            for share in self._core.verbs.scope(mid):
                old = before.get(share.queue.connector)
                if old is not None:
                    rule = f"connector [{share.queue.connector}], which was [{old}] before"
                    event = Routed(rcpt=recipients.as_text(share.rcpt), hop=share.queue.hop, rule=rule)
                    told = Told()
                    self._entries.add(mid, event, told)
