"""What happened to a message, one line per event, for people.

Callers:  kmq.view.message, kmq.cli.
"""

from collections.abc import Iterator, Sequence

from kmq.admin.listing import next_hop, person, unix
from kmq.model import recipients
from kmq.model.envelope import Head
from kmq.model.event import (
    AnyEvent,
    Crashed,
    Deferred,
    Delayed,
    Delivered,
    Discarded,
    Expanded,
    Failed,
    Moved,
    Passed,
    Redirected,
    Removed,
    Removing,
    Replaced,
    Replayed,
    Resubmitted,
    Resumed,
    Retried,
    Routed,
    Suspended,
)
from kmq.spool.look import Found
from kmq.view.words import counted, harmless, local_time

#: What operators did.
Operated = Suspended | Resumed | Retried | Removing | Removed | Resubmitted | Redirected | Replayed

#: Recipients that an event names one by one.
_NAMED = 3


def history(found: Found) -> Iterator[str]:
    """The life of a message, from its acceptance on."""
    head = found.head
    yield harmless(f"{local_time(unix(head.created))}  accepted   {origin(head)}, {counted(head.size, 'byte')}")
    for event in found.events:
        yield harmless(f"{local_time(unix(event.at))}  {_told(event, head)}")
    if found.home == "poison" and found.reason != found.state.why:  # told beside the envelope, not in it
        yield harmless(f"set aside in poison/: {found.reason}")


def origin(head: Head) -> str:
    """Where a message came from, in one clause."""
    source = head.source
    if head.parent and source.how == "dsn":
        return f"made by kmq, a notice about {head.parent}"
    if head.parent and source.how == "copy":
        return f"made by kmq, the postmaster's copy of {head.parent}"
    client = " ".join(part for part in (source.helo, f"[{source.ip}]" if source.ip else "") if part)
    parts = [f"by {source.how or 'unknown means'}"]
    parts += [f"from {client}"] if client else []
    parts += [f"as {source.user}"] if source.user else []
    parts += [f"through receiver {source.receiver}"] if source.receiver else []
    parts += [f"out of {head.parent}"] if head.parent else []
    return " ".join(parts)


def _told(event: AnyEvent, head: Head) -> str:
    match event:
        case Routed():
            hop = next_hop(event.hop)
            connector = f" by connector {hop.connector}" if hop.connector else ""
            rule = f" ({event.rule})" if event.rule else ""
            return f"routed     {_whom(event.rcpt, head)}: to {hop.name}{connector}{rule}"
        case Delivered():
            told = f"; the sender was told by {event.notice}" if event.notice else ""
            return f"delivered  {_whom(event.rcpt, head)}: {_reply(event)}{told}"
        case Failed():
            told = f"; the sender was told by {event.notice}" if event.notice else ""
            over = "given up, its time is over; last reply: " if event.reply.startswith("4") else ""
            return f"failed     {_whom(event.rcpt, head)}: {over}{_reply(event)}{told}"
        case Delayed():
            told = f"; the sender was told by {event.notice}" if event.notice else "; nobody wanted to be told"
            return f"delayed    {_whom(event.rcpt, head)}: {event.reply}{told}"
        case Expanded():
            return f"expanded   {_whom(event.rcpt, head)}: {expansion(event)}"
        case Deferred():
            again = f"; again at {local_time(unix(event.until))}" if event.until else ""
            held = f"; held, since {event.held}" if event.held else ""
            return f"deferred   {_whom(event.rcpt, head)}: {_reply(event)}{held}{again}"
        case Crashed():
            trace = f": {event.trace.strip().rpartition(chr(10))[2]}" if event.trace else ""
            return f"crashed    a worker in {event.phase}, time {event.count}{trace}"
        case Moved():
            return f"moved      to {event.home}/: {event.reason}" if event.reason else f"moved      to {event.home}/"
        case Passed() | Discarded() | Replaced():
            return _inspected(event, head)
        case _:
            return _operated(event, head)


def _inspected(event: Passed | Discarded | Replaced, head: Head) -> str:
    """What phases ahead of routing did."""
    match event:
        case Passed():
            changed = [f"{edit.how} {edit.name}" for edit in event.headers]
            parts = [f"by {event.by}" if event.by else "", event.verdict]
            parts += [f"header: {', '.join(changed)}" if changed else "", f"sent {event.child}" if event.child else ""]
            said = "; ".join(part for part in parts if part)
            return f"passed     {event.phase}: {said or event.step}"
        case Discarded():
            return f"discarded  {_whom(event.rcpt, head)}, by {event.by}: {event.reason}"
        case Replaced():
            return f"replaced   {_whom(event.rcpt, head)}: goes on as {event.child}, by {event.by}: {event.reason}"


def _operated(event: Operated, head: Head) -> str:
    whom = f"{_whom(event.rcpt, head)}, " if event.rcpt else ""
    why = f": {event.reason}" if event.reason else ""
    who = f"{whom}{person(event.by)}{why}"
    match event:
        case Suspended():
            return f"suspended  {who}"
        case Resumed():
            return f"resumed    {who}"
        case Retried():
            return f"retried    {who}"
        case Removing():
            told = ", and the sender is told" if event.ndr else ""
            return f"removing   {who}; when the work in hand has ended{told}"
        case Removed():
            return f"removed    {who}"
        case Resubmitted():
            return f"resubmitted {who}"
        case Redirected():
            return f"redirected {who}; to connector {event.connector}"
        case Replayed():
            return f"replayed   {who}; as {event.child}"


def expansion(event: Expanded) -> str:
    """What became of recipients that are an alias."""
    goes_on = f"goes on as {event.child}" if event.child else "all that it stands for were recipients already"
    return f"{event.rule}; {goes_on}"


def _whom(rcpt: str, head: Head) -> str:
    indices = [index for index in recipients.from_text(rcpt) if index < len(head.recipients)]
    if len(indices) > _NAMED:
        return counted(len(indices), "recipient")
    return ", ".join(head.recipients[index].address for index in indices) or "nobody"


def _reply(event: Delivered | Failed | Deferred) -> str:
    attempt = f", attempt {event.attempt}" if event.attempt > 1 else ""
    return f"{event.reply}{where(event)}{attempt}"


def where(event: Delivered | Failed | Deferred) -> str:
    """Who gave a result, and what protected the conversation: ` (mx.example.org[192.0.2.1]:25, TLSv1.3 ...)`."""
    told = ", ".join(filter(None, (event.host, event.tls)))
    return f" ({told})" if told else ""


def addresses(rcpt: str, head: Head) -> Sequence[str]:
    """The addresses of a set of recipients."""
    return [head.recipients[index].address for index in recipients.from_text(rcpt) if index < len(head.recipients)]
