"""The hours of connectors, in the core: which queues are shut now, and when they are sent.

Does:     a queue whose connector is offline, or works at other hours, is shut: it hands out nothing, as if nobody were
          there. At a time of the timetable, or when somebody asks for it (an operator, ETRN, mail of high priority), it
          is sent: all that waits in it may go, until nothing is left that can, or the hop cannot be reached.
Promise:  pure; time is an argument. A queue of an ordinary connector has no Hours and is asked for none. A look each
          second costs a comparison for each connector with hours, and one for each queue that is being sent.
On crash: nothing is kept. After a start, mail that is older than the last time of its timetable is sent at once, since
          nobody knows whether it was.
Callers:  kmq/run/lines (which makes it), hopqueue, verbs, scheduler.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, tzinfo
from typing import TYPE_CHECKING, Final

from kmq.run import timetable
from kmq.run.backoff import UNTRIED
from kmq.run.share import ALONE, READY
from kmq.run.timetable import Rule

if TYPE_CHECKING:
    from kmq.run.hopqueue import HopQueue
    from kmq.run.rota import Rota

NEVER: Final = float("inf")

#: A wall clock that goes back further makes the next time be found anew, in seconds.
BACKWARDS = 60.0

#: What comes back untried is waited for, so that a queue is not shut over it.
_COMING_BACK = 2 * UNTRIED


class Hours:
    """Of one connector. rule: its timetable; open: its hours are now (never, when it is offline).

    next: the Unix time at which something changes by itself, None when never; due: the same as a monotonic time.
    last: when it was to be sent last, as it stood at the first look. sending: queues that are being sent, each with the
    failures of its hop that do not count as a new one.
    """

    __slots__ = ("_seen", "_zone", "due", "last", "next", "open", "rule", "sending")

    def __init__(self, rule: Rule, zone: tzinfo) -> None:
        self.rule = rule
        self.open = False
        self.next: float | None = None
        self.due = NEVER
        self.last = 0.0
        self.sending: dict[HopQueue, int] = {}
        self._zone = zone
        self._seen = 0.0

    def shut(self, queue: HopQueue) -> bool:
        """Whether the queue hands out nothing now."""
        return not self.open and queue not in self.sending

    def wait(self, seconds: float, now: float) -> float:
        """How long something waits that was put off for so many seconds: of a timetable, until its next time."""
        return self.due - now if self.rule.offline and now < self.due < NEVER else seconds

    @property
    def why(self) -> str:
        """What a shut queue waits for, as a code."""
        if not self.rule.offline:
            return "out-of-hours"
        return "on-demand" if self.next is None else "scheduled"

    # --- time ---------------------------------------------------------------------------------------------------------

    def look(self, now: float, wall: float) -> bool:
        """The time goes on; whether the connector's queues may go from here on."""
        first = not self._seen
        if first or wall < self._seen - BACKWARDS:
            self._begin(wall)
        come = self.next is not None and wall >= self.next
        if come:
            self._turn(wall)
        self._seen = wall
        self.due = NEVER if self.next is None else now + self.next - wall
        return self.open if first else come and (self.rule.offline or self.open)

    def _begin(self, wall: float) -> None:
        if self.rule.offline:
            self.last = timetable.last_time(self.rule, wall, self._zone) or 0.0
        self._turn(wall)

    def _turn(self, wall: float) -> None:
        """What `next` told of has come: what is now, and what comes next."""
        if self.rule.offline:
            self.next = timetable.next_time(self.rule, wall, self._zone)
            return
        end = timetable.open_until(self.rule, wall, self._zone)
        self.open = end > 0.0
        self.next = end or timetable.next_opening(self.rule, wall, self._zone)

    # --- queues -------------------------------------------------------------------------------------------------------

    def send(self, queue: HopQueue) -> bool:
        """The queue is sent, unless it is empty or held; whether it is. Whoever says so lists it."""
        if queue.held_by or not queue.count:
            return False
        self.sending[queue] = queue.failures
        if queue.failures:
            queue.next_retry = 0.0
        return True

    def catch_up(self, queue: HopQueue, created: float) -> None:
        """At a start mail was found in the queue; what should have been sent meanwhile is sent now."""
        if created < self.last:
            self.sending.setdefault(queue, 0)

    def settle(self, now: float) -> None:
        """Shuts the queues of which nothing more can be sent."""
        for queue, failures in [*self.sending.items()]:
            if self._over(queue, failures, now):
                del self.sending[queue]
            else:
                self.sending[queue] = min(failures, queue.failures)

    @staticmethod
    def _over(queue: HopQueue, failures: int, now: float) -> bool:
        if queue.held_by or not queue.count:
            return True
        if queue.in_flight:
            return False
        if queue.failures > failures:
            return True
        soon = queue.waits.next()
        return not queue.tally[READY] and not queue.tally[ALONE] and (soon is None or soon > now + _COMING_BACK)


class Timetable:
    """The hours of all connectors that have some."""

    def __init__(self) -> None:
        self._of: dict[str, Hours] = {}
        self._rules: Mapping[str, Rule] = {}
        self._zone: tzinfo = UTC

    def configure(self, rules: Mapping[str, Rule], zone: tzinfo) -> None:
        """A configuration counts. Hours that are what they were go on as they stand."""
        same = zone == self._zone
        kept = {name: hours for name, hours in self._of.items() if same and rules.get(name) == hours.rule}
        self._of = {name: kept.get(name) or Hours(rule, zone) for name, rule in rules.items()}
        self._rules, self._zone = rules, zone

    def of(self, connector: str) -> Hours | None:
        """Those of a connector; None when it sends at any time."""
        return self._of.get(connector)

    def look(self, now: float, wall: float, queues: Mapping[str, HopQueue], rota: Rota) -> list[HopQueue]:
        """Each second, or each five at rest, where there are any hours: the queues whose time has come, which are in
        the rota now."""
        come = [hours for hours in self._of.values() if hours.look(now, wall)]
        for hours in self._of.values():
            hours.settle(now)
        going = [queue for queue in queues.values() if queue.hours in come] if come else []
        for queue in going:
            if queue.hours is not None and queue.hours.rule.offline and queue.hours.send(queue):
                queue.waits.call()
            rota.list(queue, now)
        return going

    def demanded(self, queues: Iterable[HopQueue]) -> list[HopQueue]:
        """Queues that nobody sends by himself: what is in them gets old without an attempt."""
        return [one for one in queues if one.hours is not None and one.hours.why == "on-demand" and one.hours.shut(one)]

    def __bool__(self) -> bool:
        return bool(self._of)
