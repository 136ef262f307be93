"""What a worker tells of failures for good, so that the scheduler process can see whether they are our own fault; and
what a result becomes whose failures are held (run/grace).

Promise:  pure. Both processes turn failures into deferrals by the same function: what is durable is what is told.
Callers:  run.walk (evidence), run.grace_holds and run.telling (`turned`).
"""

from collections.abc import Sequence

from kmq.model import recipients
from kmq.model.event import Deferred, Delayed, Delivered, Event, Expanded, Failed
from kmq.model.frame import Blame, Done
from kmq.model.hop import DeliveryType, NextHop
from kmq.run.grace import Cause, cause_of
from kmq.run.job import Job

#: Among what the scheduler process adds to a result (telling.Fate): the cause for which its failures are held.
HELD = "held"
#: Domains that one message names; more do not change what is decided.
_DOMAINS = 20
#: The hops of which failures may be ours.
_REMOTE = frozenset({DeliveryType.SMART_HOST, DeliveryType.DNS})


def blames_of(job: Job, events: Sequence[Event], target: NextHop) -> list[Blame]:
    """Failures that may be our own fault, by cause. What is given up for its age, or on a word, is none."""
    if job.assign.expire or target.delivery_type not in _REMOTE:
        return []
    found: dict[Cause, list[int]] = {}
    for event in events:
        if isinstance(event, Failed):
            cause = cause_of(event.reply, event.host)
            if cause is not None:
                found.setdefault(cause, []).extend(recipients.from_text(event.rcpt))
    return [_blame(job, cause, rcpt) for cause, rcpt in found.items()]


def _blame(job: Job, cause: Cause, rcpt: Sequence[int]) -> Blame:
    to = job.head.recipients
    domains = list(dict.fromkeys(to[index].address.rpartition("@")[2] for index in rcpt))
    return Blame(cause.name, len(rcpt), job.head.sender, domains[:_DOMAINS])


def turned(events: Sequence[Event], cause: str) -> list[Event]:
    """The events of a result whose failures are held: they are deferrals now, and their notice is none."""
    gone = place_of_failure(events)
    return [_deferred(event, cause) if isinstance(event, Failed) else _moved_up(event, gone) for event in events]


def place_of_failure(events: Sequence[Event]) -> int:
    """Where, among the notices of a result, that of its failures is; -1 when there is none."""
    return next((int(event.notice) for event in events if isinstance(event, Failed) and event.notice), -1)


def _deferred(event: Failed, cause: str) -> Deferred:
    return Deferred(
        at=event.at,
        rcpt=event.rcpt,
        attempt=event.attempt,
        reply=event.reply,
        host=event.host,
        tls=event.tls,
        held=cause,
    )


def _moved_up(event: Event, gone: int) -> Event:
    """Notices behind the one that is gone have other places."""
    if gone >= 0 and isinstance(event, (Delivered, Delayed, Expanded)) and event.notice:
        places = (int(place) for place in event.notice.split())
        event.notice = " ".join(str(place - (place > gone)) for place in places if place != gone)
    return event


def spare(done: Done, events: Sequence[Event], raw: bytes) -> bytes:
    """Takes the notice about failures out of a result; -> the bytes of the messages that it makes still."""
    done.unnoticed = False
    gone = place_of_failure(events)
    at, notices = 0, -1
    for number, child in enumerate(done.children):
        size = child.tail + child.body
        notices += child.kind == "notice"
        if child.kind == "notice" and notices == gone:
            del done.children[number]
            return raw[:at] + raw[at + size :]
        at += size
    return raw
