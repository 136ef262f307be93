"""The addresses in a field like To (RFC 5322 3.4), found where they stand and nothing else touched.

What:     a reader that knows comments, quotes, literals, groups, routes and encoded words for what they are, so that an
          address can be completed or replaced in place. It says where an address stands; it never writes a field anew.
Promise:  linear in the bytes, no recursion, whatever they are. What it does not understand it does not report: an entry
          that is no address stays as it is, and `broken` says that there was one.
Callers:  intake.completion, phases.rewriting.
"""

import re
from collections.abc import Mapping
from enum import Enum, auto
from typing import NamedTuple

_TOKEN = re.compile(
    rb'(?P<BLANK>[ \t\r\n]++)|(?P<QUOTED>"(?>[^"\\]|\\.)*+")|(?P<LITERAL>\[(?>[^\[\]\\]|\\.)*+\])'
    rb'|(?P<ATOM>[^ \t\r\n"\[\]()<>,;:@.\\]++)|(?P<SIGN>.)',
    re.DOTALL,
)
_COMMENT = re.compile(rb"[^()\\]++|(?P<STEP>[()])|\\.|\\", re.DOTALL)
_ATOM = rb'[^ \t\r\n"\[\]()<>,;:@.\\]++'
_SPEC = rb"(%b(?>\.%b)*+)(?:@(%b(?>\.%b)*+))?" % (_ATOM, _ATOM, _ATOM, _ATOM)
_USUAL = re.compile(
    rb'[ \t\r\n]*+(?:(?:"[^"\\]*+"|[^"()<>,;:@\[\]\\]*+)[ \t\r\n]*+<%b>|%b)[ \t\r\n]*+(,|\Z)' % (_SPEC, _SPEC)
)
_ENCODED = re.compile(rb"=\?[^?]+\?[A-Za-z]\?[^?]*\?=").fullmatch
_FAR = 998  #: bytes of a line, RFC 5322 2.1.1
_NEAR = 78  #: bytes of a line that is folded here


class Written(NamedTuple):
    """An address as it stands in a text, from `start` to `end`.

    local: with its quotes; domain: b"" when it is bare. Comments and blanks within are left out of both.
    """

    start: int
    end: int
    local: bytes
    domain: bytes

    @property
    def text(self) -> str:
        """As `model.address.parse` takes it; not UTF-8: with surrogates, which that refuses."""
        joint = self.local + b"@" + self.domain if self.domain else self.local
        return joint.decode("utf-8", "surrogateescape")


class Addresses(NamedTuple):
    """What was found. breaks: offsets behind the commas, where a line may be folded; broken: an entry is no address."""

    written: list[Written]
    breaks: list[int]
    broken: bool


class Kind(Enum):
    """What a piece of an entry is."""

    WORD = auto()
    LITERAL = auto()
    DOT = auto()
    AT = auto()
    OTHER = auto()


class Piece(NamedTuple):
    kind: Kind
    start: int
    end: int


def read(text: bytes, start: int = 0) -> Addresses:
    """The addresses of a field's text; start: where its value begins."""
    reading = _Reading(text)
    at = start
    while at < len(text) and not reading.lost:
        at = reading.step(at)
    return reading.result()


_KINDS = {"QUOTED": Kind.WORD, "ATOM": Kind.WORD, "LITERAL": Kind.LITERAL}
_SIGNS = {b".": Kind.DOT, b"@": Kind.AT}


class _Reading:
    """One list, entry by entry. entry: pieces outside angle brackets; inside: those within, None before them."""

    def __init__(self, text: bytes) -> None:
        self._text = text
        self._written: list[Written] = []
        self._breaks: list[int] = []
        self._broken = self.lost = False
        self._begin()

    def _begin(self) -> None:
        self._entry: list[Piece] = []
        self._inside: list[Piece] | None = None
        self._open = self._spoiled = self._begun = False

    def step(self, at: int) -> int:
        """Takes an entry as most are, or one token of another; returns where the next one begins."""
        if not self._begun:
            usual = _USUAL.match(self._text, at)
            if usual is not None:
                return self._take(usual)
        token = _TOKEN.match(self._text, at)
        assert token is not None, "every byte is a token"
        name, end = token.lastgroup, token.end()
        if name in _KINDS:
            self._add(Piece(_KINDS[name], at, end))
        elif name == "SIGN":
            return self._sign(token[0], at)
        return end

    def _take(self, usual: re.Match[bytes]) -> int:
        """`alice@example.org`, `alice`, `Alice Liddell <alice@example.org>`, up to the comma."""
        first = 1 if usual[1] is not None else 3
        local, domain = usual[first], usual[first + 1] or b""
        if not domain and first == 3 and _ENCODED(local):
            self._broken = True
        else:
            self._written.append(Written(usual.start(first), usual.end(first + 1 if domain else first), local, domain))
        if usual[5]:
            self._breaks.append(usual.end())
        return usual.end()

    def _add(self, piece: Piece) -> None:
        self._begun = True
        if self._open:
            assert self._inside is not None
            self._inside.append(piece)
        elif self._inside is not None:
            self._spoiled = True  # something behind the bracket
        else:
            self._entry.append(piece)

    def _sign(self, sign: bytes, at: int) -> int:
        if sign == b"(":
            return self._comment(at)
        if sign in b'")[]\\':
            self.lost = True  # a quote, comment or literal without its other end: nothing behind it is sure
        elif sign == b"<":
            self._spoiled = self._spoiled or self._inside is not None
            self._open, self._inside, self._begun = True, [], True
        elif sign == b">":
            self._spoiled = self._spoiled or not self._open
            self._open, self._begun = False, True
        elif sign == b":":
            self._colon()
        elif sign in b",;" and not self._open:
            self._close()
            if sign == b",":
                self._breaks.append(at + 1)
        else:
            self._add(Piece(_SIGNS.get(sign, Kind.OTHER), at, at + 1))
        return at + 1

    def _colon(self) -> None:
        if self._open:
            self._inside = []  # a source route, which counts for nothing (RFC 5322 4.4)
        else:
            self._begin()  # a group's name

    def _comment(self, at: int) -> int:
        """Comments nest; they are counted, not called."""
        depth = 0
        for found in _COMMENT.finditer(self._text, at):
            if found["STEP"]:
                depth += 1 if found["STEP"] == b"(" else -1
                if depth == 0:
                    return found.end()
        self.lost = True
        return len(self._text)

    def _close(self) -> None:
        """The entry is at its end: is it an address?"""
        pieces = self._entry if self._inside is None else self._inside
        if pieces or self._inside is not None or self._spoiled:
            written = None if self._open or self._spoiled else self._address(pieces)
            if written is None:
                self._broken = True
            else:
                self._written.append(written)
        self._begin()

    def _address(self, pieces: list[Piece]) -> Written | None:
        """word *("." word) ["@" domain], which is all that an addr-spec is."""
        kinds = [piece.kind for piece in pieces]
        at = kinds.index(Kind.AT) if Kind.AT in kinds else len(kinds)
        if not _dotted(kinds[:at]) or not (at == len(kinds) or _is_domain(kinds[at + 1 :])):
            return None
        local = self._joined(pieces[:at])
        if at == len(kinds) and _ENCODED(local):
            return None
        return Written(pieces[0].start, pieces[-1].end, local, self._joined(pieces[at + 1 :]))

    def _joined(self, pieces: list[Piece]) -> bytes:
        return b"".join([self._text[piece.start : piece.end] for piece in pieces])

    def result(self) -> Addresses:
        if not self.lost:
            self._close()
        return Addresses(self._written, self._breaks, self._broken or self.lost)


def _dotted(kinds: list[Kind]) -> bool:
    """Words with single dots between them."""
    return len(kinds) % 2 == 1 and set(kinds[::2]) == {Kind.WORD} and set(kinds[1::2]) <= {Kind.DOT}


def _is_domain(kinds: list[Kind]) -> bool:
    return kinds == [Kind.LITERAL] or _dotted(kinds)


def replaced(text: bytes, found: Addresses, new: Mapping[int, bytes]) -> bytes:
    """The text with other addresses in places; new: start of one that was found -> what stands there instead.

    Where a line becomes too long by that, the list is folded at its commas.
    """
    entries = _entries(text, found, new)
    joint = b"".join(entries)
    return joint if max(map(len, joint.split(b"\r\n"))) <= _FAR else _folded(entries)


def _entries(text: bytes, found: Addresses, new: Mapping[int, bytes]) -> list[bytes]:
    """The new text, cut behind its commas."""
    cuts = sorted(
        [(one.end, one.start) for one in found.written if one.start in new] + [(at, at) for at in found.breaks]
    )
    out: list[list[bytes]] = [[]]
    at = 0
    for end, start in cuts:
        out[-1].append(text[at:start])
        at = end
        if start in new and start != end:
            out[-1].append(new[start])
        else:
            out.append([])
    out[-1].append(text[at:])
    return [b"".join(pieces) for pieces in out]


def _folded(entries: list[bytes]) -> bytes:
    out: list[bytes] = []
    line = 0
    for entry in entries:
        first = entry.partition(b"\r\n")[0]
        if line and line + len(first) > _NEAR:
            entry = b"\r\n " + entry.removeprefix(b"\r\n").lstrip(b" \t")
            line = 0
        out.append(entry)
        tail = entry.rpartition(b"\r\n")
        line = len(tail[2]) + (0 if tail[1] else line)
    return b"".join(out)
