"""Schedules: for each way out, when what failed is tried again, when its sender is warned, and when it is given up.

Does:     makes schedules of the retry profiles of the configuration (config/retries) and of what [queue] and connectors
          say beside them. What stands nearer wins: the connector's own value, its profile, that of [queue], and the
          profile that is named there.
Promise:  values, made once for a configuration; a lookup is that of a dict.
Callers:  kmq/run/lines (a queue gets its schedule when it is made, and with each configuration), scheduler, expiry.
"""

from collections.abc import Iterable, Iterator
from datetime import UTC, tzinfo
from itertools import chain
from math import inf
from typing import NamedTuple

from kmq.config.retries import BUILT_IN, RetrySection
from kmq.config.sections import ConnectorSection, QueueSection, Settings
from kmq.config.steps import Steps, doubling
from kmq.model.priority import NORMAL
from kmq.run.timetable import Rule, machine_zone, rule_of

#: Lifetime and warning of the profile rfc (RFC 5321 4.5.4.1: the give-up time generally needs to be at least 4-5 days).
LIFETIME = 5 * 86400.0
WARNING = 4 * 3600.0


class Schedule(NamedTuple):
    """deferral: waits of a recipient that was refused for now; connection: of a queue whose hop cannot be reached.

    lifetime: seconds after which a failed attempt is the last; warn_after: after which it has the sender warned, 0.0
    for never; attempts: how many there are at most, 0 for no limit.
    """

    deferral: Steps
    connection: Steps
    lifetime: float
    warn_after: float
    attempts: int = 0


#: Of one way out: those of mail of high, normal and low priority.
Ranked = tuple[Schedule, Schedule, Schedule]


class Schedules:
    """Of a whole configuration. rules: the timetables of connectors that have one; zone: local time, as it was then."""

    __slots__ = ("_default", "_of", "rules", "zone")

    def __init__(
        self, queue: QueueSection, connectors: Iterable[ConnectorSection] = (), retries: Iterable[RetrySection] = ()
    ) -> None:
        connectors = tuple(connectors)
        found = ((one.name, rule_of(one, queue)) for one in connectors)
        self.rules: dict[str, Rule] = {name: rule for name, rule in found if rule is not None}
        self.zone: tzinfo = machine_zone() if self.rules else UTC
        profiles = {"rfc": _rfc(queue)} | {one.name: _profile(one) for one in (*BUILT_IN.values(), *retries)}
        basis = _with(profiles[queue.retry_profile], queue.message_lifetime, queue.delay_warning)
        self._default = _ranked(basis, queue)
        self._of: dict[str, Ranked] = {}
        for one in connectors:
            own = profiles[one.retry_profile] if one.retry_profile else basis
            self._of[one.name] = _ranked(_with(own, one.message_lifetime, one.delay_warning), queue)

    @property
    def default(self) -> Schedule:
        """Of mail of normal priority that goes by no connector."""
        return self._default[NORMAL]

    def each(self, connector: str) -> Ranked:
        """The schedules of what goes by this connector, "" for what goes by none: by priority."""
        return self._of.get(connector, self._default)

    def of(self, connector: str, priority: int = NORMAL) -> Schedule:
        """The one of mail of this priority."""
        return self.each(connector)[priority]

    @property
    def soonest_warning(self) -> float:
        """Seconds after which a first sender may have to be warned; infinite when none ever is."""
        return min((one.warn_after for one in self._all() if one.warn_after), default=inf)

    @property
    def longest(self) -> float:
        """Seconds of the longest wait of all."""
        return max(max(one.deferral.longest, one.connection.longest) for one in self._all())

    def _all(self) -> Iterator[Schedule]:
        return chain(self._default, *self._of.values())


def schedules_of(settings: Settings) -> Schedules:
    """Those of a configuration."""
    return Schedules(settings.queue, settings.connectors, settings.retries)


def _rfc(queue: QueueSection) -> Schedule:
    longest = queue.retry_interval_max
    deferral = doubling(min(queue.retry_interval, longest), longest)
    return Schedule(deferral, doubling(min(queue.connection_retry_interval, longest), longest), LIFETIME, WARNING)


def _profile(one: RetrySection) -> Schedule:
    return Schedule(one.steps, one.steps, one.bounce_after, one.warn_after, one.attempts)


def _with(basis: Schedule, lifetime: float | None, warn_after: float | None) -> Schedule:
    if lifetime is not None:
        basis = basis._replace(lifetime=lifetime)
    return basis if warn_after is None else basis._replace(warn_after=warn_after)


def _ranked(normal: Schedule, queue: QueueSection) -> Ranked:
    """With priority queuing urgent mail has less time, and its sender hears sooner; of what can wait he hears later.

    A profile that warns nobody warns nobody of these either.
    """
    if not queue.priority_queuing:
        return normal, normal, normal
    sooner = min(queue.high_priority_delay_warning, normal.warn_after)
    high = normal._replace(lifetime=min(queue.high_priority_lifetime, normal.lifetime), warn_after=sooner)
    later = queue.low_priority_delay_warning and max(queue.low_priority_delay_warning, normal.warn_after)
    low = _with(normal, queue.low_priority_lifetime, later if normal.warn_after else 0.0)
    return high, normal, low
