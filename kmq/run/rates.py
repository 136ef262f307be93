"""How fast messages enter and leave queues: Exchange's IncomingRate and OutgoingRate, over a sliding minute.

Promise:  pure. Nothing is done per message: the counters that a queue has anyway are looked at every five seconds. A
          queue that stood still for a minute costs nothing but that look; another at most twelve pairs of numbers.
Callers:  kmq/run/lines, hopqueue.
"""

from collections import deque
from collections.abc import Iterable
from typing import Final, NamedTuple, Protocol

#: Seconds that a rate is the average of, and between two looks.
WINDOW: Final = 60.0
STEP: Final = 5.0
_STEPS: Final = int(WINDOW / STEP)


class Counts(NamedTuple):
    """Messages that entered and left since the queue appeared."""

    arrived: int
    departed: int


NONE: Final = Counts(0, 0)


class Counted(Protocol):
    """A queue. base: its counts when it last stood still; pace: those of the last looks, None while it stands still."""

    arrived: int
    departed: int
    base: Counts
    pace: deque[Counts] | None


def look(queues: Iterable[Counted]) -> None:
    """Every STEP seconds."""
    for queue in queues:
        pace = queue.pace
        if pace is None:
            if queue.arrived == queue.base.arrived and queue.departed == queue.base.departed:
                continue
            pace = queue.pace = deque((queue.base,), _STEPS)
        last = pace[-1]
        if last.arrived != queue.arrived or last.departed != queue.departed:
            last = Counts(queue.arrived, queue.departed)
        pace.append(last)
        if pace[0] == last and len(pace) == _STEPS:
            queue.base, queue.pace = last, None


def rates(queue: Counted) -> tuple[float, float]:
    """Messages that entered and left per second, averaged over the last minute."""
    before = queue.pace[0] if queue.pace else queue.base
    return (queue.arrived - before.arrived) / WINDOW, (queue.departed - before.departed) / WINDOW
