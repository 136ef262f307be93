"""What of a message is written differently for a next hop than it lies in the queue: header fields, addresses, 8-bit
text.

What:     a Rendering has the head as this hop is to see it (sender, recipients, size, 8-bit or not), so that commands
          and replies are made of it as of any other, and the streams through which the body goes on the wire.
Promise:  the body on the disk stays as it is. The size that is told is the size that is sent: the body is read and
          converted once before, without being kept. Memory is bounded by a header and a piece.
Errors:   BodyDamaged, OSError, as reading a body has them.
On crash: nothing is kept.
Callers:  phases.delivery, phases.drop_folder, phases.agent_file; `render` blocks and counts every byte, so it is run
          in threads for large bodies.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

import msgspec

from kmq import log
from kmq.model.envelope import Head
from kmq.model.reply import Reply
from kmq.phases.edits import edited
from kmq.phases.header_stream import HeaderStream
from kmq.phases.mime import Unfit
from kmq.phases.quoted import Findings, Quoting, survey
from kmq.phases.rewriting import Rewriter, shown
from kmq.phases.work import Work, read

#: What becomes of a header.
Change = Callable[[bytes], bytes]


class Stream(Protocol):
    """Piece in, piece out; `end` gives what is left."""

    def feed(self, piece: bytes) -> bytes: ...

    def end(self) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Rendering:
    """One message for hops of one kind.

    head:      as the hop is to see it. seven_bit: its 8-bit text is converted, by what the survey found.
    change:    what becomes of its header.
    text:      the whole body as it goes out when it is small, else None.
    """

    head: Head
    change: Change | None
    found: Findings | None
    text: bytes | None = None

    @property
    def seven_bit(self) -> bool:
        return self.found is not None

    def stream(self) -> Stream:
        """What a body goes through, for one sending."""
        return _Chain(_streams(self.change, self.found))


def render(work: Work, rewriter: Rewriter | None, seven_bit: bool) -> Rendering | Reply:
    """How a message is written; the reply (5.6.3) says why it cannot be made 7-bit."""
    change, found = _change(work, rewriter), None
    if seven_bit:
        try:
            found = survey(_through(_streams(change, None), read(work.head, work.body)))
        except Unfit as why:
            return Reply(554, "5.6.3", f"8-bit text, the next hop does not offer 8BITMIME, and no conversion: {why}")
    head = _addressed(work, rewriter)
    if work.body.text is not None:
        text = b"".join(_through(_streams(change, found), [work.body.text]))
        size, ascii_only = len(text), text.isascii()
    elif seven_bit:
        text, ascii_only = None, True
        size = sum(map(len, _through(_streams(change, found), read(work.head, work.body))))
    else:
        text = None
        size, ascii_only = _size_with_header(work, change)
    # A line that is folded may begin with a dot, so with converted text they are looked for.
    head = msgspec.structs.replace(
        head,
        size=size,
        dots=head.dots or seven_bit,
        eight_bit=not seven_bit and (head.eight_bit or not ascii_only),
    )
    return Rendering(head, change, found, text)


def as_it_is(work: Work, rewriter: Rewriter | None) -> Rendering:
    """How a message is written where 8-bit text may stand: into files, for programs."""
    rendering = render(work, rewriter, seven_bit=False)
    assert isinstance(rendering, Rendering), "what is not converted cannot be unfit"
    return rendering


def written(work: Work, rendering: Rendering) -> Iterator[bytes]:
    """The whole of it in pieces, as it goes out. Blocks; BodyDamaged or OSError where the body cannot be read."""
    if rendering.text is not None:
        yield rendering.text
        return
    stream = rendering.stream()
    yield from map(stream.feed, read(work.head, work.body))
    yield stream.end()


def _change(work: Work, rewriter: Rewriter | None) -> Change | None:
    """What phases changed of the header comes first, so that its addresses are rewritten as well."""
    edits = work.edits
    if not edits:
        return None if rewriter is None else rewriter.header
    if rewriter is None:
        return lambda header: edited(header, edits)
    rewritten = rewriter.header
    return lambda header: rewritten(edited(header, edits))


def note_rewritten(work: Work, rewriter: Rewriter | None) -> None:
    """A line in the log for each recipient of a message that goes out with other addresses."""
    if rewriter is None:
        return
    for index in work.rcpt:
        addresses = shown(rewriter, work.head.sender, work.head.recipients[index].address)
        if addresses:
            log.event("rewritten", work.head.id, connector=work.hop.connector, addresses=addresses)


def _addressed(work: Work, rewriter: Rewriter | None) -> Head:
    """The head with the addresses that this hop is told. Recipients keep their places."""
    head = work.head
    if rewriter is None:
        return head
    recipients = list(head.recipients)
    for index in work.rcpt:
        other = rewriter.recipient(recipients[index].address)
        if other != recipients[index].address:
            recipients[index] = msgspec.structs.replace(recipients[index], address=other)
    return msgspec.structs.replace(head, sender=rewriter.sender(head.sender), recipients=recipients)


def _size_with_header(work: Work, change: Change | None) -> tuple[int, bool]:
    """Size of a large body whose header alone changes, and whether that stays ASCII: no more of it is read."""
    if change is None:
        return work.head.size, True
    stream = HeaderStream(change)
    pieces = read(work.head, work.body)
    for piece in pieces:
        out = stream.feed(piece)
        if stream.over:
            break
    else:
        out = stream.end()
    pieces.close()
    return work.head.size + stream.grown, work.head.eight_bit or out.isascii()


def _streams(change: Change | None, found: Findings | None) -> list[Stream]:
    """The header first: what it becomes is looked at with the rest of the text."""
    streams: list[Stream] = []
    if change is not None:
        streams.append(HeaderStream(change))
    if found is not None:
        streams.append(Quoting(found))
    return streams


class _Chain:
    """Streams one behind the other."""

    def __init__(self, streams: list[Stream]) -> None:
        self._streams = streams

    def feed(self, piece: bytes) -> bytes:
        for stream in self._streams:
            piece = stream.feed(piece)
        return piece

    def end(self) -> bytes:
        piece = b""
        for stream in self._streams:
            piece = stream.feed(piece) + stream.end()
        return piece


def _through(streams: list[Stream], pieces: Iterable[bytes]) -> Iterator[bytes]:
    chain = _Chain(streams)
    yield from map(chain.feed, pieces)
    yield chain.end()
