"""The text of a message that a phase has made: where it lies, and what delivery must know of it.

Promise:  a small text stays in memory and travels with the result; a larger one is a file in incoming/, whole and
          durable before anybody is told (J6), and memory is bounded by a piece. Its lines end in CRLF, whatever made
          it, since smuggling begins where they do not.
On crash: a file in incoming/ that no record names goes when this worker is reaped, or at recovery.
Callers:  run.linking, run.drafting.
"""

from collections.abc import Iterator
from hashlib import sha256
from typing import NamedTuple

#: Bytes of a text that travel with a result.
SMALL = 64 << 10


class Written(NamedTuple):
    """text: all of it when it is small, else `name` is that of a file in incoming/. The rest: as Head has it."""

    text: bytes | None
    name: str
    sha256: str
    size: int
    eight_bit: bool
    dots: bool
    longest: int


class Lines:
    """Bytes as they are to be kept: CR and LF alone become line ends. Piece by piece, however they are cut."""

    def __init__(self) -> None:
        self._kept = b""

    def feed(self, piece: bytes) -> bytes:
        piece = self._kept + piece
        self._kept = b"\r" if piece[-1:] == b"\r" else b""
        if self._kept:
            piece = piece[:-1]
        if piece.count(b"\n") == piece.count(b"\r") == piece.count(b"\r\n"):
            return piece
        return piece.replace(b"\r\n", b"\n").replace(b"\r", b"\n").replace(b"\n", b"\r\n")

    def end(self) -> bytes:
        return b"\r\n" if self._kept else b""


class Measure:
    """What delivery must know of a text, as its pieces go by."""

    def __init__(self) -> None:
        self.size = self.longest = 0
        self.eight_bit = self.dots = False
        self._sum = sha256()
        self._line = 0  # bytes so far of the line that is not at its end
        self._begins = True  # a line begins with the next byte

    def feed(self, piece: bytes) -> None:
        if not piece:
            return
        self.size += len(piece)
        self._sum.update(piece)
        self.eight_bit = self.eight_bit or not piece.isascii()
        self.dots = self.dots or b"\n." in piece or (self._begins and piece[:1] == b".")
        self._begins = piece[-1:] == b"\n"
        first, *rest = piece.replace(b"\r", b"").split(b"\n")
        self._line += len(first)
        if rest:
            self.longest = max(self.longest, self._line, *map(len, rest[:-1]))
            self._line = len(rest[-1])

    def done(self, text: bytes | None, name: str) -> Written:
        longest = max(self.longest, self._line)
        return Written(text, name, self._sum.hexdigest(), self.size, self.eight_bit, self.dots, longest)


def measured(text: bytes) -> Written:
    """A text at hand."""
    measure = Measure()
    measure.feed(text)
    return measure.done(text, "")


def normal(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """The pieces with line ends as they are to be kept; the last line gets its own if it has none."""
    lines, last = Lines(), b"\n"
    for piece in pieces:
        out = lines.feed(piece)
        last = out[-1:] or last
        yield out
    out = lines.end()
    last = out[-1:] or last
    yield out if last == b"\n" else out + b"\r\n"
