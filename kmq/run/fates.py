"""What a worker's events mean for the recipients of a share: who is done, who goes on, and where.

Promise:  pure. Events count in their order, as the envelope will have them: a recipient that was routed and then
          delivered is done, and so is one that was expanded; one that was only routed goes on in its new queue. A
          recipient that no event names goes on as before. Recipients that are not the share's are ignored, and so are
          events that do not concern delivery.
Callers:  kmq/run/scheduler.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

from kmq.model import recipients
from kmq.model.event import (
    Deferred,
    Delayed,
    Delivered,
    Discarded,
    Event,
    Expanded,
    Failed,
    Replaced,
    Routed,
    Suspended,
)
from kmq.run.share import shared
from kmq.run.slowdown import asks

#: The reply of a deferral that came without one.
NO_REPLY = "451 4.4.0 not delivered yet"


class Part(NamedTuple):
    """Recipients that go on. hop: where, "" for the queue they are in; reply: of their deferral, "" without one; held:
    a phase says that an operator is to look at them first.
    """

    rcpt: tuple[int, ...]
    hop: str
    reply: str
    held: bool = False


class Fates(NamedTuple):
    """parts: those that go on. spoke: next hops that gave a result, whatever it was; "" is the share's own.

    warned: recipients whose sender was told that it takes longer.
    """

    parts: tuple[Part, ...]
    spoke: tuple[str, ...]
    warned: tuple[int, ...] = ()

    def refusal(self, hop: str) -> str:
        """What the hop said that may be a word about us: less, please (slowdown); "" when it said nothing like it."""
        found = (part.reply for part in self.parts if part.hop == hop and part.reply and asks(part.reply))
        return next(found, "")


@lru_cache(1024)
def _all_done(hop: str) -> Fates:
    return Fates((), (hop,))


_FIRST = (0,)


def read(rcpt: tuple[int, ...], events: Sequence[Event]) -> Fates:
    """The fates of a share's recipients. The usual case, since it comes thousands of times a second, is that each event
    is about all of them; mostly that is the one recipient."""
    if not 0 < len(events) <= 2:
        return _of_each(rcpt, events)
    text = "0" if rcpt == _FIRST else recipients.as_text(rcpt)
    hop = reply = ""
    for event in events:
        if type(event) is Routed and event.rcpt == text:
            hop = event.hop
        elif (type(event) is Delivered or type(event) is Failed) and event.rcpt == text and event is events[-1]:
            return _all_done(hop)
        elif type(event) is Deferred and event.rcpt == text:
            reply = event.reply or NO_REPLY
        else:
            return _of_each(rcpt, events)
    return Fates((Part(rcpt, hop, reply),), (hop,) if reply else ())


def _of_each(rcpt: tuple[int, ...], events: Sequence[Event]) -> Fates:
    going: dict[int, tuple[str, str]] = dict.fromkeys(rcpt, ("", ""))
    spoke: dict[str, None] = {}
    warned: list[int] = []
    held: set[int] = set()
    for event in events:
        match event:
            case Routed():
                for index in _still(event.rcpt, going):
                    going[index] = (event.hop, going[index][1])
            case Delivered() | Failed():
                for index in _still(event.rcpt, going):
                    spoke[going.pop(index)[0]] = None
            case Deferred():
                for index in _still(event.rcpt, going):
                    hop = going[index][0]
                    spoke[hop] = None
                    going[index] = (hop, event.reply or NO_REPLY)
            case Expanded() | Replaced() | Discarded():
                for index in _still(event.rcpt, going):
                    del going[index]  # other messages have it now, or nobody; no hop has said a word
            case Suspended():
                held.update(_still(event.rcpt, going))
            case Delayed():
                warned += recipients.from_text(event.rcpt)
            case _:
                pass
    found: dict[tuple[str, str, bool], list[int]] = {}
    for index, (hop, reply) in going.items():
        found.setdefault((hop, reply, index in held), []).append(index)
    return Fates(
        tuple(Part(shared(tuple(part)), *fate) for fate, part in found.items()),
        tuple(spoke),
        tuple(warned),
    )


def _still(text: str, going: dict[int, tuple[str, str]]) -> list[int]:
    return [index for index in recipients.from_text(text) if index in going]
