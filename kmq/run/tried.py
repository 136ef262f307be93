"""What comes of an operator's wish that mail be tried now: how much is tried, and why the rest is not.

Promise:  counts as tried only what has a part that goes out when its turn comes, or is out already; every other
          message is told with what holds it, and what lets it go. Looks only.
On crash: nothing is kept.
Callers:  run.operators_messages and run.operators_queues, after the attempt was asked for.
"""

from collections.abc import Sequence
from enum import Enum

from kmq.model import queue_id
from kmq.run.hopqueue import QueueStatus
from kmq.run.lines import UNREACHABLE
from kmq.run.scheduler import Scheduler
from kmq.run.share import MessageStatus, ShareFacts


class Outcome(Enum):
    """What the attempt finds of a message; the value says it of one and of many."""

    TRIED = ("message is tried now", "messages are tried now")
    SUSPENDED = ("is suspended, not tried: kmq resume {id}", "are suspended, not tried: kmq resume ID")
    CLOSED = (
        "waits in a suspended queue, not tried: kmq resume --queue Q",
        "wait in suspended queues, not tried: kmq resume --queue Q",
    )
    UNSERVED = ("waits for a connector", "wait for a connector")
    REMOVED = ("is being removed", "are being removed")
    POISON = (
        "is set aside in poison/, not tried: kmq resume {id}",
        "are set aside in poison/, not tried: kmq resume ID",
    )
    ABSENT = ("is not in the queue", "are not in the queue")

    def of_one(self, number: int) -> str:
        """What is said of one message."""
        return self.value[0].replace("{id}", queue_id.text(number))


_HELD = (MessageStatus.SUSPENDED, MessageStatus.PENDING_SUSPEND)


def closed_queues(core: Scheduler, now: float) -> frozenset[str]:
    """The next hops whose queues an operator suspended."""
    return frozenset(facts.hop for facts in core.queues(now) if facts.status is QueueStatus.SUSPENDED)


def outcome(parts: Sequence[ShareFacts], closed: frozenset[str]) -> Outcome:
    """Of a message that is in the queue: the best that can be said of any of its parts."""
    found = {_of_part(part, closed) for part in parts}
    return next((one for one in Outcome if one in found), Outcome.TRIED)  # without parts: it is done already


def _of_part(part: ShareFacts, closed: frozenset[str]) -> Outcome:
    if part.status is MessageStatus.PENDING_REMOVE:
        return Outcome.REMOVED
    if part.status in _HELD:
        return Outcome.SUSPENDED
    if part.status is MessageStatus.ACTIVE:
        return Outcome.TRIED
    if part.hop in closed:
        return Outcome.CLOSED
    return Outcome.UNSERVED if part.hop == UNREACHABLE else Outcome.TRIED


class Tally:
    """Messages by what the attempt found."""

    def __init__(self) -> None:
        self.found: dict[Outcome, int] = {}
        self._last: dict[Outcome, int] = {}

    def add(self, one: Outcome, number: int) -> None:
        """One message more."""
        self.found[one] = self.found.get(one, 0) + 1
        self._last[one] = number

    @property
    def tried(self) -> int:
        return self.found.get(Outcome.TRIED, 0)

    def __str__(self) -> str:
        """`6 messages are tried now; 1 is suspended, not tried: kmq resume 69212ad0-0000a1f3`."""
        return "; ".join(self._clause(one) for one in Outcome if one in self.found) or "there is nothing to try"

    def _clause(self, one: Outcome) -> str:
        count = self.found[one]
        many = one.value[1]
        words = one.of_one(self._last[one]) if count == 1 else many
        return f"{count:,} {words}"
