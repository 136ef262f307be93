"""Times as text: UTC, RFC 3339 with milliseconds (`2026-11-22T05:50:11.123Z`)."""

import time
from datetime import datetime

_MILLISECONDS = tuple(f".{number:03d}Z" for number in range(1000))
_THOUSANDTHS = {text: number for number, text in enumerate(_MILLISECONDS)}
#: Unix second and its text, of the last time that was written and that was read: one value each, since threads may ask
#: at the same moment. On the hot path thousands of events share a second.
_last = (-1, "")
_last_read = (-1, "")


def as_text(at: float) -> str:
    """Unix time to text, to the nearest millisecond, so that text -> time -> text is the same text."""
    global _last
    second, thousandth = divmod(int(at * 1000 + 0.5), 1000)
    known, text = _last
    if second != known:
        text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        _last = second, text
    return text + _MILLISECONDS[thousandth]


def from_text(text: str) -> float:
    """Text to Unix time; ValueError for anything else."""
    global _last_read
    thousandth = _THOUSANDTHS.get(text[19:])
    if thousandth is None or text[10] != "T":
        raise ValueError(f"{text[:40]!r} is not a time like 2026-11-22T05:50:11.123Z")
    second, known = _last_read
    if known != text[:19]:
        second, known = int(datetime.fromisoformat(text).timestamp() // 1), text[:19]
        _last_read = second, known
    return (second * 1000 + thousandth) / 1000
