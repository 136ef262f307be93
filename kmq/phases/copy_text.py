"""The bytes of a local copy of a message, the same for every kind of local delivery: lines on top, the header with the
changes that phases made of it, the text with the line ends of this machine.

Promise:  a large message is never in memory whole. A message that has been delivered to the same address before
          (`Delivered-To`, which RFC 9228 describes) is Refused before its first byte; of a longer header 200 kB
          are looked at.
Errors:   BodyDamaged, Refused, OSError, at any piece; whoever writes takes back what is written.
On crash: nothing is kept.
Callers:  phases.addressee makes them; phases.maildir, mbox and pipe write them. Reading blocks, so it is done in
          threads.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from kmq.model import fields
from kmq.model.event import HeaderEdit
from kmq.model.reply import Reply
from kmq.phases.body import BodyFile, LocalLines
from kmq.phases.edits import edited
from kmq.phases.header_stream import HeaderStream, without_return_path
from kmq.phases.storing import Refused
from kmq.phases.work import Body


@dataclass(slots=True, frozen=True)
class CopyText:
    """See above. top: lines with LF; delivered_to: the addresses of this copy, lower case."""

    top: bytes
    body: Body
    sha256: str
    edits: tuple[HeaderEdit, ...] = ()
    delivered_to: frozenset[bytes] = frozenset()

    def pieces(self) -> Iterator[bytes]:
        """All of it, in order; once more for each call."""
        lines, stream = LocalLines(), HeaderStream(self._header)
        if self.body.text is not None:
            text = lines.feed(stream.feed(self.body.text) + stream.end())
            yield self.top + text + lines.end()
            return
        file = BodyFile(self.body.path, self.body.size, self.sha256)
        try:
            top = self.top
            while file.left:
                yield top + lines.feed(stream.feed(file.read()))
                top = b""
        finally:
            file.close()
        yield lines.feed(stream.end()) + lines.end()

    def _header(self, header: bytes) -> bytes:
        if b"delivered-to" in header.lower():
            self._look_for_loop(header)
        if self.edits:
            header = edited(header, self.edits)
        return without_return_path(header)

    def _look_for_loop(self, header: bytes) -> None:
        for one in fields.read(header):
            if one.name == b"delivered-to" and one.value.lower() in self.delivered_to:
                address = one.value.decode(errors="replace")
                raise Refused(Reply(554, "5.4.6", f"mail loop: it was delivered to {address} before"))
