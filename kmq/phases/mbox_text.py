"""A message as it stands in an mbox: its From_ line, its name and length, its text with lines quoted that would be
taken for a From_ line, an empty line.

Form:     mboxrd: each line of `>`s and `From ` gets one `>` more, so that taking one away gives back what was there.
          Directly below the From_ line, where no text of a message can stand, a line tells the copy's name and how many
          bytes follow it: so a second run finds the first one's copy, and whether it is whole.
Promise:  memory is bounded by a piece, whatever the lines are.
Source:   https://doc.dovecot.org/admin_manual/mailbox_formats/mbox/, RFC 4155 (the From_ line; UTC).
Callers:  phases.mbox.
"""

import re
from collections.abc import Iterator
from time import gmtime
from typing import NamedTuple

FIELD = b"X-kmq-Delivery"

_DAYS = (b"Mon", b"Tue", b"Wed", b"Thu", b"Fri", b"Sat", b"Sun")
_MONTHS = tuple(b"Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split())
_INNER = re.compile(rb"\n(>*)From ")
_FIRST = re.compile(rb"(>*)From ")
_BEGUN = (b"From", b"Fro", b"Fr", b"F")
#: Our From_ line and the one below it.
_TOP = re.compile(rb"From [^\n]{0,1000}\n" + FIELD + rb": (\S{1,400}) (\d{1,12})\n")


def from_line(sender: str, at: int) -> bytes:
    """`From alice@example.org Sun Nov 22 05:50:11 2026`, with its end. at: Unix time."""
    who = re.sub(rb"[^!-~\x80-\xff]+", b"-", sender.encode(errors="replace"))[:500] or b"MAILER-DAEMON"
    now = gmtime(at)
    date = (_DAYS[now.tm_wday], _MONTHS[now.tm_mon - 1], now.tm_mday, now.tm_hour, now.tm_min, now.tm_sec, now.tm_year)
    return b"From %b " % who + b"%b %b %2d %02d:%02d:%02d %d\n" % date


def top(sender: str, at: int, name: str, length: int) -> bytes:
    """The first two lines of a copy; length: of all that follows."""
    return from_line(sender, at) + b"%b: %b %d\n" % (FIELD, name.encode(), length)


class Found(NamedTuple):
    """A copy of ours in a file. end: where it ends, by what it says."""

    name: bytes
    begin: int
    end: int


def found_in(text: bytes, offset: int) -> Iterator[Found]:
    """The copies of ours that begin in a piece of a file, which begins at this offset, behind its first byte."""
    for match in _TOP.finditer(text):
        at = match.start()
        if text[at - 1 : at] == b"\n" if at else offset == 0:
            yield Found(match[1], offset + at, offset + match.end() + int(match[2]))


class FromQuoting:
    """LF text, piece by piece, quoted wherever the pieces are cut."""

    __slots__ = ("_fresh", "_kept")

    def __init__(self) -> None:
        self._kept = b""  # the beginning of a `From `, perhaps
        self._fresh = True  # of the line that goes on nothing but `>`s has gone by

    def feed(self, piece: bytes) -> bytes:
        if self._kept:
            piece, self._kept = self._kept + piece, b""
        if not piece:
            return b""
        last = piece[piece.rfind(b"\n") + 1 :]
        begins = self._fresh or len(last) < len(piece)
        rest = last.lstrip(b">") if begins else b"?"
        if rest in _BEGUN:
            self._kept = rest
            piece, rest = piece[: -len(rest)], b""
        if b"From " in piece:
            if self._fresh and _FIRST.match(piece):
                piece = b">" + piece
            piece = _INNER.sub(rb"\n\1>From ", piece)
        self._fresh = not rest
        return piece

    def end(self) -> bytes:
        """What is left, and the empty line."""
        kept, self._kept = self._kept, b""
        return kept + (b"\n" if not kept else b"\n\n")


def quoted(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """The text of a copy as it stands in an mbox, with the empty line behind it."""
    quoting = FromQuoting()
    for piece in pieces:
        yield quoting.feed(piece)
    yield quoting.end()
