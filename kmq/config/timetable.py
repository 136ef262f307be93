"""Kinds of values for the hours of a connector: times of the day, ranges of them, days of the week, an interval.

Promise:  as in `kinds`. Minutes count from midnight of local time; what they mean on the two days of the year on which
          the clock jumps is told in `run.timetable`.
Callers:  `connector`; run.timetable makes rules of the values.
"""

from collections.abc import Callable
from typing import TypeVar

from kmq.config.kinds import Kind, choice, duration, parts

T = TypeVar("T")

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")

#: Minutes of a day.
DAY = 24 * 60

#: From, and until before: minutes. A range whose end is not behind its start goes on over midnight.
Range = tuple[int, int]

_INTERVAL = ("1m", "24h")


def _list(one: Callable[[str], T]) -> Callable[[str], tuple[T, ...]]:
    return lambda text: tuple(dict.fromkeys(one(part) for part in parts(text)))


def _minute(text: str) -> int:
    hours, colon, minutes = text.partition(":")
    if not colon or not (hours + minutes).isascii() or not (hours.isdecimal() and minutes.isdecimal()):
        raise ValueError(f"{text!r} is no time of the day: write hours and minutes, such as 08:00 or 17:30")
    if len(hours) > 2 or len(minutes) != 2 or int(hours) > 23 or int(minutes) > 59:
        raise ValueError(f"{text!r} is no time of the day: 00:00 to 23:59")
    return int(hours) * 60 + int(minutes)


def times() -> Kind[tuple[int, ...]]:
    """Times of the day, in minutes."""
    inner = _list(_minute)
    return Kind("list of times as 08:00, local time", lambda text: tuple(sorted(inner(text))))


def _range(text: str) -> Range:
    first, dash, last = (part.strip() for part in text.partition("-"))
    if not dash:
        raise ValueError(f"{text!r} is no range of hours: write 07:00-19:00, or 22:00-06:00 for a night")
    found = _minute(first), DAY if last == "24:00" else _minute(last)
    if found[0] == found[1]:
        raise ValueError(f"{text!r} has no end: for the whole day write 00:00-24:00")
    return found


def ranges() -> Kind[tuple[Range, ...]]:
    """Ranges of hours; the end does not belong to them."""
    return Kind("list of ranges as 07:00-19:00, local time; 22:00-06:00 ends the next day", _list(_range))


def _day(text: str) -> int:
    if text.lower() not in DAYS:
        raise ValueError(f"{text!r} is no day of the week: {', '.join(DAYS)}")
    return DAYS.index(text.lower())


def _days(text: str) -> tuple[int, ...]:
    found: set[int] = set()
    for part in parts(text):
        first, dash, last = (one.strip() for one in part.partition("-"))
        begin = _day(first)
        span = (_day(last) - begin) % 7 if dash else 0
        found.update((begin + one) % 7 for one in range(span + 1))
    return tuple(sorted(found))


def days() -> Kind[tuple[int, ...]]:
    """Days of the week, 0 for Monday; none stands for all."""
    return Kind("list of days as mon, sat, or mon-fri; nothing: every day", _days)


def interval() -> Kind[float]:
    """Seconds between two times, 0.0 for none."""
    inner = duration(*_INTERVAL)
    return Kind(f"{inner.shape}, or nothing", lambda text: inner.parse(text) if text else 0.0)


def line() -> Kind[str]:
    """Whether mail leaves as it comes, "" when that is left to [queue]."""
    inner = choice("online", "offline")
    return Kind(f"{inner.shape}, or nothing", lambda text: inner.parse(text) if text else "")
