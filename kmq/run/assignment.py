"""The scheduler's values: how things stand when it begins, what it hands out, what a result comes to.

Promise:  values only. An assignment's number is never used again, not in a later run either (Start.first).
Callers:  kmq/run/scheduler, and whoever feeds it.
"""

from dataclasses import dataclass, field
from typing import NamedTuple

import msgspec

from kmq.run.share import Share


@dataclass(frozen=True, slots=True)
class Start:
    """How things stand when the scheduler process begins.

    now, wall: both clocks. last_id: the last ID that was ever issued. living: workers of an earlier run that are alive
    (J10). first: number of the first assignment, above all of earlier runs.
    """

    now: float
    wall: float
    last_id: int = 0
    living: frozenset[int] = field(default_factory=frozenset)
    first: int = 1


class Assignment(msgspec.Struct, gc=False, eq=False):
    """Recipients of a message for a worker to bring to a next hop.

    alone: the worker has and gets nothing else meanwhile. expire: do not deliver, make the notice, fail with this
    reply; "" otherwise. delay: do not deliver, make the notice that it takes longer, because of this reply; warn: make
    it when recipients are deferred. share: the scheduler's own. notice: nothing is to be delivered, but a notice to be
    made (expire, delay).
    """

    n: int
    worker: int
    mid: int
    hop: str
    rcpt: tuple[int, ...]
    attempt: int
    alone: bool
    expire: str
    delay: str
    warn: bool
    share: Share
    notice: bool


class Held(NamedTuple):
    """An assignment of an earlier run that a worker has, or has a result of (frame.Holding, frame.Done)."""

    n: int
    mid: int
    hop: str
    rcpt: tuple[int, ...]
    attempt: int


class Ruling(msgspec.Struct, gc=False):
    """What a result comes to. until: when what it deferred is tried again (as events have it), "" when nothing is.

    complete: with this result recorded nothing of the message is left to do, so its removal belongs to the same record.
    """

    mid: int
    complete: bool
    until: str


class Recording(msgspec.Struct, gc=False, eq=False):
    """A result that waits for its sync. share: what it was about; going: what goes on when it is durable.

    proven: the message was run alone, and nobody died of it.
    """

    share: Share
    going: tuple[Share, ...]
    proven: bool
