"""Transfer encodings undone, piece by piece (RFC 2045 6), as forgivingly as readers of mail are.

Promise:  linear; what comes out is never longer than what went in. Characters that are no base64 are passed over, and
          padding in the middle ends a group and not the text: so all is seen that any reader would make of it.
On crash: nothing is kept.
Callers:  phases.part_reading, phases.examiner.
"""

from binascii import a2b_base64, a2b_qp
from typing import Protocol

_ALPHABET = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/="
_OTHERS = bytes(sorted(set(range(256)) - set(_ALPHABET)))

#: Encodings without a name in MIME, which some readers know all the same, and we do not undo.
FOREIGN = frozenset(("x-uuencode", "uuencode", "x-uue", "uue", "x-binhex40", "mac-binhex40", "x-yenc", "yenc"))


class Decoder(Protocol):
    """Whole lines in, bytes out; `end` gives what is left."""

    def feed(self, lines: bytes) -> bytes: ...

    def end(self) -> bytes: ...


class Base64:
    """RFC 2045 6.8."""

    __slots__ = ("_kept",)

    def __init__(self) -> None:
        self._kept = b""

    def feed(self, lines: bytes) -> bytes:
        text = self._kept + lines.translate(None, _OTHERS)
        if b"=" in text:
            *groups, text = text.split(b"=")
            out = b"".join(map(_group, groups))
        else:
            out = b""
        whole = len(text) // 4 * 4
        self._kept = text[whole:]
        return out + a2b_base64(text[:whole])

    def end(self) -> bytes:
        rest, self._kept = self._kept, b""
        return _group(rest)


def _group(text: bytes) -> bytes:
    """A group that may have lost its padding; one character alone is nothing."""
    over = len(text) % 4
    if over == 1:
        text, over = text[:-1], 0
    return a2b_base64(text + b"=" * (4 - over)) if over else a2b_base64(text)


class QuotedPrintable:
    """RFC 2045 6.7; a line at a time, so that nothing has to be kept."""

    __slots__ = ()

    def feed(self, lines: bytes) -> bytes:
        return a2b_qp(lines)

    def end(self) -> bytes:
        return b""


class Plain:
    """No encoding, or one that says so little."""

    __slots__ = ()

    def feed(self, lines: bytes) -> bytes:
        return lines

    def end(self) -> bytes:
        return b""


def decoder(encoding: str) -> Decoder:
    """The one for a Content-Transfer-Encoding, lower case; readers of mail take what they do not know as it is."""
    if encoding == "base64":
        return Base64()
    return QuotedPrintable() if encoding == "quoted-printable" else Plain()


class Lines:
    """Whatever line ends a decoded message has, as CRLF: as messages lie here."""

    __slots__ = ("_kept",)

    def __init__(self) -> None:
        self._kept = b""

    def feed(self, piece: bytes) -> bytes:
        piece = self._kept + piece
        self._kept = b"\r" if piece[-1:] == b"\r" else b""  # perhaps the first half of a line end
        if self._kept:
            piece = piece[:-1]
        return piece.replace(b"\r\n", b"\n").replace(b"\r", b"\n").replace(b"\n", b"\r\n")

    def end(self) -> bytes:
        return b"\r\n" if self._kept else b""
