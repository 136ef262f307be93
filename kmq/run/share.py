"""A share: some recipients of one message for one next hop, and where it stands. The unit of assignment.

Law:      the states of a share and their order are the table FOLLOWING; `turn` is the only way from one to another, and
          keeps its queue's count of each state. A recipient is in one share, so it is in one assignment at a time.
          Recipients with different numbers of results are different shares (J10).
Memory:   a message of one recipient costs its ID, one Share (80 bytes) and its places in a table and a line. So a Share
          is left out of the garbage collector's walks, and nothing here makes an object per message.
On crash: nothing of this outlives the scheduler process; `open_parts` reads it back from the envelope.
Callers:  kmq/run/lines, scheduler, verbs.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from enum import Enum, IntEnum
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from kmq.model import hop as hops
from kmq.model import moment, recipients
from kmq.model.envelope import State
from kmq.model.priority import NORMAL

if TYPE_CHECKING:
    from kmq.run.hopqueue import HopQueue
    from kmq.spool.standing import Group


class ShareState(IntEnum):
    """Where a share stands."""

    READY = 0  #: in line in its queue
    ALONE = 1  #: in line to be run alone: the message may be what killed a worker
    OWING = 2  #: in line for a notice to its sender
    WAITING = 3  #: for the time of its next attempt
    HELD = 4  #: an operator suspended the message, or is removing it
    ASSIGNED = 5  #: in a worker's hands
    RECORDING = 6  #: the worker's result waits for its sync


#: The same as plain numbers: a state is a place in tables, some thirty times a message, and an enum is a slow one.
READY: Final = int(ShareState.READY)
ALONE: Final = int(ShareState.ALONE)
OWING: Final = int(ShareState.OWING)
WAITING: Final = int(ShareState.WAITING)
HELD: Final = int(ShareState.HELD)
ASSIGNED: Final = int(ShareState.ASSIGNED)
RECORDING: Final = int(ShareState.RECORDING)

#: A worker has it, or its result is not durable yet: nobody else may touch it.
IN_HAND: Final = frozenset({ASSIGNED, RECORDING})

#: A share that nobody works on may stand in any of these.
_FREE = frozenset({READY, ALONE, OWING, WAITING, HELD})

#: Which state may come after which. Only what waits in a line is assigned; only what is assigned has a result.
FOLLOWING: Final[tuple[frozenset[int], ...]] = (
    frozenset({ASSIGNED, ALONE, OWING, HELD}),  # READY
    frozenset({ASSIGNED, READY, OWING, HELD}),  # ALONE
    frozenset({ASSIGNED, ALONE, WAITING, HELD}),  # OWING: one that is to be run alone waits for its time first
    frozenset({ASSIGNED, READY, ALONE, OWING, HELD}),  # WAITING: assigned when a worker reports that it has it (J10)
    frozenset({ASSIGNED, READY, ALONE, OWING, WAITING, RECORDING}),  # HELD: the same; recording: its removal
    frozenset({RECORDING}) | _FREE,  # ASSIGNED: freed when the worker is gone
    _FREE,  # RECORDING
)


class Owed(NamedTuple):
    """A notice that the sender is to get before anything else: that it is given up (over), or that it takes longer.

    reply: what the last attempt heard.
    """

    over: bool
    reply: str


#: What an operator said of a share, as bits of `Share.word`. SUSPENDED: it is held. REMOVING: its recipients are taken
#: out when nobody has them in hand; with NDR their sender is told. REROUTE: it goes back to the categorizer then.
SUSPENDED, REMOVING, NDR, REROUTE = 1, 2, 4, 8

#: What recipients fail with that an operator removed: it names nobody (RFC 3463 3.4: other mail system status).
TAKEN_OUT: Final = "554 5.3.0 The message was taken out of the queue and is not delivered"


class Share(msgspec.Struct, gc=False, eq=False):
    """mid: the message's ID. due: monotonic second of the next attempt, 0 for at once. owed: the notice that it is in
    line for. sibling: the next share of the same message. A share without recipients is one whose last result waits for
    its sync. word: what an operator said of it (SUSPENDED, ..); forced: the connector that one gave it to, or "".
    priority: of the message (model.priority).
    """

    mid: int
    queue: HopQueue
    rcpt: tuple[int, ...]
    attempt: int = 1
    state: int = READY
    due: int = 0
    owed: Owed | None = None
    sibling: Share | None = None
    word: int = 0
    forced: str = ""
    priority: int = NORMAL


def turn(share: Share, state: int) -> None:
    """The one way from a state to another; a pair that FOLLOWING does not have is a mistake in the program."""
    before = share.state
    assert state in FOLLOWING[before], (
        f"a share that is {ShareState(before).name} can not become {ShareState(state).name}"
    )
    tally = share.queue.tally
    tally[before] -= 1
    tally[state] += 1
    share.state = state


def chain(first: Share | None) -> Iterator[Share]:
    """All shares of a message, from its first."""
    while first is not None:
        yield first
        first = first.sibling


def joined(shares: Sequence[Share], queue: HopQueue) -> int:
    """The words about shares that are one in the hands of a worker, on its way to this queue (J10).

    What an operator sent back to the categorizer meanwhile, or gave to a connector, goes there when it comes back.
    """
    word = 0
    for share in shares:
        word |= share.word
        if share.queue.hop == _SUBMISSION and (share.queue is not queue or share.forced):
            word |= REROUTE
    return word


def unfinished(first: Share | None) -> bool:
    """Whether anything is left to do for a message."""
    while first is not None:
        if first.rcpt:
            return True
        first = first.sibling
    return False


# --- recipients ------------------------------------------------------------------------------------------------------

#: Recipients of one share. What a worker says of them, each with a reply of its own, goes into one frame; so does the
#: notice about them.
LARGEST = 1000

#: Sets of recipients are shared between messages: all messages of one recipient have the same one.
_shared: dict[tuple[int, ...], tuple[int, ...]] = {}
_SHARED_SETS = 4096
_SHARED_SIZE = 100
_all: list[tuple[int, ...]] = [tuple(range(count)) for count in range(_SHARED_SIZE + 1)]


def all_recipients(count: int) -> tuple[int, ...]:
    """Every recipient of a message that has `count`."""
    return _all[count] if count <= _SHARED_SIZE else tuple(range(count))


def portions(rcpt: tuple[int, ...]) -> tuple[tuple[int, ...], ...]:
    """A set of recipients as sets that shares may have."""
    if len(rcpt) <= LARGEST:
        return (rcpt,)
    return tuple(rcpt[at : at + LARGEST] for at in range(0, len(rcpt), LARGEST))


def shared(rcpt: tuple[int, ...]) -> tuple[int, ...]:
    """The same set of recipients, as one object with its likes; bounded, so rare sets stay their own."""
    if rcpt == (0,):
        return _all[1]
    if len(_shared) < _SHARED_SETS and len(rcpt) <= _SHARED_SIZE:
        return _shared.setdefault(rcpt, rcpt)
    return _shared.get(rcpt, rcpt)


# --- from disk -------------------------------------------------------------------------------------------------------


class Part(NamedTuple):
    """Open recipients as the disk knows them. until: Unix time before which they wait, 0.0 for at once.

    warned: their sender knows that it takes longer. word, forced, priority: as of shares.
    """

    rcpt: tuple[int, ...]
    hop: str
    attempt: int
    until: float
    warned: bool = False
    word: int = 0
    forced: str = ""
    priority: int = NORMAL


_NOBODY: Final[Mapping[str, str]] = MappingProxyType({})


def open_parts(state: State, priority: int = NORMAL, former: Mapping[str, str] = _NOBODY) -> list[Part]:
    """What is left to do for a message: its open recipients by next hop, number of results, and time to wait.

    What was unreachable is routed anew, since the configuration may have changed (what is suspended there, when it is
    resumed); so is a next hop that this program cannot read. An `until` that is no time is none.
    former: former name of a connector -> the name that it bears now.
    """
    found: dict[tuple[str, int, str, bool, int, str], list[int]] = {}
    for index in state.open:
        forced = state.forced.get(index, "")
        forced = former.get(forced, forced)
        hop = _routed(state.hop[index], forced, former, index in state.held)
        key = (hop, state.results[index], state.until[index], index in state.warned, _word(state, index), forced)
        found.setdefault(key, []).append(index)
    return [
        Part(shared(portion), hop, results + 1, _time(until), warned, word, forced, priority)
        for (hop, results, until, warned, word, forced), rcpt in found.items()
        for portion in portions(tuple(rcpt))
    ]


def waiting_parts(groups: Iterable[Group], priority: int = NORMAL, former: Mapping[str, str] = _NOBODY) -> list[Part]:
    """The same of ordinary mail, as the index recalls it: nobody has said a word about its recipients."""
    return [
        Part(
            shared(portion),
            _routed(one.hop, "", former, False),
            one.results + 1,
            _time(one.until),
            one.warned,
            0,
            "",
            priority,
        )
        for one in groups
        for portion in portions(recipients.from_text(one.rcpt))
    ]


def _word(state: State, index: int) -> int:
    removing = state.removing.get(index)
    word = SUSPENDED if index in state.held else 0
    return word if removing is None else word | REMOVING | (NDR if removing.ndr else 0)


_SUBMISSION = str(hops.SUBMISSION)


def _routed(text: str, forced: str, former: Mapping[str, str], held: bool) -> str:
    try:
        target = hops.parse(text) if text else hops.SUBMISSION
    except ValueError:
        return _SUBMISSION
    connector = former.get(target.connector, target.connector)
    astray = forced != "" and connector != forced  # on its way by routing when an operator said otherwise
    anew = astray or (target == hops.UNREACHABLE and not held)
    return _SUBMISSION if anew else text or _SUBMISSION


def _time(until: str) -> float:
    try:
        return moment.from_text(until) if until else 0.0
    except ValueError:
        return 0.0


# --- for tables ------------------------------------------------------------------------------------------------------


class MessageStatus(Enum):
    """What people see; names as in Exchange Server."""

    READY = "Ready"
    ACTIVE = "Active"
    RETRY = "Retry"
    SUSPENDED = "Suspended"
    PENDING_REMOVE = "PendingRemove"
    PENDING_SUSPEND = "PendingSuspend"


class ShareFacts(NamedTuple):
    """A share for tables. due: monotonic time of the next attempt, None when it is at once or not known. alone: it
    waits for a worker that has nothing else in hand, since it may be what another one died of.
    """

    hop: str
    rcpt: tuple[int, ...]
    status: MessageStatus
    attempt: int
    due: float | None
    alone: bool = False
