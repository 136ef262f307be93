"""The header of a message that goes by in pieces, changed on its way.

Promise:  nothing behind the header is looked at or changed; of a header without end the first 200 kB are changed. What
          is kept meanwhile is the header.
On crash: nothing is kept.
Callers:  phases.rendering, phases.copy_text.
"""

from collections.abc import Callable

from kmq.model import fields


class HeaderStream:
    """Changes the header of a message that goes by in pieces, and nothing else of it.

    over: the header has gone by; grown: bytes that it became longer.
    """

    __slots__ = ("_change", "_kept", "grown", "over")

    def __init__(self, change: Callable[[bytes], bytes]) -> None:
        self._change = change
        self._kept = b""
        self.grown = 0
        self.over = False

    def feed(self, piece: bytes) -> bytes:
        if self.over:
            return piece
        self._kept += piece
        if b"\r\n\r\n" in self._kept or len(self._kept) > 2 * fields.LIMIT:
            return self.end()
        return b""

    def end(self) -> bytes:
        """What is left: the message may end with its header."""
        if self.over:
            return b""
        text, self._kept, self.over = self._kept, b"", True
        end = fields.end(text)
        header = self._change(text[:end])
        if header and not end and not text.startswith(fields.CRLF):
            header += fields.CRLF  # the message had none, and its text must not be taken for one
        self.grown = len(header) - end
        return header + text[end:]


def without_return_path(header: bytes) -> bytes:
    """Final delivery puts its own on top; an older one is another delivery's (RFC 5321 4.4)."""
    if b"return-path" not in header.lower():
        return header
    return b"".join(one.text for one in fields.read(header) if one.name != b"return-path")
