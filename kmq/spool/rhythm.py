"""When processes do what is due from time to time: each second while something happens, each five while nothing does.

Promise:  all of them wake up at the same moments, whole seconds of this machine's clock, so that one at rest is woken
          up once for all. What comes meanwhile is not kept waiting: it wakes up who has to do with it.
Callers:  every process of kmqd, for its look at itself.
"""

from kmq.spool.status import BEAT

#: Seconds between two looks while nothing happens, and for how long nothing must have happened.
REST, QUIET = 5.0, 30.0

#: A timer may come early by the precision of its loop: a moment that is nearer than this has been.
_NEAR = 0.01


def pause(now: float, stirred: float) -> float:
    """Seconds until the next look. now: monotonic; stirred: when something happened last."""
    return until_next(BEAT if now - stirred < QUIET else REST, now)


def until_next(period: float, now: float) -> float:
    """Seconds until the next moment that is a multiple of the period."""
    left = period - now % period
    return left if left > _NEAR else left + period
