"""Values as people read them: foreign text made harmless, times, durations, sizes.

Promise:  nothing that a peer, a sender or a damaged file says can move the cursor, change a colour, hide or reorder
          text on the reader's terminal, or end a line.
Callers:  kmq.view, kmq.cli.
"""

import time
import unicodedata
from functools import lru_cache

_UNITS = ("B", "K", "M", "G", "T")

#: Categories of characters that stand on the one before them: accents, variation selectors, rings around.
_MARKS = frozenset({"Mn", "Me"})


def harmless(text: str) -> str:
    """Text on one line: control characters, terminal escapes, bidirectional marks and the like as \\xNN or \\uNNNN."""
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() else _escaped(one) for one in text)


def harmless_lines(text: str) -> str:
    """The same of several lines, which stay lines."""
    return text if text.isprintable() else "\n".join(map(harmless, text.split("\n")))


def _escaped(one: str) -> str:
    code = ord(one)
    if 0xDC80 <= code <= 0xDCFF:
        code -= 0xDC00  # a byte that was no UTF-8, kept by surrogateescape
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def width(text: str) -> int:
    """Columns that harmless text takes on a terminal: East Asian wide characters take two, marks on others none."""
    if text.isascii():
        return len(text)
    return sum(_columns(one) for one in text)


def _columns(one: str) -> int:
    if unicodedata.category(one) in _MARKS:
        return 0
    return 2 if unicodedata.east_asian_width(one) in "WF" else 1


def elided(text: str, room: int) -> str:
    """Harmless text in at most `room` columns, cut at a character with `...`."""
    if width(text) <= room:
        return text
    keep, used = "", 0
    for one in text:
        used += _columns(one)
        if used > room - 3:
            break
        keep += one
    return (keep + "...")[: max(room, 0)]


def local_time(at: float) -> str:
    """Unix time as `2026-11-22 06:50:11 +0100`, in the reader's time zone."""
    return _written("%Y-%m-%d %H:%M:%S %z", int(at // 1), time.tzname)


def short_time(at: float) -> str:
    """The same as `11-22 06:50:11`, where the title of the column bears the offset."""
    return _written("%m-%d %H:%M:%S", int(at // 1), time.tzname)


@lru_cache(4096)
def _written(form: str, second: int, _: tuple[str, str]) -> str:
    """In the time zone of these names. Messages of a list came by hundreds in a second, and many are due together."""
    return time.strftime(form, time.localtime(second))


def offset() -> str:
    """The reader's distance from UTC now: `+0100`."""
    return time.strftime("%z")


def duration(seconds: float) -> str:
    """`7 s`, `4 min 10 s`, `3 h 5 min`, `2 d 4 h`: the two largest units."""
    whole = max(0, int(seconds))
    days, hours, minutes = whole // 86400, whole // 3600 % 24, whole // 60 % 60
    if days:
        return f"{days} d {hours} h"
    if hours:
        return f"{hours} h {minutes} min"
    if minutes:
        return f"{minutes} min {whole % 60} s"
    return f"{whole} s"


def volume(size: int) -> str:
    """Bytes as `812 B`, `4.2 K`, `1.3 G` (1 K = 1024 B)."""
    amount = float(size)
    for unit in _UNITS:
        if amount < 1000 or unit == _UNITS[-1]:
            break
        amount /= 1024
    return f"{size} B" if unit == "B" else f"{amount:.1f} {unit}"


def counted(number: int, thing: str) -> str:
    """`1 message`, `2,041 messages`."""
    return f"{number:,} {thing}{'' if number == 1 else 's'}"
