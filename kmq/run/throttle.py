"""What holds mail back although its next hop would take it: rates, connections of a connector, and a hop's own wish.

Does:     counts what a connector's queues have out together, and spreads messages evenly where there are so many per
          minute (the generic cell rate algorithm, ITU-T I.371: each message moves the time of the next one on).
          A queue that may not hand out now is parked here; it is listed again when its time has come, or a place is
          free, whoever has waited longest first.
Promise:  pure; time is an argument. A queue without limits is asked two numbers. Nothing is parked twice, and what was
          parked without a reason any more is passed over.
On crash: nothing is kept: a rate begins anew, so one restart may let one message per connector go early.
Callers:  kmq/run/lines (which makes it), rota, scheduler.
"""

from __future__ import annotations

from heapq import heappop, heappush
from typing import TYPE_CHECKING, Final

from kmq.run.limits import Limit, Limits
from kmq.run.slowdown import Slowdown

if TYPE_CHECKING:
    from kmq.run.hopqueue import HopQueue
    from kmq.run.rota import Rota

#: Messages that fall due within this time may go together, so that a high rate wakes nobody a thousand times a second.
TOGETHER = 0.1

NEVER: Final = float("inf")


class Meter:
    """Messages per minute, evenly spread. due: when to look again; some may go a little earlier, if somebody looks."""

    __slots__ = ("_gap", "_slack", "due", "rate")

    def __init__(self, rate: int) -> None:
        self.due = self._gap = 0.0
        self.set(rate)

    def set(self, rate: int) -> None:
        """From now on: of a higher rate the next one need not wait as long as the lower one had it wait."""
        self.rate = rate
        gap = 60.0 / rate
        self.due -= max(0.0, self._gap - gap)
        self._gap = gap
        self._slack = max(0.0, TOGETHER - self._gap)

    def may(self, now: float) -> int:
        """How many messages may go now."""
        early = now + self._slack - self.due
        return 0 if early < 0 else 1 + int(early // self._gap)

    def take(self, now: float) -> None:
        """One goes."""
        self.due = max(self.due, now) + self._gap


class Gate:
    """Of one connector. out: what its queues have out; limit: how much that may be; connections: how many those need,
    as the option that says so (`connections = 5`).

    waiting: queues, in their order.
    """

    __slots__ = ("connections", "limit", "meter", "out", "waiting")

    def __init__(self) -> None:
        self.limit = 0
        self.connections = ""
        self.out = 0
        self.meter: Meter | None = None
        self.waiting: dict[HopQueue, None] = {}

    def closed(self, now: float) -> float:
        """0.0 when a message may go; when to look again, NEVER when one has to come back first."""
        if self.out >= self.limit:
            return NEVER
        return 0.0 if self.meter is None or self.meter.may(now) else self.meter.due


class Throttle:
    """Of one queue. parked: when it may go on, NEVER when that is not known, 0.0 when it is not parked; why: a text."""

    __slots__ = ("gate", "meter", "parked", "slow", "why")

    def __init__(self, gate: Gate) -> None:
        self.gate = gate
        self.meter: Meter | None = None
        self.slow: Slowdown | None = None
        self.parked = 0.0
        self.why = ""

    @property
    def slowed(self) -> bool:
        """Whether the hop asked us to go slower, and has not taken that back by what it took since."""
        return self.slow is not None and self.slow.reply != ""

    def open(self, now: float) -> bool:
        """Whether one more may be handed out."""
        gate = self.gate
        if gate.out >= gate.limit or (gate.meter is not None and not gate.meter.may(now)):
            return False
        if self.meter is not None and not self.meter.may(now):
            return False
        return self.slow is None or now >= self.slow.until

    def took(self, now: float) -> None:
        """One was handed out."""
        self.gate.out += 1
        if self.gate.meter is not None:
            self.gate.meter.take(now)
        if self.meter is not None:
            self.meter.take(now)


class Throttles:
    """Of all queues. slowed: hops that asked for less, until somebody tells of them: text, seconds, what they said."""

    def __init__(self, limits: Limits) -> None:
        self.slowed: list[tuple[str, float, str]] = []
        self._limits = limits
        self._gates: dict[str, Gate] = {}
        self._timed: list[tuple[float, int, HopQueue]] = []
        self._count = 0

    def of(self, queue: HopQueue) -> Throttle:
        """For a queue that was made just now."""
        made = Throttle(self._gate(queue.connector))
        made.meter = _meter(None, self._limits.of(queue.connector).domain_rate)
        return made

    def _gate(self, connector: str) -> Gate:
        gate = self._gates.get(connector)
        if gate is None:
            gate = self._gates[connector] = Gate()
            _set(gate, self._limits.of(connector))
        return gate

    def configure(self, limits: Limits) -> None:
        """Gates follow these limits from now on; of each queue `renew` is to be said."""
        self._limits = limits
        for connector, gate in self._gates.items():
            _set(gate, limits.of(connector))

    def renew(self, queue: HopQueue) -> None:
        """A queue follows the limits of its connector, which may bear another name."""
        throttle = queue.throttle
        if throttle is None:
            return
        gate = self._gate(queue.connector)
        if gate is not throttle.gate:
            throttle.gate.out -= queue.in_flight
            throttle.gate.waiting.pop(queue, None)
            gate.out += queue.in_flight
            throttle.gate = gate
        limit = self._limits.of(queue.connector)
        throttle.meter = _meter(throttle.meter, limit.domain_rate)
        if not limit.slow_down:
            throttle.slow = None  # what it asked for is not heeded any more

    # --- a hop's own wish --------------------------------------------------------------------------------------------

    def refused(self, queue: HopQueue, reply: str, now: float) -> None:
        """A message heard that this hop has too much of us (slowdown.asks)."""
        throttle = queue.throttle
        if throttle is None or not self._limits.of(queue.connector).slow_down:
            return
        throttle.slow = throttle.slow or Slowdown()
        if throttle.slow.refused(reply, now):
            queue.width = max(1, min(queue.width, queue.in_flight + 1) // 2)
            self.slowed.append((queue.hop, throttle.slow.until - now, reply))

    # --- who waits ---------------------------------------------------------------------------------------------------

    def park(self, queue: HopQueue, now: float) -> None:
        """A queue has ready shares and may not hand them out now because of its throttle."""
        throttle = queue.throttle
        assert throttle is not None, "a queue without throttle waits for something else"
        gate, slow = throttle.gate, throttle.slow
        own = throttle.meter
        if slow is not None and slow.until > now:
            self._time(queue, slow.until, f"it asked for less: {slow.reply}")
        elif own is not None and not own.may(now):
            self._time(queue, own.due, f"messages_per_minute_per_domain = {own.rate}")
        elif until := gate.closed(now):
            gate.waiting.setdefault(queue)
            rate = gate.meter.rate if gate.meter is not None else 0
            throttle.parked = until
            throttle.why = gate.connections if until == NEVER else f"messages_per_minute = {rate}"

    def _time(self, queue: HopQueue, until: float, why: str) -> None:
        assert queue.throttle is not None
        if queue.throttle.parked != until:
            self._count += 1
            heappush(self._timed, (until, self._count, queue))
        queue.throttle.parked, queue.throttle.why = until, why

    def gave(self, queue: HopQueue, now: float, rota: Rota) -> None:
        """A share of the queue came back: its place is that of who has waited longest."""
        throttle = queue.throttle
        if throttle is not None:
            throttle.gate.out -= 1
            if throttle.gate.waiting:
                self._admit(throttle.gate, now, rota)

    def wake(self, now: float, rota: Rota) -> None:
        """Lists those whose time has come."""
        while self._timed and self._timed[0][0] <= now:
            at, _, queue = heappop(self._timed)
            if _waits(queue, at):
                assert queue.throttle is not None
                queue.throttle.parked = 0.0
                rota.list(queue, now)
        for gate in self._gates.values():
            if gate.waiting:
                self._admit(gate, now, rota)

    def _admit(self, gate: Gate, now: float, rota: Rota) -> None:
        """As many queues as may hand out one share each; they are in the rota then, behind those that stand there."""
        places = gate.limit - gate.out
        if gate.meter is not None:
            places = min(places, gate.meter.may(now))
        while gate.waiting and places > 0:
            queue = next(iter(gate.waiting))
            del gate.waiting[queue]
            if queue.throttle is not None and queue.throttle.gate is gate:
                queue.throttle.parked = 0.0
                rota.list(queue, now)
                places -= queue.listed

    def next_due(self) -> float | None:
        """When `wake` has something to do, None when only an event can tell."""
        while self._timed and not _waits(self._timed[0][2], self._timed[0][0]):
            heappop(self._timed)
        soonest = self._timed[0][0] if self._timed else NEVER
        for gate in self._gates.values():
            if gate.waiting:
                soonest = min(soonest, _next_look(gate))
        return None if soonest == NEVER else soonest


def _waits(queue: HopQueue, until: float) -> bool:
    return queue.throttle is not None and queue.throttle.parked == until


def _set(gate: Gate, limit: Limit) -> None:
    gate.connections = f"{limit.counts} = {limit.connections.total}"
    gate.limit = limit.connections.total * limit.ahead
    gate.meter = _meter(gate.meter, limit.rate)


def _meter(known: Meter | None, rate: int) -> Meter | None:
    if not rate:
        return None
    if known is None:
        return Meter(rate)
    known.set(rate)
    return known


def _next_look(gate: Gate) -> float:
    return NEVER if gate.out >= gate.limit or gate.meter is None else gate.meter.due
