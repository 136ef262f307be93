"""Grace hold at work: failures that are likely our own fault become deferrals, and their queue is suspended.

Does:     looks at results before they count (run/grace decides), turns failures that are held into deferrals, without
          the notice that a worker made of them; suspends the queue, durably (run/holds), and raises one alarm for each.
Promise:  what was held is in the same record as all else of its result. An ordinary result costs one look at an empty
          list and one count.
On crash: the queue is suspended when its file is written; results that came before that are held one by one.
Callers:  run.results.
"""

import asyncio
from collections.abc import Sequence
from typing import cast

from kmq import log
from kmq.log import mail
from kmq.model import hop as hops
from kmq.model.event import AnyEvent, Delivered, Event, Routed
from kmq.model.frame import Done
from kmq.run.grace import Cause, Failures, Grace
from kmq.run.grace_evidence import spare, turned
from kmq.run.holds import Holds
from kmq.run.hopqueue import GRACE_HOLD, QueueFacts
from kmq.run.scheduler import Scheduler

#: Seconds after which another queue of the same connector is worth another alarm.
_ALARM_AGAIN = 600.0


class GraceHolds:
    """One scheduler process's."""

    def __init__(self, core: Scheduler, holds: Holds, limit: int = 0) -> None:
        self._core = core
        self._holds = holds
        self.grace = Grace(limit, self._suspended)
        self._keeping: set[asyncio.Task[None]] = set()
        self._alarms: dict[tuple[str, Cause], tuple[str, float]] = {}  #: connector, cause -> hop of the last, and when

    def restore(self) -> None:
        """At a start, when the queues that were suspended are; and when they have other names."""
        for hop, by in self._core.verbs.held_queues().items():
            cause = _cause_of(by)
            if cause is not None:
                self.grace.restored(hop, cause)

    @property
    def queues(self) -> dict[str, Cause]:
        """Next hops that are held now -> why."""
        return {hop: cause for hop, cause in self.grace.held.items() if self._suspended(hop)}

    @property
    def news(self) -> list[str]:
        """A sentence for each cause, for tables."""
        names: dict[str, list[str]] = {}
        for hop, cause in self.queues.items():
            names.setdefault(cause.value, []).append(hops.parse(hop).name)
        return [_sentence(cause, held) for cause, held in names.items()]

    # --- results -----------------------------------------------------------------------------------------------------

    def heed(self, done: Done, events: list[AnyEvent], now: float) -> str:
        """Looks at a result before it counts; -> why its failures are held, "" when they count."""
        hop = done.hop
        delivered = False
        for event in events:
            kind = type(event)
            if kind is Routed:
                hop = event.hop  # type: ignore[union-attr]
            elif kind is Delivered:
                delivered = True
        if delivered:
            self.grace.delivered(hop, now)
        if done.unavailable:
            self._unreached(done, now)
        return self._held(done, hop, now) if done.blames else ""

    def _held(self, done: Done, hop: str, now: float) -> str:
        for blame in done.blames:
            cause = Cause[blame.cause]
            if self.grace.failed(hop, Failures(cause, blame.count, blame.sender, tuple(blame.domains)), now):
                if not self._suspended(hop):
                    self._hold(hop, cause, now)
                return cause.value
        return ""

    def _unreached(self, done: Done, now: float) -> None:
        """A server that refuses our login again and again is not asked for more: that might lock the account."""
        facts = self._core.verbs.facts(done.hop)
        if facts is None or facts.held_by:
            return
        cause = self.grace.unreached(done.hop, done.unavailable, facts.failures + 1)
        if cause is not None:
            self._hold(done.hop, cause, now)

    def _suspended(self, hop: str) -> bool:
        facts: QueueFacts | None = self._core.verbs.facts(hop)
        return facts is not None and facts.held_by != ""

    def _hold(self, hop: str, cause: Cause, now: float) -> None:
        """The queue is suspended, and an operator hears of it, once for all queues of a connector."""
        self._core.verbs.suspend_queue(hop, now, f"{GRACE_HOLD}: {cause.value}", make=True)
        target = hops.parse(hop)
        mail.tell("suspend-queue", queue=target.name, by=GRACE_HOLD, reason=cause.value)
        first, at = self._alarms.get((target.connector, cause), (hop, now))
        if hop == first or now - at > _ALARM_AGAIN:
            self._alarms[target.connector, cause] = hop, now
            text = f"grace hold: {cause.value}; mail is held instead of returned: kmq resume --queue {target.name}"
            log.error(text, connector=target.connector, queue=target.name)
        task = asyncio.get_running_loop().create_task(self._keep())
        self._keeping.add(task)
        task.add_done_callback(self._keeping.discard)

    async def _keep(self) -> None:
        try:
            await self._holds.keep()
        except OSError as error:
            log.error(
                "a queue is suspended until kmqd starts anew only: state/queues cannot be written", why=str(error)
            )


def eased(done: Done, events: Sequence[Event], raw: bytes, cause: str) -> tuple[list[AnyEvent], bytes]:
    """A result whose failures are held: its events, and the bytes of the messages that it makes still."""
    raw = spare(done, events, raw)
    return cast(list[AnyEvent], turned(events, cause)), raw


def _sentence(cause: str, names: list[str]) -> str:
    which, each = (
        (names[0], "") if len(names) == 1 else (f"{names[0]} and {len(names) - 1:,} more queues", ", and so on")
    )
    return f"grace hold, {which}: {cause}; mail is held instead of returned until kmq resume --queue {names[0]}{each}"


def _cause_of(by: str) -> Cause | None:
    """The cause of a hold of ours, from the words that tell it."""
    said = by.removeprefix(f"{GRACE_HOLD}: ")
    return next((cause for cause in Cause if cause.value == said), None) if said != by else None
