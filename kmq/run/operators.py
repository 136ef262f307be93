"""What operators ask of a running kmqd, carried out (the verbs of admin/verbs; `ask` is handed to the control server).

Does:     joins the parts that know messages (operators_messages), queues (operators_queues), and what stands beside
          both: recipients that are taken out (taking_out), suspended queues (holds), names of connectors (renaming).
Promise:  a change is answered when it is durable; what somebody works on is answered as pending, and done when that
          ended (J14). Looks cost the loop a moment per thousand messages, and nothing is read from disk for them.
On crash: what was not answered may have happened or not; asking again does no harm.
Callers:  the control server, in the scheduler process's loop.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from typing import cast

from kmq import log
from kmq.config import ConnectorSection, Settings
from kmq.config.local_connector import LOCAL
from kmq.log import mail
from kmq.model import hop as hops
from kmq.model import moment, queue_id, recipients
from kmq.model.frame import Answer
from kmq.model.outcome import DONE, REFUSED, USAGE
from kmq.model.reply import Reply
from kmq.run import overdue, reload_verb, settle_verb
from kmq.run.grace_holds import GraceHolds
from kmq.run.holds import Holds
from kmq.run.identities import Identities
from kmq.run.loader import Loader
from kmq.run.metering import Metering
from kmq.run.numbers import Numbers
from kmq.run.operators_messages import Deed, MessageVerbs, Name, named
from kmq.run.operators_queues import QueueVerbs
from kmq.run.outcasts import Outcasts
from kmq.run.renaming import Renaming
from kmq.run.replays import Replays, Wish
from kmq.run.scheduler import Scheduler
from kmq.run.storage import Storage
from kmq.run.taking_out import Entries, TakingOut
from kmq.run.told import Told

__all__ = ["Argument", "Line", "Operators", "Told"]

Argument = str | int | bool | list[str]
Line = Mapping[str, object]
#: Queues that are told of before the loop has its turn.
_TURN = 100
_ON_MESSAGES = frozenset({"retry", "remove", "suspend", "resume", "resubmit", "redirect", "export"})


class Operators:
    """Answers questions.

    stopped: why no mail is taken in on an operator's word, or None. reload: asks the supervisor. metering: what runs
    short.
    """

    def __init__(self, core: Scheduler, storage: Storage, numbers: Numbers, outcasts: Outcasts, loader: Loader) -> None:
        self.core = core
        self.storage = storage
        self.loader = loader
        self.stopped: Reply | None = None
        self.reload: reload_verb.AskForReload | None = None
        self.metering: Metering | None = None
        self.replays: Replays | None = None
        self.taking_out = TakingOut(core, storage, Entries(storage, numbers), outcasts)
        self.holds = Holds(core, loader.disk)
        self.grace = GraceHolds(core, self.holds)
        self.identities = Identities(loader.disk)
        self._renaming = Renaming(core, self.identities, self.holds, self.taking_out.entries)
        self._messages = MessageVerbs(core, storage, outcasts, loader, self.taking_out)
        self._queues = QueueVerbs(core, self.holds, self.identities)
        self._connectors: dict[str, str] = {}

    def begin(self, settings: Settings) -> None:
        """At a start, before anything of the queue is known to the core."""
        self._take(settings)
        self._renaming.begin(settings.connectors)
        self.holds.load()
        self.grace.restore()

    def configure(self, settings: Settings) -> None:
        """A new configuration counts."""
        self._take(settings)
        self._renaming.configure(settings.connectors)
        self.grace.restore()

    def _take(self, settings: Settings) -> None:
        """connector -> why no mail can be redirected to it, "" when it can."""
        self.grace.grace.limit = settings.queue.grace_hold
        self._connectors = {one.name: _unfit(one) for one in settings.connectors}

    def ask(self, verb: str, arguments: Mapping[str, Argument], uid: int) -> Answer | AsyncIterator[Line | Answer]:
        """The answer to a verb whose form was checked already."""
        deed = _deed(verb, arguments, f"uid {uid}")
        if verb in _ON_MESSAGES:
            return self._act(deed, arguments)
        match verb:
            case "queues":
                return self._look_at_queues()
            case "message":
                return self._look_at(named(arguments["ids"]))  # type: ignore[arg-type]
            case "flush":
                self.core.verbs.flush(time.monotonic())
                mail.tell("flush", by=deed.by)
                return self._messages.retry(deed, self._messages.of_all(), refusable=False)
            case "overdue":
                return overdue.look(self.core)
            case "expire":
                return overdue.let_go(self.core, deed.by)
            case "settle":
                return settle_verb.settle(self.storage)
            case "replay" if self.replays is not None:
                return self._replay(arguments, deed)
            case _:
                return self._of_kmqd(deed)

    def _of_kmqd(self, deed: Deed) -> Answer | AsyncIterator[Line | Answer]:
        """What concerns the whole of kmqd."""
        match deed.verb:
            case "reload" if self.reload is not None:
                return reload_verb.reload(self.reload, deed.by)
            case "pressure" if self.metering is not None:
                return self.metering.answer()
            case "stop-intake":
                self.stopped = Reply(421, "4.3.2", "This server takes no mail at the moment, try again later")
                log.warning("no mail is taken in, by an operator's word", by=deed.by, reason=deed.reason)
                return Answer(status=DONE, text="new mail hears 421 until start-intake, or until kmqd starts anew")
            case "start-intake":
                self.stopped = None
                log.event("start-intake", by=deed.by, reason=deed.reason)
                return Answer(status=DONE, text="mail is taken in")
            case _:
                return Answer(status=REFUSED, text=f"this kmqd does not know {deed.verb}")

    def _not_a_way(self, connector: str) -> str:
        """Why no mail can be sent by this connector, "" when it can."""
        problem = self._connectors.get(connector, f"there is no connector {connector!r}")
        fit = ", ".join(name for name, why in self._connectors.items() if not why) or "none"
        return f"{problem}; mail can be redirected to: {fit}" if problem else ""

    def _replay(self, arguments: Mapping[str, Argument], deed: Deed) -> Answer | AsyncIterator[Line | Answer]:
        """Of messages that are kept."""
        assert self.replays is not None
        if deed.connector and (problem := self._not_a_way(deed.connector)):
            return Answer(status=USAGE, text=problem)
        again, dsn = (arguments.get(name) is True for name in ("again", "dsn"))
        return self.replays.replay(
            cast(list[str], arguments["ids"]), Wish(deed.by, deed.reason, deed.connector, again, dsn)
        )

    # --- changes -----------------------------------------------------------------------------------------------------

    def _act(self, deed: Deed, arguments: Mapping[str, Argument]) -> Answer | AsyncIterator[Line | Answer]:
        """On a whole queue, or on messages."""
        queue = str(arguments.get("queue", ""))
        if queue and deed.verb in ("suspend", "resume"):
            return self._queues.hold(deed, queue)
        if queue and deed.verb == "retry":
            return self._queues.retry(deed, queue)
        if deed.verb == "redirect" and (problem := self._not_a_way(deed.connector)):
            return Answer(status=USAGE, text=problem)
        if queue and not self._queues.find(queue):
            return Answer(status=REFUSED, text="no queue has this name; kmq queues shows them")
        chunks = self._meant(arguments, queue)
        if deed.verb == "retry":
            mail.tell("retry", by=deed.by)
            whole = "ids" not in arguments  # an attempt of everything is told in the log, not in every envelope
            return self._messages.retry(deed._replace(verb="flush") if whole else deed, chunks)
        return self._messages.carry_out(deed, chunks)

    def _meant(self, arguments: Mapping[str, Argument], queue: str) -> Iterator[list[Name]]:
        names = arguments.get("ids")
        if isinstance(names, list):
            return self._messages.of_ids(names)
        return self._messages.of_queues(self._queues.find(queue)) if queue else self._messages.of_all()

    # --- looks -------------------------------------------------------------------------------------------------------

    async def _look_at_queues(self) -> AsyncIterator[Line | Answer]:
        for place, line in enumerate(self._queues.lines(), 1):
            yield line
            if place % _TURN == 0:
                await asyncio.sleep(0)
        yield Answer(status=DONE, text=self._news())

    def _news(self) -> str:
        """What an operator should know whatever he asks."""
        stopped = overdue.STOPPED if self.core.brake.stopped else ""
        short = self.metering.news if self.metering is not None else ""
        return "\n".join(filter(None, (stopped, short, *self.grace.news)))

    async def _look_at(self, names: Sequence[Name]) -> AsyncIterator[Line | Answer]:
        offset = time.time() - time.monotonic()
        for place, name in enumerate(names):
            if place % 500 == 0:
                await asyncio.sleep(0)
            self.loader.need(name.number)
            for share in self.core.state_of(name.number):
                yield {
                    "ID": queue_id.text(name.number),
                    "Queue": hops.parse(share.hop).name,
                    "NextHop": share.hop,
                    "Status": share.status.value,
                    "Alone": share.alone,
                    "Recipients": recipients.as_text(share.rcpt),
                    "NextRetryTime": None if share.due is None else moment.as_text(share.due + offset),
                    "RetryCount": share.attempt - 1,
                    "LastError": None,
                }


def _deed(verb: str, arguments: Mapping[str, Argument], by: str) -> Deed:
    connector, reason = str(arguments.get("connector", "")), str(arguments.get("reason", ""))
    return Deed(verb, by, reason, arguments.get("ndr") is True, connector)


def _unfit(connector: ConnectorSection) -> str:
    """Why no mail can be redirected to a connector, "" when it can."""
    if connector.type in LOCAL:
        return "a connector of type mailbox takes mail of local domains only"
    if not connector.enabled:
        return "the connector is disabled (enabled = no)"
    return "" if connector.hosts or connector.type != "smarthost" else "the connector has no hosts yet"
