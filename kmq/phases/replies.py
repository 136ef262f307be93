"""Replies of an SMTP server out of the bytes that arrive (RFC 5321 4.2).

Promise:  lines, however the network cut them, become whole replies in their order; memory is bounded whatever a peer
          sends, and what is not SMTP is told apart from what is: `broken` says why, and nothing is read after it.
On crash: nothing is kept.
Callers:  phases.connection, for what arrives; phases.smtp_opening, for the texts that the library read.
"""

from kmq.model import reply
from kmq.model.reply import Reply

LINE_LIMIT = 2048  #: bytes of one line; RFC 5321 4.5.3.1.5 asks for 512
REPLY_LIMIT = 64 << 10  #: bytes of one reply of many lines
TEXT_LIMIT = 1000  #: characters of a reply that are worth keeping in an envelope

_CODES = {b"%d" % code: code for code in range(200, 600)}
_WHOLE = {b"%d " % code: code for code in range(200, 600)}
_ENDS = frozenset((b" ", b"\r", b""))  # what may stand behind the code of the last line; some send no text at all


class Replies:
    """Takes what arrives, gives (code, text) for each whole reply; lines of a long one are joined by LF."""

    __slots__ = ("_code", "_kept", "_lines", "_size", "broken", "pending")

    def __init__(self) -> None:
        self.broken = ""  #: why the peer does not speak SMTP; "" as long as it does
        self.pending = False  #: a part of a further reply is here
        self._kept = b""
        self._lines: list[bytes] = []
        self._code = 0
        self._size = 0

    def feed(self, data: bytes) -> list[tuple[int, bytes]]:
        """The replies that are whole now. Those ahead of a broken line are given; look at `broken` afterwards."""
        lines = (self._kept + data if self._kept else data).split(b"\n")
        self._kept = lines.pop()
        if len(self._kept) > LINE_LIMIT:
            self._kept = b""
            self.broken = self.broken or "a line without end"
        out: list[tuple[int, bytes]] = []
        for line in lines:
            code = _WHOLE.get(line[:4])  # most replies are one line, with a text
            if code is None or self._lines or len(line) > LINE_LIMIT:
                if not self._read(line, out):
                    break
            else:
                out.append((code, line[4:].rstrip()))
        self.pending = bool(self._kept or self._lines)
        return out

    def _read(self, line: bytes, out: list[tuple[int, bytes]]) -> bool:
        """Any line; False when it breaks the protocol."""
        code = _CODES.get(line[:3])
        if code is None or len(line) > LINE_LIMIT:
            self.broken = f"not an SMTP reply: {printable(line[:200])}"
        elif self._lines or line[3:4] not in _ENDS:
            self._continue(code, line, out)
        else:
            out.append((code, line[4:].rstrip()))
        return not self.broken

    def _continue(self, code: int, line: bytes, out: list[tuple[int, bytes]]) -> None:
        """One line of a reply of several."""
        kind = line[3:4]
        if self._lines and code != self._code:
            self.broken = f"codes {self._code} and {code} in one reply"
        elif kind != b"-" and kind not in _ENDS:
            self.broken = f"not an SMTP reply: {printable(line[:200])}"
        else:
            self._code = code
            self._size += len(line)
            self._lines.append(line[4:].rstrip())
            if self._size > REPLY_LIMIT:
                self.broken = "a reply without end"
            elif kind != b"-":
                out.append((code, b"\n".join(self._lines)))
                self._lines, self._size = [], 0


def printable(text: bytes) -> str:
    """Foreign bytes as text that can stand in an envelope, a log and a terminal: what is not printable is escaped."""
    words = text.decode("utf-8", "backslashreplace")
    if words.isprintable():
        return words
    return "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in words.strip())


def as_reply(code: int, text: bytes) -> Reply:
    """A reply as a value: the enhanced code (RFC 3463) once, the lines of a long one joined by blanks, bounded."""
    first = text
    if b"\n" in text:
        first, *more = text[: 4 * TEXT_LIMIT].split(b"\n")
        found = reply.said(code, printable(first).lstrip(" -")).enhanced.encode()
        first = b" ".join([first, *(line.removeprefix(found).strip() for line in more)])
    return reply.said(code, printable(first)[:TEXT_LIMIT].lstrip(" -"))
