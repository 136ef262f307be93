"""The properties that filters, orders and listings know: Exchange's names, what they are, what may be asked of them.

Law:      these tables are all there is, and kmq(1) is held against them. Names count whatever their case. `documented`
          are the operators that Exchange documents for a property; the others of its kind work too.
Callers:  filter_tree, selection, kmq.cli; whoever filters something else makes a table of its own.
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from kmq.admin.filter_values import Kind
from kmq.model.hop import DeliveryType

_SAME = ("-eq", "-ne", "-in")
_ORDER = ("-gt", "-ge", "-lt", "-le")
_PATTERNS = ("-like", "-notlike", "-contains", "-notcontains", "-match")

#: Every operator of a comparison, by the kind of the property.
OPERATORS: Mapping[Kind, tuple[str, ...]] = {
    Kind.TEXT: (*_SAME, *_PATTERNS),
    Kind.WORDS: (*_SAME, *_PATTERNS),
    Kind.LIST: (*_SAME, *_PATTERNS),
    Kind.NUMBER: (*_SAME, *_ORDER),
    Kind.SIZE: (*_SAME, *_ORDER),
    Kind.TIME: (*_SAME, *_ORDER),
    Kind.SPAN: (*_SAME, *_ORDER),
}

_NUM = ("-eq", "-ne", "-gt", "-ge", "-lt", "-le")
_EQ = ("-eq", "-ne")
_LIKE = ("-eq", "-ne", "-like")
_HAS = ("-eq", "-ne", "-contains")


class Property(NamedTuple):
    """words: what a property of kind WORDS can be; documented: operators, by Exchange's pages; alias: other names."""

    name: str
    kind: Kind
    meaning: str
    documented: tuple[str, ...] = ()
    words: tuple[str, ...] = ()
    alias: tuple[str, ...] = ()

    @property
    def operators(self) -> tuple[str, ...]:
        """All that may stand behind it."""
        return OPERATORS[self.kind]


class Table:
    """Some properties, found by name or alias."""

    def __init__(self, subject: str, properties: Iterable[Property]) -> None:
        self.subject = subject
        self.properties = tuple(properties)
        self._by_name = {name.lower(): one for one in self.properties for name in (one.name, *one.alias)}

    def get(self, name: str) -> Property | None:
        """The property that somebody means."""
        return self._by_name.get(name.lower())

    @property
    def names(self) -> list[str]:
        """As they are written, without aliases."""
        return sorted(one.name for one in self.properties)

    def like(self, name: str) -> str:
        """A name that may have been meant, "" when none is near."""
        import difflib

        near = difflib.get_close_matches(name.lower(), self._by_name, 1)
        return self._by_name[near[0]].name if near else ""


_TYPES = tuple(one.value for one in DeliveryType)
_CATEGORIES = ("Internal", "External")
_PRIORITIES = ("High", "Normal", "Low")

_T, _W, _L, _N, _S, _D, _P = Kind.TEXT, Kind.WORDS, Kind.LIST, Kind.NUMBER, Kind.SIZE, Kind.TIME, Kind.SPAN

MESSAGE = Table(
    "a message",
    [
        Property("Created", _D, "when it was accepted", alias=("creationTime",)),
        Property("DateReceived", _D, "when it came into this queue", ("-gt", "-ge", "-lt", "-le")),
        Property("DeferReason", _T, "None, or why it was put off: Transient Failure", _LIKE),
        Property("DeliveryType", _W, "of the queue", _EQ, _TYPES),
        Property(
            *("Directionality", _W, "Originating: handed in here; Incoming: from elsewhere", _EQ),
            ("Incoming", "Originating", "Undefined"),
        ),
        Property("EnvelopeId", _T, "ENVID of the transaction"),
        Property("ExpirationTime", _D, "when a failed attempt will be the last", ("-gt", "-ge", "-lt", "-le")),
        Property("FromAddress", _T, "the envelope's sender; empty for a notice", (*_HAS, "-like"), alias=("from",)),
        Property("HeldBy", _T, "who suspended it, and why"),
        Property("Helo", _T, "what the client that brought it called itself"),
        Property("Id", _T, "the ID alone"),
        Property("Identity", _T, "Server\\Queue\\ID", ("-like",)),
        Property("InternetMessageId", _T, "Message-ID of its header", _HAS),
        Property("LastError", _T, "the last reply, or why nothing happens", _HAS),
        Property("MessageLatency", _P, "from acceptance to this queue", _NUM),
        Property("MessageSourceName", _T, "how it came: SMTP:section, LOCAL, PICKUP, DSN", _HAS),
        Property("NextHopCategory", _W, "of the queue", _EQ, _CATEGORIES),
        Property("NextHopConnector", _T, "name of the connector", _LIKE),
        Property("NextHopDomain", _T, "name of the queue", _LIKE),
        Property("NextRetryTime", _D, "when it is tried next", ("-gt", "-ge", "-lt", "-le"), alias=("nextTry",)),
        Property("OriginalFromAddress", _T, "the sender of the message that a notice is about", _LIKE),
        Property("Phase", _T, "what is being done to it now"),
        Property("Priority", _W, "of delivery", _EQ, _PRIORITIES),
        Property("Queue", _T, "Server\\Queue", _HAS),
        Property("RecipientCount", _N, "recipients that wait in this queue"),
        Property("Recipients", _L, "addresses that wait in this queue", ("-like",), alias=("to",)),
        Property("RetryCount", _N, "attempts so far", _NUM),
        Property("SCL", _N, "spam confidence, -1 to 9, of a filter of ours, or of one before us that wrote it", _NUM),
        Property("Size", _S, "of the message in bytes", _NUM, alias=("messageSize",)),
        Property("SourceIP", _T, "address of the client that brought it", _EQ, alias=("senderIp",)),
        Property(
            *("Status", _W, "in this queue", _EQ),
            (
                *("Active", "Damaged", "Locked", "PendingRemove", "PendingSuspend", "Ready", "Retry", "Suspended"),
                "Terminating",
            ),
        ),
        Property("Subject", _T, "of its header", _HAS),
        Property("User", _T, "who handed it in, when that is known", alias=("authSender",)),
    ],
)

QUEUE = Table(
    "a queue",
    [
        Property("DeferredMessageCount", _N, "messages that the categorizer could not tell the way of yet", _NUM),
        Property("DeliveryType", _W, "how the queue is delivered", _EQ, _TYPES),
        Property("FirstRetryTime", _D, "when the first attempt failed", _NUM),
        Property("HeldBy", _T, "who suspended it, and why"),
        Property("Identity", _T, "Server\\Queue", _LIKE),
        Property("IncomingRate", _N, "messages a second that came in, over the last minute", _NUM),
        Property("LastError", _T, "why the next hop cannot be reached", _HAS),
        Property("LastRetryTime", _D, "of the last attempt", ("-gt", "-ge", "-lt", "-le")),
        Property("MessageCount", _N, "messages in it", _NUM),
        Property("MessageCountsPerPriority", _T, "the same as High,Normal,Low: 0,12,3", _LIKE),
        Property("NextHop", _T, "text of the next hop: DeliveryType;domain;connector"),
        Property("NextHopCategory", _W, "whether it leaves this machine", _EQ, _CATEGORIES),
        Property("NextHopConnector", _T, "name of the connector", _LIKE),
        Property("NextHopConnectorId", _T, "GUID of the connector, which survives a renaming", _LIKE),
        Property("NextHopDomain", _T, "name of the queue", _LIKE),
        Property("NextRetryTime", _D, "when the next hop is tried next", ("-gt", "-ge", "-lt", "-le")),
        Property("OutgoingRate", _N, "messages a second that left, over the last minute", _NUM),
        Property("PriorityDescriptions", _T, "High, Normal, Low"),
        Property("RetryCount", _N, "attempts in vain on end", _NUM),
        Property("Status", _W, "of the queue", _EQ, ("Active", "Connecting", "Ready", "Retry", "Suspended")),
        Property("Throttled", _T, "which limit it waits for"),
        Property("Timetable", _T, "the hours that keep it shut, none where it is sent only when asked for"),
        Property("Velocity", _N, "OutgoingRate less IncomingRate", _NUM),
        Property("Why", _T, "code of what it waits for"),
    ],
)
