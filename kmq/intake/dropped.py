"""What dropped files have in common: a letter read from a file's header, and the reasons why a file is bad.

What:     local line ends become CRLF here, the header is cut off, and the `Received:` line without SMTP is made.
Promise:  pure; linear in the bytes; of a header at most `limit` bytes are looked at.
Callers:  intake.pickup, intake.replay, and run.drop_carrying, which brings the bytes.
"""

from typing import NamedTuple, Protocol

from kmq.intake.transaction import Sender
from kmq.model.envelope import Recipient, Source


class BadFile(ValueError):
    """A file that cannot be a message; its text is the reason, a sentence for whoever dropped it."""


class NotYet(Exception):
    """A file that is not to be taken now, and is looked at again; its text is the reason."""


class Letter(NamedTuple):
    """What a file's header says. header: completed, whole lines with CRLF, without the empty line.

    source: who and how; origin: our `Received:` line up to the ID. original: the ID of the message that an exported one
    is a copy of, "" for any other.
    """

    sender: Sender
    recipients: list[Recipient]
    header: bytes
    source: Source
    origin: bytes
    original: str = ""


class Reader(Protocol):
    """Reads the files of one directory. header_limit: bytes of a header, with its empty line."""

    header_limit: int
    hop_limit: int

    def read(self, header: bytes, user: str, now: float) -> Letter:
        """A letter; BadFile, NotYet. header: whole lines with CRLF, without the empty line; user: whose file it is."""


class Lines:
    """Bytes with local line ends -> the same with CRLF, piece by piece. A CR that ends no line is BadFile."""

    def __init__(self) -> None:
        self._held = False
        self._read = 0

    def take(self, piece: bytes) -> bytes:
        """The next bytes; a CR at their end is kept back."""
        if self._held:
            piece = b"\r" + piece
        self._held = piece.endswith(b"\r")
        if self._held:
            piece = piece[:-1]
        plain = piece.replace(b"\r\n", b"\n")
        at = plain.find(b"\r")
        if at >= 0:
            line = self._read + plain.count(b"\n", 0, at) + 1
            raise BadFile(f"line {line} has a CR within: lines end in LF or CRLF")
        self._read += plain.count(b"\n")
        return plain.replace(b"\n", b"\r\n")

    def end(self) -> None:
        """No more bytes."""
        if self._held:
            raise BadFile(f"line {self._read + 1} ends in a CR alone: lines end in LF or CRLF")


def cut(text: bytes, whole: bool, limit: int) -> tuple[bytes, bytes] | None:
    """The header and what follows the empty line; None while the empty line is still to come. BadFile.

    text: the first bytes, with CRLF; whole: all there are. A header without an empty line is a message without text.
    """
    if text.startswith(b"\r\n"):
        raise BadFile("the file begins with an empty line: it has no header")
    end = text.find(b"\r\n\r\n", 0, limit + 4)
    if end >= 0:
        return text[: end + 2], text[end + 4 :]
    if len(text) > limit:
        raise BadFile(f"the header has more than {limit} bytes")
    if not whole:
        return None
    if not text:
        raise BadFile("the file is empty")
    return (text if text.endswith(b"\r\n") else text + b"\r\n"), b""


def origin(peer: bytes, hostname: str, way: bytes) -> bytes:
    """`Received: from <peer> by <hostname> (kmq <way>) with local id `, in the shape of intake.trace."""
    return b"Received: from %b\r\n\tby %b (kmq %b) with local id " % (peer, hostname.encode(), way)
