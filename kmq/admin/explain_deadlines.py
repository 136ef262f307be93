"""When the sender of a message is told that it takes longer, and when it is given up.

Law:      run/schedule: by the profile of the connector, and the message's priority; both come with the first failed
          attempt after their time.
Promise:  pure.
Callers:  kmq.admin.explain, kmq.view.explain.
"""

from dataclasses import dataclass

from kmq.admin.explain_evidence import waiting_in
from kmq.admin.listing import Share
from kmq.config import Settings
from kmq.model import priority
from kmq.run.schedule import schedules_of
from kmq.spool.index_rows import unix
from kmq.spool.look import Found


@dataclass(slots=True)
class Deadlines:
    """Unix times. warned: since when the sender knows, or None; warning: of the first failed attempt after it, 0.0 for
    never; expiry: the attempt that fails after it is the last; attempts: how many there are at most, 0 for no limit.
    heard: whether the sender hears of it at all.
    """

    warning: float
    expiry: float
    attempts: int
    warned: bool
    heard: bool


def deadlines(found: Found, share: Share, settings: Settings) -> Deadlines:
    """When the delay notice and the expiry come, by the profile of the share's connector."""
    schedule = schedules_of(settings).of(share.hop.connector, priority.of(found.head.priority))
    created = unix(found.head.created)
    indices = waiting_in(found, share)
    return Deadlines(
        warning=created + schedule.warn_after if schedule.warn_after else 0.0,
        expiry=created + schedule.lifetime,
        attempts=schedule.attempts,
        warned=found.state.warned.issuperset(indices),
        heard=bool(found.head.sender) and any(_hears_of_delay(found.head.recipients[one].notify) for one in indices),
    )


def _hears_of_delay(notify: str) -> bool:
    return not notify or "DELAY" in notify.upper().split(",")


def over(found: Found, share: Share, settings: Settings, now: float) -> bool:
    """Whether its time is over, so that a failed attempt is its last."""
    return now > deadlines(found, share, settings).expiry
