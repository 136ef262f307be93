"""The parts of a message (RFC 2046) as its bytes go by: where headers, text and boundaries are, without a tree.

Promise:  linear in the bytes; in memory are one header of 100 kB at most, the boundaries that are open, and a piece. A
          line counts as the boundary that a mail reader takes it for. Joined, the texts of all events are the message.
Errors:   Unfit, for what readers of mail would not agree on; Beyond, a kind of it, for what is deeper, or has larger
          headers or more parts, than a mail has that somebody can read.
On crash: nothing is kept.
Callers:  phases.quoted, phases.part_reading.
"""

import re
from collections.abc import Iterator, Sequence
from enum import Enum, auto
from typing import NamedTuple

from kmq.model import fields
from kmq.model.fields import CRLF, Field

DEPTH = 100  #: multiparts within each other
PARTS = 10_000

_TYPE = re.compile(rb"\s*+([!#-'*+\-.0-9A-Z^-~]+)/([!#-'*+\-.0-9A-Z^-~]+)\s*+", re.IGNORECASE).match
_PARAMETER = re.compile(
    rb";\s*+(?:([!#-'*+\-.0-9A-Z^-~]+)\s*+=\s*+(?:\"((?>[^\"\\]|\\.)*+)\"|([!#-'*+\-.0-9A-Z^-~/:?=]+))\s*+)?",
    re.IGNORECASE | re.DOTALL,
)
_COMMENT = re.compile(rb'"(?>[^"\\]|\\.)*+"|[^()"\\]++|\\.|.', re.DOTALL).finditer
_BLANK = b" \t\r\n"
_FIELD = re.compile(rb"[!-9;-~]++[ \t]*+:").match


class Unfit(Exception):
    """The message has no sure reading; the text says why."""


class Beyond(Unfit):
    """It is deeper, or has larger headers or more parts, than anybody's."""


class Form(Enum):
    """What a part is made of."""

    LEAF = auto()
    MULTIPART = auto()
    MESSAGE = auto()  #: a whole message, with a header of its own
    OPAQUE = auto()  #: has no sure reading, or may not be encoded: none of its bytes can be changed


class Part(NamedTuple):
    """What a header says. encoding: lower case, b"" for none; message: it is the header of a whole message, not of a
    part of one; sealed: below multipart/signed.
    """

    number: int
    form: Form
    encoding: bytes
    message: bool
    sealed: bool


class Header(NamedTuple):
    """A part begins. end: its empty line, b"" when it has none. content: its type, by its first field that says one or
    by what is around it."""

    part: Part
    fields: Sequence[Field]
    end: bytes
    content: "ContentType"


class Text(NamedTuple):
    """Whole lines of a leaf or of something opaque."""

    part: Part
    lines: bytes


class Between(NamedTuple):
    """Whole lines ahead of a multipart's first part or behind its last one, which nobody reads. ahead: the former."""

    lines: bytes
    ahead: bool


class Boundary(NamedTuple):
    """A line that ends a part. inner: it is one of the innermost multipart that was open.

    level: of the multipart whose line it is, 0 for the outermost: parts of it and within those end here. left: how many
    multiparts are open behind it.
    """

    line: bytes
    inner: bool
    level: int
    left: int


Event = Header | Text | Between | Boundary


class Level(NamedTuple):
    """A multipart that is open. parts: the type of its parts that say none."""

    delimiter: bytes
    parts: bytes
    sealed: bool


class ContentType(NamedTuple):
    """Lower case. boundary: None when there is none, or it is given twice."""

    major: bytes
    minor: bytes
    boundary: bytes | None


class Walk:
    """One message, piece by piece."""

    def __init__(self) -> None:
        self._kept = b""
        self._levels: list[Level] = []
        self._ends: dict[bytes, tuple[int, bool]] = {}  # line -> (level, whether it closes it)
        self._parts = 0
        self._ahead = False  # the innermost multipart has had no boundary yet
        self._part: Part | None = None  # whose text it is; None: between parts
        self._begin_header(message=True, default=b"text/plain")

    def feed(self, piece: bytes) -> Iterator[Event]:
        """What the whole lines of the text so far are; the last one waits for its end."""
        text = self._kept + piece
        end = text.rfind(CRLF) + 2
        if end < 2:
            self._kept = text
            return iter(())
        self._kept = text[end:]
        return self._lines(text[:end])

    def end(self) -> Iterator[Event]:
        """The rest. A last line without end gets one."""
        rest, self._kept = self._kept, b""
        if rest:
            yield from self._lines(rest + CRLF)
        if self._header is not None:
            yield self._enter(b"")

    def _begin_header(self, *, message: bool, default: bytes) -> None:
        self._header: list[bytes] | None = []
        self._size = 0
        self._message = message
        self._default = default

    def _lines(self, text: bytes) -> Iterator[Event]:
        at = 0
        while at < len(text):
            if self._header is not None:
                end = text.index(CRLF, at) + 2
                line = text[at:end]
                if self._takes(self._header, line):
                    at = end
                elif line == CRLF:
                    at = end
                    yield self._enter(CRLF)
                else:
                    yield self._enter(b"")
                continue
            start, end = self._boundary(text, at)
            if start > at:
                lines = text[at:start]
                yield Between(lines, self._ahead) if self._part is None else Text(self._part, lines)
            if end > start:
                yield self._leave(text[start:end])
            at = end

    def _takes(self, header: list[bytes], line: bytes) -> bool:
        """Whether a line belongs to the header that is being read."""
        if line[:2] == b"--" and line.rstrip(_BLANK) in self._ends:
            if not header and not self._message:
                raise Unfit("two boundaries follow each other")  # mail readers do not agree on what that is
            return False
        if not (_FIELD(line) or (header and line[:1] in (b" ", b"\t"))):
            return False
        header.append(line)
        self._size += len(line)
        if self._size > 2 * fields.LIMIT:
            raise Beyond("the header of a part is too big")
        return True

    def _boundary(self, text: bytes, at: int) -> tuple[int, int]:
        """The next line that is a boundary of any level, or the end."""
        if not self._ends:
            return len(text), len(text)
        start = at if text.startswith(b"--", at) else text.find(b"\r\n--", at) + 2
        while start >= at and start != 1:
            end = text.index(CRLF, start) + 2
            if text[start:end].rstrip(_BLANK) in self._ends:
                return start, end
            start = text.find(b"\r\n--", end - 2) + 2
        return len(text), len(text)

    # --- parts -------------------------------------------------------------------------------------------------------

    def _enter(self, end: bytes) -> Header:
        """A header is whole: what is behind it?"""
        assert self._header is not None
        found = fields.read(b"".join(self._header))
        part, content = self._judge(found)
        self._parts += 1
        if self._parts > PARTS:
            raise Beyond("the message has too many parts")
        self._header = None
        if part.form is Form.MULTIPART:
            self._open(content)
        elif part.form is Form.MESSAGE:
            self._begin_header(message=True, default=b"text/plain")
        else:
            self._part = part
        return Header(part, found, end, content)

    def _judge(self, found: Sequence[Field]) -> tuple[Part, ContentType]:
        types = [one.value for one in found if one.name == b"content-type"]
        encodings = [one.value for one in found if one.name == b"content-transfer-encoding"]
        content = content_type(types[0] if types else self._default)
        encoding = uncommented(encodings[0]).strip().lower() if encodings else b""
        form = _form(content, encoding) if len(types) <= 1 and len(encodings) <= 1 else Form.OPAQUE
        sealed = self._levels[-1].sealed if self._levels else False
        return Part(self._parts, form, encoding, self._message, sealed), content

    def _open(self, content: ContentType) -> None:
        if len(self._levels) >= DEPTH:
            raise Beyond("the message is nested too deep")
        sealed = content.minor == b"signed" or (bool(self._levels) and self._levels[-1].sealed)
        default = b"message/rfc822" if content.minor == b"digest" else b"text/plain"
        delimiter = b"--" + (content.boundary or b"")
        if delimiter in self._ends or delimiter + b"--" in self._ends:
            raise Unfit("multiparts within each other have one boundary")
        self._levels.append(Level(delimiter, default, sealed))
        self._part = None
        self._ahead = True
        self._listen()

    def _leave(self, line: bytes) -> Boundary:
        level, closing = self._ends[line.rstrip(_BLANK)]
        inner = level == len(self._levels) - 1
        if inner and closing and self._ahead:
            raise Unfit("a multipart has no parts")
        self._ahead = False
        left = level if closing else level + 1
        if left < len(self._levels):
            del self._levels[left:]
            self._listen()
        self._part = None
        if not closing:
            self._begin_header(message=False, default=self._levels[level].parts)
        return Boundary(line, inner, level, left)

    def _listen(self) -> None:
        """Which lines end a part now."""
        self._ends = {}
        for level, one in enumerate(self._levels):
            self._ends[one.delimiter] = level, False
            self._ends[one.delimiter + b"--"] = level, True


_IDENTITY = (b"", b"7bit", b"8bit", b"binary")
_WHOLE = ((b"message", b"rfc822"), (b"message", b"global"), (b"message", b"news"))


def _form(content: ContentType, encoding: bytes) -> Form:
    if content.major == b"multipart":
        return Form.MULTIPART if content.boundary and encoding in _IDENTITY else Form.OPAQUE
    if content[:2] in _WHOLE and encoding in _IDENTITY:
        return Form.MESSAGE
    if content.major == b"message" and not content.minor.startswith(b"global"):
        return Form.OPAQUE  # RFC 2046 5.2: no other encoding than these; RFC 6532 lets message/global have any
    return Form.LEAF


def content_type(value: bytes) -> ContentType:
    """A Content-Type as mail readers take it: what cannot be read is text/plain (RFC 2045 5.2)."""
    value = uncommented(value)
    found = _TYPE(value)
    if found is None:
        return ContentType(b"text", b"plain", None)
    boundaries = []
    at = found.end()
    parameter = _PARAMETER.match(value, at)
    while parameter is not None and parameter.end() > at:
        if parameter[1] is not None and parameter[1].lower() == b"boundary":
            quoted = parameter[2]
            boundaries.append(parameter[3] if quoted is None else re.sub(rb"\\(.)", rb"\1", quoted))
        at = parameter.end()
        parameter = _PARAMETER.match(value, at)
    boundary = boundaries[0].rstrip() if len(boundaries) == 1 else None
    return ContentType(found[1].lower(), found[2].lower(), boundary)


def uncommented(value: bytes) -> bytes:
    """A structured value without its comments."""
    if b"(" not in value:
        return value
    out: list[bytes] = []
    depth = 0
    for piece in _COMMENT(value):
        if piece[0] == b"(":
            depth += 1
        elif piece[0] == b")" and depth:
            depth -= 1
        elif not depth:
            out.append(piece[0])
    return b"".join(out)
