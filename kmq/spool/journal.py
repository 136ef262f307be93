"""The write-ahead log: segments of records, written and synced in batches by one writer.

Names:    journal/<generation>.<serial>.log (8 and 4 hex digits) is a segment, journal/spare.<n> waits to be one again.
          Each full segment ends a generation; a serial above 0 is a segment that took over after a failed sync (J8) or
          the copy that a recovery made (J5).
Shape:    a segment begins with one block of 4096 bytes: a line of JSON with checksum, generation and first number,
          padded with blanks. Batches begin at block ends, so that no acknowledged byte is ever written again.
Promise:  `write` returns when the batch is durable. Segments are filled with zeros once, so that a sync writes no
          metadata, and two spare ones are kept in reserve, so that deliveries go on when the disk is full (J13).
On crash: whatever was in flight is there or void (J2); `read` says which.
Callers:  store: write, turn, abandon from one thread, prepare and recycle from one other; recovery.
"""

import contextlib
import itertools
import re
import threading
from collections.abc import Iterable
from dataclasses import dataclass, field

from kmq.model.envelope import seal, unseal
from kmq.spool import record
from kmq.spool.disk import Disk
from kmq.spool.record import Encoded

BLOCK = 4096
RESERVE = 2
_NAME = re.compile(r"([0-9a-f]{8})\.([0-9a-f]{4})\.log")
_SPARE = re.compile(r"spare\.[0-9a-f]{8}")
_HEADER = re.compile(rb'{"journal":1,"generation":(\d+),"serial":(\d+),"first":(\d+)}')


def name(generation: int, serial: int) -> str:
    """A segment's file."""
    return f"journal/{generation:08x}.{serial:04x}.log"


def header(generation: int, serial: int, first: int) -> bytes:
    """A segment's first block."""
    text = seal(b'{"journal":1,"generation":%d,"serial":%d,"first":%d}' % (generation, serial, first))
    return text.ljust(BLOCK - 1) + b"\n"


def _padded(length: int) -> int:
    return -(-length // BLOCK) * BLOCK


@dataclass(slots=True)
class Segment:
    """A segment as it was found. records: (number, payload), consecutive from `first` on.

    damaged: behind the last of them stands a later one, so that what lies between was synced once and is lost.
    """

    file: str
    generation: int
    serial: int
    first: int
    records: list[tuple[int, memoryview]] = field(default_factory=list)
    damaged: bool = False


# --- reading ----------------------------------------------------------------------------------------------------


def segment_names(disk: Disk) -> list[tuple[int, int, str]]:
    """(generation, serial, file) of everything that has a segment's name, oldest first, readable or not."""
    found = ((match, name) for name in disk.names("journal") if (match := _NAME.fullmatch(name)))
    return [(int(match[1], 16), int(match[2], 16), f"journal/{name}") for match, name in found]


def spares(disk: Disk) -> list[str]:
    """Files that may be used again. One that has a second name (a rename that a power cut split) loses this one."""
    found = []
    for file in (f"journal/{name}" for name in disk.names("journal") if _SPARE.fullmatch(name)):
        status = disk.status(file)
        if status and status.st_nlink > 1:
            disk.unlink(file)
        else:
            found.append(file)
    return found


def read_segment(text: bytes, file: str, generation: int, serial: int) -> Segment | None:
    """A segment of its bytes; None when its header is not its own: such a file was prepared and never begun."""
    first = _first_number(text, generation, serial)
    if first is None:
        return None
    segment = Segment(file, generation, serial, first)
    at, number = BLOCK, first
    while at < len(text):
        payload = record.unframe(text, at, generation, number)
        if payload is not None:
            segment.records.append((number, payload))
            at, number = at + record.HEADER.size + len(payload), number + 1
        elif at % BLOCK:
            at = _padded(at)  # the rest of a batch's last block; the next batch goes on with the next number
        else:
            break
    segment.damaged = _goes_on(text, at, generation, number)
    return segment


def _first_number(text: bytes, generation: int, serial: int) -> int | None:
    """The first number that the header says. It was durable before the first record was written, so where a record
    stands under a header that cannot be read, the header is damaged and the record's own number will do."""
    line = unseal(text[:BLOCK].rstrip())
    match = _HEADER.fullmatch(line) if line else None
    if match and (int(match[1]), int(match[2])) == (generation, serial):
        return int(match[3])
    return record.number_at(text, BLOCK, generation)


def _goes_on(text: bytes, at: int, generation: int, number: int) -> bool:
    """Whether a later batch stands behind the end of the records: a batch is written only when all before it is
    durable, so such an end is damage, and not a write that was cut."""
    for place in range(_padded(at), len(text), BLOCK):
        if text[place : place + 4] == record.MAGIC:
            found = record.number_at(text, place, generation)
            if found is not None and found > number:
                return True
    return False


def read(disk: Disk) -> list[Segment]:
    """All segments that were begun, oldest first (J2: generation and consecutive numbers decide, nothing else)."""
    found = []
    for generation, serial, file in segment_names(disk):
        segment = read_segment(disk.read(file), file, generation, serial)
        if segment is not None:
            found.append(segment)
    return found


def valid(segments: Iterable[Segment]) -> dict[int, list[memoryview]]:
    """generation -> payloads in order. What an older segment of a generation holds from a newer one's first number on
    is void (J2): after a failed sync it may be on disk or not, and puts in it were refused."""
    found: dict[int, list[memoryview]] = {}
    for segment in segments:
        have = found.setdefault(segment.generation, [])
        del have[segment.first - 1 :]
        if len(have) + 1 >= segment.first:
            have.extend(payload for _, payload in segment.records)
    return found


# --- writing ----------------------------------------------------------------------------------------------------


class Journal:
    """The writing end. generation and number name the next record to be written."""

    def __init__(self, disk: Disk, size: int, generation: int) -> None:
        self.disk = disk
        self.size = _padded(size)
        self.generation = generation
        self.number = 1
        self.syncs = 0
        self.pool = spares(disk)
        self._spare_numbers = itertools.count(1 + max((int(spare[-8:], 16) for spare in self.pool), default=0))
        self._serial = 0
        self._fd = -1
        self._offset = 0
        self._prepared: int | None = None  # the next generation's file, named and open
        self._naming = threading.Lock()  # two that name one segment would put one file over the other

    @property
    def room(self) -> int:
        """The largest batch that is ever written in one piece."""
        return self.size - BLOCK

    def begin(self) -> None:
        """The first segment; nothing may be written before."""
        self._open(self._take(self.generation, 0), 1)

    def write(self, payloads: list[Encoded]) -> int:
        """Writes and syncs a batch; -> the generation that holds it. OSError: nothing of it counts, see `abandon`."""
        length = _padded(sum([one.length for one in payloads]) + record.HEADER.size * len(payloads))
        if self._offset + length > self.size:
            self.turn()
        at, number, generation = self._offset, self.number, self.generation
        parts: list[bytes | memoryview] = []
        for payload in payloads:
            parts.append(record.heading(payload, generation, number, at))
            parts += payload.parts
            at += record.HEADER.size + payload.length
            number += 1
        parts.append(bytes(self._offset + length - at))
        self.disk.write_at(self._fd, parts, self._offset)
        self._sync()
        self._offset += length
        self.number = number
        return self.generation

    def turn(self) -> None:
        """The next generation begins; the last batch of this one is durable already (J3)."""
        with self._naming:
            following = self.generation + 1
            if self._prepared is not None:
                fd, self._prepared = self._prepared, None
            else:
                fd = self._take(following, 0)
            self.disk.close_file(self._fd)
            self.generation, self._serial = following, 0
        self._open(fd, 1)

    def abandon(self) -> None:
        """After a failed write or sync (J8): the segment is never touched again, a new one begins with the number of
        the first record that was not synced. OSError: nothing has changed, try again."""
        with self._naming:
            fd = self._take(self.generation, self._serial + 1)
            self.disk.close_file(self._fd)
            self._serial += 1
        self._open(fd, self.number)

    def copy(self, old: Segment, serial: int) -> None:
        """The records of a segment in a new one that takes over from it; it counts only when it is whole (J5.1).

        A block of zeros ends it, so that nothing that the file held before can be taken for its next record.
        """
        parts: list[bytes | memoryview] = [header(old.generation, serial, old.first)]
        at = BLOCK
        for number, payload in old.records:
            parts += (record.heading(Encoded([payload], len(payload)), old.generation, number, at), payload)
            at += record.HEADER.size + len(payload)
        parts.append(bytes(_padded(at) - at + BLOCK))
        spare = self.pool.pop() if self.pool else self._fill()
        fd = self.disk.update(spare)
        try:
            self.disk.write_at(fd, parts, 0)
            self.disk.sync(fd)
        finally:
            self.disk.close_file(fd)
        self.disk.rename(spare, name(old.generation, serial))
        self.disk.sync_folder("journal")
        if not old.damaged:
            self.recycle([old.file])  # it is void now: however often a start is cut, the reserve lasts

    def _open(self, fd: int, first: int) -> None:
        self._fd, self._offset, self.number = fd, BLOCK, first
        self.disk.write_at(fd, [header(self.generation, self._serial, first)], 0)
        self._sync()

    def _sync(self) -> None:
        self.syncs += 1
        self.disk.datasync(self._fd)

    def close(self) -> None:
        self.disk.close_file(self._fd)
        if self._prepared is not None:
            self.disk.close_file(self._prepared)
            self._prepared = None

    # --- files --------------------------------------------------------------------------------------------------

    def prepare(self) -> None:
        """Makes the next segment ready, name and folder durable, and fills the reserve, while writing goes on.

        OSError: the disk is full; what is prepared and in reserve still serves.
        """
        with self._naming:
            if self._prepared is None:
                self._prepared = self._take(self.generation + 1, 0)
        while len(self.pool) < RESERVE:
            self.pool.append(self._fill())

    def recycle(self, files: Iterable[str]) -> None:
        """Segments below the checkpoint become spare files again (J3: only after the checkpoint file is durable)."""
        for file in files:
            found = self.disk.status(file)
            if len(self.pool) >= 4 * RESERVE or (found and found.st_nlink > 1):
                self.disk.unlink(file)  # a file with two names would become two spare ones
            else:
                spare = self._new_spare()
                self.disk.rename(file, spare)
                self.pool.append(spare)

    def _take(self, generation: int, serial: int) -> int:
        """A file with a segment's name, durable in its folder, its old content void under that name."""
        spare = self.pool.pop() if self.pool else self._fill()
        file = name(generation, serial)
        try:
            self.disk.rename(spare, file)
        except OSError:
            self.pool.append(spare)
            raise
        self.disk.sync_folder("journal")
        return self.disk.update(file)

    def _new_spare(self) -> str:
        return f"journal/spare.{next(self._spare_numbers):08x}"  # asked by two threads

    def _fill(self) -> str:
        spare = self._new_spare()
        fd = self.disk.create(spare)
        try:
            zeros = bytes(min(self.size, 1 << 20))
            for at in range(0, self.size, len(zeros)):
                self.disk.write_at(fd, [zeros[: self.size - at]], at)
            self.disk.sync(fd)
        except OSError:
            with contextlib.suppress(OSError):
                self.disk.unlink(spare)
            raise
        finally:
            self.disk.close_file(fd)
        return spare
