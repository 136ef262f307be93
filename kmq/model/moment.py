"""Times as text: UTC, RFC 3339 with milliseconds (`2026-11-22T05:50:11.123Z`)."""

import time
from datetime import datetime

_MILLISECONDS = tuple(f".{number:03d}Z" for number in range(1000))
_last = (-1, "")  # one value, since threads may ask at the same moment


def as_text(at: float) -> str:
    """Unix time to text, to the nearest millisecond, so that text -> time -> text is the same text.

    The last second is remembered: on the hot path thousands of events share it.
    """
    global _last
    second, thousandth = divmod(int(at * 1000 + 0.5), 1000)
    known, text = _last
    if second != known:
        text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        _last = second, text
    return text + _MILLISECONDS[thousandth]


def from_text(text: str) -> float:
    """Text to Unix time; ValueError for anything else."""
    if len(text) != 24 or text[10] != "T" or text[19] != "." or text[23] != "Z":
        raise ValueError(f"{text[:40]!r} is not a time like 2026-11-22T05:50:11.123Z")
    return datetime.fromisoformat(text).timestamp()
