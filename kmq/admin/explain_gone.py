"""What became of a message that is not in the queue, by the tracking log or the safety net.

Promise:  pure; entries of one message in order of time.
Callers:  kmq.cli.explain.
"""

from collections.abc import Sequence

from kmq.admin.explain_evidence import by
from kmq.admin.explain_finding import Finding
from kmq.log.tracking import Details, Entry
from kmq.model.event import Delivered
from kmq.spool.look import Found

#: event-id of an end -> cause.
_ENDS = {"SEND": "delivered", "DELIVER": "delivered", "FAIL": "failed", "DROP": "removed", "EXPAND": "expanded"}
#: The same of what a rule or a scanner of ours did.
_OURS = {"DROP": "discarded", "EXPAND": "replaced"}
_NOTHING = Details()


def explain_gone(name: str, entries: Sequence[Entry]) -> list[Finding]:
    """How it ended, for each way in which it did; never empty."""
    own = [entry for entry in entries if entry.internal_message_id == name]
    if not own:
        return [Finding("unknown", words={"id": name})]
    found: dict[str, Finding] = {}
    for entry in own:
        code = _OURS.get(entry.event_id) if entry.source == "AGENT" else None
        code = code or _ENDS.get(entry.event_id)
        if code is None:
            continue
        finding = found.setdefault(code, Finding(code, words={"id": name}))
        finding.to += entry.recipient_address
        finding.evidence.append(_told(entry))
        finding.words |= _words(entry)
    return list(found.values()) or [Finding("left", evidence=[_told(own[-1])], words={"id": name})]


def explain_kept(found: Found) -> list[Finding]:
    """The same of a message that the safety net keeps, by its envelope."""
    to = [one.address for one in found.head.recipients]
    evidence = [
        f"{event.at} delivered{f' at {event.host}' if event.host else ''}: {event.reply}"
        for event in found.events
        if isinstance(event, Delivered)
    ]
    return [Finding("delivered", to, evidence=[*evidence, str(found.path)], words={"id": found.head.id})]


def _words(entry: Entry) -> dict[str, str]:
    details = entry.custom_data or _NOTHING
    why = " ".join(entry.reference) if entry.event_id == "EXPAND" else " ".join(entry.recipient_status)
    return {"why": why, "who": by(details.by, details.reason)}


def _told(entry: Entry) -> str:
    """`2026-... SEND at mx.far.example, TLSv1.3 ...: 250 2.0.0 Ok`."""
    details = entry.custom_data or _NOTHING
    where = ", ".join(filter(None, (entry.server_hostname, details.tls)))
    said = " ".join(entry.recipient_status)
    return f"{entry.date_time} {entry.event_id}{f' at {where}' if where else ''}{f': {said}' if said else ''}"
