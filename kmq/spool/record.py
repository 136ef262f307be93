"""Records of the journal: operations on messages, all or none, as bytes.

Shape of a record, little-endian:
    "kmqR"  length of the payload (32)  generation (32)  number (64)  CRC-32 (32)  payload
The checksum covers generation, number, length, the record's offset in its segment, and the payload: bytes that an
earlier use of the segment left, or that stand at the wrong place, are no record (J2).
Shape of an operation: kind (8)  ID (64)  seq (32)  a (32)  b (32), then its texts:
    1 put     seq = length of `extra`, a = length of the head line, b = length of the body; extra, line, body.
              extra is 16 bytes of token, then nothing or JSON {"incoming": name, "dropped": [name, inode, mtime_ns]}.
    2 append  a = length of the line
    3 move    a = length of the line, b = 1 into poison/, 0 back into queue/
    4 remove
    5 keep    b = the day as a number (20261122); stands before the remove of a message that was delivered
    6 mark    a = length of the line, b = the day: one more line of a message that is kept
    7 archive seq = the last event that the archived envelope has, a = length of the folder's name below the spool
"""

import json
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from operator import methodcaller
from struct import Struct
from zlib import crc32

import msgspec

MAGIC = b"kmqR"
HEADER = Struct("<4sIIQI")
_POSITION = Struct("<IQIQ")
_OPERATION = Struct("<BQIII")
PUT, APPEND, MOVE, REMOVE, KEEP, MARK, ARCHIVE = 1, 2, 3, 4, 5, 6, 7
NO_TOKEN = bytes(16)
#: A record is at most this large, so that the smallest segment takes it.
RECORD_LIMIT = 768 * 1024


@dataclass(slots=True, frozen=True)
class Dropped:
    """A file of a drop directory that became a message (J12). name: relative to the spool folder."""

    name: str
    inode: int
    mtime_ns: int

    def lies(self, found: os.stat_result | None) -> bool:
        """Whether what is found under its name is still this file, and not one that came later."""
        return found is not None and (found.st_ino, found.st_mtime_ns) == (self.inode, self.mtime_ns)


class Encoded(msgspec.Struct, gc=False, frozen=True):
    """The payload of a record, in parts that lie one behind the other. A body is one of them as it came: the kernel
    alone copies it."""

    parts: list[bytes | memoryview]
    length: int


#: Of a record that is never written.
NOTHING = Encoded([], 0)


class Put(msgspec.Struct, gc=False):
    """A new message. body is None when it lies in incoming/; a view when it was read from a segment."""

    id: int
    line: bytes
    body: bytes | memoryview | None
    token: bytes = NO_TOKEN
    incoming: str = ""
    dropped: Dropped | None = None

    def parts(self) -> tuple[bytes | memoryview, ...]:
        line, body, extra = self.line, self.body or b"", self.token
        if self.incoming or self.dropped:
            place: dict[str, object] = {"incoming": self.incoming} if self.incoming else {}
            if self.dropped:
                place["dropped"] = [self.dropped.name, self.dropped.inode, self.dropped.mtime_ns]
            extra += json.dumps(place).encode()
        return b"".join((_OPERATION.pack(PUT, self.id, len(extra), len(line), len(body)), extra, line)), body


class Append(msgspec.Struct, gc=False):
    """One more line of a message's envelope."""

    id: int
    seq: int
    line: bytes

    def parts(self) -> tuple[bytes, ...]:
        return (_OPERATION.pack(APPEND, self.id, self.seq, len(self.line), 0) + self.line,)


class Move(msgspec.Struct, gc=False):
    """The message lives elsewhere from now on; the line says so in its envelope (J4)."""

    id: int
    seq: int
    line: bytes
    home: str

    def parts(self) -> tuple[bytes, ...]:
        return (_OPERATION.pack(MOVE, self.id, self.seq, len(self.line), self.home == "poison") + self.line,)


class Remove(msgspec.Struct, gc=False):
    """The message's end; nothing of it stays in the queue."""

    id: int

    def parts(self) -> tuple[bytes, ...]:
        return (_OPERATION.pack(REMOVE, self.id, 0, 0, 0),)


class Keep(msgspec.Struct, gc=False):
    """The message was delivered: its files get names in sent/<day>/ (`2026-11-22`) before the remove of this record."""

    id: int
    day: str

    def parts(self) -> tuple[bytes, ...]:
        return (_OPERATION.pack(KEEP, self.id, 0, 0, _number_of(self.day)),)


class Mark(msgspec.Struct, gc=False):
    """One more line of the envelope of a message that lies in sent/<day>/."""

    id: int
    seq: int
    line: bytes
    day: str

    def parts(self) -> tuple[bytes, ...]:
        return (_OPERATION.pack(MARK, self.id, self.seq, len(self.line), _number_of(self.day)) + self.line,)


class Archive(msgspec.Struct, gc=False):
    """The phase Backup: the body gets a name in a folder (`backup/2026-11-22`), with the envelope beside it as it is
    then: its head and its events up to seq (J4b)."""

    id: int
    seq: int
    place: str

    def parts(self) -> tuple[bytes, ...]:
        place = self.place.encode()
        return (_OPERATION.pack(ARCHIVE, self.id, self.seq, len(place), 0) + place,)


Operation = Put | Append | Move | Remove | Keep | Mark | Archive

_parts: Callable[[Operation], tuple[bytes | memoryview, ...]] = methodcaller("parts")


def encode(operations: Iterable[Operation]) -> Encoded:
    """The payload of a record."""
    parts = list(chain.from_iterable(map(_parts, operations)))
    return Encoded(parts, sum(map(len, parts)))


def _number_of(day: str) -> int:
    return int(day.replace("-", ""))


def _day_of(number: int) -> str:
    text = f"{number:08d}"
    return f"{text[:-4]}-{text[-4:-2]}-{text[-2:]}"


def heading(payload: Encoded, generation: int, number: int, offset: int) -> bytes:
    """What stands before a payload, in this one place."""
    length = payload.length
    total = crc32(_POSITION.pack(generation, number, length, offset))
    for part in payload.parts:
        total = crc32(part, total)
    return HEADER.pack(MAGIC, length, generation, number, total)


def unframe(text: bytes | memoryview, offset: int, generation: int, number: int) -> memoryview | None:
    """The payload of the record with this number at this offset, or None: there is no such record."""
    if offset + HEADER.size > len(text):
        return None
    magic, length, found, count, total = HEADER.unpack_from(text, offset)
    begin = offset + HEADER.size
    if magic != MAGIC or found != generation or count != number or begin + length > len(text):
        return None
    payload = memoryview(text)[begin : begin + length]
    good = crc32(payload, crc32(_POSITION.pack(generation, number, length, offset)))
    return payload if good == total else None


def number_at(text: bytes | memoryview, offset: int, generation: int) -> int | None:
    """The number of the record of this generation that stands at this offset, whichever it is; None: there is none."""
    if offset + HEADER.size > len(text):
        return None
    number: int = HEADER.unpack_from(text, offset)[3]
    return None if unframe(text, offset, generation, number) is None else number


def operations(payload: memoryview) -> Iterator[Operation]:
    """The operations of a payload whose checksum was right; ValueError when a later program wrote it."""
    at = 0
    while at < len(payload):
        kind, number, seq, a, b = _OPERATION.unpack_from(payload, at)
        at += _OPERATION.size
        if kind == PUT:
            extra, line = bytes(payload[at : at + seq]), bytes(payload[at + seq : at + seq + a])
            text = payload[at + seq + a : at + seq + a + b]
            at += seq + a + b
            yield _put(number, extra, line, text)
        elif kind == APPEND:
            yield Append(number, seq, bytes(payload[at : at + a]))
            at += a
        elif kind == MOVE:
            yield Move(number, seq, bytes(payload[at : at + a]), "poison" if b else "queue")
            at += a
        elif kind == REMOVE:
            yield Remove(number)
        elif kind == KEEP:
            yield Keep(number, _day_of(b))
        elif kind == MARK:
            yield Mark(number, seq, bytes(payload[at : at + a]), _day_of(b))
            at += a
        elif kind == ARCHIVE:
            yield Archive(number, seq, bytes(payload[at : at + a]).decode())
            at += a
        else:
            raise ValueError(f"operation {kind} is of a later kmq")


def _put(number: int, extra: bytes, line: bytes, text: memoryview) -> Put:
    place = json.loads(extra[16:]) if len(extra) > 16 else {}
    incoming = str(place.get("incoming", ""))
    dropped = Dropped(*place["dropped"]) if "dropped" in place else None
    return Put(number, line, None if incoming else text, extra[:16], incoming, dropped)
