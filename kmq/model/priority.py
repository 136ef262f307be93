"""How urgent a message is: high, normal or low, as its envelope says (`Head.priority`).

Promise:  values only. What the scheduler process must know of it is read off the head's text, without a parse.
Callers:  whoever puts messages in an order.
"""

from enum import IntEnum
from typing import Final


class Priority(IntEnum):
    """In the order of turns."""

    HIGH = 0
    NORMAL = 1
    LOW = 2

    @property
    def shown(self) -> str:
        """As Exchange Server names it."""
        return self.name.capitalize()


HIGH: Final = Priority.HIGH
NORMAL: Final = Priority.NORMAL
LOW: Final = Priority.LOW

#: As a head has it.
WORDS: Final = ("high", "", "low")

_OF: Final = {word: Priority(place) for place, word in enumerate(WORDS)}
_KEY = b',"priority":"'
_NORMAL: Final = int(NORMAL)


def of(word: str) -> Priority:
    """Of a head; what no program of today wrote is normal."""
    return _OF.get(word, NORMAL)


def of_line(line: bytes) -> int:
    """Of a head's line, or of the end of one. In a JSON text a quote is escaped, so no address can say this.

    A plain number, since it is a place in tables: an enum is a slow one.
    """
    at = line.find(_KEY)
    if at < 0:
        return _NORMAL
    at += len(_KEY)
    return int(of(line[at : line.index(b'"', at)].decode("ascii", "replace")))


#: Of 100 connections to a next hop, those that each may have; None: all mail is alike.
Parts = tuple[int, int, int] | None


def part(width: int, parts: tuple[int, int, int], priority: int) -> int:
    """Of so many connections, those that mail of a priority may have: one at least."""
    return max(1, -(-width * parts[priority] // 100))
