"""Entries of the tracking log for people: as a table, and as the end of a message's history.

Callers:  kmq.cli.
"""

from collections.abc import Iterable, Iterator

import msgspec

from kmq.admin.listing import person
from kmq.admin.tracked_names import decoded
from kmq.log.tracking import Details, Entry
from kmq.spool.index_rows import next_hop, unix
from kmq.view.table import Column, Page, Row, table
from kmq.view.words import counted, harmless, local_time, offset, short_time

_NAMED = 3

#: event-id -> the word of a history. What is not here is told in lower case.
_WORDS = {
    "RECEIVE": "accepted",
    "TRANSFER": "made",
    "RESOLVE": "routed",
    "EXPAND": "expanded",
    "SEND": "delivered",
    "DELIVER": "delivered",
    "DEFER": "deferred",
    "FAIL": "failed",
    "DSN": "notice",
    "DROP": "removed",
    "AGENTINFO": "passed",
    "POISONMESSAGE": "poison",
    "SUSPEND": "suspended",
    "RESUME": "resumed",
    "RETRY": "retried",
    "RESUBMIT": "resubmitted",
    "REDIRECT": "redirected",
}
#: The same of what a rule or a scanner of ours did.
_OURS = {"DROP": "discarded", "EXPAND": "replaced", "SUSPEND": "held"}
_NOTHING = Details()


def columns() -> tuple[Column, ...]:
    """The columns of the table."""
    return (
        Column(f"Time {offset()}"),
        Column("Event"),
        Column("Source"),
        Column("ID"),
        Column("From", elastic=True),
        Column("To", elastic=True),
        Column("Said", elastic=True),
    )


def track(found: Iterable[Entry], page: Page) -> Iterator[str]:
    """The table's lines; none when there are no entries."""
    return table(columns(), map(_row, found), page)


def _row(entry: Entry) -> Row:
    said = _said(entry)
    if entry.event_id == "TRANSFER" and entry.reference:
        said = f"out of {entry.reference[0]}"
    if entry.message_subject:
        said = f"{decoded(entry.message_subject)!r} {said}"
    at, name = short_time(unix(entry.date_time)), entry.internal_message_id or "-"
    return Row((at, entry.event_id, entry.source, name, _sender(entry), _to(entry) or "-", said))


def _sender(entry: Entry) -> str:
    return entry.sender_address or ("<>" if entry.event_id == "DSN" else "-")


def properties(entry: Entry) -> dict[str, object]:
    """The entry as it stands in the file."""
    found: dict[str, object] = msgspec.to_builtins(entry)
    return found


def story(name: str, found: Iterable[Entry]) -> Iterator[str]:
    """The life of the message `name`, one line per event, as `kmq history` tells it."""
    for entry in found:
        at = local_time(unix(entry.date_time))
        if entry.internal_message_id == name:
            yield harmless(f"{at}  {_word(entry):10} {_event(entry)}".rstrip())
        elif entry.event_id in ("DSN", "TRANSFER"):
            what = "a notice to" if entry.event_id == "DSN" else "a message to"
            yield harmless(f"{at}  {'made':10} {what} {_to(entry)}: {entry.internal_message_id}")


def _word(entry: Entry) -> str:
    if entry.source == "DSN" and entry.event_id == "DEFER":
        return "delayed"
    if entry.custom_data and entry.custom_data.status == "expired":
        return "given up"
    if entry.source == "AGENT":
        return _OURS.get(entry.event_id, _WORDS.get(entry.event_id, entry.event_id.lower()))
    return _WORDS.get(entry.event_id, entry.event_id.lower())


def _event(entry: Entry) -> str:
    if entry.event_id in ("RECEIVE", "TRANSFER"):
        return f"{_came(entry)}, {counted(entry.total_bytes, 'byte')}, from <{entry.sender_address}> to {_to(entry)}"
    to = _to(entry)
    said = _said(entry)
    return f"{to}: {said}" if to and said else to or said


def _came(entry: Entry) -> str:
    details = entry.custom_data or _NOTHING
    client = " ".join(filter(None, (entry.client_hostname, entry.client_ip and f"[{entry.client_ip}]")))
    parts = [f"by {details.proto or 'unknown means'}".lower()]
    parts += [f"from {client}"] if client else []
    parts += [f"as {details.user}"] if details.user else []
    parts += [f"through receiver {entry.connector_id}"] if entry.connector_id else []
    parts += [f"out of {entry.reference[0]}"] if entry.reference else []
    return " ".join(parts)


def _to(entry: Entry) -> str:
    to = entry.recipient_address
    count = max(len(to), entry.recipient_count)
    if count > _NAMED:
        return counted(count, "recipient")
    text = ", ".join(to)
    return f"{text} (sent to {entry.related_recipient_address})" if entry.related_recipient_address else text


def _said(entry: Entry) -> str:
    """Replies, and what else there is to say."""
    details = entry.custom_data or _NOTHING
    parts = [", ".join(dict.fromkeys(entry.recipient_status))] if entry.recipient_status else []
    where = ", ".join(filter(None, (_server(entry), details.tls)))
    if where:
        parts.append(f"({where})")
    if entry.event_id == "RESOLVE":
        parts.append(f"to {next_hop(details.queue).name} ({details.rule})")
    elif details.rule and entry.event_id != "EXPAND":
        parts.append(f"routed by {details.rule}")
    elif details.rule:
        parts.append(details.rule)
    elif not where and details.queue:
        parts.append(f"queue {next_hop(details.queue).name}")
    if entry.event_id == "AGENTINFO":
        parts.append(f"{details.status},")
    if details.attempt > 1:
        parts.append(f"attempt {details.attempt}")
    if details.until:
        parts.append(f"again at {local_time(unix(details.until))}")
    if details.by:
        parts.append(person(details.by) + (f": {details.reason}" if details.reason else ""))
    elif details.reason:
        parts.append(details.reason)
    if entry.reference and entry.event_id not in ("RECEIVE", "TRANSFER"):
        parts.append(f"see {' '.join(entry.reference)}")
    return " ".join(parts)


def _server(entry: Entry) -> str:
    if not entry.server_hostname:
        return "local" if entry.event_id == "DELIVER" else ""
    address, colon, port = entry.server_ip.rpartition(":")
    return f"{entry.server_hostname}[{address.strip('[]')}]{colon}{port}" if colon else entry.server_hostname
