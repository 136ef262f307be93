"""The lines of the mail log about results, told by the worker that brought them about.

When:     a result is told when it is Known: then it is durable, and the worker that holds it is asked for it no more,
          so it is told once, whoever crashes. What only the scheduler process knew comes along with Known (`Fate`).
Promise:  a line for each recipient, a moment later. Very many are said some at a time, as fast as the reader of the
          log takes them, so that none is lost for want of room and the loop never stands still. A line that cannot be
          made is missing, and nothing else: mail does not wait for what is told of it.
On crash: of this process: lines that were not said are missing; the scheduler process says those whose Known did not
          come through (`tell_of_the_dead`).
Callers:  run.worker; run.results.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache, wraps
from itertools import islice
from typing import ParamSpec

from kmq import log
from kmq.log import mail, tracking
from kmq.log.lines import Value
from kmq.log.text import shown
from kmq.model import hop as hops
from kmq.model import moment, recipients
from kmq.model.envelope import Recipient, read_head
from kmq.model.event import (
    AnyEvent,
    Deferred,
    Delayed,
    Delivered,
    Discarded,
    Event,
    Expanded,
    Failed,
    Passed,
    Replaced,
    Routed,
    Suspended,
)
from kmq.model.hop import DeliveryType
from kmq.phases.work import Body
from kmq.run import tracing
from kmq.run.grace_evidence import HELD, turned
from kmq.run.hopqueue import QueueFacts
from kmq.run.job import Job
from kmq.run.notice import COPY, NOTICE

P = ParamSpec("P")

#: Seconds for which a result waits for others, and is told with them.
_TOGETHER = 0.025
#: Lines that are said in one turn of the loop, but for one.
_TURN = 200
_END = object()
#: Seconds until a reader who was behind is looked at again.
_PAUSE = 0.05
#: Results that wait for such a reader. When they are more, he is not waited for: what he has no room for is lost.
_PATIENCE = 1000
_GONE = Body(None, "", 0)
#: Next hops of which is remembered what was said.
_TROUBLES = 10_000

#: Event -> (word, status). What is not here is not told.
_WORDS: dict[type, tuple[str, str | None]] = {
    Delivered: ("delivered", "sent"),
    Failed: ("failed", "bounced"),
    Deferred: ("deferred", "deferred"),
    Expanded: ("expanded", None),
    Delayed: ("delayed", None),
    Discarded: ("discarded", "discarded"),
    Replaced: ("replaced", None),
    Suspended: ("held", None),
}
_EXPIRED = ("expired", "expired")
#: Events of recipients that went into no queue.
_NOWHERE = frozenset({Expanded, Discarded, Replaced, Suspended})

#: What the scheduler process adds to a result: the time of the next attempt, and the IDs of the messages that were made
#: with it, by their kind.
Fate = tuple[str, dict[str, list[str]]]
NO_FATE: Fate = ("", {})


def _harmless(tell: Callable[P, None]) -> Callable[P, None]:
    """A mistake of ours while a line is made ends nobody who has work in hand."""

    @wraps(tell)
    def telling(*given: P.args, **named: P.kwargs) -> None:
        try:
            tell(*given, **named)
        except Exception as error:
            _failed(error)

    return telling


def _failed(error: Exception) -> None:
    log.error("our program failed on a line of the mail log", trace=log.traced(error))


def complete(event: Event, fate: Fate) -> None:
    """What only the scheduler process knows of an event."""
    until, made = fate
    if isinstance(event, (Delivered, Failed, Delayed, Expanded)):
        if event.notice:
            event.notice = _named(made.get("notice", []), event.notice)
        if isinstance(event, Expanded):
            event.child = _named(made.get("expansion", []), event.child)
    elif isinstance(event, Deferred):
        event.until = until
    elif isinstance(event, Passed):
        event.child = _named(made.get("letter", []), event.child)
    elif isinstance(event, Replaced):
        event.child = _named(made.get("replacement", []), event.child)


def _named(made: list[str], places: str) -> str:
    """The IDs of the messages at these places among those that were made."""
    return " ".join(made[int(place)] for place in places.split() if int(place) < len(made))


class Teller:
    """Says the lines of one worker: those of a moment's results together, since making lines costs half when it is done
    again and again, and those of large messages in portions."""

    def __init__(self) -> None:
        self._waiting: deque[tuple[Job, Fate, float]] = deque()
        self._saying: Iterator[None] | None = None
        self._due = False

    def known(self, job: Job, fate: Fate) -> None:
        """This result is durable."""
        job.body = _GONE  # it is not kept for the log
        self._waiting.append((job, fate, time.time()))
        if not self._due:
            self._due = True
            asyncio.get_running_loop().call_later(_TOGETHER, self._go_on)

    def close(self) -> None:
        """Says all that is left, whether there is room or not."""
        while not self._portion():
            pass

    def _go_on(self) -> None:
        loop = asyncio.get_running_loop()
        if len(self._waiting) < _PATIENCE and not (log.mail_lines().roomy and tracking.roomy()):
            loop.call_later(_PAUSE, self._go_on)
        elif not self._portion():
            loop.call_soon(self._go_on)
        else:
            self._due = False

    def _portion(self) -> bool:
        """Says some lines; True when none is left."""
        if self._saying is None:
            self._saying = self._all()
        for _ in islice(self._saying, _TURN):
            pass
        if next(self._saying, _END) is not _END:
            return False
        self._saying = None
        return True

    def _all(self) -> Iterator[None]:
        while self._waiting:
            job, fate, at = self._waiting.popleft()
            sent = _only_sent(job)
            try:
                if sent is None:
                    yield from _lines(job, fate, at)
                else:
                    _tell_sent(job, sent, at)
                    yield
            except Exception as error:
                _failed(error)


def _only_sent(job: Job) -> Delivered | None:
    """That the first recipient has it, when that is all: as nearly all mail ends."""
    events = job.events
    last = events[-1] if len(events) == 1 or (len(events) == 2 and type(events[0]) is Routed) else None
    return last if type(last) is Delivered and last.rcpt == "0" and not last.notice else None


def _tell_sent(job: Job, event: Delivered, at: float) -> None:
    """What `_lines` says of that, without going round: one line, and one entry."""
    route, head, to = job.route, job.head, job.head.recipients[0]
    hop, rule = (route.hop, route.rule) if route is not None else (job.assign.hop, "")
    place, local = _place(hop)
    times = _times(job)
    rest = f"{_said(event, local, _timing(times), 'sent')}{place} attempt={event.attempt} size={head.size}"
    mail.say("delivered", head.id, f" from={shown(f'<{head.sender}>')}{_to(to)}{rest}")
    if tracking.wanted():
        tracing.sent(event, hop, rule, head, tracing.When(at, *times))


def _lines(job: Job, fate: Fate, at: float) -> Iterator[None]:
    """One line per recipient and step. at: when the result was known."""
    route = job.route
    target = route.hop if route is not None else job.assign.hop
    place, local = _place(target)
    times = _times(job)
    timing = _timing(times)
    head = job.head
    sender = shown(f"<{head.sender}>")
    held = fate[1].get(HELD)
    for event in turned(job.events, held[0]) if held else job.events:
        kind = type(event)
        if kind is Routed:
            continue  # told along with its results, or by the next ones
        complete(event, fate)
        if isinstance(event, Passed):
            _tell_passed(head.id, event)
        found = _WORDS.get(kind)
        if found is None or (kind is Delayed and _nobody_heard(event)):
            continue
        word, status = _EXPIRED if kind is Failed and job.given_up else found
        where, why = (place, "") if kind not in _NOWHERE else ("", _why(event))  # it went into none
        rest = f"{_said(event, local, timing, status)}{where}{_more(event)} size={head.size}{why}"
        for index in recipients.from_text(event.rcpt):  # type: ignore[attr-defined]
            mail.say(word, head.id, f" from={sender}{_to(head.recipients[index])}{rest}")
            yield
    if tracking.wanted():
        yield from tracing.entries(job, route, tracing.When(at, *times))


def _to(recipient: Recipient) -> str:
    original = f" orig_to={shown(f'<{recipient.original}>')}" if recipient.original else ""
    return f" to={shown(f'<{recipient.address}>')}{original}"


def _nobody_heard(event: Event) -> bool:
    """A sender who does not want to hear that it takes longer was not told so."""
    return isinstance(event, Delayed) and not event.notice


@_harmless
def tell_of_the_dead(name: str, events: Sequence[AnyEvent]) -> None:
    """A result that is durable, and whose worker died before it could hear so: what is known of it here."""
    for event in events:
        found = _WORDS.get(type(event))
        if isinstance(event, Passed):
            _tell_passed(name, event)
        if found is not None and not _nobody_heard(event):
            word, status = found
            rcpt = shown(getattr(event, "rcpt", ""))
            mail.say(word, name, f"{_said(event, False, '', status)}{_more(event)} rcpt={rcpt}{_why(event)}")
    if tracking.wanted():
        tracing.of_the_dead(name, events)


def _tell_passed(name: str, event: Passed) -> None:
    """What a phase found, where it found something; that nothing was the matter stands in the envelope."""
    if event.remarkable:
        keys = {"phase": event.phase, "child": event.child, "by": event.by, "reason": event.verdict}
        mail.tell("passed", name, {key: value for key, value in keys.items() if value})


def _said(event: Event, local: bool, timing: str, status: str | None) -> str:
    """What was said, by whom, and how long it took; in the order of mail.KEYS."""
    host = getattr(event, "host", "")
    reply = getattr(event, "reply", "")
    relay = " relay=local" if local and type(event) is Delivered else ""
    if host:
        relay = _relay(host, event.tls)  # type: ignore[attr-defined]
    became = f" status={status}" if status else ""
    if not reply:
        return f"{relay}{timing}{became}"
    return f"{relay}{timing} dsn={mail.status_of(reply)}{became} reply={shown(reply)}"


@lru_cache(1024)
def _relay(host: str, tls: str) -> str:
    """A server, and how the conversation with it was protected: the same again and again."""
    return f" relay={shown(host)} tls={shown(tls)}" if tls else f" relay={shown(host)}"


def _more(event: Event) -> str:
    """How it goes on; in the order of mail.KEYS."""
    text = ""
    for name in _MORE[type(event)]:
        value = getattr(event, name)
        if value:
            text += f" {name}={value if type(value) is int else shown(value)}"
    return text


def _why(event: Event) -> str:
    """Who of us decided it, and why; in the order of mail.KEYS."""
    if not isinstance(event, (Discarded, Replaced, Suspended)):
        return ""
    return f" by={shown(event.by)} reason={shown(event.reason)}"


_MORE: dict[type, tuple[str, ...]] = {
    Delivered: ("attempt", "notice"),
    Failed: ("attempt", "notice"),
    Deferred: ("attempt", "until", "held"),
    Expanded: ("notice", "child"),
    Delayed: ("notice",),
    Discarded: (),
    Replaced: ("child",),
    Suspended: (),
}


@_harmless
def tell_of_a_child(line: bytes) -> None:
    """A message that was made along with a result is queued: a notice, or what an alias expanded to."""
    head = read_head(line)
    if head is None:
        return
    word = "notice" if head.source.how in (NOTICE, COPY) else "accepted"
    keys: dict[str, Value] = {"from": head.sender, "parent": head.parent or head.replayed, "proto": head.source.how}
    if len(head.recipients) == 1:
        keys["to"] = head.recipients[0].address
    besides = mail.Besides([one.address for one in head.recipients])
    mail.tell(word, head.id, keys, besides, size=head.size, nrcpt=len(head.recipients))


class Troubles:
    """Says once for each attempt in vain that a next hop is out of reach, however many messages were in hand for it."""

    def __init__(self) -> None:
        self._told: dict[str, int] = {}

    @_harmless
    def tell(self, facts: QueueFacts | None, now: float) -> None:
        """facts: of the queue, after the attempt; now: monotonic."""
        if facts is None or facts.next_retry is None or self._told.get(facts.hop) == facts.failures:
            return
        if len(self._told) > _TROUBLES:
            self._told.clear()  # then a line may be said again
        self._told[facts.hop] = facts.failures
        until = moment.as_text(time.time() + facts.next_retry - now)
        place, _ = _place(facts.hop)
        said = f" dsn={mail.status_of(facts.last_error)} reply={shown(facts.last_error)}"
        mail.say("unavailable", "", f"{said}{place} attempt={facts.failures} until={until}")
        if tracking.wanted():
            tracing.unavailable(facts.hop, facts.last_error, facts.failures, until)


@lru_cache(1024)
def _place(hop: str) -> tuple[str, bool]:
    """What tables call a queue, as a pair for the line, and whether it is one of mailboxes."""
    try:
        found = hops.parse(hop)
    except ValueError:
        return f" queue={shown(hop)}", False
    text = "" if found == hops.SUBMISSION else f" queue={shown(found.name)}"
    return text, found.delivery_type is DeliveryType.MAILBOX


# --- delays -----------------------------------------------------------------------------------------------------------


def _times(job: Job) -> tuple[str, str]:
    """All the time since the message began to come, and its parts (see mail.KEYS); nothing when nobody knows."""
    try:
        created = moment.from_text(job.head.created)
    except ValueError:
        return "", ""
    before = job.head.took / 1000
    here = job.ended - job.taken
    queued = max(0.0, job.at - here - created)
    connecting = min(here, max(0.0, job.begun - job.taken)) if job.begun else 0.0
    whole = before + queued + here
    return f"{whole:.3f}", f"{before:.3f}/{queued:.3f}/{connecting:.3f}/{here - connecting:.3f}"


def _timing(times: tuple[str, str]) -> str:
    whole, parts = times
    return f" delay={whole} delays={parts}" if whole else ""
