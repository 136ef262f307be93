"""8-bit text made 7-bit on the wire (RFC 6152 3): for a next hop that does not offer 8BITMIME.

What:     a first reading (`survey`) finds the parts that have 8-bit text, or why they must not be touched; a second one
          (`Quoting`) writes these as quoted-printable (RFC 2045 6.7), binary ones as base64, and says so in their
          headers. What is 7-bit already stays as it is, byte for byte.
Promise:  a mail reader decodes the same parts from what comes out as from what goes in. Lines that become longer than
          76 are folded so that they decode to the same. Memory is bounded by the pieces, whatever the size. Signed mail
          is never changed.
On crash: nothing is kept; the body on the disk is as it was accepted.
Callers:  phases.rendering, in threads for large bodies.
"""

import re
from base64 import b64encode
from binascii import b2a_qp
from collections.abc import Iterable

from kmq.model.fields import CRLF, Field
from kmq.phases.encoded_words import seven_bit
from kmq.phases.mime import Between, Event, Form, Header, Part, Text, Unfit, Walk

LINE = 76  #: RFC 2045 6.7 (5), 6.8
_OCTETS = 57  #: that make a line of base64

_SIGNATURES = frozenset((b"dkim-signature", b"arc-seal", b"arc-message-signature"))
_IDENTITY = (b"", b"7bit", b"8bit")
_WIDE = (b"8bit", b"binary")
_PIECES = re.compile(rb"=[0-9A-Fa-f]{2}|.", re.DOTALL).findall


class Findings:
    """What a survey has found: the numbers of the parts that have 8-bit text."""

    __slots__ = ("_ahead", "_wide")

    def __init__(self) -> None:
        self._wide: set[int] = set()
        self._ahead = False  # there is 8-bit text ahead of what may be the first part of a multipart

    def has(self, part: Part) -> bool:
        return part.number in self._wide

    def see(self, event: Event) -> None:
        """Takes an event of the first reading; Unfit when its bytes can neither go as they are nor be changed."""
        if isinstance(event, Text):
            if not event.lines.isascii():
                self._see_text(event.part)
        elif isinstance(event, Header):
            for field in event.fields:
                _check_field(field, event.part)
        elif isinstance(event, Between):
            self._ahead = self._ahead or (event.ahead and not event.lines.isascii())
        else:
            self.close(event.inner)

    def close(self, inner: bool = False) -> None:
        """A multipart is at an end that is its own (inner) or not: without parts its text is what people read."""
        if self._ahead and not inner:
            raise Unfit("a multipart has no parts, and its text is 8-bit")
        self._ahead = False

    def _see_text(self, part: Part) -> None:
        if part.sealed:
            raise Unfit("a part is signed, and its text is 8-bit")
        if part.form is Form.OPAQUE or part.encoding not in (*_IDENTITY, b"binary", b"quoted-printable"):
            raise Unfit("a part that must not be encoded has 8-bit text")
        self._wide.add(part.number)


def survey(pieces: Iterable[bytes]) -> Findings:
    """The first reading; Unfit when the message cannot be converted."""
    found = Findings()
    walk = Walk()
    for piece in pieces:
        for event in walk.feed(piece):
            found.see(event)
    for event in walk.end():
        found.see(event)
    found.close()
    return found


def _check_field(field: Field, part: Part) -> None:
    if part.number == 0 and field.name in _SIGNATURES:
        raise Unfit(f"it is signed ({field.name.decode()}), and its text is 8-bit")
    if not field.text.isascii():
        if part.sealed:
            raise Unfit("a part is signed, and its header is 8-bit")
        if seven_bit(field) is None:
            raise Unfit(f"{field.name.decode()} in a header is 8-bit")


class Quoting:
    """The second reading: piece in, converted piece out."""

    def __init__(self, found: Findings) -> None:
        self._found = found
        self._walk = Walk()
        self._octets: bytes | None = None  # of a part that becomes base64, what waits for a whole line

    def feed(self, piece: bytes) -> bytes:
        return b"".join(map(self._converted, self._walk.feed(piece)))

    def end(self) -> bytes:
        return b"".join(map(self._converted, self._walk.end())) + self._last_octets(b"")

    def _converted(self, event: Event) -> bytes:
        if isinstance(event, Header):
            return self._header(event)
        if isinstance(event, Text):
            return self._text(event)
        if isinstance(event, Between):
            return _shown(event.lines)
        return self._last_octets(CRLF) + event.line

    def _header(self, header: Header) -> bytes:
        part = header.part
        wide = self._found.has(part)
        encoding = _new_encoding(part, wide)
        out = [
            seven_bit(one) or one.text
            for one in header.fields
            if not encoding or one.name != b"content-transfer-encoding"
        ]
        if wide and part.encoding == b"binary":
            self._octets = b""
        if wide:
            there = {one.name for one in header.fields}
            if part.message and b"mime-version" not in there:
                out.append(b"MIME-Version: 1.0\r\n")
            if b"content-type" not in there:
                out.append(b"Content-Type: text/plain; charset=unknown-8bit\r\n")
        if encoding:
            out.append(b"Content-Transfer-Encoding: %b\r\n" % encoding)
        split = wide or (part.form is Form.MESSAGE and not part.sealed)  # else fields that are added join what follows
        return b"".join(out) + (header.end or (CRLF if split else b""))

    def _text(self, text: Text) -> bytes:
        if not self._found.has(text.part):
            return text.lines
        if text.part.encoding == b"binary":
            return self._more_octets(text.lines)
        if text.part.encoding == b"quoted-printable":
            return b"".join(map(_escaped, text.lines.splitlines(keepends=True)))
        return quoted(text.lines)

    def _more_octets(self, lines: bytes) -> bytes:
        """Whole lines of base64. The last line end waits: it may belong to a boundary."""
        octets = (self._octets or b"") + lines
        ready = (len(octets) - len(CRLF)) // _OCTETS * _OCTETS
        self._octets = octets[ready:]
        return _base64(octets[:ready])

    def _last_octets(self, belonging: bytes) -> bytes:
        """The end of a part in base64. belonging: what of its end is the boundary's."""
        if self._octets is None:
            return b""
        octets, self._octets = self._octets.removesuffix(belonging), None
        return _base64(octets)


def _new_encoding(part: Part, wide: bool) -> bytes:
    """What Content-Transfer-Encoding has to say now; b"": what it says."""
    if wide and part.encoding != b"quoted-printable":
        return b"base64" if part.encoding == b"binary" else b"quoted-printable"
    return b"7bit" if part.encoding in _WIDE and not part.sealed and part.form is not Form.OPAQUE else b""


# --- texts -----------------------------------------------------------------------------------------------------------


def quoted(lines: bytes) -> bytes:
    """Whole lines as quoted-printable. A line that goes on from another cannot look like a boundary."""
    return b2a_qp(lines).replace(b"=\r\n--", b"=\r\n=2D-")


def _escaped(line: bytes) -> bytes:
    """A line that should have been quoted-printable already: what is not gets quoted, what is stays."""
    if line.isascii():
        return line
    out: list[bytes] = []
    width = 0
    for piece in _PIECES(line.removesuffix(CRLF)):
        piece = piece if piece.isascii() else b"=%02X" % piece[0]
        if width + len(piece) >= LINE:
            out.append(b"=\r\n")
            width = 0
        out.append(piece)
        width += len(piece)
    return b"".join(out) + CRLF


def _shown(lines: bytes) -> bytes:
    """Text that belongs to no part: its 8-bit lines are quoted for whoever looks at the source."""
    if lines.isascii():
        return lines
    return b"".join(one if one.isascii() else quoted(one) for one in lines.splitlines(keepends=True))


def _base64(octets: bytes) -> bytes:
    return b"".join(b64encode(octets[at : at + _OCTETS]) + CRLF for at in range(0, len(octets), _OCTETS))
