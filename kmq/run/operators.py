"""What operators ask of a running kmqd, carried out (the verbs of admin/verbs; `ask` is handed to the control server).

Promise:  a change is answered when it is durable; what somebody works on is answered as pending, and done when that
          ended (J14). Looks cost the loop a moment per thousand messages, and nothing is read from disk for them.
On crash: what was not answered may have happened or not; asking again does no harm.
Callers:  the control server, in the scheduler process's loop.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Iterable, Mapping

from kmq import log
from kmq.log import mail
from kmq.model import hop as hops
from kmq.model import moment, queue_id, recipients
from kmq.model.envelope import event_line
from kmq.model.event import Event, Moved, Resumed, Suspended
from kmq.model.frame import Answer
from kmq.model.reply import Reply
from kmq.run import overdue, reload_verb, settle_verb, tried
from kmq.run.hopqueue import QueueFacts
from kmq.run.lines import UNREACHABLE
from kmq.run.loader import Loader
from kmq.run.metering import Metering
from kmq.run.numbers import Numbers
from kmq.run.outcasts import Outcasts
from kmq.run.scheduler import Scheduler
from kmq.run.storage import Storage
from kmq.spool import loading
from kmq.spool.loading import Damaged
from kmq.spool.record import Append, Move, Operation, Remove

Argument = str | int | bool | list[str]
Line = Mapping[str, object]
_DONE, _REFUSED = 0, 1
#: Messages that a verb works on before the loop has its turn.
_CHUNK = 500
#: A queue has no file that could keep this.
_FORGOTTEN = " until kmq resume, or until kmqd or its scheduler process starts anew: that forgets it"


class Told:
    """The ticket of a record that an operator waits for. pending: it is written when somebody's work has ended."""

    def __init__(self) -> None:
        self.pending = False
        self.durable = asyncio.get_running_loop().create_future()

    def tell(self) -> None:
        if not self.durable.done():
            self.durable.set_result(None)


class Operators:
    """Answers questions.

    stopped: why no mail is taken in on an operator's word, or None. reload: asks the supervisor.
    """

    def __init__(self, core: Scheduler, storage: Storage, numbers: Numbers, outcasts: Outcasts, loader: Loader) -> None:
        self.core = core
        self.storage = storage
        self.numbers = numbers
        self.outcasts = outcasts
        self.loader = loader
        self.stopped: Reply | None = None
        self.reload: reload_verb.AskForReload | None = None
        self.metering: Metering | None = None

    def ask(self, verb: str, arguments: Mapping[str, Argument], uid: int) -> Answer | AsyncIterator[Line | Answer]:
        """The answer to a verb whose form was checked already."""
        reason = str(arguments.get("reason", ""))
        by = f"uid {uid}"
        match verb:
            case "queues":
                return self._queues()
            case "message":
                return self._messages(arguments)
            case "retry":
                return self._retry(arguments, by)
            case "flush":
                self.core.verbs.flush(time.monotonic())
                mail.tell("flush", by=by)
                return self._told(self.core.mids, refusable=False)
            case "reload" if self.reload is not None:
                return reload_verb.reload(self.reload, by)
            case "pressure" if self.metering is not None:
                return self.metering.answer()
            case "settle":
                return settle_verb.settle(self.storage)
            case "overdue":
                return overdue.look(self.core)
            case "expire":
                return overdue.let_go(self.core, by)
            case "remove":
                return self._remove(arguments, by, reason)
            case "suspend" | "resume":
                return self._hold(verb, arguments, by, reason)
            case "stop-intake":
                self.stopped = Reply(421, "4.3.2", "This server takes no mail at the moment, try again later")
                log.warning("no mail is taken in, by an operator's word", by=by, reason=reason)
                return Answer(status=_DONE, text="new mail hears 421 until start-intake, or until kmqd starts anew")
            case "start-intake":
                self.stopped = None
                log.event("start-intake", by=by, reason=reason)
                return Answer(status=_DONE, text="mail is taken in")
            case _:
                return Answer(status=_REFUSED, text=f"this kmqd does not know {verb}")

    # --- looks -------------------------------------------------------------------------------------------------------

    async def _queues(self) -> AsyncIterator[Line | Answer]:
        now = time.monotonic()
        offset = time.time() - now
        for facts in self.core.queues(now):
            yield _queue_line(facts, offset)
        yield Answer(status=_DONE, text=self._news())

    def _news(self) -> str:
        """What an operator should know whatever he asks."""
        stopped = overdue.STOPPED if self.core.brake.stopped else ""
        return "\n".join(filter(None, (stopped, self.metering.news if self.metering is not None else "")))

    async def _messages(self, arguments: Mapping[str, Argument]) -> AsyncIterator[Line | Answer]:
        now = time.monotonic()
        offset = time.time() - now
        for number in self._named(arguments):
            for share in self.core.state_of(number):
                target = hops.parse(share.hop)
                yield {
                    "ID": queue_id.text(number),
                    "Queue": target.name,
                    "NextHop": share.hop,
                    "Status": share.status.value,
                    "Recipients": recipients.as_text(share.rcpt),
                    "NextRetryTime": None if share.due is None else moment.as_text(share.due + offset),
                    "RetryCount": share.attempt - 1,
                    "LastError": None,
                }

    def _named(self, arguments: Mapping[str, Argument]) -> list[int]:
        """The messages that an operator means; those of a queue or all are taken as they are now."""
        names = arguments.get("ids")
        if isinstance(names, list):
            found = [queue_id.parse(name) for name in names]
            for number in found:
                self.loader.need(number)
            return found
        if "queue" in arguments:
            wanted = set(self._hops(str(arguments["queue"])))
            return [mid for mid in self.core.mids if any(one.hop in wanted for one in self.core.state_of(mid))]
        return list(self.core.mids)

    def _hops(self, name: str) -> list[str]:
        """The next hops of a queue's name, whichever way it is written."""
        facts = self.core.queues(time.monotonic())
        return [one.hop for one in facts if name in (one.hop, hops.parse(one.hop).name)]

    # --- changes -----------------------------------------------------------------------------------------------------

    def _retry(self, arguments: Mapping[str, Argument], by: str) -> Answer | AsyncIterator[Line | Answer]:
        now = time.monotonic()
        mail.tell("retry", by=by, queue=str(arguments["queue"]) if "queue" in arguments else None)
        if "queue" in arguments:
            return self._retry_queues(self._hops(str(arguments["queue"])), now)
        named = self._named(arguments)
        for number in named:
            self.core.verbs.retry(number, now)
        return self._told(named)

    def _retry_queues(self, found: list[str], now: float) -> Answer:
        """Only a queue that goes somewhere, and that nobody holds, is tried."""
        closed = tried.closed_queues(self.core, now)
        count = 0
        for one in found:
            self.core.verbs.retry_queue(one, now)
            count += one not in closed and one != UNREACHABLE
        if UNREACHABLE in found and not count:
            return Answer(status=_REFUSED, text="nothing is tried: what is in this queue waits for a connector")
        if closed.intersection(found) and not count:
            name = hops.parse(found[0]).name
            return Answer(status=_REFUSED, text=f"the queue is suspended, not tried: kmq resume --queue {name}")
        return _counted(count, "queue is tried now", "queues are tried now")

    async def _told(self, numbers: list[int], refusable: bool = True) -> AsyncIterator[Line | Answer]:
        """What came of an attempt that was asked for. refusable: nothing tried is a refusal."""
        tally = tried.Tally()
        closed = tried.closed_queues(self.core, time.monotonic())
        elsewhere = {number for number in numbers if not self.core.has(number)}
        for chunk in _chunks(numbers):
            for number in chunk:
                if number not in elsewhere:  # what has left since then was tried
                    tally.add(tried.outcome(self.core.state_of(number), closed), number)
                elif number in self.outcasts.poison:
                    tally.add(tried.Outcome.POISON, number)
                else:
                    tally.add(tried.Outcome.ABSENT, number)
            await asyncio.sleep(0)
        yield Answer(status=_DONE if tally.tried or not refusable else _REFUSED, text=str(tally))

    async def _remove(self, arguments: Mapping[str, Argument], by: str, reason: str) -> AsyncIterator[Line | Answer]:
        removed = pending = 0
        for chunk in _chunks(self._named(arguments)):
            begun = [(number, self._remove_one(number, by, reason)) for number in chunk]
            for number, told in begun:
                if told is None:
                    continue
                if told.pending:
                    pending += 1
                else:
                    await told.durable
                    removed += 1
                yield {"ID": queue_id.text(number), "Result": "pending" if told.pending else "removed"}
        text = f"{removed} removed" + (f", {pending} will go when they come back from delivery" if pending else "")
        yield Answer(status=_DONE if removed + pending else _REFUSED, text=text if removed + pending else "no message")

    def _remove_one(self, number: int, by: str, reason: str) -> Told | None:
        """None: no such message."""
        told = Told()
        if self.core.has(number):
            told.pending = not self.outcasts.remove(number, by, reason, told.tell)
        elif number in self.outcasts.poison:
            self.outcasts.poison.discard(number)
            self.storage.add([Remove(number)], told)
            _tell(told, "removed", number, by, reason)
        else:
            return None
        return told

    def _hold(
        self, verb: str, arguments: Mapping[str, Argument], by: str, reason: str
    ) -> Answer | AsyncIterator[Line | Answer]:
        if "queue" in arguments:
            now = time.monotonic()
            act = self.core.verbs.suspend_queue if verb == "suspend" else self.core.verbs.resume_queue
            count = sum(act(one, now) for one in self._hops(str(arguments["queue"])))
            mail.tell(f"{verb}-queue", by=by, queue=str(arguments["queue"]), reason=reason or None)
            until = _FORGOTTEN if verb == "suspend" and count else ""
            return _counted(count, f"queue {verb}{_ed(verb)}{until}", f"queues {verb}{_ed(verb)}{until}")
        return self._hold_messages(verb, self._named(arguments), by, reason)

    async def _hold_messages(
        self, verb: str, numbers: Iterable[int], by: str, reason: str
    ) -> AsyncIterator[Line | Answer]:
        count = 0
        for chunk in _chunks(list(numbers)):
            told = []
            for number in chunk:
                one = self._hold_one(verb, number, by, reason)
                if isinstance(one, Told):
                    told.append(one)
                elif one:
                    yield {"ID": queue_id.text(number), "Result": one}
            for one in told:
                await one.durable
            count += len(told)
        yield _counted(count, f"message {verb}{_ed(verb)}", f"messages {verb}{_ed(verb)}")

    def _hold_one(self, verb: str, number: int, by: str, reason: str) -> Told | str | None:
        """None: no such message; a text: why it cannot be."""
        now = time.monotonic()
        if verb == "resume" and number in self.outcasts.poison:
            return self._out_of_poison(number, by, reason)
        act = self.core.verbs.suspend if verb == "suspend" else self.core.verbs.resume
        if not act(number, now):
            return None
        event: Event = Suspended(by=by, reason=reason) if verb == "suspend" else Resumed(by=by, reason=reason)
        told = Told()
        self._add(number, event, told)
        _tell(told, verb, number, by, reason)
        return told

    def _out_of_poison(self, number: int, by: str, reason: str) -> Told | str | None:
        """Once more from poison/ into the queue; its crashes are forgotten. A text: why it cannot be."""
        if not self.loader.number_of(number, "poison"):
            found = loading.one(self.loader.disk, number, "poison")
            why = found.reason if isinstance(found, Damaged) else "it has no envelope"
            return f"stays in poison/, it is damaged: {why}"
        told = Told()
        seq = self.numbers.next(number)
        event = Moved(seq=seq, at=moment.as_text(time.time()), home="queue", reason=f"resumed by {by} {reason}".strip())
        self.outcasts.poison.discard(number)
        self.loader.coming(number)
        move: Operation = Move(number, seq, event_line(event), "queue")
        self.storage.add([move], told)
        told.durable.add_done_callback(lambda _: self.loader.when_made(number))
        _tell(told, "resume", number, by, reason)
        return told

    def _add(self, number: int, event: Event, told: Told) -> None:
        event.seq = self.numbers.next(number)
        event.at = moment.as_text(time.time())
        self.storage.add([Append(number, event.seq, event_line(event))], told)


def _tell(told: Told, word: str, number: int, by: str, reason: str) -> None:
    """A line of the mail log, when what it tells of is durable."""
    name = queue_id.text(number)
    told.durable.add_done_callback(lambda _: mail.tell(word, name, by=by, reason=reason or None))


def _queue_line(facts: QueueFacts, offset: float) -> dict[str, object]:
    target = hops.parse(facts.hop)
    return {
        "Identity": target.name,
        "NextHopDomain": target.domain,
        "NextHopConnector": target.connector,
        "NextHop": facts.hop,
        "DeliveryType": target.delivery_type.value,
        "Status": facts.status.value,
        "MessageCount": facts.messages,
        "NextRetryTime": None if facts.next_retry is None else moment.as_text(facts.next_retry + offset),
        "LastError": facts.last_error or None,
        "RetryCount": facts.failures,
    }


def _counted(count: int, one: str, many: str) -> Answer:
    return Answer(status=_DONE if count else _REFUSED, text=f"{count} {one if count == 1 else many}")


def _ed(verb: str) -> str:
    return "d" if verb.endswith("e") else "ed"


def _chunks(numbers: list[int]) -> Iterable[list[int]]:
    for at in range(0, len(numbers), _CHUNK):
        yield numbers[at : at + _CHUNK]
