"""The messages of a queue that wait for a connection: urgent ones first, each priority on connections of its own.

Promise:  without priority queuing all are in one line, in the order in which they came. With it no priority has more
          connections than its part; when nobody's part is used up, the more urgent goes first.
On crash: nothing is kept.
Callers:  phases.smtp_hop.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence

from kmq.model.priority import NORMAL, Parts, Priority, of, part
from kmq.phases.delivery import Delivery


def priority_of(delivery: Delivery) -> Priority:
    """Of the message."""
    return of(delivery.work.head.priority)


class Waiting:
    """parts, width: of the connections; None: all mail is alike. count: of the messages."""

    __slots__ = ("_lines", "count", "parts", "width")

    def __init__(self, parts: Parts, width: int) -> None:
        self.parts = parts
        self.width = width
        self.count = 0
        self._lines: tuple[deque[Delivery], ...] = (deque(), deque(), deque())

    def append(self, delivery: Delivery) -> None:
        self._line(delivery).append(delivery)
        self.count += 1

    def put_back(self, deliveries: Iterable[Delivery]) -> None:
        """They go ahead of others like them, in this order."""
        for delivery in reversed([*deliveries]):
            self._line(delivery).appendleft(delivery)
            self.count += 1

    def next(self, busy: Sequence[int]) -> Delivery | None:
        """The next one that may have a connection. busy: connections by the priority of what they carry."""
        for priority, line in enumerate(self._lines):
            if line and self._may(priority, busy):
                self.count -= 1
                return line.popleft()
        return None

    def wanting(self, busy: Sequence[int]) -> int:
        """How many of those that wait may have a connection of their own now."""
        if self.parts is None:
            return len(self)
        rooms = (part(self.width, self.parts, priority) - busy[priority] for priority in Priority)
        return sum(max(0, min(len(line), room)) for line, room in zip(self._lines, rooms, strict=True))

    def clear(self) -> None:
        for line in self._lines:
            line.clear()
        self.count = 0

    def _line(self, delivery: Delivery) -> deque[Delivery]:
        return self._lines[NORMAL if self.parts is None else priority_of(delivery)]

    def _may(self, priority: int, busy: Sequence[int]) -> bool:
        return self.parts is None or busy[priority] < part(self.width, self.parts, priority)

    def __iter__(self) -> Iterator[Delivery]:
        return (delivery for line in self._lines for delivery in line)

    def __len__(self) -> int:
        return self.count
