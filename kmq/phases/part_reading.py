"""The parts of a message as facts: what each is called, where it lies, what it looks like.

What:     a Reading is fed with a body; it knows boundaries by `mime`, names by `file_names`. What is encoded and is a
          whole message by itself is read on within it. Archives are handed to whoever lists them.
Promise:  linear in the bytes; memory is a header, a piece, and the facts, which are bounded. What readers of mail may
          take otherwise, and what goes beyond the bounds, is the verdict, and never an exception.
On crash: nothing is kept.
Callers:  phases.examiner.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple, Protocol

from kmq.model.fields import CRLF, Field
from kmq.phases.decoding import FOREIGN, Lines, decoder
from kmq.phases.facts import Facts, HeaderLine, Member, Part, Verdict
from kmq.phases.file_names import names
from kmq.phases.first_bytes import NEEDED, ZIP, looks_like
from kmq.phases.header_words import decoded
from kmq.phases.mime import Beyond, Boundary, Event, Form, Header, Text, Unfit, Walk, uncommented

#: Fields of the message's header that are told, how many of them, and bytes of a field.
_TOLD = re.compile(rb"subject|auto-submitted|precedence|list-.*").fullmatch
_FIELDS, _VALUE = 1_000, 20_000
_WHOLE = ("message/rfc822", "message/global", "message/news")
_ZIP_TYPES = (ZIP, "application/x-zip-compressed", "application/x-zip", "application/java-archive")
_ZIP_NAMES = (".zip", ".jar")

#: A header without an empty line behind it: what readers of mail may still take for its fields.
_CONTENT_LINE = re.compile(rb"^content-[a-z-]+[ \t]*:", re.IGNORECASE | re.MULTILINE)
_BEHIND = 4_000


class Bounds(NamedTuple):
    """Most multiparts and messages within each other, and most parts."""

    depth: int
    parts: int


class Archive(Protocol):
    """An archive that comes piece by piece."""

    def feed(self, piece: bytes) -> None: ...

    def members(self, part: int, part_names: Sequence[str]) -> list[Member]:
        """What is in it, when all of it has come; what could not be looked at is noted in `Found`."""
        ...


class Found:
    """What all readings of one message have found."""

    def __init__(self, bounds: Bounds, archive: Callable[["Found"], Archive]) -> None:
        self.bounds = bounds
        self.archive = archive
        self.headers: tuple[HeaderLine, ...] = ()
        self.parts: list[_Open] = []
        self.members: list[Member] = []
        self.verdict = Verdict.WHOLE
        self.why = ""

    def note(self, verdict: Verdict, why: str) -> None:
        """The first trouble is the one that is told."""
        if self.verdict is Verdict.WHOLE:
            self.verdict, self.why = verdict, why

    def note_error(self, error: Unfit) -> None:
        self.note(Verdict.LIMITS if isinstance(error, Beyond) else Verdict.UNREADABLE, str(error))

    def facts(self) -> Facts:
        """When all readings have ended."""
        for one in self.parts:
            if one.within >= 0:
                outer = self.parts[one.within]
                one.start, one.text, one.end = outer.start, outer.text, outer.end
        return Facts(self.headers, tuple(one.part() for one in self.parts), tuple(self.members), self.verdict, self.why)


class _Open:
    """A part whose end is not seen yet. levels: multiparts that were open when it began."""

    __slots__ = (
        *("_archive", "_beginning", "_decoder", "depth", "disposition", "encoding", "end", "inner", "levels", "lines"),
        *("magic", "message", "names", "number", "parent", "sealed", "size", "start", "text", "type", "within"),
    )

    def __init__(self, number: int, type_: str, encoding: str, levels: int) -> None:
        self.number, self.type, self.encoding, self.levels = number, type_, encoding, levels
        self.parent = self.within = -1
        self.depth = self.start = self.text = self.size = 0
        self.end = -1
        self.names: tuple[str, ...] = ()
        self.disposition = self.magic = ""
        self.sealed = self.message = False
        self.inner: Reading | None = None  #: reads on in what is encoded here
        self.lines = Lines()
        self._decoder = decoder(encoding)
        self._beginning: bytes | None = b""  #: until there is enough of it to know what it is
        self._archive: Archive | None = None

    def feed(self, lines: bytes, found: Found) -> None:
        """More of its text."""
        self._take(self._decoder.feed(lines), found)

    def close(self, found: Found) -> None:
        """Its text is over."""
        self._take(self._decoder.end(), found)
        if self._beginning is not None:
            self._know(found)
        if self.inner is not None:
            self.inner.feed(self.lines.end())
            self.inner.end(0)
            self.inner = None
        if self._archive is not None:
            found.members += self._archive.members(self.number, self.names)
            self._archive = None

    def _take(self, octets: bytes, found: Found) -> None:
        self.size += len(octets)
        if self.inner is not None:
            self.inner.feed(self.lines.feed(octets))
        if self._beginning is not None:
            self._beginning += octets
            if len(self._beginning) < NEEDED:
                return
            self._know(found)
        elif self._archive is not None:
            self._archive.feed(octets)

    def _know(self, found: Found) -> None:
        beginning, self._beginning = self._beginning or b"", None
        self.magic = looks_like(beginning)
        named = any(name.lower().rstrip(" .").endswith(_ZIP_NAMES) for name in self.names)
        if self.magic == ZIP or (beginning and (named or self.type in _ZIP_TYPES)):
            self._archive = found.archive(found)
            self._archive.feed(beginning)

    def part(self) -> Part:
        return Part(
            number=self.number,
            parent=self.parent,
            depth=self.depth,
            type=self.type,
            names=self.names,
            disposition=self.disposition,
            encoding=self.encoding,
            start=self.start,
            text=self.text,
            end=self.end,
            size=self.size,
            magic=self.magic,
            sealed=self.sealed,
            message=self.message,
            within=self.within,
        )


class Reading:
    """One message piece by piece: the whole one, or (with `outer`) one that is encoded in a part of it."""

    def __init__(self, found: Found, outer: _Open | None = None, within: int = -1) -> None:
        self._found = found
        self._outer = outer
        self._within = within
        self._walk: Walk | None = Walk()
        self._open: list[_Open] = []
        self._levels = 0
        self._at = 0
        self._headless: bytes | None = None  #: text behind a header without an empty line, as far as it is looked at

    def feed(self, piece: bytes) -> None:
        """More of it."""
        if self._walk is not None:
            self._follow(self._walk.feed(piece))

    def end(self, size: int) -> None:
        """No more comes. size: of the message, 0 when its parts have no place of their own."""
        if self._walk is not None:
            self._follow(self._walk.end())
        if self._walk is not None:
            self._close(0, size)

    def _follow(self, events: Iterable[Event]) -> None:
        try:
            for event in events:
                self._see(event)
        except Unfit as error:
            self._found.note_error(error)
            self._walk = None  # what is open stays without an end

    def _see(self, event: Event) -> None:
        if isinstance(event, Header):
            self._begin(event)
        elif isinstance(event, Boundary):
            self._close(event.level + 1, self._at - len(CRLF))
            self._levels = event.left
            self._at += len(event.line)
        else:
            self._look_behind(event.lines)
            if isinstance(event, Text):
                self._open[-1].feed(event.lines, self._found)
            self._at += len(event.lines)

    def _close(self, levels: int, end: int) -> None:
        """Parts that began within so many multiparts are over."""
        while self._open and self._open[-1].levels >= levels:
            one = self._open.pop()
            one.close(self._found)
            one.end = end
            one.text = min(one.text, max(end, one.start))
            if one.size and one.encoding not in ("base64", "quoted-printable"):
                one.size = max(0, end - one.text)  # the last line end is the boundary's

    # --- a part begins ------------------------------------------------------------------------------------------------

    def _begin(self, header: Header) -> None:
        found = self._found
        above = self._open[-1] if self._open else self._outer
        one = _opened(header, len(found.parts), self._levels)
        one.parent = above.number if above else -1
        one.depth = above.depth + 1 if above else 0
        if one.depth > found.bounds.depth:
            raise Beyond(f"parts lie more than {found.bounds.depth} deep")
        if len(found.parts) >= found.bounds.parts:
            raise Beyond(f"the message has more than {found.bounds.parts} parts")
        one.sealed = header.part.sealed or bool(above and above.sealed)
        one.within = self._within
        one.start = self._at
        self._at += sum([len(field.text) for field in header.fields]) + len(header.end)
        one.text = self._at
        self._headless = None if header.end else b""
        if one.number == 0:
            found.headers = told(header.fields)
        found.parts.append(one)
        self._open.append(one)
        self._judge(one, header)
        self._levels += header.part.form is Form.MULTIPART

    def _judge(self, one: _Open, header: Header) -> None:
        """What is behind a header, and whether that is sure."""
        for name in (b"content-type", b"content-transfer-encoding"):
            if [field.name for field in header.fields].count(name) > 1:
                self._found.note(Verdict.UNREADABLE, f"a part has two {name.decode().title()} fields")
        if one.encoding in FOREIGN:
            self._found.note(Verdict.UNREADABLE, f"a part is encoded as {one.encoding}")
        if one.type == "message/partial":
            self._found.note(Verdict.UNREADABLE, "it is a piece of a message (message/partial)")
        if header.part.form is not Form.OPAQUE and header.part.form is not Form.LEAF:
            return
        if one.type.startswith("multipart/"):
            self._found.note(Verdict.UNREADABLE, "a multipart has no boundary of its own, or is encoded")
        if one.type in _WHOLE:
            within = self._within if self._within >= 0 else one.number
            one.inner = Reading(self._found, one, within)

    def _look_behind(self, lines: bytes) -> None:
        """A header ended at a line that is no field: readers of mail that pass over it find more fields."""
        if self._headless is None:
            return
        self._headless += lines[:_BEHIND]
        text, empty, _ = self._headless.partition(CRLF + CRLF)
        if _CONTENT_LINE.search(text):
            self._found.note(Verdict.UNREADABLE, "a header has a line in it that is no field")
        if empty or len(text) >= _BEHIND:
            self._headless = None


def _opened(header: Header, number: int, levels: int) -> _Open:
    """A part as its header says it."""
    types = _values(header.fields, b"content-type")
    dispositions = _values(header.fields, b"content-disposition")
    content = header.content
    kind = f"{content.major.decode()}/{content.minor.decode()}"
    one = _Open(number, kind, header.part.encoding.decode("latin-1"), levels)
    if types or dispositions:
        one.names = names(b";".join((b"", *dispositions)), b";".join((b"", *types)))
    word = uncommented(dispositions[0]).partition(b";")[0].strip().lower() if dispositions else b""
    one.disposition = word.decode("latin-1")[:40]
    one.message = header.part.message
    return one


def _values(fields: Sequence[Field], name: bytes) -> list[bytes]:
    return [one.value for one in fields if one.name == name]


def told(fields: Sequence[Field]) -> tuple[HeaderLine, ...]:
    """The fields of a message's header as facts."""
    wanted = [one for one in fields if _TOLD(one.name)][:_FIELDS]
    return tuple(HeaderLine(one.name.decode("latin-1"), decoded(one.value[:_VALUE])) for one in wanted)
