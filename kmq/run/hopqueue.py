"""The queue of one next hop: who is next, how many at once, and what to do when the hop does not answer.

Does:     lines of ready shares (kmq/run/line) and the shares that wait for their time. A connection that failed is a
          trouble of the queue: it is in Retry, hands out nothing until its time, then one share as a probe; the shares
          lose no attempt. A conversation opens it again.
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
from itertools import chain
from typing import Final, NamedTuple

from kmq.config.sections import QueueSection
from kmq.model import hop as hops
from kmq.model.hop import DeliveryType
from kmq.model.priority import HIGH, NORMAL, Parts, part
from kmq.run import rates
from kmq.run.hours import Hours
from kmq.run.limits import NO_LIMIT
from kmq.run.line import Line, Ranks
from kmq.run.schedule import Ranked, Schedule, Schedules
from kmq.run.share import ALONE, HELD, READY, WAITING, Share, ShareState
from kmq.run.slowdown import Slowdown
from kmq.run.throttle import Throttle
from kmq.run.waits import Waits

#: A remote hop that has not spoken yet gets this many at once.
FIRST_WIDTH = 5

#: Shares for mailboxes of this machine at once, per queue: more would only wait for the disk.
MAILBOX_LIMIT = 64

#: What `held_by` begins with when it was no operator.
GRACE_HOLD: Final = "grace hold"

NEVER: Final = float("inf")
_RFC: Final = Schedules(QueueSection()).each("")
_SUBMISSION: Final = str(hops.SUBMISSION)


class QueueStatus(Enum):
    """What people see; names as in Exchange Server."""

    ACTIVE = "Active"
    CONNECTING = "Connecting"
    READY = "Ready"
    RETRY = "Retry"
    SUSPENDED = "Suspended"


class QueueFacts(NamedTuple):
    """A queue for tables. messages counts shares; next_retry, first_retry: monotonic times, None when the queue is in
    no trouble; last_retry: when a connection failed last, None for never; arrived and departed count since the queue
    appeared; incoming, outgoing: messages per second over the last minute (rates).

    deferred: shares that wait in the Submission queue, since the categorizer could not tell. priorities: shares that
    are high, normal, low. held_by: who suspended the queue and why; why: code of what keeps it from sending now.
    timetable: of a queue that its connector's hours keep shut, in words; opens: when it is sent.
    """

    hop: str
    status: QueueStatus
    messages: int
    ready: int
    waiting: int
    held: int
    next_retry: float | None
    last_error: str
    failures: int
    arrived: int
    departed: int
    first_retry: float | None = None
    last_retry: float | None = None
    incoming: float = 0.0
    outgoing: float = 0.0
    deferred: int = 0
    priorities: tuple[int, int, int] = (0, 0, 0)
    held_by: str = ""
    why: str = ""
    throttled: str = ""
    throttled_until: float | None = None
    timetable: str = ""
    opens: float | None = None


class HopQueue:
    """One queue. The scheduler reads and counts its attributes; what they mean together is said by the methods.

    tally:    shares by state; urgency: by priority; count: all of them; in_flight: those that workers carry to the hop
              now; base, pace: as in rates.
    failures: connections that failed in a row; probe: number of the assignment that tries whether it is back, or 0.
    doubtful: the last attempt failed, or a remote hop has not spoken yet: such queues share a third of the slots.
    listed:   stands in the rota; alarm: when the scheduler looks at it next; idling: stands in the list of idle ones.
    schedules: when it is tried again, and its messages are warned of and given up, by priority.
    silences: Unix times of its last failures, as many as that may need to know.
    held_by:  who suspended it and why, "" when nobody did; first_retry, last_retry: when the first and the last of its
              failed connections were, 0.0 for never.
    sweeping: a look for notices that are due is going on, because of this reply; next_look: no other one begins before.
    throttle: of a remote hop; carriers: the workers that may carry to it, None for all. hours: of its connector, None
    when it sends at any time.
    line, ranks: mail of normal priority, and of all when there is some other; parts: connections of each; out: as
              in_flight, by priority.
    """

    __slots__ = (
        "alarm",
        "arrived",
        "base",
        "carriers",
        "connector",
        "count",
        "departed",
        "doubtful",
        "failures",
        "first_retry",
        "held_by",
        "hop",
        "hours",
        "idling",
        "in_flight",
        "last_error",
        "last_retry",
        "limit",
        "line",
        "listed",
        "next_look",
        "next_retry",
        "out",
        "pace",
        "parts",
        "probe",
        "ranks",
        "remote",
        "schedules",
        "silences",
        "sweeping",
        "tally",
        "throttle",
        "touched",
        "urgency",
        "waits",
        "width",
    )

    def __init__(self, hop: str, per_hop: int, now: float) -> None:
        self.hop = hop
        kind, _, self.connector = hops.parse(hop)
        self.remote = kind in hops.AWAY
        self.limit = per_hop if self.remote else _LOCAL_LIMITS.get(kind, 0)
        self.width = min(FIRST_WIDTH, self.limit) if self.remote else self.limit
        self.doubtful = self.remote
        self.line = Line()
        self.ranks: Ranks | None = None
        self.parts: Parts = None
        self.out = [0, 0, 0]
        self.throttle: Throttle | None = None
        self.hours: Hours | None = None
        self.carriers: frozenset[int] | None = None
        self.waits = Waits()
        self.tally = [0] * len(ShareState)
        self.urgency = [0, 0, 0]
        self.base = rates.NONE
        self.pace: deque[rates.Counts] | None = None
        self.count = self.in_flight = self.arrived = self.departed = 0
        self.failures = self.probe = 0
        self.last_error = ""
        self.silences: list[float] = []
        self.schedules: Ranked = _RFC
        self.next_retry = self.first_retry = self.last_retry = self.next_look = 0.0
        self.held_by = ""
        self.listed = self.idling = False
        self.alarm = NEVER
        self.touched = now
        self.sweeping = ""

    @property
    def schedule(self) -> Schedule:
        """That of the queue, and of mail of normal priority."""
        return self.schedules[NORMAL]

    # --- the lines -----------------------------------------------------------------------------------------------

    def put(self, share: Share, front: bool, warned: bool = False) -> None:
        """A ready share takes its place in line (`Line.put`)."""
        line = self.line
        if share.priority != NORMAL:
            if self.ranks is None:
                self.ranks = Ranks(line)
            line = self.ranks.lines[share.priority]
            if share.priority == HIGH and self.hours is not None and self.hours.rule.on_high:
                self.hours.send(self)
        line.put(share, front, warned)

    def take(self) -> Share | None:
        """The next ready share, None when there is none. It is out of the line, its state is the caller's to turn."""
        return self.line.take(self) if self.ranks is None else self.ranks.take(self)

    @property
    def lines(self) -> tuple[Line, ...]:
        """Those of all priorities."""
        return (self.line,) if self.ranks is None else self.ranks.lines

    def tidy(self) -> None:
        """Lets go of shares that left their lines otherwise, when they have become many."""
        if sum(map(len, self.lines)) > 2 * self.tally[READY] + 64:
            for line in self.lines:
                line.tidy(self)

    def empty(self) -> list[Share]:
        """All that stood in line or waited, in this order; the lines are empty then, the shares still count here."""
        found = dict.fromkeys(chain(*(line.empty() for line in self.lines), self.waits.empty()))
        return [share for share in found if share.queue is self and (share.state is READY or share.state is WAITING)]

    # --- how many, and when --------------------------------------------------------------------------------------

    def room(self, now: float) -> bool:
        """Whether one more may be handed out."""
        if not self.reachable(now) or (self.throttle is not None and not self.throttle.open(now)):
            return False
        if self.failures:
            return True
        if self.ranks is None:
            return self.parts is None or self.admits(NORMAL)
        return not self.tally[READY] or self.ranks.room(self)

    def reachable(self, now: float) -> bool:
        """The same for a message that is run alone: no rate holds that back, since it would hold up all suspects."""
        if self.held_by or (self.hours is not None and self.hours.shut(self)):
            return False
        if self.failures:
            return not self.probe and now >= self.next_retry and self.limit > 0
        return self.in_flight < self.width

    def handed(self, share: Share, now: float) -> None:
        """A worker has a share now, to be carried to the hop."""
        self.in_flight += 1
        self.out[share.priority] += 1
        if self.throttle is not None:
            self.throttle.took(now)

    def let_go(self, share: Share) -> None:
        """It has it no longer; whose turn that makes it is for others to say."""
        self.in_flight -= 1
        self.out[share.priority] -= 1

    def admits(self, priority: int) -> bool:
        """Whether mail of this priority has not all connections that it may have."""
        if self.parts is None or not self.remote:
            return True
        return self.out[priority] < part(self.width, self.parts, priority)

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

    def silent(self, now: float, wall: float) -> None:
        """An attempt to reach the hop failed, at this Unix time `wall`: it was one of everybody who waited."""
        self.last_retry = now
        if self.failures == 1:
            self.first_retry = now
        most = self.schedule.attempts
        if most:
            self.silences = [*self.silences[1 - most :], wall] if most > 1 else [wall]

    def silences_since(self, second: float) -> int:
        """How many attempts to reach the hop failed from this second on, as far as that is of interest."""
        return len(self.silences) - bisect_left(self.silences, second)

    @property
    def slow(self) -> Slowdown | None:
        """How it wins its width back, when the hop asked us to go slower."""
        return self.throttle.slow if self.throttle is not None and self.throttle.slowed else None

    def spoke(self, probing: bool, taken: bool = True) -> None:
        """The hop talked to us, whatever it said. taken: not that it wants less of us."""
        self.failures = 0
        self.sweeping = ""
        slow = self.slow
        if taken and slow is None and self.throttle is not None:
            self.throttle.slow = None  # not in a row
        if slow is None:
            self.width = self.limit if probing and taken else min(self.limit, self.width + taken)
        elif taken and slow.taken(self.width):
            self.width = min(self.limit, self.width + 1)
            if self.width == self.limit and self.throttle is not None:
                self.throttle.slow = None

    # --- for tables ----------------------------------------------------------------------------------------------

    @property
    def suspended(self) -> bool:
        """Whether somebody holds it."""
        return self.held_by != ""

    @property
    def shut(self) -> bool:
        """Whether its connector's hours keep it from sending now."""
        return self.hours is not None and self.hours.shut(self)

    @property
    def why(self) -> str:
        """What keeps it from sending now, as a code; "" when nothing does."""
        if self.held_by:
            return "grace-hold" if self.held_by.startswith(GRACE_HOLD) else "suspended"
        if self.hours is not None and self.hours.shut(self):
            return self.hours.why
        if self.failures:
            return "retry"
        if self.throttle is not None and self.throttle.parked and self.tally[READY]:
            return "throttled"
        return "no-connector" if not self.limit and self.count else ""

    @property
    def status(self) -> QueueStatus:
        """The status as people see it."""
        if self.suspended:
            return QueueStatus.SUSPENDED
        if self.shut and not self.in_flight:
            return QueueStatus.READY
        if self.failures:
            return QueueStatus.CONNECTING if self.probe else QueueStatus.RETRY
        if self.in_flight:
            return QueueStatus.CONNECTING if self.doubtful else QueueStatus.ACTIVE
        return QueueStatus.ACTIVE if self.tally[READY] and self.limit else QueueStatus.READY

    def facts(self) -> QueueFacts:
        """The queue for tables."""
        tally = self.tally
        incoming, outgoing = rates.rates(self)
        high, normal, low = self.urgency
        return QueueFacts(
            self.hop,
            self.status,
            self.count,
            tally[READY] + tally[ALONE] + tally[ShareState.OWING],
            tally[WAITING],
            tally[HELD],
            self._next_retry(),
            self.last_error,
            self.failures,
            self.arrived,
            self.departed,
            self.first_retry if self.failures else None,
            self.last_retry or None,
            incoming,
            outgoing,
            tally[WAITING] if self.hop == _SUBMISSION else 0,
            (high, normal, low),
            self.held_by,
            self.why,
            *self._throttling(),
            *self._timetable(),
        )

    def _next_retry(self) -> float | None:
        if not self.failures or self.shut:
            return None
        hours = self.hours
        return hours.due if hours is not None and not hours.open and hours.due < NEVER else self.next_retry

    def _timetable(self) -> tuple[str, float | None]:
        hours = self.hours
        if hours is None or not hours.shut(self):
            return "", None
        return str(hours.rule) or "none", hours.due if hours.due < NEVER else None

    def _throttling(self) -> tuple[str, float | None]:
        if self.throttle is None or self.why != "throttled":
            return "", None
        return self.throttle.why, None if self.throttle.parked == NEVER else self.throttle.parked


#: How many shares of a queue of this machine may be out at once; nothing of the unreachable queue ever is.
_LOCAL_LIMITS: Final = {
    DeliveryType.UNDEFINED: NO_LIMIT,
    DeliveryType.MAILBOX: MAILBOX_LIMIT,
    DeliveryType.UNREACHABLE: 0,
}
