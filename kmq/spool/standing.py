"""How far a message of the queue is, in one line of the index: what the scheduler process must know of it at a start.

Does:     a million envelopes take a minute to read; a million sizes and times are compared in a few seconds. So the
          index keeps with the size and time of each envelope what it says of the way of its recipients.
Promise:  only ordinary mail has such a line: all recipients open, nobody has said a word about it, no worker died of
          it, nothing of its header is changed. Of all other mail the envelope is read. A line is sealed together with
          what it belongs to (ID, sizes, time): one that was torn, or stands in another's place, says nothing.
On crash: nothing is kept here.
Callers:  spool/index writes it, spool/loading believes it when the files are still of that size and time.
"""

from typing import NamedTuple
from zlib import crc32

import msgspec

from kmq.model import recipients
from kmq.model.envelope import State
from kmq.spool.look import Damaged, Found

#: Recipients of a message that has a line; the envelope of a larger one is read.
_MOST = 100


class Files(NamedTuple):
    """What a line belongs to. changed: nanoseconds, of the envelope; size: bytes of the body."""

    id: int
    bytes: int
    changed: int
    size: int


class Group(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """Recipients that are equally far. rcpt: the text of an event; the others as in State."""

    rcpt: str
    hop: str
    results: int
    until: str
    warned: bool


class Standing(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """priority: as the head has it. next_seq: the number of the next event."""

    next_seq: int
    priority: str
    groups: tuple[Group, ...]


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Standing).decode


def line_of(files: Files, found: Found | Damaged) -> str | None:
    """The line of a message; None when its envelope has to be read."""
    if isinstance(found, Damaged) or found.home != "queue" or not _ordinary(found.state):
        return None
    state = found.state
    text = _encode(Standing(state.next_seq, found.head.priority, tuple(_groups(state)))).decode()
    return f"{_seal(files, text):08x}{text}"


def read(files: Files, line: str | None) -> Standing | None:
    """What the line says of files that are as they were when it was written; None when it says nothing."""
    if line is None:
        return None
    text = line[8:]
    try:
        if int(line[:8], 16) != _seal(files, text):
            return None
        return _decode(text)
    except (ValueError, msgspec.MsgspecError):
        return None


def _seal(files: Files, text: str) -> int:
    number, size, changed, body = files
    return crc32(f"{number} {size} {changed} {body} {text}".encode())


def _ordinary(state: State) -> bool:
    said = state.done or state.held or state.removing or state.forced or state.crashes or state.home != "queue"
    return not said and 0 < len(state.results) <= _MOST and not any(passed.headers for passed in state.passed)


def _groups(state: State) -> list[Group]:
    alike: dict[tuple[str, int, str, bool], list[int]] = {}
    for index, (hop, results, until) in enumerate(zip(state.hop, state.results, state.until, strict=True)):
        alike.setdefault((hop, results, until, index in state.warned), []).append(index)
    return [Group(recipients.as_text(rcpt), *key) for key, rcpt in alike.items()]
