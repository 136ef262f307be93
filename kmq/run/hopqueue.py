"""The queue of one next hop: who is next, how many at once, and what to do when the hop does not answer.

Does:     two lines of ready shares (fresh mail before retries, but every eighth turn is a retry's) and the shares that
          wait for their time. A connection that failed is a trouble of the queue: it is in Retry, hands out nothing
          until its time, then one share as a probe; the shares lose no attempt. A conversation opens it again.
Width:    how many shares may be out at once. A remote hop begins narrow and gains one with each conversation, so that
          a dead one that nobody knows to be dead binds few. A failure narrows it to what is still out: a hop that takes
          10 connections of 40 keeps its 10. A probe that reached it opens the full limit.
Promise:  pure; a share that left its state is passed over in the lines, and lines never hold more than twice their
          ready shares (and 64).
Callers:  kmq/run/lines, rota, scheduler, verbs.
"""

from bisect import bisect_left
from collections import deque
from enum import Enum
from itertools import chain, islice
from typing import Final, NamedTuple

from kmq.config.sections import QueueSection
from kmq.model import hop as hops
from kmq.model.hop import DeliveryType
from kmq.run.schedule import Schedules
from kmq.run.share import ALONE, HELD, READY, WAITING, Share, ShareState
from kmq.run.waits import Waits

#: A remote hop that has not spoken yet gets this many at once.
FIRST_WIDTH = 5

#: Every so many turns of a queue the next one is a retry's, so that endless fresh mail does not starve them.
RETRY_TURN = 8

#: Shares for mailboxes of this machine at once, per queue: more would only wait for the disk.
MAILBOX_LIMIT = 64

#: How many places from the front a share that came back looks for its own.
RETURNED = 64

#: An empty queue is shown for so many seconds, then it is forgotten (Exchange's QueueMaxIdleTime).
MAX_IDLE = 180.0

NEVER: Final = float("inf")
_RFC: Final = Schedules(QueueSection()).default
_NO_LIMIT = 1 << 30


class QueueStatus(Enum):
    """What people see; names as in Exchange Server."""

    ACTIVE = "Active"
    CONNECTING = "Connecting"
    READY = "Ready"
    RETRY = "Retry"
    SUSPENDED = "Suspended"


class QueueFacts(NamedTuple):
    """A queue for tables. messages counts shares; next_retry: monotonic time, None when the queue is in no trouble;
    arrived and departed count since the queue appeared, so that rates are differences.
    """

    hop: str
    status: QueueStatus
    messages: int
    ready: int
    active: int
    waiting: int
    held: int
    next_retry: float | None
    last_error: str
    failures: int
    arrived: int
    departed: int


class HopQueue:
    """One queue. The scheduler reads and counts its attributes; what they mean together is said by the methods.

    tally:    shares by state; count: all of them; in_flight: those that workers carry to the hop now.
    failures: connections that failed in a row; probe: number of the assignment that tries whether it is back, or 0.
    doubtful: the last attempt failed, or a remote hop has not spoken yet: such queues share a third of the slots.
    listed:   stands in the rota; alarm: when the scheduler looks at it next; idling: stands in the list of idle ones.
    schedule: when it is tried again, and its messages are warned of and given up; silences: Unix times of its last
              failures, as many as that may need to know.
    sweep:    retries that are still to be looked at for a notice that is due; sweeping: such a look is going on.
    """

    __slots__ = (
        "again",
        "alarm",
        "arrived",
        "connector",
        "count",
        "departed",
        "doubtful",
        "failures",
        "fresh",
        "hop",
        "idling",
        "in_flight",
        "last_error",
        "limit",
        "listed",
        "next_retry",
        "probe",
        "remote",
        "schedule",
        "silences",
        "suspended",
        "sweep",
        "sweeping",
        "tally",
        "touched",
        "turns",
        "waits",
        "width",
    )

    def __init__(self, hop: str, per_hop: int, now: float) -> None:
        self.hop = hop
        kind, _, self.connector = hops.parse(hop)
        self.remote = kind in (DeliveryType.SMART_HOST, DeliveryType.DNS)
        self.limit = per_hop if self.remote else _LOCAL_LIMITS[kind]
        self.width = min(FIRST_WIDTH, self.limit) if self.remote else self.limit
        self.doubtful = self.remote
        self.fresh: deque[Share] = deque()
        self.again: deque[Share] = deque()
        self.waits = Waits()
        self.tally = [0] * len(ShareState)
        self.count = self.in_flight = self.turns = self.arrived = self.departed = 0
        self.failures = self.probe = 0
        self.last_error = ""
        self.silences: list[float] = []
        self.schedule = _RFC
        self.next_retry = 0.0
        self.suspended = self.listed = self.idling = False
        self.alarm = NEVER
        self.touched = now
        self.sweep = 0
        self.sweeping = ""

    # --- the lines -----------------------------------------------------------------------------------------------

    def put(self, share: Share, front: bool, warned: bool = False) -> None:
        """A ready share takes its place in line; front: it stood there before, and goes behind older ones like it.

        warned: its sender knows that it takes longer; such mail is not fresh any more.
        """
        line = self.fresh if share.attempt == 1 and not warned else self.again
        if not front:
            line.append(share)
            return
        place = 0
        for other in islice(line, RETURNED):
            if other.mid > share.mid:
                break
            place += 1
        line.insert(place, share)

    def take(self) -> Share | None:
        """The next ready share, None when there is none. It is out of the line, its state is the caller's to turn."""
        self.turns += 1
        if self.turns >= RETRY_TURN:
            self.turns = 0
            return self._first(self.again) or self._first(self.fresh)
        return self._first(self.fresh) or self._first(self.again)

    def _first(self, line: deque[Share]) -> Share | None:
        while line:
            share = line.popleft()
            if share.state is READY and share.queue is self:
                return share
        return None

    def tidy(self) -> None:
        """Lets go of shares that left their lines otherwise, when they have become many."""
        if len(self.fresh) + len(self.again) > 2 * self.tally[READY] + 64:
            for line in (self.fresh, self.again):
                still = dict.fromkeys(share for share in line if share.state is READY and share.queue is self)
                line.clear()
                line.extend(still)

    def empty(self) -> list[Share]:
        """All that stood in line or waited, in this order; the lines are empty then, the shares still count here."""
        found = dict.fromkeys(chain(self.fresh, self.again, self.waits.empty()))
        self.fresh.clear()
        self.again.clear()
        return [share for share in found if share.queue is self and (share.state is READY or share.state is WAITING)]

    # --- how many, and when --------------------------------------------------------------------------------------

    def room(self, now: float) -> bool:
        """Whether one more may be handed out."""
        if self.suspended:
            return False
        if self.failures:
            return not self.probe and now >= self.next_retry and self.limit > 0
        return self.in_flight < self.width

    def wake(self, now: float) -> float:
        """When the queue has something to do next, NEVER when only an event can tell.

        A probe that is due already is the rota's: it waits for a free slot, not for the time.
        """
        due = self.waits.next()
        at = NEVER if due is None else due
        if self.failures and now < self.next_retry < at and (self.tally[READY] or self.tally[ALONE]):
            return self.next_retry
        return at

    def failed(self, reply: str, probing: bool) -> bool:
        """The hop could not be reached. True when this is news: the queue was open, or it was the probe.

        What was under way when the queue closed fails after it, one by one: that does not lengthen the wait.
        """
        self.last_error = reply
        self.width = max(1, min(self.width, self.in_flight))
        if self.failures and not probing:
            return False
        self.failures += 1
        return True

    def silent(self, wall: float) -> None:
        """An attempt to reach the hop failed at this Unix time: it was one of everybody who waited."""
        most = self.schedule.attempts
        if most:
            self.silences = [*self.silences[1 - most :], wall] if most > 1 else [wall]

    def silences_since(self, second: float) -> int:
        """How many attempts to reach the hop failed from this second on, as far as that is of interest."""
        return len(self.silences) - bisect_left(self.silences, second)

    def spoke(self, probing: bool) -> None:
        """The hop talked to us, whatever it said."""
        self.failures = 0
        self.sweeping = ""
        self.width = self.limit if probing else min(self.limit, self.width + 1)

    # --- for tables ----------------------------------------------------------------------------------------------

    @property
    def status(self) -> QueueStatus:
        """The status as people see it."""
        if self.suspended:
            return QueueStatus.SUSPENDED
        if self.failures:
            return QueueStatus.CONNECTING if self.probe else QueueStatus.RETRY
        if self.in_flight:
            return QueueStatus.CONNECTING if self.doubtful else QueueStatus.ACTIVE
        return QueueStatus.ACTIVE if self.tally[READY] and self.limit else QueueStatus.READY

    def facts(self) -> QueueFacts:
        """The queue for tables."""
        tally = self.tally
        return QueueFacts(
            self.hop,
            self.status,
            self.count,
            tally[READY] + tally[ALONE] + tally[ShareState.OWING],
            tally[ShareState.ASSIGNED] + tally[ShareState.RECORDING],
            tally[WAITING],
            tally[HELD],
            self.next_retry if self.failures else None,
            self.last_error,
            self.failures,
            self.arrived,
            self.departed,
        )


#: How many shares of a queue of this machine may be out at once; nothing of the unreachable queue ever is.
_LOCAL_LIMITS: Final = {
    DeliveryType.UNDEFINED: _NO_LIMIT,
    DeliveryType.MAILBOX: MAILBOX_LIMIT,
    DeliveryType.UNREACHABLE: 0,
}
