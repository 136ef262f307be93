"""The tracking log: what happened to mail as one JSON object per line, in the words of Exchange Server. kmq-tracking(5)

Does:     makes an entry of what the mail log tells (`kmq.log.mail` calls it, so each event is written once), or of a
          worker's result (`kmq.run.tracing`), and gathers the lines for the files (`tracking_files`).
Promise:  an entry tells of nothing that is not durable. A call costs a few microseconds, never raises and never waits.
          What foreign text says stays inside its JSON string; it is cut where it is long.
On crash: lines of the last 75 ms are lost with a killed process; a power cut may tear the last line of a file, which
          readers pass over.
Callers:  kmq.log, kmq.log.mail, kmq.run.tracing; kmq.admin.tracked reads the lines back.
"""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from kmq import log
from kmq.config.sections import KmqSection
from kmq.log import mail
from kmq.log.lines import Log, Value
from kmq.log.tracking_files import Keeping, TrackingFiles
from kmq.model.moment import as_text

if TYPE_CHECKING:
    from kmq.log.accepted import Accepted

#: Recipients of one line; an event about more is several lines.
MOST_RECIPIENTS = 100
#: Characters of one foreign value.
_LONGEST = 1000
_INFO = 20


class Details(msgspec.Struct, omit_defaults=True, rename="kebab", gc=False):
    """`custom-data`: what Exchange has no field for.

    queue: the text of the next hop; rule: the line of the configuration that routed it; attempt: its number; until: the
    time of the next one; tls: what protected the conversation; delay, delays: seconds, as in the mail log; by, reason:
    of an operator, a rule or a scanner; user, file: how it came; status: expired, where that is why, or the phase;
    lines: how many could not be written.
    """

    queue: str = ""
    rule: str = ""
    attempt: int = 0
    until: str = ""
    tls: str = ""
    delay: str = ""
    delays: str = ""
    by: str = ""
    reason: str = ""
    user: str = ""
    file: str = ""
    proto: str = ""
    status: str = ""
    lines: int = 0


class Entry(msgspec.Struct, omit_defaults=True, rename="kebab", gc=False):
    """One line. The fields bear the names of Exchange's message tracking log; those without a value are left out.

    recipient_status stands beside recipient_address: one reply for each, or one for all of them. Where addresses are
    not at hand, recipients are named by their places in the envelope: `#0-2,5`.
    """

    date_time: str = ""
    event_id: str = ""
    source: str = ""
    internal_message_id: str = ""
    message_id: str = ""
    sender_address: str = ""
    recipient_address: Sequence[str] = ()
    recipient_status: Sequence[str] = ()
    recipient_count: int = 0
    related_recipient_address: str = ""
    client_ip: str = ""
    client_hostname: str = ""
    server_ip: str = ""
    server_hostname: str = ""
    connector_id: str = ""
    total_bytes: int = 0
    reference: Sequence[str] = ()
    message_subject: str = ""
    message_info: str = ""
    custom_data: Details | None = None


#: Word of the mail log -> (event-id, source). What is not here is no event of a message, or told by kmq.run.tracing.
EVENTS: Final[dict[str, tuple[str, str]]] = {
    "accepted": ("RECEIVE", "SMTP"),
    "bad-file": ("BADMAIL", "PICKUP"),
    "notice": ("DSN", "DSN"),
    "poison": ("POISONMESSAGE", "QUEUE"),
    "removed": ("DROP", "ADMIN"),
    "suspend": ("SUSPEND", "ADMIN"),
    "resume": ("RESUME", "ADMIN"),
    "suspend-queue": ("SUSPEND", "ADMIN"),
    "resume-queue": ("RESUME", "ADMIN"),
    "retry": ("RETRY", "ADMIN"),
    "flush": ("RETRY", "ADMIN"),
    "resubmit": ("RESUBMIT", "ADMIN"),
    "redirect": ("REDIRECT", "ADMIN"),
    "replay": ("RESUBMIT", "ADMIN"),
}

#: How a message came -> source, where that is not SMTP.
_SOURCES = {"pickup": "PICKUP", "replay": "PICKUP"}

#: Key of the mail log -> field of the entry.
_FIELDS = {
    "from": "sender_address",
    "client": "client_ip",
    "helo": "client_hostname",
    "receiver": "connector_id",
    "connector": "connector_id",
    "size": "total_bytes",
    "nrcpt": "recipient_count",
    "msgid": "message_id",
}
#: Key of the mail log -> field of the details.
_DETAILS = frozenset({"queue", "attempt", "until", "tls", "delay", "by", "reason", "user", "file", "proto"})


class TrackingLog(Log):
    """Lines of JSON on their way to the files."""

    def _line(self, level: int, text: str) -> str:
        return f"{text}\n"

    def _missing(self, count: int) -> str:
        return _text(Entry(source="LOG", event_id="LOST", custom_data=Details(lines=count)))


_log: TrackingLog | None = None
_subjects = False
_encode = msgspec.json.Encoder().encode


def begin(keeping: Keeping | None, subjects: bool = False) -> TrackingLog | None:
    """Entries go there from now on; nowhere when it is None. The log, so that its lines are gathered and flushed."""
    global _log, _subjects
    _subjects = subjects
    former = _log
    if keeping is None:
        _log = None
    elif former is None or former.outlet.keeping != keeping:  # type: ignore[attr-defined]
        _log = TrackingLog(TrackingFiles(keeping))
    if former is not None and former is not _log:
        former.close()
    mail.tracker = tell if _log is not None else None
    return _log


def wanted() -> bool:
    """Whether anybody keeps entries."""
    return _log is not None


def roomy() -> bool:
    """Whoever has many entries may note some more of them."""
    return _log is None or _log.roomy


def note(entry: Entry) -> None:
    """One entry that is made already; its time is now, unless it has one."""
    if _log is not None:
        _log.add(_INFO, _text(entry))


def _text(entry: Entry) -> str:
    if not entry.date_time:
        entry.date_time = as_text(time.time())
    try:
        return _encode(entry).decode()
    except (UnicodeEncodeError, TypeError):  # lone surrogates of a name of a file, which JSON cannot carry
        return _encode(_clean(msgspec.to_builtins(entry))).decode()


def _clean(one: object) -> object:
    if isinstance(one, str):
        return one.encode("utf-8", "backslashreplace").decode()
    if isinstance(one, dict):
        return {key: _clean(value) for key, value in one.items()}
    return [_clean(value) for value in one] if isinstance(one, (list, tuple)) else one


# --- of lines of the mail log -----------------------------------------------------------------------------------------


def tell(word: str, queue_id: str, said: Mapping[str, Value], besides: mail.Besides) -> None:
    """What the mail log tells, and what it leaves out. A mistake of ours ends nobody who has mail in hand."""
    if word not in EVENTS:
        return
    try:
        _tell(word, queue_id, said, besides)
    except Exception as error:
        log.error("our program failed on an entry of the tracking log", trace=log.traced(error))


def _tell(word: str, queue_id: str, said: Mapping[str, Value], besides: mail.Besides) -> None:
    event, source = EVENTS[word]
    entry = Entry(event_id=event, source=source, internal_message_id=queue_id)
    details = Details()
    for key, value in said.items():
        if not value:
            continue
        if key in _FIELDS:
            setattr(entry, _FIELDS[key], value if type(value) is int else str(value)[:_LONGEST])
        elif key in _DETAILS:
            setattr(details, key, value if type(value) is int else str(value)[:_LONGEST])
    if _subjects:
        entry.message_subject = besides.subject[:_LONGEST]
    _finish(entry, details, word, said)
    to = besides.recipients or ((str(said["to"]),) if said.get("to") else ())
    if said.get("rcpt"):
        to = (f"#{said['rcpt']}",)
    _note_parts(entry, to)


def _note_parts(entry: Entry, to: Sequence[str]) -> None:
    for at in range(0, max(1, len(to)), MOST_RECIPIENTS):
        entry.recipient_address = to[at : at + MOST_RECIPIENTS]
        note(entry)


def received(queue_id: str, one: "Accepted", tls: str) -> None:
    """A message as nearly all come, in a third of the time: what a client said of itself is short."""
    if _log is None:
        return
    by = one.by.keys.get
    user, proto = by("user", ""), by("proto", "")
    entry = Entry(
        event_id="RECEIVE",
        source=_SOURCES.get(proto, "SMTP"),
        internal_message_id=queue_id,
        message_id=one.message_id,
        sender_address=one.sender,
        recipient_count=len(one.recipients),
        client_ip=by("client", ""),
        client_hostname=by("helo", ""),
        connector_id=by("receiver", ""),
        total_bytes=one.size,
        message_subject=one.subject[:_LONGEST] if _subjects else "",
        custom_data=Details(tls=tls, delay=one.delay, reason=one.reason, user=user, proto=proto),
    )
    try:
        _note_parts(entry, one.recipients)
    except Exception as error:
        log.error("our program failed on an entry of the tracking log", trace=log.traced(error))


def _finish(entry: Entry, details: Details, word: str, said: Mapping[str, Value]) -> None:
    """What is not carried over one to one."""
    entry.source = _SOURCES.get(details.proto.lower(), entry.source)
    if details.by and not details.by.startswith("uid "):
        entry.source = "QUEUE"  # no operator, but kmq itself
    if said.get("child"):
        entry.reference = (str(said["child"]),)
    if said.get("parent"):
        entry.reference = (str(said["parent"]),)
        if word == "accepted":
            entry.event_id, entry.source = "TRANSFER", "ROUTING"  # a message that another goes on as
    if said.get("reply"):
        entry.recipient_status = (str(said["reply"])[:_LONGEST],)
    if details != _NOTHING:
        entry.custom_data = details


_NOTHING = Details()


# --- where ------------------------------------------------------------------------------------------------------------


def folder_of(section: KmqSection) -> Path | None:
    """The folder that `tracking_log` means; None for none."""
    where = section.tracking_log
    if where == "off":
        return None
    return section.spool / "log" if where == "spool" else Path(where)


def keeping_of(section: KmqSection) -> Keeping | None:
    """What the configuration says."""
    folder = folder_of(section)
    if folder is None:
        return None
    return Keeping(folder, section.tracking_file_size, section.tracking_size, section.tracking_age)
