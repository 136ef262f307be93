"""From what phases want sent to messages for the queue: letters, and the message that goes on in another's place.

Promise:  a draft is a whole message: its head says what delivery must know of its text, and where it comes from.
          Nothing is durable yet but the text of what is large (run.written).
On crash: made again.
Callers:  run.inspecting.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import msgspec

from kmq.model.envelope import Head, head_tail
from kmq.model.event import HeaderEdit
from kmq.model.frame import Child
from kmq.phases.edits import edited
from kmq.phases.header_stream import HeaderStream
from kmq.phases.inspection import Letter, Replacement
from kmq.phases.work import Body
from kmq.run.linking import Linking
from kmq.run.written import SMALL, Written, measured

LETTER, REPLACEMENT = "letter", "replacement"


@dataclass(slots=True, frozen=True)
class Origin:
    """The message that others are made of. edits: of its header, by all that it has been through."""

    head: Head
    body: Body
    edits: tuple[HeaderEdit, ...]


async def letter(origin: Origin, made: Letter, linking: Linking) -> tuple[Child, bytes]:
    """A letter for the queue, as a result bears it. OSError when its text cannot be written."""
    passed = ",".join(phase.value for phase in made.passed)
    its = made.text is None and made.pieces is None and made.sender == origin.head.sender and not made.quiet
    head = msgspec.structs.replace(
        origin.head,
        sender=made.sender,
        recipients=list(made.recipients),
        source=msgspec.structs.replace(origin.head.source, how=made.how),
        ret=origin.head.ret if its else "",
        envid=origin.head.envid if its else "",
        parent=origin.head.id,
        quiet=made.quiet,
        passed=passed,
        edits=origin.edits + made.edits,
    )
    if made.text is not None:
        return _child(LETTER, _own(head), measured(made.text))
    if made.pieces is not None:
        return _child(LETTER, _own(head), await linking.write(made.pieces))
    return _child(LETTER, head, await _same(origin, linking), known=True)


async def replacement(origin: Origin, made: Replacement, passed: str, linking: Linking) -> tuple[Child, bytes]:
    """The message that goes on in the place of another. passed: phases and steps that it need not go through."""
    head = msgspec.structs.replace(
        origin.head,
        sender=origin.head.sender if made.sender is None else made.sender,
        recipients=[*(origin.head.recipients[index] for index in made.rcpt), *made.added],
        parent=origin.head.id,
        passed=passed,
        edits=origin.edits,
    )
    if made.pieces is None:
        return _child(REPLACEMENT, head, await _same(origin, linking), known=True)
    pieces, edits = made.pieces, origin.edits
    written = await linking.write(lambda: with_edits(pieces(), edits))
    return _child(REPLACEMENT, msgspec.structs.replace(head, edits=()), written)


def _own(head: Head) -> Head:
    """A text of its own has no edits of another's header."""
    return msgspec.structs.replace(head, edits=(), smtputf8=False, priority="", hops=0)


async def _same(origin: Origin, linking: Linking) -> Written:
    """The text of the message itself, as it came: linked when it is large."""
    head, body = origin.head, origin.body
    if body.text is not None and len(body.text) <= SMALL:
        text, name = body.text, ""
    else:
        text, name = None, await linking.linked(body)
    return Written(text, name, head.sha256, head.size, head.eight_bit, head.dots, head.longest)


def _child(kind: str, head: Head, found: Written, known: bool = False) -> tuple[Child, bytes]:
    """known: what the head says of the text is right already."""
    if not known:
        head = msgspec.structs.replace(
            head, size=found.size, eight_bit=found.eight_bit, dots=found.dots, longest=found.longest
        )
    tail, count = head_tail(head), len(head.recipients)
    if found.text is None:
        return Child(count, len(tail), 0, kind=kind, incoming=found.name, sha256=found.sha256), tail
    return Child(count, len(tail), len(found.text), kind=kind), tail + found.text


def with_edits(pieces: Iterator[bytes], edits: tuple[HeaderEdit, ...]) -> Iterator[bytes]:
    """A text whose header has the edits made in it."""
    stream = HeaderStream(lambda header: edited(header, edits))
    for piece in pieces:
        yield stream.feed(piece)
    yield stream.end()
