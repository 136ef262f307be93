"""Schedules: for each way out, when what failed is tried again, when its sender is warned, and when it is given up.

Does:     makes schedules of the retry profiles of the configuration (config/retries) and of what [queue] and connectors
          say beside them. What stands nearer wins: the connector's own value, its profile, that of [queue], and the
          profile that is named there.
Promise:  values, made once for a configuration; a lookup is that of a dict.
Callers:  kmq/run/lines (a queue gets its schedule when it is made, and with each configuration), scheduler, expiry.
"""

from collections.abc import Iterable
from math import inf
from typing import NamedTuple

from kmq.config.retries import BUILT_IN, RetrySection
from kmq.config.sections import ConnectorSection, QueueSection, Settings
from kmq.config.steps import Steps, doubling

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


class Schedules:
    """Of a whole configuration. default: for what goes by no connector."""

    __slots__ = ("_of", "default")

    def __init__(
        self, queue: QueueSection, connectors: Iterable[ConnectorSection] = (), retries: Iterable[RetrySection] = ()
    ) -> None:
        profiles = {"rfc": _rfc(queue)} | {one.name: _profile(one) for one in (*BUILT_IN.values(), *retries)}
        self.default = _with(profiles[queue.retry_profile], queue.message_lifetime, queue.delay_warning)
        self._of: dict[str, Schedule] = {}
        for one in connectors:
            basis = profiles[one.retry_profile] if one.retry_profile else self.default
            self._of[one.name] = _with(basis, one.message_lifetime, one.delay_warning)

    def of(self, connector: str) -> Schedule:
        """The schedule of what goes by this connector, "" for what goes by none."""
        return self._of.get(connector, self.default)

    @property
    def soonest_warning(self) -> float:
        """Seconds after which a first sender may have to be warned; infinite when none ever is."""
        return min((one.warn_after for one in (self.default, *self._of.values()) if one.warn_after), default=inf)

    @property
    def longest(self) -> float:
        """Seconds of the longest wait of all."""
        every = (self.default, *self._of.values())
        return max(max(one.deferral.longest, one.connection.longest) for one in every)


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
