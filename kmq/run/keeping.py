"""Which delivered messages the safety net keeps, by the configuration.

Does:     heeds who was delivered to by a connector that keeps its mail; says at a message's end whether it is kept, and
          under which day (UTC). What failed altogether, what an operator removed, and what only went on as other
          messages (aliases) is not kept.
Promise:  pure; while nothing is kept a result costs one look at a switch. Only messages that were delivered in part are
          remembered.
On crash: `loaded` reads it back from the envelope.
Callers:  run.results, run.loader, run.safety_net.
"""

import time
from collections.abc import Iterable

from kmq.config import Settings
from kmq.model.envelope import State
from kmq.model.event import AnyEvent, Delivered, Routed
from kmq.spool.record import Keep, Operation, Remove

_DAY = 86400


def day_of(at: float) -> str:
    """The UTC day of a Unix time, as folders of sent/ are called: `2026-11-22`."""
    return time.strftime("%Y-%m-%d", time.gmtime(at))


class Keeping:
    """on: whether anything is kept."""

    def __init__(self) -> None:
        self.on = False
        self._connectors: frozenset[str] = frozenset()
        self._seen: set[int] = set()
        self._today = (0, "")

    def configure(self, settings: Settings) -> None:
        """What a configuration says."""
        self.on = settings.queue.safety_net_hold_time > 0
        if not self.on:
            self._seen.clear()
        self._connectors = frozenset(one.name for one in settings.connectors if one.safety_net)

    def saw(self, number: int, hop: str, events: Iterable[AnyEvent]) -> None:
        """A result; hop: that of the assignment."""
        for event in events:
            if type(event) is Routed:
                hop = event.hop
            elif type(event) is Delivered and hop.rpartition(";")[2] in self._connectors:
                self._seen.add(number)

    def loaded(self, number: int, state: State) -> None:
        """A message from the disk."""
        if self.on and any(
            isinstance(end, Delivered) and state.hop[index].rpartition(";")[2] in self._connectors
            for index, end in state.done.items()
        ):
            self._seen.add(number)

    def ends(self, number: int, last: Operation) -> list[Operation]:
        """The last operations of a message, which ends by `last`."""
        if number not in self._seen:
            return [last]
        self._seen.discard(number)
        return [Keep(number, self._day()), last] if self.on and isinstance(last, Remove) else [last]

    def forget(self, number: int) -> None:
        """An operator removed it."""
        self._seen.discard(number)

    def _day(self) -> str:
        now = time.time()
        if int(now // _DAY) != self._today[0]:
            self._today = int(now // _DAY), day_of(now)
        return self._today[1]
