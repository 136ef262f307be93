"""The file names that the header of a part gives it, as well as readers of mail may understand them.

What:     `filename` of Content-Disposition and `name` of Content-Type: RFC 2231 (charset, percent signs, pieces in any
          order) and what programs send instead: encoded words, with and without quotes; 8-bit text; blanks without
          quotes; quotes that do not end; backslashes of another system; a parameter twice.
Promise:  linear in the bytes; at most NAMES names of LONGEST characters, the best first. Where a name can be read in
          two ways both are given: who blocks names blocks what any reader would make of them. Nothing is raised.
Callers:  phases.part_reading, phases.attachment_rules (`plain`).
"""

import re
import unicodedata
from collections.abc import Iterable, Iterator
from urllib.parse import unquote_to_bytes

from kmq.phases.header_words import LIMIT, decoded, text_in

NAMES = 8
LONGEST = 1000  #: characters of a name, its last ones: what kind of file it is stands at the end

#: A parameter: its name, then a quoted string (whose end may be missing), or all up to the next semicolon.
#: Semicolons without a parameter are taken along, so that they are looked at once.
_PARAMETER = re.compile(
    rb';[\s;]*+(?:([^\s=;"]++)\s*+(?:=\s*+(?:"((?>[^"\\]|\\.)*+)(?:"|\Z|\\\Z)|([^;]*+)))?)?', re.DOTALL
)
_PAIR = re.compile(rb"\\(.)", re.DOTALL)
#: `filename*0*`: its name, the number of the piece, and whether it has percent signs.
_PIECE = re.compile(r"([^*]+)(?:\*(\d{1,4}))?(\*)?")

_BLANKS = b" \t\r\n"


def names(disposition: bytes, content_type: bytes) -> tuple[str, ...]:
    """All names, in the order in which most readers take them. The values of the two fields, unfolded."""
    found: dict[str, None] = {}
    for value, wanted in ((disposition, "filename"), (content_type, "name")):
        if wanted.encode() in value.lower():
            for name in _of(value[:LIMIT], wanted):
                found[name[-LONGEST:]] = None
    found.pop("", None)
    return tuple(found)[:NAMES]


def _of(value: bytes, wanted: str) -> Iterator[str]:
    """The names in one field: with percent signs first (RFC 6266 4.3, RFC 2231), then the plain ones."""
    pieces: dict[int, tuple[bool, bytes]] = {}
    whole: list[bytes] = []
    plain: list[bytes] = []
    for key, text, quoted in _parameters(value):
        piece = _PIECE.fullmatch(key)
        if piece is None or piece[1] != wanted:
            continue
        if piece[2] is not None:
            pieces.setdefault(int(piece[2]), (piece[3] is not None, _undone(text) if quoted else text))
        elif piece[3] is not None:
            whole.append(text)
        else:
            plain += dict.fromkeys((_undone(text), text)) if quoted else (text,)
    yield from map(_extended, whole)
    if pieces:
        yield _joined([pieces[number] for number in sorted(pieces)])
    yield from map(decoded, plain)


def _parameters(value: bytes) -> Iterator[tuple[str, bytes, bool]]:
    """(name in lower case, value, whether it stood in quotes)."""
    for found in _PARAMETER.finditer(value):
        name = (found[1] or b"").decode("latin-1").lower()
        if found[2] is not None:
            yield name, found[2], True
        elif found[3] is not None:
            yield name, found[3].strip(_BLANKS), False


def _undone(text: bytes) -> bytes:
    """A quoted string without the backslashes of its pairs (RFC 5322 3.2.1)."""
    return _PAIR.sub(rb"\1", text)


def _extended(text: bytes) -> str:
    """`utf-8'en'caf%C3%A9` -> its characters; without a charset, all of it."""
    charset, quote, rest = text.partition(b"'")
    _, second, octets = rest.partition(b"'")
    if not quote or not second:
        return decoded(unquote_to_bytes(text))
    return text_in(charset.decode("latin-1").lower(), unquote_to_bytes(octets))


def _joined(pieces: Iterable[tuple[bool, bytes]]) -> str:
    """Pieces in order, those with percent signs undone; the first of them names the charset of all."""
    charset = ""
    octets = b""
    for place, (percents, text) in enumerate(pieces):
        if place == 0 and percents and text.count(b"'") >= 2:
            named, _, text = text.partition(b"'")
            charset, text = named.decode("latin-1").lower(), text.partition(b"'")[2]
        octets += unquote_to_bytes(text) if percents else text
    return text_in(charset, octets) if charset else decoded(octets)


def plain(name: str) -> str:
    """A name as patterns are held against it: lower case, without what nobody sees (control characters, marks that turn
    the direction), in one form of Unicode, without blanks and dots at its end, which Windows leaves away.
    """
    if name.isascii() and name.isprintable():
        return name.lower().rstrip(" .").lstrip(" ")
    shown = "".join(sign for sign in name if unicodedata.category(sign) not in ("Cc", "Cf"))
    return unicodedata.normalize("NFKC", shown).casefold().rstrip(" .").lstrip()
