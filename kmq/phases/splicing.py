"""Parts taken out of a message where they stand, with a note in the place of each; all other bytes stay as they are.

What:     a Cut is a part by its byte range (phases.facts) and what the reader finds there instead. What is the whole
          text of a message keeps its header, but for what described that text.
Promise:  the rest is the same byte for byte, whatever it is; a large body is read in pieces, and what comes out at the
          end is of what was accepted (BodyDamaged otherwise, at the last piece). No note can be taken for a boundary.
Errors:   BodyDamaged, OSError, as the body's file has them.
On crash: nothing is kept.
Callers:  phases.content_attachments, phases.antivirus_removal.
"""

from base64 import encodebytes
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from kmq.model import fields
from kmq.model.envelope import Head
from kmq.model.fields import CRLF
from kmq.phases.facts import Part
from kmq.phases.inspection import Pieces
from kmq.phases.work import Body, read

#: Bytes of a header that is kept; a larger one is no message's (phases.mime).
_HEADER = 2 * fields.LIMIT


class Cut(NamedTuple):
    """note: lines with LF or none, any characters."""

    part: Part
    note: str


def removable(part: Part) -> bool:
    """Whether it is known where it begins and ends."""
    return part.end >= part.start


def without(head: Head, body: Body, cuts: Sequence[Cut]) -> Pieces:
    """The message without these parts; each has to be removable. For a part that lies in another the outer one goes."""
    merged = _merged(cuts)

    def pieces() -> Iterator[bytes]:
        return _spliced(_Source(read(head, body)), merged, head.size)

    return pieces


def _merged(cuts: Sequence[Cut]) -> list[Cut]:
    """In the order of their bytes, none within another: its note goes along with the outer one's."""
    found: list[Cut] = []
    for cut in sorted(cuts, key=lambda one: (one.part.start, -one.part.end, one.part.number)):
        last = found[-1] if found else None
        if last is not None and cut.part.end <= last.part.end:
            if cut.note not in last.note:
                found[-1] = Cut(last.part, f"{last.note}\n{cut.note}")
        else:
            found.append(cut)
    return found


class _Source:
    """Pieces cut where one wants them."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._piece = b""
        self.at = 0

    def up_to(self, place: int) -> Iterator[bytes]:
        """All from here to a place."""
        while self.at < place:
            if not self._piece:
                self._piece = next(self._pieces, b"")
                if not self._piece:
                    return
            taken = self._piece[: place - self.at]
            self._piece = self._piece[len(taken) :]
            self.at += len(taken)
            yield taken

    def rest(self) -> Iterator[bytes]:
        yield self._piece
        yield from self._pieces


def _spliced(source: _Source, cuts: Sequence[Cut], size: int) -> Iterator[bytes]:
    for part, note in cuts:
        yield from source.up_to(part.start)
        kept = b"".join(source.up_to(min(part.text, part.start + _HEADER))) if part.message else b""
        for _ in source.up_to(part.end):
            pass
        yield _instead(kept, note) + (CRLF if part.end == size else b"")
    yield from source.rest()


def _instead(header: bytes, note: str) -> bytes:
    """What stands in a part's place; header: that of a message, which stays but for its text."""
    kept = [one for one in fields.read(header[: fields.end(header)]) if not one.name.startswith(b"content-")]
    lines = [one.text for one in kept]
    if kept and not any(one.name == b"mime-version" for one in kept):
        lines.append(b"MIME-Version: 1.0\r\n")
    encoding, text = _encoded(note)
    lines += [
        b"Content-Type: text/plain; charset=utf-8\r\n",
        b"Content-Transfer-Encoding: %b\r\n" % encoding,
        b"Content-Disposition: inline\r\n\r\n",
    ]
    return b"".join(lines) + text


def _encoded(note: str) -> tuple[bytes, bytes]:
    """As it can be read in the source where that is safe: no line is a boundary, nor too long."""
    text = note.encode("utf-8", "replace").replace(b"\n", CRLF)
    lines = text.split(CRLF)
    if text.isascii() and not any(one.startswith(b"--") or len(one) > 900 for one in lines):
        return b"7bit", text
    return b"base64", encodebytes(text).rstrip().replace(b"\n", CRLF)
