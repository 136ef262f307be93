"""What can stand on the right side of a comparison: text, sizes, times, and how each is written.

Shapes:   size   `25KB`, `3MB`, `1GB`, `512`, with 1 KB = 1024 bytes; the B may be left out.
          time   RFC 3339 (`2026-11-22T05:50:11Z`), `2026-11-22`, `2026-11-22 15:00`, `11/22/2026 3:00 PM` (month first,
                 as Exchange writes it), `now`, and `-2h`: so long ago. Without an offset it is local time.
          span   `90`, `15m`, `1d12h`, `hh:mm:ss` and `d.hh:mm:ss.ff`.
Promise:  pure. What cannot be understood is a ValueError whose text says what would be right.
Callers:  filter_tree, filter_match; kmq.cli, for a time.
"""

import re
from collections.abc import Callable
from datetime import datetime
from enum import Enum

from kmq.model import moment


class Kind(Enum):
    """What a property is; the value says it for people."""

    TEXT = "text"  #: "" is none
    WORDS = "one of some words"
    LIST = "several texts"
    NUMBER = "a number"
    SIZE = "a size"
    TIME = "a time"  #: Unix time, or RFC 3339; None is none
    SPAN = "a time span"  #: seconds


Value = str | float

#: Expressions are compiled when they are used first: most programs read no value.
_SIZE = r"([0-9]{1,15}(?:\.[0-9]{1,6})?) ?([kmgt]?)i?b?"
_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
_NUMBER = r"[+-]?[0-9]{1,15}(?:\.[0-9]{1,9})?"
_AGO = r"-(?=[0-9])"
_STEP = r"([0-9]{1,9}(?:\.[0-9]{1,6})?) ?(ms|s|m|h|d|w)"
_STEPS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_CLOCK = r"(?:([0-9]{1,5})\.)?([0-9]{1,5}):([0-9]{2})(?::([0-9]{2}(?:\.[0-9]{1,7})?))?"
_CLOCKS = ("", " %H:%M", " %H:%M:%S", " %I:%M %p", " %I:%M:%S %p")
_DATES = tuple(day + clock for day in ("%m/%d/%Y", "%Y-%m-%d") for clock in _CLOCKS)

#: What a person who was not understood is told.
_RIGHT = {
    Kind.NUMBER: "a number like 3",
    Kind.SIZE: "a size like 512, 25KB, 3MB or 1GB",
    Kind.TIME: "a time like 2026-11-22, '2026-11-22 15:00', '11/22/2026 3:00 PM' or -2h (two hours ago)",
    Kind.SPAN: "a time span like 90, 15m, 2h or 01:30:00",
}


def value_of(kind: Kind, text: str, now: float) -> Value:
    """What a literal means for a property of this kind; `now` is Unix time."""
    if kind in (Kind.TEXT, Kind.WORDS, Kind.LIST):
        return text
    try:
        return _READERS[kind](text.strip(), now)
    except (ValueError, OverflowError, OSError):
        raise ValueError(f"{text[:60]!r} is not {_RIGHT[kind]}") from None


def size(text: str, _: float = 0.0) -> float:
    """Bytes."""
    match = re.fullmatch(_SIZE, text, re.IGNORECASE)
    if not match:
        raise ValueError
    return float(match[1]) * _UNITS[match[2].lower()]


def number(text: str, _: float = 0.0) -> float:
    """Any number."""
    if not re.fullmatch(_NUMBER, text):
        raise ValueError
    return float(text)


def span(text: str, _: float = 0.0) -> float:
    """Seconds."""
    if match := re.fullmatch(_CLOCK, text):
        days, hours, minutes, seconds = match.groups(default="0")
        return int(days) * 86400.0 + int(hours) * 3600 + int(minutes) * 60 + float(seconds)
    if re.fullmatch(_NUMBER, text):
        return float(text)
    steps = re.findall(_STEP, text.lower())
    if not steps or re.sub(_STEP, "", text.lower()).strip():
        raise ValueError
    return sum(float(amount) * _STEPS[unit] for amount, unit in steps)


def time(text: str, now: float) -> float:
    """Unix time; a clock that was set back or put forward that night is read as Python's datetime reads it."""
    if text.lower() == "now":
        return now
    if re.match(_AGO, text):
        return now - span(text[1:])
    try:
        return datetime.fromisoformat(text.upper()).timestamp()
    except ValueError:
        return _dated(text)


def _dated(text: str) -> float:
    plain = " ".join(text.upper().split())
    for form in _DATES:
        try:
            return datetime.strptime(plain, form).timestamp()
        except ValueError:
            continue
    raise ValueError


_READERS: dict[Kind, Callable[[str, float], float]] = {
    Kind.SIZE: size,
    Kind.NUMBER: number,
    Kind.SPAN: span,
    Kind.TIME: time,
}


def amount(told: object) -> float | None:
    """A property as a number to compare: figures as they are, times and spans also as text; None for none."""
    if told is None or isinstance(told, bool):
        return None
    if isinstance(told, int | float):
        return float(told)
    try:
        return moment.from_text(str(told))
    except ValueError:
        pass
    try:
        return span(str(told))
    except ValueError:
        return None
