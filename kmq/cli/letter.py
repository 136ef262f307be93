"""A message from a program: read whole before anything else is done, and made fit for the wire.

What:     lines may end in LF or CRLF, and end in CRLF afterwards; a `From ` line on top goes; unless that is switched
          off, a line with a single dot is the end.
Promise:  a message is taken as it is or not at all: a bare CR or a NUL is a Fault. However large it is, at most HELD
          bytes and one read are in memory; the rest lies in a file without a name, which is gone with this process.
On crash: nothing was handed over yet.
Callers:  cli.sendmail, cli.submit.
"""

import os
from collections.abc import Iterator

#: Bytes kept in memory, and read at once.
HELD = 4 << 20
PIECE = 64 << 10

#: No server takes a longer line (`line_limit`).
LONGEST = 1 << 20

#: No server takes more (`size_limit`): whoever writes on without end is stopped here.
LARGEST = 2 << 30


class Fault(Exception):
    """Why this is no message, for the one who wrote it. status: as an exit status of sysexits.h."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


class Letter:
    """A message, its lines with CRLF. size: in bytes; eight_bit: some are above 127."""

    def __init__(self) -> None:
        self.size = 0
        self.eight_bit = False
        self._held = bytearray()
        self._fd = -1

    def add(self, text: bytes) -> None:
        """More lines."""
        self.size += len(text)
        if self.size > LARGEST:
            raise Fault(os.EX_UNAVAILABLE, f"the message is larger than {LARGEST >> 30} GiB")
        self.eight_bit = self.eight_bit or not text.isascii()
        self._held += text
        if len(self._held) > HELD or self._fd >= 0:
            self._put_away()

    @property
    def beginning(self) -> bytes:
        """The first PIECE bytes or more, or all: headers are there."""
        return bytes(self._held) if self._fd < 0 else os.pread(self._fd, HELD, 0)

    def pieces(self) -> Iterator[bytes]:
        """All of it, again each time that it is asked for."""
        if self._fd < 0:
            yield bytes(self._held)
            return
        at = 0
        while piece := os.pread(self._fd, PIECE, at):
            at += len(piece)
            yield piece

    def _put_away(self) -> None:
        folder = os.environ.get("TMPDIR") or "/tmp"
        try:
            if self._fd < 0:
                self._fd = os.open(folder, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC | os.O_EXCL, 0o600)
            rest = memoryview(bytes(self._held))
            while rest:
                rest = rest[os.write(self._fd, rest) :]
        except OSError as error:
            text = (
                f"no room for a large message: {error.filename or 'its file'}: {error.strerror}; $TMPDIR names a folder"
            )
            raise Fault(os.EX_CANTCREAT, text) from None
        self._held.clear()


def read(fd: int, dot_ends: bool) -> Letter:
    """The message that comes from a descriptor; Fault when it is none or cannot be read."""
    letter = Letter()
    lines = _Lines(dot_ends)
    while not lines.ended and (piece := _next(fd)):
        letter.add(lines.take(piece))
    letter.add(lines.rest())
    return letter


def _next(fd: int) -> bytes:
    try:
        return os.read(fd, PIECE)
    except OSError as error:
        raise Fault(os.EX_NOINPUT, f"the message cannot be read: {error.strerror}") from None


class _Lines:
    """Whole lines out of pieces. What has no end yet is held back, and joined when its end comes."""

    def __init__(self, dot_ends: bool) -> None:
        self._dot_ends = dot_ends
        self._open: list[bytes] = []  # of the line that has no end yet
        self._length = 0
        self._first = True
        self.ended = False

    def take(self, piece: bytes) -> bytes:
        """The lines that are whole now, with CRLF."""
        end = piece.rfind(b"\n") + 1
        if not end:
            self._open.append(piece)
            self._length += len(piece)
            if self._length > LONGEST + PIECE:
                raise Fault(os.EX_DATAERR, f"the message has a line of more than {LONGEST >> 20} MiB")
            return b""
        text = b"".join((*self._open, piece[:end]))
        self._open = [piece[end:]]
        self._length = len(piece) - end
        return self._whole(text)

    def rest(self) -> bytes:
        """The last line, which may lack its end."""
        text = b"".join(self._open)
        return self._whole(text + b"\r\n") if text and not self.ended else b""

    def _whole(self, text: bytes) -> bytes:
        text = text.replace(b"\r\n", b"\n")
        if self._dot_ends:
            text = self._until_dot(text)
        if b"\0" in text:
            raise Fault(os.EX_DATAERR, "the message has a NUL in it")
        if b"\r" in text:
            raise Fault(os.EX_DATAERR, "the message has a CR that ends no line")
        if self._first and text:
            self._first = False
            if text.startswith(b"From "):
                text = text[text.index(b"\n") + 1 :]
        return text.replace(b"\n", b"\r\n")

    def _until_dot(self, text: bytes) -> bytes:
        at = 0 if text.startswith(b".\n") else text.find(b"\n.\n") + 1 or -1
        if at < 0:
            return text
        self.ended = True
        return text[:at]
