"""A worker's results as entries of the tracking log: one for each event and its recipients.

Promise:  as `telling`, beside which it is called: of what is durable, once. What has very many recipients is several.
On crash: as `telling`.
Callers:  run.telling.
"""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Final, NamedTuple

from kmq.log import tracking
from kmq.log.tracking import Details, Entry
from kmq.model import hop as hops
from kmq.model import recipients
from kmq.model.envelope import Head
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
    Removed,
    Replaced,
    Routed,
    Suspended,
)
from kmq.model.hop import DeliveryType, NextHop
from kmq.model.moment import as_text
from kmq.run.job import Job

#: Event -> event-id. What is not here is told by others, or by nobody.
_EVENTS: Final[dict[type, str]] = {
    Delivered: "SEND",
    Failed: "FAIL",
    Deferred: "DEFER",
    Expanded: "EXPAND",
    Delayed: "DEFER",
    Routed: "RESOLVE",
    Removed: "DROP",
    Discarded: "DROP",
    Replaced: "EXPAND",
    Suspended: "SUSPEND",
    Passed: "AGENTINFO",
}
_SOURCES = {
    DeliveryType.MAILBOX: "STOREDRIVER",
    DeliveryType.DELIVERY_AGENT: "AGENT",
    DeliveryType.NON_SMTP: "GATEWAY",
}
#: Events that say by whom and why.
_BY = frozenset({Removed, Discarded, Replaced, Suspended})


class When(NamedTuple):
    """When a result was known, Unix time; and how long it took: delay and delays, as the mail log has them."""

    at: float
    delay: str
    delays: str


def entries(job: Job, route: Routed | None, known: When) -> Iterator[None]:
    """Notes what a result says; each step is one entry.

    route: of all its recipients; when their results follow it at once, it is told along with them.
    """
    told = route if len(job.events) > 1 else None
    target = told.hop if told is not None else job.assign.hop
    for event in job.events:
        if event is told:
            continue
        kind = type(event)
        if kind is Delivered and event.rcpt == "0":  # type: ignore[attr-defined]
            sent(event, target, told.rule if told is not None else "", job.head, known)  # type: ignore[arg-type]
            yield
            continue
        if kind not in _EVENTS or _nothing(event):
            continue
        made = _entry(event, event.hop if kind is Routed else target)  # type: ignore[attr-defined]
        made.date_time = as_text(known.at)
        details = made.custom_data
        assert details is not None
        if told is not None:
            details.rule = told.rule
        if kind is Delivered:
            details.delay, details.delays = known.delay, known.delays
        if kind is Failed and job.given_up:
            made.source, details.status = "QUEUE", "expired"
        yield from _each(made, event.rcpt, job.head)  # type: ignore[attr-defined]


def of_the_dead(name: str, events: Sequence[AnyEvent]) -> None:
    """A result whose worker died before it could hear: without addresses, which only it had."""
    for event in events:
        if type(event) in _EVENTS and not _nothing(event):
            made = _entry(event, getattr(event, "hop", ""))
            made.internal_message_id = name
            made.recipient_address = [f"#{event.rcpt}"]  # type: ignore[union-attr]
            tracking.note(made)


def _nothing(event: Event) -> bool:
    """There is nothing to tell: nobody was told that it takes longer, or a phase found nothing."""
    return (isinstance(event, Delayed) and not event.notice) or (isinstance(event, Passed) and not event.remarkable)


def unavailable(hop: str, reply: str, attempt: int, until: str) -> None:
    """A next hop that could not be reached: an entry of the queue, of no message."""
    target = _next_hop(hop)
    tracking.note(
        Entry(
            event_id="DEFER",
            source="QUEUE",
            connector_id=target.connector if target is not None else "",
            recipient_status=(reply,),
            custom_data=Details(queue=hop, attempt=attempt, until=until),
        )
    )


def sent(event: Delivered, hop: str, rule: str, head: Head, known: When) -> None:
    """Notes that the first recipient has it, as nearly all mail ends: made in one go."""
    connector, local, source = _way(hop)
    name, address = _server(event.host) if event.host else ("", "")
    to = head.recipients[0]
    details = Details(
        queue=hop, rule=rule, attempt=event.attempt, tls=event.tls, delay=known.delay, delays=known.delays
    )
    tracking.note(
        Entry(
            date_time=as_text(known.at),
            event_id="DELIVER" if local else "SEND",
            source=source,
            internal_message_id=head.id,
            sender_address=head.sender,
            recipient_address=(to.address,),
            recipient_status=(event.reply,),
            recipient_count=1,
            related_recipient_address=to.original,
            server_ip=address,
            server_hostname=name,
            connector_id=connector,
            total_bytes=head.size,
            reference=tuple(event.notice.split()),
            message_info=head.created,
            custom_data=details,
        )
    )


def _source(target: NextHop | None) -> str:
    """Which part of kmq it was that had a result; Exchange's words."""
    return "SMTP" if target is None else _SOURCES.get(target.delivery_type, "SMTP")


@lru_cache(1024)
def _way(hop: str) -> tuple[str, bool, str]:
    """The connector of a next hop, whether it is one of mailboxes here, and the source of what it says."""
    target = _next_hop(hop)
    if target is None:
        return "", False, "SMTP"
    return target.connector, target.delivery_type is DeliveryType.MAILBOX, _source(target)


def _entry(event: Event, hop: str) -> Entry:
    """What does not depend on the recipients."""
    target = _next_hop(hop)
    kind = type(event)
    local = target is not None and target.delivery_type is DeliveryType.MAILBOX
    made = Entry(event_id=_EVENTS[kind], source=_source(target))
    details = made.custom_data = Details(queue=hop if target is not None else "")
    if target is not None:
        made.connector_id = target.connector
    if kind is Delivered and local:
        made.event_id = "DELIVER"
    elif kind in (Expanded, Routed):
        made.source = "ROUTING"
        details.rule = event.rule  # type: ignore[attr-defined]
    elif kind is Delayed:
        made.source = "DSN"
    elif kind in _BY:
        made.source = "ADMIN" if kind is Removed else "AGENT"
        details.by, details.reason = event.by, event.reason  # type: ignore[attr-defined]
    elif isinstance(event, Passed):
        made.source, details.status, details.by, details.reason = "AGENT", event.phase, event.by, event.verdict
    _heard(made, details, event)
    made.reference = tuple((getattr(event, "notice", "") or getattr(event, "child", "")).split())
    return made


def _heard(made: Entry, details: Details, event: Event) -> None:
    """What was said, by whom, in which attempt."""
    reply = getattr(event, "reply", "")
    if reply:
        made.recipient_status = (reply,)
    host = getattr(event, "host", "")
    if host:
        made.server_hostname, made.server_ip = _server(host)
    elif made.source == "SMTP" and isinstance(event, (Failed, Deferred)):
        made.source = "ROUTING" if not details.queue else "QUEUE"  # nobody else said it
    details.attempt = getattr(event, "attempt", 0)
    details.until = getattr(event, "until", "")
    details.tls = getattr(event, "tls", "")


@lru_cache(1024)
def _server(host: str) -> tuple[str, str]:
    """`mx.example.org[192.0.2.1]:25` -> its name, and its address with the port."""
    name, bracket, rest = host.partition("[")
    address, _, port = rest.rpartition("]")
    if not bracket:
        return host, ""
    return name, f"[{address}]{port}" if ":" in address else f"{address}{port}"


@lru_cache(1024)
def _next_hop(text: str) -> NextHop | None:
    """None for what is no delivery queue."""
    try:
        found = hops.parse(text)
    except ValueError:
        return None
    return None if found in (hops.SUBMISSION, hops.POISON) else found


def _each(made: Entry, rcpt: str, head: Head) -> Iterator[None]:
    """The entry for its recipients, as many at a time as a line may have."""
    made.internal_message_id = head.id
    made.sender_address = head.sender
    made.total_bytes = head.size
    made.message_info = head.created
    indices = (0,) if rcpt == "0" else recipients.from_text(rcpt)
    for at in range(0, max(1, len(indices)), tracking.MOST_RECIPIENTS):
        some = [head.recipients[index] for index in indices[at : at + tracking.MOST_RECIPIENTS]]
        made.recipient_address = [one.address for one in some]
        made.recipient_count = len(some)
        if len(some) == 1:
            made.related_recipient_address = some[0].original
        tracking.note(made)
        yield
