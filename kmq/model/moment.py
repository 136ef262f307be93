"""Times as text: UTC, RFC 3339 with milliseconds (`2026-11-22T05:50:11.123Z`)."""

import time
from datetime import datetime

_MILLISECONDS = tuple(f".{number:03d}Z" for number in range(1000))
_second = -1
_text = ""


def as_text(at: float) -> str:
    """Unix time to text, to the nearest millisecond, so that text -> time -> text is the same text.

    The last second is remembered: on the hot path thousands of events share it.
    """
    global _second, _text
    thousandths = int(at * 1000 + 0.5)
    second = thousandths // 1000
    if second != _second:
        _text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        _second = second
    return f"{_text}.{thousandths - second * 1000:03d}Z"


def from_text(text: str) -> float:
    """Text to Unix time; ValueError for anything else."""
    if len(text) != 24 or text[10] != "T" or text[19] != "." or text[23] != "Z":
        raise ValueError(f"{text[:40]!r} is not a time like 2026-11-22T05:50:11.123Z")
    return datetime.fromisoformat(text).timestamp()
