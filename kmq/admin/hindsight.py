"""The queue as it stood at a time (`kmq mailq --at`).

Does:     what is in the spool still, by the events of its envelope up to then; what has left since, by the tracking
          log: it was there when it came before and ended after that time. Queues that were out of reach or suspended
          by then are told by the tracking log, too.
Promise:  read-only. Memory is that of the messages that were in the queue. What cannot be known is counted: messages
          that came before and whose end is nowhere (`View.unknown`).
On crash: nothing is held.
Callers:  kmq.cli.mailq_at.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from kmq.admin.circumstances import Circumstances, QueueState
from kmq.config import Settings
from kmq.log.tracking import Details, Entry
from kmq.model import moment, queue_id, recipients
from kmq.model.envelope import Head, Recipient, Source, State
from kmq.model.event import AnyEvent, Deferred, Delivered, Moved, Resumed, Routed, Suspended
from kmq.run.schedule import schedules_of
from kmq.spool.index_rows import next_hop, unix
from kmq.spool.look import Damaged, Found

_DAY = 86400.0
_NOTHING = Details()
#: event-id of how a message comes.
_BIRTHS = frozenset({"RECEIVE", "TRANSFER", "DSN"})


@dataclass(slots=True)
class View:
    """The queue at a time. found: its messages; around: states of queues, with the time as `now`."""

    found: list[Found]
    around: Circumstances
    unknown: int = 0


def view(present: Iterable[Found | Damaged], tracked: Iterable[Entry], at: float, server: str) -> View:
    """present: what is in the spool now; tracked: the log in order of time, from early enough on; at: Unix time."""
    past = Past(moment.as_text(at))
    for entry in tracked:
        past.take(entry)
    found = {}
    there = set()
    for one in present:
        name = one.head.id if isinstance(one, Found) else one.id
        there.add(name)
        if isinstance(one, Found) and (earlier := as_of(one, moment.as_text(at))) is not None:
            found[name] = earlier
    found.update((name, gone.found()) for name, gone in past.left.items() if name not in there and gone.was_there)
    lost = sum(gone.lost for name, gone in past.left.items() if name not in there)
    hops = {hop for one in found.values() for hop in one.state.hop if hop}
    around = Circumstances(at, server, queues=past.queues(at, hops))
    return View([found[name] for name in sorted(found)], around, lost)


def as_of(found: Found, at: str) -> Found | None:
    """A message as its envelope had it at a time (RFC 3339); None when it was not there, or all of it was done."""
    if found.head.created > at:
        return None
    state = State(len(found.head.recipients))
    events = [event for event in found.events if event.at <= at]
    for event in events:
        state.after(event)
    home, reason = state.home, state.why if state.home == "poison" else ""
    return Found(found.folder, home, found.head, state, events, reason) if state.open else None


# --- what has left since ----------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Gone:
    """A message that the log tells of. to: its recipients; ended: those whose way was over by then; later: something
    was said of it afterwards, so that it was there.
    """

    name: str
    known: bool = False
    sender: str = ""
    size: int = 0
    created: str = ""
    source: Source = field(default_factory=Source)
    to: dict[str, None] = field(default_factory=dict)
    ended: set[str] = field(default_factory=set)
    events: list[tuple[AnyEvent, tuple[str, ...]]] = field(default_factory=list)
    removed: bool = False
    later: bool = False

    @property
    def open(self) -> bool:
        """As far as is known, some recipient waited."""
        return not self.removed and not (self.to and self.ended.issuperset(self.to))

    @property
    def was_there(self) -> bool:
        return self.later and self.open and bool(self.to)

    @property
    def lost(self) -> bool:
        """It came, and nobody says how it ended."""
        return self.known and self.open and not self.later

    def named(self, to: Sequence[str]) -> tuple[str, ...]:
        """Recipients as addresses, also where they are named by their places."""
        known = list(self.to)
        found: list[str] = []
        for one in to:
            places = recipients.from_text(one[1:]) if _is_places(one) else ()
            found += [known[place] for place in places if place < len(known)] if places else [one]
        return tuple(found)

    def found(self) -> Found:
        """As if its envelope were there still."""
        to = list(self.to)
        places = {address: place for place, address in enumerate(to)}
        head = Head(
            self.name, "", self.created, self.sender, [Recipient(one) for one in to], self.size, source=self.source
        )
        state = State(len(to))
        events = []
        for event, about in self.events:
            if about and hasattr(event, "rcpt"):
                event.rcpt = recipients.as_text(sorted(places[one] for one in about if one in places))
            events.append(event)
            state.after(event)
        for address in self.ended:
            if address in places:
                state.done[places[address]] = Delivered()
        return Found(Path(), state.home, head, state, events, state.why if state.home == "poison" else "")


class Past:
    """Takes the log's entries; knows what was in the queue at `at` (RFC 3339) of all that has left since."""

    def __init__(self, at: str) -> None:
        self._at = at
        self.left: dict[str, Gone] = {}
        self._queues: dict[str, QueueState] = {}  # by the text of the next hop
        self._held: dict[str, str] = {}  # by name: operators have several ways to name a queue

    def take(self, entry: Entry) -> None:
        """One more."""
        before = entry.date_time <= self._at
        name = entry.internal_message_id
        if not name:
            if before:
                self._take_queue(entry)
            return
        gone = self.left.get(name)
        if gone is None:
            if not before and not self._came_before(name):
                return
            gone = self.left[name] = Gone(name)
        if before:
            _apply(gone, entry)
            self._spoke(entry)
            if gone.known and not gone.open:
                del self.left[name]
        else:
            gone.later = True
            gone.removed = gone.removed or entry.event_id in _BIRTHS  # it came later in the second of its ID
            _learn(gone, entry)

    def _came_before(self, name: str) -> bool:
        try:
            return moment.as_text(queue_id.created(queue_id.parse(name))) <= self._at
        except ValueError:
            return False

    def _take_queue(self, entry: Entry) -> None:
        """A queue that could not be reached, or that an operator held or let go."""
        details = entry.custom_data or _NOTHING
        name = next_hop(details.queue).name
        match entry.event_id:
            case "DEFER":
                state = self._queues.setdefault(details.queue, QueueState())
                state.last_error = " ".join(entry.recipient_status)
                state.next_retry, state.failures = unix(details.until), details.attempt
            case "SUSPEND":
                self._held[name] = f"{details.by}: {details.reason}" if details.reason else details.by
            case "RESUME":
                self._held.pop(name, None)

    def _spoke(self, entry: Entry) -> None:
        if entry.server_hostname and entry.custom_data and entry.custom_data.queue in self._queues:
            state = self._queues[entry.custom_data.queue]
            state.next_retry, state.failures = 0.0, 0

    def queues(self, at: float, hops: Iterable[str]) -> dict[str, QueueState]:
        """The states of those of these next hops that are known to have been in trouble, or held."""
        found = {}
        for hop in hops:
            state = self._queues.get(hop) or QueueState()
            state.held_by = self._held.get(next_hop(hop).name, "")
            state.status = "Suspended" if state.held_by else "Retry" if state.next_retry > at else ""
            if state.status:
                found[hop] = state
        return found


def _learn(gone: Gone, entry: Entry) -> None:
    """What every entry says of a message."""
    if entry.event_id in _BIRTHS:
        gone.known = True
        details = entry.custom_data or _NOTHING
        how, helo, receiver = details.proto.lower(), entry.client_hostname, entry.connector_id
        gone.source = Source(how, entry.client_ip, helo, details.user, receiver)
    gone.sender = entry.sender_address or gone.sender
    gone.size = entry.total_bytes or gone.size
    gone.created = entry.message_info or gone.created or _created(gone.name)
    gone.to.update(dict.fromkeys(one for one in entry.recipient_address if not _is_places(one)))


def _is_places(text: str) -> bool:
    return text[:1] == "#" and "@" not in text


def _created(name: str) -> str:
    return moment.as_text(queue_id.created(queue_id.parse(name)))


def _apply(gone: Gone, entry: Entry) -> None:
    """What had happened by then."""
    _learn(gone, entry)
    details = entry.custom_data or _NOTHING
    about = gone.named(entry.recipient_address)
    if details.rule or entry.event_id == "RESOLVE":
        gone.events.append((Routed(at=entry.date_time, hop=details.queue, rule=details.rule), about))
    match entry.event_id:
        case "SEND" | "DELIVER" | "FAIL" | "EXPAND":
            gone.ended.update(about)
        case "DROP":
            gone.ended.update(about)
            gone.removed = gone.removed or not about
        case "DEFER" if entry.source != "DSN":
            gone.events.append((_deferred(entry, details), about))
        case "SUSPEND":
            gone.events.append((Suspended(at=entry.date_time, by=details.by, reason=details.reason), about))
        case "RESUME":
            gone.events.append((Resumed(at=entry.date_time, by=details.by, reason=details.reason), about))
        case "POISONMESSAGE":
            gone.events.append((Moved(at=entry.date_time, home="poison", reason=details.reason), ()))


def _deferred(entry: Entry, details: Details) -> Deferred:
    return Deferred(
        at=entry.date_time,
        attempt=details.attempt,
        reply=" ".join(entry.recipient_status),
        host=entry.server_hostname,
        until=details.until,
        tls=details.tls,
    )


def since(settings: Settings, at: float) -> float:
    """From when on the log has to be read: what came before that was not in the queue, unless somebody held it."""
    schedules = schedules_of(settings)
    names = ("", *(one.name for one in settings.connectors))
    return at - max(schedules.of(name).lifetime for name in names) - _DAY
