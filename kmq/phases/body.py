"""The bytes of a body on their way out: read in pieces, with dots for the wire, with LF for a Maildir.

Promise:  a large body is never in memory whole, and what leaves it is what was accepted: size and checksum are those of
          the head, or BodyDamaged comes before the last piece does. Bodies hold CRLF line ends and no CR or LF alone
          (intake's promise), so a line begins at the start and behind each CRLF, nowhere else.
On crash: nothing is kept.
Callers:  phases.connection, copy_text and others; BodyFile blocks, so it is used in threads.
"""

import os
import stat
from hashlib import sha256

PIECE = 128 << 10  #: bytes read and sent at a time


class BodyDamaged(Exception):
    """The file is not what was accepted. Sending on would deliver something else."""


class BodyFile:
    """One reading of a body's file. Not for two threads at once. OSError as the system says it."""

    __slots__ = ("_fd", "_sha256", "_sum", "left")

    def __init__(self, path: str, size: int, checksum: str) -> None:
        self.left = size  #: bytes that are still to come
        self._sha256 = checksum
        self._sum = sha256()
        # O_NONBLOCK: opening a pipe that somebody put there must not stop the thread.
        self._fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        found = os.fstat(self._fd)
        if not stat.S_ISREG(found.st_mode) or found.st_size != size:
            self.close()
            raise BodyDamaged(f"{os.path.basename(path)} has {found.st_size} bytes instead of {size}")

    def read(self) -> bytes:
        """The next piece; the last one only when all of it is what was accepted."""
        piece = os.read(self._fd, min(PIECE, self.left))
        if not piece and self.left:
            raise BodyDamaged(f"the file ends {self.left} bytes too early")
        self.left -= len(piece)
        self._sum.update(piece)
        if not self.left and self._sum.hexdigest() != self._sha256:
            raise BodyDamaged("the checksum is not that of the accepted message")
        return piece

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def stuffed(text: bytes, dots: bool, behind: bytes = b"") -> bytes:
    """A whole body as DATA wants it: dots doubled at line starts (when there are any), the final dot behind it.

    behind: what is to go out in the same write.
    """
    if dots:
        text = text.replace(b"\r\n.", b"\r\n..")
        if text[:1] == b".":
            text = b"." + text
    end = b".\r\n" if text[-2:] == b"\r\n" or not text else b"\r\n.\r\n"
    return text + (end + behind)


class Stuffing:
    """The same, piece by piece, wherever the pieces are cut."""

    __slots__ = ("_dots", "_tail")

    def __init__(self, dots: bool) -> None:
        self._dots = dots
        self._tail = b"\r\n"

    def feed(self, piece: bytes) -> bytes:
        tail, self._tail = self._tail, (self._tail + piece)[-2:]
        if not self._dots:
            return piece
        out = piece.replace(b"\r\n.", b"\r\n..")
        if tail == b"\r\n" and piece[:1] == b".":
            return b"." + out
        if tail[-1:] == b"\r" and piece[:2] == b"\n.":
            return b"\n.." + out[2:]
        return out

    def end(self) -> bytes:
        return b".\r\n" if self._tail == b"\r\n" else b"\r\n.\r\n"


class LocalLines:
    """CRLF to LF, piece by piece, as the files of a Maildir hold it; the last line gets its end if it has none."""

    __slots__ = ("_kept", "_last")

    def __init__(self) -> None:
        self._kept = b""
        self._last = b"\n"

    def feed(self, piece: bytes) -> bytes:
        piece = self._kept + piece
        self._kept = b"\r" if piece[-1:] == b"\r" else b""  # perhaps the first half of a line end
        if self._kept:
            piece = piece[:-1]
        out = piece.replace(b"\r\n", b"\n")
        self._last = out[-1:] or self._last
        return out

    def end(self) -> bytes:
        if self._kept:
            return b"\r\n"
        return b"" if self._last == b"\n" else b"\n"
