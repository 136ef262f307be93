"""One assignment in a worker's hands, and what is said of it in the end.

Callers:  run.walk and run.worker.
"""

import time
from collections.abc import Sequence

import msgspec

from kmq.model import moment, recipients
from kmq.model.envelope import Head
from kmq.model.event import Deferred, Delivered, Event, Failed, HeaderEdit, Passed, Routed
from kmq.model.frame import Assign, Child, Done
from kmq.phases.edits import standing
from kmq.phases.gate import Gate
from kmq.phases.work import Body
from kmq.run.share import TAKEN_OUT

_encode = msgspec.json.Encoder().encode
#: Characters of all replies in one result: a frame has its limit, and what a server says does not.
_REPLIES = 100_000
#: Events of a result whose replies fit, however long they are.
_FEW = 50


class Job(msgspec.Struct, eq=False, gc=False):
    """One assignment in hand. routed: what the phases up to Executing said, by which configuration; done: its result,
    once there is one; raw: the children that follow it; slot: its line in the status file.

    past: steps that the message had passed when it was assigned. edits: of its header, on its way out. made, made_raw:
    messages that phases made of it, and their bytes.

    gate: holds its text back until it is assigned, when it was shown before.

    events: of its result, for the log. taken, begun, ended: monotonic seconds at which it came, at which a connection
    was there (0 for none), and at which it had its result; at: the Unix time of that.
    """

    assign: Assign
    head: Head
    body: Body
    slot: int
    routed: list[Event] = []
    past: tuple[Passed, ...] = ()
    edits: tuple[HeaderEdit, ...] = ()
    gate: Gate | None = None
    made: list[Child] = []
    made_raw: bytes = b""
    configuration: int = 0
    done: Done | None = None
    raw: bytes = b""
    events: list[Event] = []
    taken: float = msgspec.field(default_factory=time.monotonic)
    begun: float = 0.0
    ended: float = 0.0
    at: float = 0.0

    def recall(self, past: tuple[Passed, ...]) -> None:
        """The steps that it has passed, with all its recipients or with some."""
        self.past = past
        first = recipients.from_text(self.assign.rcpt)[:1]
        self.edits = standing(self.head, past, first[0]) if first else self.head.edits

    @property
    def route(self) -> Routed | None:
        """Where Executing sent all of its recipients, None when it was not routed here, or to several hops."""
        routed = self.routed
        if len(routed) > 1:
            routed = [event for event in routed if type(event) is not Passed]
        first = routed[0] if len(routed) == 1 else None
        return first if type(first) is Routed else None

    @property
    def given_up(self) -> bool:
        """Its time is over, and all that is to be done is to tell its sender."""
        return self.assign.expire not in ("", TAKEN_OUT)

    def result(self, events: list[Event] | None = None, **more: str | bool) -> Done:
        """What became of it, as the scheduler process is told; more: the fields of Done that are not always there."""
        assign = self.assign
        self.at, self.ended = time.time(), time.monotonic()
        self.events = events or []
        now = moment.as_text(self.at)
        encoded = []
        shorten(self.events)
        for event in self.events:
            event.at = now
            encoded.append(msgspec.Raw(_encode(event)))
        done = Done(assign.n, assign.m, assign.hop, assign.rcpt, assign.attempt, encoded, **more)  # type: ignore[arg-type]
        done.configuration = self.configuration
        return done


def shorten(events: Sequence[Event]) -> None:
    """Replies of very many results, as far as they can be kept and told."""
    if len(events) <= _FEW:
        return
    longest = _REPLIES // len(events)
    for event in events:
        if isinstance(event, (Delivered, Failed, Deferred)) and len(event.reply) > longest:
            event.reply = event.reply[:longest]
