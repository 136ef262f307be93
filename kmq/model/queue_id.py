"""The ID of a message: 8 hex digits of Unix seconds, `-`, 8 of a running counter: `69212ad0-0000a1f3`.

Promise:  IDs sort by time, and `following` never gives one at or below the last, even when the clock goes back.
          In memory an ID is one int (seconds << 32 | counter); as text it is also the name of the message's files.
"""

import re

PATTERN = re.compile(r"[0-9a-f]{8}-[0-9a-f]{8}")
LENGTH = 17
_COUNTER = 0xFFFFFFFF


def text(number: int) -> str:
    """The ID as people see it."""
    return f"{number >> 32:08x}-{number & _COUNTER:08x}"


def parse(name: str) -> int:
    """The number of an ID; ValueError for anything else, so that no path is ever made of foreign text."""
    if not PATTERN.fullmatch(name):
        raise ValueError(f"{name[:32]!r} is not a queue ID (like 69212ad0-0000a1f3)")
    return int(name[:8], 16) << 32 | int(name[9:], 16)


def following(last: int, now: float) -> int:
    """The next ID after `last` at Unix time `now`; the second never goes back, the counter runs on through seconds."""
    second = int(now)
    if second <= last >> 32:
        return last + 1  # a counter that goes round carries into the second, which tells the two apart
    return second << 32 | (last + 1) & _COUNTER


def generation(number: int) -> str:
    """The folder of an ID below queue/: first 5 digits of the seconds, first 4 of the counter.

    One folder holds what came within at most 68 minutes, and at most 65,536 messages.
    """
    return f"{number >> 44:05x}-{(number & _COUNTER) >> 16:04x}"


def created(number: int) -> int:
    """Unix seconds at which the ID was issued."""
    return number >> 32
