"""The content of one message as it comes in by DATA or BDAT: where it ends, what it is like, what is wrong with it.

Law:      only CRLF . CRLF ends DATA; every other CR or LF spoils the message (reliability: smuggling). Bytes are taken
          in bulk, by find, replace, count and split over at most 64 KiB at a time; no Python code runs per line.
Promise:  the same bytes give the same content, facts and fault however they are cut into reads. At most 100 kB is kept
          beside what `take` has not fetched yet; of a spoiled message nothing is kept.
Method:   text is looked at with the CRLF before it, so that `CRLF .` is whole: a piece never ends within `CRLF . CRLF`,
          and a CRLF that was never sent (the command's own) stands before the first line.
"""

import re

from kmq.intake import replies
from kmq.intake.identity import identify
from kmq.intake.priority import NOT_ASKED, of_header
from kmq.model.priority import HIGH, NORMAL, Priority

PIECE = 64 * 1024  #: most bytes given at once: bounds the copies made on the way
HEADER_LIMIT = 100_000

_END = b"\r\n.\r\n"
_BEGINNINGS = (b"\r\n.\r", b"\r\n.", b"\r\n", b"\r")
_DOT = b"\r\n."
_FINAL = 3  #: bytes of the final dot and its CRLF
_LINES = 4096  #: looked at at once: 80 bytes each are needed on the way
_PIECES = 32  #: kept one by one; a client that sends single bytes would make it a long list
_FIELDS = re.compile(rb"(?>\r\n[!-9;-~]++[ \t]*+:[^\r\n]*+(?>\r\n[ \t][^\r\n]*+)*+)*+").match  # remembers no way back


class Content:
    """One message's content.

    size, eight_bit, dots, longest, hops: facts about what came so far, as `kmq.model.envelope.Head` has them.
    message_id, subject: when the header is over, by what people know it. priority: when all is here, how urgent it is.
    ended: all of it is here. spoiled: nothing is kept any more.
    """

    __slots__ = (
        "_bare", "_header", "_header_too_big", "_held", "_hop_limit", "_kept", "_line", "_line_limit", "_nul",
        "_size_limit", "_unsent", "_urgent_size", "dots", "eight_bit", "ended", "hops", "longest", "message_id",
        "priority", "size", "spoiled", "subject",
    )  # fmt: skip

    def __init__(self, size_limit: int, line_limit: int, hop_limit: int, urgent_size: int = NOT_ASKED) -> None:
        """urgent_size: up to which a message may be of high priority; NOT_ASKED: its header has no say."""
        self._size_limit = size_limit
        self._line_limit = line_limit
        self._hop_limit = hop_limit
        self._urgent_size = urgent_size
        self.priority: Priority = NORMAL
        self.message_id = self.subject = ""
        self._held = b"\r\n"
        self._unsent = 2  # bytes at the beginning that nobody sent
        self._line = 0  # bytes so far of the line that is not at its end
        self._header: bytearray | None = bytearray()  # None: it is over and counted
        self._kept: list[bytes] = []
        self._bare = self._nul = self._header_too_big = self.spoiled = False
        self.size = self.longest = self.hops = 0
        self.eight_bit = self.dots = self.ended = False

    # --- bytes in ---

    def dotted(self, chunk: bytes) -> int:
        """DATA: takes a piece of what came; returns how many of its bytes were the message's (all, until `ended`)."""
        text = self._held + chunk
        dot = _first_dot(text)
        end = text.find(_END, dot) if dot >= 0 else -1
        if end < 0:
            taken = len(chunk)
            text = self._hold(text)
        else:
            taken = end + len(_END) - len(self._held)
            self._held = b""
            text = text[: end + 2]
        if 0 <= dot != end:
            text = text.replace(b"\r\n.", b"\r\n")
            self.dots = self.dots or b"\r\n." in text
        self._take(text)
        if end >= 0:
            self._end()
        return taken

    def counted(self, chunk: bytes) -> None:
        """BDAT: takes a piece of a chunk (RFC 3030: no dots are stuffed)."""
        text = self._held + chunk
        end = 2 if text.endswith(b"\r\n") else 1 if text.endswith(b"\r") else 0
        self._held = text[len(text) - end :]
        self._take_counted(text[: len(text) - end])

    def end_counted(self) -> None:
        """The last chunk is in. A last line without end gets one, so that each stored message ends in CRLF."""
        text, self._held = self._held, b""
        self._take_counted(text)
        if self._line:
            self._take_counted(b"\r\n")
        self._end()

    def _hold(self, text: bytes) -> bytes:
        """Keeps back what may be the beginning of the end."""
        for beginning in _BEGINNINGS:
            if text.endswith(beginning):
                self._held = beginning
                return text[: -len(beginning)]
        self._held = b""
        return text

    def _take_counted(self, text: bytes) -> None:
        self.dots = self.dots or b"\r\n." in text
        self._take(text)

    def _take(self, text: bytes) -> None:
        """Text as it is to be stored, cut so that no CRLF is torn."""
        if not text:
            return None
        lines = text.split(b"\r\n", _LINES)
        if len(lines) > _LINES and lines[-1]:
            at = len(text) - len(lines[-1])
            self._take(text[:at])
            return self._take(text[at:])
        rest = b"".join(lines)  # every CR, LF that is left is a bare one
        if b"\n" in rest or b"\r" in rest:
            self._bare = True
        if b"\0" in rest:
            self._nul = True
        if not rest.isascii():
            self.eight_bit = True
        self._measure(lines)
        if self._header is not None:
            self._read_header(text)
        if self._unsent:
            text = text[self._unsent :]
            self._unsent = 0
        self.size += len(text)
        if self._bare or self._nul or self.size > self._size_limit or self.longest > self._line_limit:
            self.discard()
        elif not self.spoiled:
            self._kept.append(text)
            if len(self._kept) > _PIECES:
                self._kept = [b"".join(self._kept)]
        return None

    # --- facts ---

    def _measure(self, lines: list[bytes]) -> None:
        longest = max(map(len, lines))
        if self._line:
            longest = max(longest, self._line + len(lines[0]))
        if longest > self.longest:
            self.longest = longest
        if len(lines) == 1:
            self._line += len(lines[0])
        else:
            self._line = len(lines[-1])

    def _read_header(self, text: bytes) -> None:
        """Collects the header until the empty line, of its first 100 kB."""
        header = self._header
        assert header is not None
        if not header:  # as a rule the whole of it is there at once
            end = text.find(b"\r\n\r\n", 0, HEADER_LIMIT)
            if end >= 0:
                return self._count_hops(text[:end])
        at = max(0, len(header) - 3)
        header += text[: HEADER_LIMIT - len(header)]
        end = header.find(b"\r\n\r\n", at)
        if end >= 0:
            self._count_hops(bytes(header[:end]))
        elif len(header) == HEADER_LIMIT:
            self._end_long_header(bytes(header))
        return None

    def _end_long_header(self, header: bytes) -> None:
        """No empty line in 100 kB: either the header is too big, or there is none and this is text already."""
        fields = _FIELDS(header)
        assert fields is not None
        if header.find(b"\r\n", fields.end() + 2) < 0:
            self._header_too_big = True
            self.discard()
        self._count_hops(header[: fields.end()])

    def _count_hops(self, header: bytes) -> None:
        self._header = None
        lower = header.lower()
        self.hops = lower.count(b"\r\nreceived:")
        self.message_id, self.subject = identify(header, lower)
        if self._urgent_size != NOT_ASKED:
            self.priority = of_header(lower)
        if self.hops > self._hop_limit:  # text below a header that has no empty line after it may look like it
            fields = _FIELDS(header)
            assert fields is not None
            self.hops = fields[0].lower().count(b"\r\nreceived:")

    def _end(self) -> None:
        self.ended = True
        if self._header is not None:
            self._count_hops(bytes(self._header))
        if self.priority is HIGH and self.size > self._urgent_size:
            self.priority = NORMAL

    # --- what it came to ---

    def fault(self) -> bytes | None:
        """The reply that refuses the message, the gravest first; None so far."""
        if not self.spoiled and self.hops <= self._hop_limit:
            return None  # all else spoils the message at once
        if self._bare:
            return replies.BARE_CR_OR_LF
        if self._nul:
            return replies.NUL_RECEIVED
        if self.size > self._size_limit:
            return replies.TOO_BIG
        if self._header_too_big:
            return replies.HEADER_TOO_BIG
        if self.longest > self._line_limit:
            return replies.LINE_TOO_LONG
        if self.hops > self._hop_limit:
            return replies.TOO_MANY_HOPS
        return None

    @property
    def header_over(self) -> bool:
        """All of the header is here, or there is none."""
        return self._header is None

    @property
    def hopeless(self) -> bool:
        """So far above the limit that reading on to the end would serve nobody."""
        return self.size > 2 * self._size_limit

    def take(self) -> bytes:
        """What has come since the last take."""
        kept = b"".join(self._kept)
        self._kept.clear()
        return kept

    def discard(self) -> None:
        """Keeps nothing from now on; facts and faults go on being gathered, to the end."""
        self.spoiled = True
        self._kept.clear()


def _first_dot(text: bytes) -> int:
    """Where the CRLF of the first line that begins with a dot stands, -1 when there is none.

    A dot is found far faster than one behind CRLF, and base64 has none at all: beyond the last one of the text, but for
    what may be its end, there is nothing to look for.
    """
    last = text.rfind(b".", 0, -_FINAL)
    found = text.find(_DOT, 0, last + 1)
    return found if found >= 0 else text.find(_DOT, -len(_END))
