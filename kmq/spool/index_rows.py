"""What the index keeps of one message: its row, and a row for each queue that it waits in.

What:     pure readings of an envelope (spool/look) and of the header of its body. Only what does not change by itself
          is kept: whether a time has come, what a queue's state is and who has the message in hand is added when
          somebody looks (admin/selection_view).
Promise:  whatever an envelope or a header holds gives rows; foreign text is cut, and made one line.
On crash: nothing here writes.
Callers:  spool/index.
"""

import json
from functools import lru_cache
from itertools import chain
from typing import NamedTuple

from kmq.model import fields, hop, moment, priority, queue_id, recipients
from kmq.model.envelope import Head, State
from kmq.model.event import AnyEvent, Deferred, Delivered, Routed, Suspended
from kmq.model.hop import DeliveryType, NextHop
from kmq.spool.look import Damaged, Found

#: Characters of a text from a header that are kept.
_TEXT = 1000

#: IDs have 64 bits, and SQLite's numbers a sign: half of them are below zero, in the same order.
_HALF = 1 << 63

#: Ways in by which a message is handed in here, rather than sent from elsewhere.
_OWN = frozenset({"local", "pickup", "replay", "dsn"})


def mid_of(number: int) -> int:
    """An ID (model/queue_id) as the index has it."""
    return number - _HALF


def number_of(mid: int) -> int:
    """The ID that this is in the index."""
    return mid + _HALF


class MessageRow(NamedTuple):
    """created: Unix time; damaged: its envelope is not understood."""

    home: str
    damaged: bool
    created: float
    sender: str
    size: int
    source: str
    source_ip: str
    user: str
    helo: str
    directionality: str
    original_from: str
    priority: str
    envelope_id: str


class HeaderRow(NamedTuple):
    """What stands in the header alone; scl is None where nobody judged."""

    subject: str = ""
    message_id: str = ""
    scl: int | None = None


class ShareRow(NamedTuple):
    """hop: the queue; addresses: that wait there, a line each; recipients: JSON, [address, status, last error] of those
    that wait there and of those that were delivered there, status "" for that of the whole.

    entered: when the last of them came into the queue; until: before which none is tried, 0.0 for none; all Unix times.
    """

    hop: NextHop
    addresses: str
    recipient_count: int
    recipients: str
    entered: float
    until: float
    last_error: str
    retry_count: int
    held: bool
    held_by: str
    removing: bool
    deferred: bool


#: How the text begins that stands for a next hop which could not be understood.
_STRANGE = f"{DeliveryType.UNDEFINED.value};"


@lru_cache(4096)
def next_hop(text: str) -> NextHop:
    """The next hop of an envelope's text; "" is the Submission queue. What cannot be understood is named as it is."""
    if not text:
        return hop.SUBMISSION
    try:
        return hop.parse(text)
    except ValueError:
        named = text[len(_STRANGE) : -1] if text.startswith(_STRANGE) and text.endswith(";") else text
        return NextHop(DeliveryType.UNDEFINED, named, "")


def message_row(found: Found | Damaged) -> MessageRow:
    """The row of a message."""
    if isinstance(found, Damaged):
        created = float(queue_id.created(queue_id.parse(found.id)))
        return MessageRow(found.home, True, created, "", 0, *[""] * 8)
    head = found.head
    return MessageRow(
        home=found.home,
        damaged=False,
        created=unix(head.created),
        sender=head.sender,
        size=head.size,
        source=source(head),
        source_ip=head.source.ip,
        user=head.source.user,
        helo=head.source.helo,
        directionality=_directionality(head),
        original_from=head.recipients[0].address if head.source.how == "dsn" and head.recipients else head.sender,
        priority=priority.of(head.priority).shown,
        envelope_id=head.envid,
    )


def source(head: Head) -> str:
    """Exchange's MessageSourceName: `SMTP:mx`, `DSN`."""
    how = head.source.how.upper()
    return f"{how}:{head.source.receiver}" if head.source.receiver else how


def _directionality(head: Head) -> str:
    if not head.source.how:
        return "Undefined"
    return "Originating" if head.source.user or head.source.how in _OWN else "Incoming"


# --- queues ----------------------------------------------------------------------------------------------------------


def share_rows(found: Found | Damaged) -> list[ShareRow]:
    """A row for each queue; never none, so that no message is out of sight."""
    if isinstance(found, Damaged):
        created = float(queue_id.created(queue_id.parse(found.id)))
        where = hop.POISON if found.home == "poison" else hop.SUBMISSION
        return [ShareRow(where, "", 0, "[]", created, 0.0, found.reason, 0, False, "", False, False)]
    waiting = found.state.open
    if found.home == "poison":
        return [_share(found, hop.POISON, waiting, [])]
    if not waiting:
        return [_share(found, hop.SUBMISSION, [], [])]
    groups: dict[str, list[int]] = {}
    for index in waiting:
        groups.setdefault(found.state.hop[index], []).append(index)
    done: dict[str, list[int]] = {}
    for index, event in found.state.done.items():
        if isinstance(event, Delivered):
            done.setdefault(found.state.hop[index], []).append(index)
    return [_share(found, next_hop(text), group, done.get(text, [])) for text, group in groups.items()]


def _share(found: Found, where: NextHop, rcpt: list[int], done: list[int]) -> ShareRow:
    state = found.state
    last = _last(state, rcpt)
    held = bool(rcpt) and all(index in state.held for index in rcpt)
    return ShareRow(
        hop=where,
        addresses="\n".join(found.head.recipients[index].address for index in rcpt),
        recipient_count=len(rcpt),
        recipients=json.dumps([_recipient(found, index) for index in chain(rcpt, done)], separators=(",", ":")),
        entered=_entered(found, rcpt),
        until=min((unix(state.until[index]) for index in rcpt), default=0.0),
        last_error=found.reason if found.home == "poison" else _said(last),
        retry_count=max((state.results[index] for index in rcpt), default=0),
        held=held,
        held_by=_who_holds(found.events) if held else "",
        removing=bool(rcpt) and all(index in state.removing for index in rcpt),
        deferred=last is not None,
    )


def _recipient(found: Found, index: int) -> list[str]:
    state = found.state
    status = "Complete" if index in state.done else "Suspended" if index in state.held else ""
    last = state.last[index]
    return [found.head.recipients[index].address, status, _said(last) if isinstance(last, Deferred) else ""]


def _last(state: State, rcpt: list[int]) -> Deferred | None:
    """The last result of those that were deferred."""
    last: Deferred | None = None
    for index in rcpt:
        event = state.last[index]
        if isinstance(event, Deferred) and (last is None or event.seq > last.seq):
            last = event
    return last


def _said(last: Deferred | None) -> str:
    """The reply, with the host that said it."""
    if last is None:
        return ""
    return f"{last.reply} ({last.host})" if last.host else last.reply


def _entered(found: Found, rcpt: list[int]) -> float:
    """When the recipients were routed to where they are; when the message came, as long as none was."""
    wanted = set(rcpt)
    for event in reversed(found.events):
        if isinstance(event, Routed) and not wanted.isdisjoint(_set(event.rcpt)):
            return unix(event.at)
    return unix(found.head.created)


def _set(rcpt: str) -> list[int]:
    try:
        return list(recipients.from_text(rcpt))
    except ValueError:
        return []


def _who_holds(events: list[AnyEvent]) -> str:
    for event in reversed(events):
        if isinstance(event, Suspended):
            return f"{event.by}: {event.reason}" if event.reason else event.by
    return ""


def unix(text: str) -> float:
    """Unix time of an envelope's text, 0 for none."""
    try:
        return moment.from_text(text) if text else 0.0
    except ValueError:
        return 0.0


# --- the header ------------------------------------------------------------------------------------------------------


def header_row(header: bytes | None) -> HeaderRow:
    """What filters may ask of a header. The first field of a name counts."""
    if not header:
        return HeaderRow()
    text = header + b"\r\n"
    found: dict[bytes, bytes] = {}
    for field in fields.read(text[: fields.end(text)]):
        if field.name in _WANTED:
            found.setdefault(field.name, field.value)
    return HeaderRow(
        subject=_decoded(found.get(b"subject", b"")),
        message_id=_plain(found.get(b"message-id", b"")),
        scl=_scl(found.get(b"x-ms-exchange-organization-scl", b"")),
    )


_WANTED = frozenset({b"subject", b"message-id", b"x-ms-exchange-organization-scl"})


def scl_of(found: Found | Damaged) -> int | None:
    """What a filter of ours says: whole points of its score, 0 to 9. Of rspamd's, 6 is spam, as it is in Exchange."""
    passed = [] if isinstance(found, Damaged) else found.state.passed
    score = next((one.score for one in reversed(passed) if one.score is not None), None)
    return None if score is None else int(max(0.0, min(9.0, score)))


def _plain(text: bytes) -> str:
    return text.decode("utf-8", "replace")[:_TEXT].strip()


def _scl(text: bytes) -> int | None:
    try:
        figure = int(text)
    except ValueError:
        return None
    return figure if -1 <= figure <= 9 else None


def _decoded(text: bytes) -> str:
    """RFC 2047; what cannot be decoded stays as it is."""
    if b"=?" not in text:
        return _plain(text)
    from email.errors import MessageError  # 20 ms, which plain subjects need not cost
    from email.header import decode_header

    try:
        parts = decode_header(text[: 4 * _TEXT].decode("utf-8", "replace"))
        said = "".join(_part(part, charset) for part, charset in parts)[:_TEXT].strip()
        return said.encode(errors="replace").decode()  # some charsets have halves of signs, which are no text
    except (MessageError, ValueError):
        return _plain(text)


def _part(part: bytes | str, charset: str | None) -> str:
    if isinstance(part, str):
        return part
    try:
        return part.decode(charset or "utf-8", "replace")
    except LookupError:
        return part.decode("utf-8", "replace")
