"""Which steps of the phases ahead of routing are recorded already: a result that tells of one twice counts once (J10).

Why:      such a result may be no attempt (the message is held, or routed), so the number of the attempt does not tell;
          and what it makes, copies and letters, must not be made twice. The time in the event tells it from another.
Promise:  what this process recorded lately is known from memory, the rest from the envelope, which recovery has made
          whole. It is asked only for results of assignments that this process has not given out.
On crash: nothing is kept.
Callers:  run.results.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable

from kmq.model.event import Event, Passed

#: Steps that are remembered.
_LATELY = 10_000


class PassedBefore:
    """read: what the files say that a message has passed."""

    def __init__(self) -> None:
        self.read: Callable[[int], list[Passed]] = lambda number: []
        self._lately: OrderedDict[tuple[int, str, str, str, str], None] = OrderedDict()

    def recorded(self, number: int, event: Passed) -> None:
        """One more."""
        self._lately[_key(number, event)] = None
        if len(self._lately) > _LATELY:
            self._lately.popitem(last=False)

    def knows(self, number: int, events: Iterable[Event]) -> bool:
        """Whether the first step that these events tell of is recorded."""
        first = next((event for event in events if isinstance(event, Passed)), None)
        if first is None:
            return False
        key = _key(number, first)
        return key in self._lately or any(_key(number, one) == key for one in self.read(number))


def _key(number: int, event: Passed) -> tuple[int, str, str, str, str]:
    return number, event.phase, event.step, event.rcpt, event.at
