"""A time as an operator says it.

Promise:  pure; what cannot be understood is a FilterError (exit status 2) that says what would be right.
Callers:  kmq.cli (track, mailq --at).
"""

import re
import time
from datetime import date, datetime

from kmq.admin.filter_values import Kind, value_of
from kmq.errors import FilterError

_CLOCK = re.compile(r"\d\d:\d\d(:\d\d)?", re.ASCII)
_AGO = re.compile(r"\d+ ?(ms|s|m|h|d|w)", re.ASCII)


def unix_time(text: str, now: float | None = None) -> float:
    """Unix time of `14:30` (of today), `2h` or `-2h` (so long ago), or whatever a filter takes for a time."""
    at = time.time() if now is None else now
    try:
        if _CLOCK.fullmatch(text):
            return datetime.fromisoformat(f"{date.fromtimestamp(at)} {text}").timestamp()
        return float(value_of(Kind.TIME, f"-{text}" if _AGO.fullmatch(text) else text, at))
    except (ValueError, OverflowError):
        raise FilterError(
            f"{text[:40]!r} is no time: write 2026-11-22, '2026-11-22 14:30', 14:30 (today), or 2h (two hours ago)"
        ) from None
