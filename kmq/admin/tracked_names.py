"""What a filter knows of the tracking log: the names of Get-MessageTrackingLog, and those of the fields in the file.

Law:      this table is all there is; kmq-tracking(5) is held against it.
Callers:  kmq.admin.tracked, kmq.view.track.
"""

from collections.abc import Callable, Mapping

from kmq.admin.filter_names import Property, Table
from kmq.admin.filter_values import Kind
from kmq.log.tracking import Details, Entry

#: Words of `EventId`, with what each means (kmq-tracking(5) has them too).
EVENT_IDS: Mapping[str, str] = {
    "RECEIVE": "A message was taken in.",
    "TRANSFER": "A message was made, as which others go on (an alias).",
    "RESOLVE": "The categorizer gave recipients their next hops, which is all that was done this time.",
    "EXPAND": "Recipients go on with the messages in reference: they were an alias, or a phase changed the message.",
    "SEND": "Another server took responsibility.",
    "DELIVER": "It lies in a mailbox of this machine.",
    "DEFER": "It was refused for now. Without an ID: a next hop could not be reached. Source DSN: its sender was told.",
    "FAIL": "It was refused for good, or given up (status expired); reference: the notice to its sender.",
    "DSN": "A notice was made; reference: the message that it is about.",
    "DROP": "An operator took it out of the queue, or (source AGENT) a rule or scanner dropped it; nobody was told.",
    "AGENTINFO": "A phase ahead of routing (status says which) found, changed or sent something.",
    "POISONMESSAGE": "It was set aside in poison/.",
    "BADMAIL": "A dropped file cannot be a message.",
    "RESUBMIT": "An operator sent it back through the categorizer, or out of the safety net, as `reference`.",
    "REDIRECT": "An operator gave it to another connector.",
    "SUSPEND": "An operator holds a message, or a queue.",
    "RESUME": "An operator lets it go on.",
    "RETRY": "An operator asked for an attempt now.",
    "LOST": "So many lines could not be written.",
}

SOURCES = ("SMTP", "STOREDRIVER", "PICKUP", "ROUTING", "QUEUE", "DSN", "ADMIN", "AGENT", "LOG")

#: Property -> how it is read.
Reading = Callable[[Entry], object]
_NOTHING = Details()
_READINGS: dict[str, Reading] = {}


def _of(name: str, kind: Kind, meaning: str, *alias: str, words: tuple[str, ...] = ()) -> Property:
    """One property; its first alias is its field."""
    field = alias[0].replace("-", "_")
    if field in Entry.__struct_fields__:
        _READINGS[name] = lambda entry: getattr(entry, field)
    else:
        _READINGS[name] = lambda entry: getattr(entry.custom_data or _NOTHING, field)
    return Property(name, kind, meaning, words=words, alias=alias)


TABLE = Table(
    "the tracking log",
    (
        _of("Timestamp", Kind.TIME, "When.", "date-time"),
        _of("EventId", Kind.WORDS, "What: one of the words above.", "event-id", words=tuple(EVENT_IDS)),
        _of("Source", Kind.WORDS, "Which part of kmq did it.", "source", words=SOURCES),
        _of("InternalMessageId", Kind.TEXT, "The queue ID.", "internal-message-id", "ID"),
        _of("MessageId", Kind.TEXT, "The Message-ID of the header.", "message-id"),
        _of("Sender", Kind.TEXT, "The sender of the envelope.", "sender-address"),
        _of("Recipients", Kind.LIST, "The recipients that it is about.", "recipient-address"),
        _of("RecipientStatus", Kind.LIST, "The reply: one for all of them, or one for each.", "recipient-status"),
        _of("RecipientCount", Kind.NUMBER, "How many recipients.", "recipient-count"),
        _of("RelatedRecipientAddress", Kind.TEXT, "The alias that it was sent to.", "related-recipient-address"),
        _of("MessageSubject", Kind.TEXT, "The subject, with tracking_subjects = yes.", "message-subject", "Subject"),
        _of("TotalBytes", Kind.SIZE, "Bytes of the message.", "total-bytes", "Size"),
        _of("ClientIp", Kind.TEXT, "The address of the client.", "client-ip"),
        _of("ClientHostname", Kind.TEXT, "The name by which the client introduced itself.", "client-hostname"),
        _of("ServerIp", Kind.TEXT, "The address and port of the server that said it.", "server-ip"),
        _of("ServerHostname", Kind.TEXT, "The name of that server.", "server-hostname"),
        _of("ConnectorId", Kind.TEXT, "The receiver, or the connector.", "connector-id"),
        _of("Reference", Kind.LIST, "IDs of other messages: notices, or what an alias became.", "reference"),
        _of("MessageInfo", Kind.TIME, "When the message came.", "message-info"),
        _of("NextHop", Kind.TEXT, "The next hop.", "queue"),
        _of("Rule", Kind.TEXT, "The line of the configuration that routed it.", "rule"),
        _of("RetryCount", Kind.NUMBER, "The number of the attempt.", "attempt"),
        _of("NextRetryTime", Kind.TIME, "When it is tried next.", "until"),
        _of("MessageLatency", Kind.SPAN, "Seconds from the beginning of its way in to this.", "delay"),
        _of("Tls", Kind.TEXT, "Protocol and cipher of the connection.", "tls"),
        _of("Protocol", Kind.TEXT, "How it came in: smtp, sendmail, pickup, ...", "proto"),
        _of("User", Kind.TEXT, "The user on whose word it came.", "user"),
        _of("File", Kind.TEXT, "The dropped file.", "file"),
        _of("By", Kind.TEXT, "Which operator.", "by"),
        _of("Reason", Kind.TEXT, "Why.", "reason"),
    ),
)


def _subject(entry: Entry) -> str:
    return decoded(entry.message_subject)


_READINGS["MessageSubject"] = _subject
READINGS: Mapping[str, Reading] = _READINGS


def decoded(text: str) -> str:
    """A subject as people read it (RFC 2047)."""
    if "=?" not in text:
        return text
    from email.errors import MessageError
    from email.header import decode_header, make_header

    try:
        return str(make_header(decode_header(text)))
    except (MessageError, ValueError, LookupError):
        return text
