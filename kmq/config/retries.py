"""Retry profiles: when what failed is tried again, when its sender is warned, and when it is given up.

Promise:  values, the same kind for those that are built in and those of the file.
Callers:  `sections`, `checks_of_retries`, kmq/run/schedule.
"""

from kmq.config import kinds, steps
from kmq.config.options import option, section
from kmq.config.steps import Steps


@section
class RetrySection:
    """A retry profile of your own, for `retry_profile` in [queue] or in a connector."""

    name: str
    steps: Steps = option(
        steps.steps(),
        default="5m, 10m, 20m, 40m, 1h",
        doc="Waits after failed attempts, one after the other: 4 x 1m, 6 x 5m, 10m is four waits of a minute, six of"
        " five minutes, then ten minutes each time. A next hop that cannot be reached is tried again after the"
        " same waits.",
    )
    warn_after: float = option(
        kinds.duration("0", "90d"), default="4h", doc="When the sender is told that it takes longer. 0: never."
    )
    bounce_after: float = option(
        kinds.duration("1s", "90d"), default="5d", doc="When the sender is told that delivery failed."
    )
    attempts: int = option(
        kinds.whole(0, 100000),
        default="0",
        doc="The sender is told so after this number of failed attempts, too. An attempt to reach the next hop is one"
        " of all that waits for it. 0: no limit.",
    )


#: The profile that is made of options of [queue]: waits that double.
DOUBLING = "rfc"

_HOUR, _DAY = 3600.0, 86400.0

#: Exchange Server: glitches (4 x 1 min), transient failures (6 x 5 min), then the connection's interval; delay DSN and
#: expiry as there. Kerio Connect: one interval.
BUILT_IN: dict[str, RetrySection] = {
    "exchange": RetrySection(
        name="exchange",
        steps=Steps(((4, 60.0), (6, 300.0)), 600.0),
        warn_after=4 * _HOUR,
        bounce_after=2 * _DAY,
    ),
    "kerio": RetrySection(name="kerio", steps=Steps((), 1800.0), warn_after=4 * _HOUR, bounce_after=2 * _DAY),
}
