"""What the queue looks like to an operator: each message, the queues it waits in, why, and until when.

What:     pure readings of envelopes (spool/look), together with what only running processes know: the states of
          queues and what is in hand now. Statuses and properties bear Exchange's names (reference: Get-Message).
Promise:  a message is listed with what is known; what kmqd alone knows is left out when it does not run.
On crash: nothing here touches a disk or a socket.
Callers:  kmq.view, kmq.cli.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from fnmatch import fnmatchcase
from functools import lru_cache
from pwd import getpwuid

from kmq.admin.circumstances import HOURS, Circumstances, QueueState, text_of
from kmq.model import hop, moment, queue_id
from kmq.model.envelope import State
from kmq.model.event import AnyEvent, Deferred, Suspended
from kmq.model.hop import DeliveryType, NextHop
from kmq.spool.index_rows import next_hop as next_hop
from kmq.spool.index_rows import source
from kmq.spool.index_rows import unix as unix
from kmq.spool.look import Damaged, Found
from kmq.spool.status import InHand


class Status(Enum):
    """The status of a message in a queue (Exchange's words), and two of our own."""

    ACTIVE = "Active"  #: in somebody's hands
    READY = "Ready"  #: its turn comes
    RETRY = "Retry"  #: waits for its next attempt
    SUSPENDED = "Suspended"  #: held by an operator, or set aside as poison
    PENDING_SUSPEND = "PendingSuspend"  #: held as soon as nobody has it in hand
    PENDING_REMOVE = "PendingRemove"  #: removed by an operator; gone when its delivery fails
    TERMINATING = "Terminating"  #: all recipients are done; its files are about to go
    DAMAGED = "Damaged"  #: its envelope cannot be understood


#: The gravest first: what the line of a message with several queues tells.
_GRAVITY = (
    Status.SUSPENDED,
    Status.PENDING_SUSPEND,
    Status.PENDING_REMOVE,
    Status.RETRY,
    Status.READY,
    Status.ACTIVE,
    Status.TERMINATING,
    Status.DAMAGED,
)


@dataclass(slots=True)
class Share:
    """A message in one queue.

    hop:        the queue's next hop; to: the addresses that wait there.
    next_try:   Unix time; 0: as soon as possible; None: not before somebody does something.
    last_error: the last reply, or why nothing happens; "" when there is nothing to say.
    trouble:    the same for people, one clause.
    queue:      the state of the whole queue, when that is what the message waits for; else None.
    """

    hop: NextHop
    to: list[str]
    status: Status
    next_try: float | None = 0.0
    last_error: str = ""
    retry_count: int = 0
    trouble: str = ""
    queue: QueueState | None = None

    @property
    def told(self) -> str:
        """Status and trouble for people; what waits for somebody to do something is not called ready."""
        if self.status is Status.READY and self.next_try is None:
            return self.trouble
        return f"{self.status.value}: {self.trouble}" if self.trouble else self.status.value


@dataclass(slots=True)
class Listed:
    """One line of `kmq mailq`. shares: the queues that it waits in, the gravest first."""

    id: str
    created: float
    size: int
    sender: str
    shares: list[Share]
    source: str = ""
    source_ip: str = ""
    hand: InHand | None = None

    @property
    def to(self) -> list[str]:
        """All addresses that still wait."""
        return [address for share in self.shares for address in share.to]

    @property
    def next_try(self) -> float | None:
        """The soonest attempt of any of its queues: Unix time, 0 for as soon as possible, None for never by itself."""
        return min([share.next_try for share in self.shares if share.next_try is not None], default=None)

    @property
    def status(self) -> str:
        """Why it has not been sent, in a few words."""
        if self.hand and self.shares[0].status not in _PENDING:
            return _doing(self.hand)
        more = len(self.shares) - 1
        text = self.shares[0].told
        return f"{text} (and {more} more queue{'s' * (more > 1)})" if more else text

    @property
    def grave(self) -> bool:
        """Somebody has to do something."""
        return any(share.next_try is None for share in self.shares)


def listed(found: Found | Damaged, around: Circumstances) -> Listed:
    """The line of one message."""
    if isinstance(found, Damaged):
        share = Share(_home(found.home), [], Status.DAMAGED, None, found.reason, trouble=found.reason)
        return Listed(found.id, queue_id.created(queue_id.parse(found.id)), 0, "", [share])
    head = found.head
    hand = around.in_hand.get(head.id)
    return Listed(
        id=head.id,
        created=unix(head.created),
        size=head.size,
        sender=head.sender,
        shares=shares(found, around),
        source=source(head),
        source_ip=head.source.ip,
        hand=hand,
    )


def shares(found: Found, around: Circumstances) -> list[Share]:
    """The queues in which a message waits, the gravest first; never empty."""
    state = found.state
    waiting = state.open
    if not waiting:
        return [Share(hop.SUBMISSION, [], Status.TERMINATING)]
    if found.home == "poison":
        trouble = f"poison, {found.reason}"
        return [Share(hop.POISON, _addresses(found, waiting), Status.SUSPENDED, None, found.reason, trouble=trouble)]
    groups: dict[str, list[int]] = {}
    for index in waiting:
        groups.setdefault(state.hop[index], []).append(index)
    return gravest_first([_share(text, group, found, around) for text, group in groups.items()])


def gravest_first(some: list[Share]) -> list[Share]:
    """What somebody has to do something about comes before what goes by itself."""
    return sorted(some, key=lambda share: _GRAVITY.index(share.status)) if len(some) > 1 else some


def _share(text: str, rcpt: list[int], found: Found, around: Circumstances) -> Share:
    """One queue's part of a message: held, unreachable, waiting, or ready."""
    state = found.state
    share = Share(next_hop(text), _addresses(found, rcpt), Status.READY)
    share.retry_count = max(state.results[index] for index in rcpt)
    share.last_error = share.trouble = _last_reply(state, rcpt)
    queue = around.queues.get(text or str(hop.SUBMISSION)) or _QUIET
    until = min((unix(state.until[index]) for index in rcpt), default=0.0)
    held = all(index in state.held for index in rcpt)
    in_hand = _in_hand(found, rcpt, share, around)
    if in_hand is Status.PENDING_REMOVE:
        share.status, share.next_try, share.trouble = in_hand, None, REMOVED
    elif in_hand is Status.PENDING_SUSPEND:
        share.status, share.next_try, share.trouble = in_hand, None, _who_holds(found.events)
    elif in_hand:
        share.status = in_hand
    elif held:
        share.status, share.next_try, share.trouble = Status.SUSPENDED, None, _who_holds(found.events)
    elif queue.status == "Suspended":
        share.next_try, share.trouble = None, suspended(share.hop.name, queue)
    elif share.hop.delivery_type is DeliveryType.UNREACHABLE:
        share.next_try = None
        share.last_error = share.trouble = no_connector(share.to)
    elif queue.waits_for in HOURS:
        share.next_try, share.trouble = _opens(queue, until), shut(queue)
    elif queue.status == "Retry":
        share.status, share.next_try = Status.RETRY, max(queue.next_retry, until)
        share.last_error = share.trouble = queue.last_error or share.last_error
        share.queue = queue
    elif until > around.now:
        share.status, share.next_try = Status.RETRY, until
    return share


def _opens(queue: QueueState, until: float) -> float | None:
    """When a queue is sent that its connector's hours keep shut; a timetable sends what was put off all the same."""
    if queue.waits_for == "out-of-hours":
        return max(queue.next_retry, until)
    return queue.next_retry or None


def shut(queue: QueueState) -> str:
    """That the queue's connector does not send now, and when it does."""
    if queue.waits_for == "on-demand":
        return "its connector is offline: kmq flush, or ETRN, has it sent"
    times = text_of(queue.told, "Timetable")
    how = "is offline, and sends" if queue.waits_for == "scheduled" else "works"
    return f"its connector {how} {times}"


_QUIET = QueueState()
#: What is said of a removal that waits for what is in hand.
REMOVED = "an operator removed it while it was being delivered; it goes when that fails"
_PENDING = (Status.PENDING_SUSPEND, Status.PENDING_REMOVE)
_IN_HAND = {status.value: status for status in (Status.ACTIVE, *_PENDING)}


def _in_hand(found: Found, rcpt: list[int], share: Share, around: Circumstances) -> Status | None:
    """How it is in somebody's hands, as the scheduler says, else as the status files show; None when nobody has it."""
    state = found.state
    removing = all(index in state.removing for index in rcpt)
    said = around.statuses.get((found.head.id, str(share.hop)))
    if said in _IN_HAND:
        return _IN_HAND[said]
    if removing:
        return Status.PENDING_REMOVE
    if said is not None or found.head.id not in around.in_hand:
        return None
    return Status.PENDING_SUSPEND if all(index in state.held for index in rcpt) else Status.ACTIVE


def suspended(name: str, queue: QueueState | None) -> str:
    """That a queue is suspended, and who did it why, where that is known."""
    by, colon, reason = queue.held_by.partition(": ") if queue is not None else ("", "", "")
    who = f" {person(by)}" if by.startswith("uid ") else f": {by}" if by else ""
    return f"the queue {name} is suspended{who}{colon}{reason}"


def _last_reply(state: State, rcpt: Sequence[int]) -> str:
    """The reply that the recipient deferred last heard, with the host that said it."""
    last: Deferred | None = None
    for index in rcpt:
        event = state.last[index]
        if isinstance(event, Deferred) and (last is None or event.seq > last.seq):
            last = event
    if last is None:
        return ""
    return f"{last.reply} ({last.host})" if last.host else last.reply


def _who_holds(events: Sequence[AnyEvent]) -> str:
    for event in reversed(events):
        if isinstance(event, Suspended):
            return f"{person(event.by)}: {event.reason}" if event.reason else person(event.by)
    return person("")


@lru_cache(256)
def person(by: str) -> str:
    """Who did something, from what the kernel said: `uid 0` is `by root`."""
    if not by.startswith("uid ") or not by[4:].isdecimal():
        return f"by {by or 'an operator'}"
    try:
        return f"by {getpwuid(int(by[4:])).pw_name}"
    except (KeyError, OverflowError):
        return f"by {by}"


def domains(addresses: Sequence[str]) -> list[str]:
    """The domains of some addresses, each once, in order."""
    return list(dict.fromkeys(address.rpartition("@")[2].lower() for address in addresses))


def no_connector(addresses: Sequence[str]) -> str:
    """What recipients in the Unreachable queue wait for."""
    names = domains(addresses)
    others = len(names) - 1
    more = f" and {others} other domain{'s' * (others > 1)}" if others else ""
    return f"waiting for a connector: none serves {names[0]}{more}"


def _doing(hand: InHand) -> str:
    server = f" to {hand.server}" if hand.server else ""
    percent = f", {hand.percent} %" if hand.percent else ""
    return f"{hand.status}{server}{percent}"


def _addresses(found: Found, rcpt: Sequence[int]) -> list[str]:
    recipients = found.head.recipients
    return [recipients[index].address for index in rcpt]


def _home(home: str) -> NextHop:
    return hop.POISON if home == "poison" else hop.SUBMISSION


def is_named(queue: NextHop, name: str) -> bool:
    """Whether an operator who says `name` means this queue: its name, with or without server, or its whole text."""
    wanted = name.rpartition("\\")[2].casefold()
    return wanted in (queue.name.casefold(), str(queue).casefold(), _SHORT.get(queue))


_SHORT = {hop.UNREACHABLE: "unreachable", hop.POISON: "poison"}


def is_meant(queue: NextHop, name: str) -> bool:
    """The same of a name in which `*` and `?` stand for anything."""
    if "*" not in name and "?" not in name:
        return is_named(queue, name)
    pattern = name.rpartition("\\")[2].casefold().replace("[", "[[]")
    return fnmatchcase(queue.name.casefold(), pattern)


def properties(entry: Listed, share: Share, around: Circumstances) -> Mapping[str, object]:
    """A message in a queue as Exchange's Get-Message names its properties; times in UTC."""
    queue = f"{around.server}\\{share.hop.name}"
    return {
        "Identity": f"{queue}\\{entry.id}",
        "Queue": queue,
        "FromAddress": entry.sender,
        "Recipients": [
            {
                "Address": address,
                "Status": share.status.value if share.status in (Status.RETRY, Status.SUSPENDED) else "Ready",
                "LastError": share.last_error or None,
                "NextHop": str(share.hop),
            }
            for address in share.to
        ],
        "Status": share.status.value,
        "DateReceived": utc(entry.created),
        "NextRetryTime": utc(share.next_try or 0.0),
        "Size": entry.size,
        "LastError": share.last_error or None,
        "RetryCount": share.retry_count,
        "DeliveryType": share.hop.delivery_type.value,
        "NextHopConnector": share.hop.connector or None,
        "MessageSourceName": entry.source or None,
        "SourceIP": entry.source_ip or None,
        "Phase": entry.hand.status if entry.hand else None,
    }


def utc(at: float) -> str | None:
    """RFC 3339 in UTC, or None for no time."""
    return moment.as_text(at) if at else None
