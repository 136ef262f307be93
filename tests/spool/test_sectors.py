"""A batch that is torn anywhere is read as its beginning: every sector of it may be what the segment held before.

Segments are used again and again, so that behind a torn batch there are whole records of an earlier generation, with
the very numbers that are expected next. (Rule J2.)
"""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from random import Random

import pytest

from kmq.spool import journal, record
from kmq.spool.journal import BLOCK, Journal, read_segment
from kmq.spool.record import Append, Encoded, Put, Remove
from tests.spool.ghost import SECTOR, GhostDisk, Kernel
from tests.spool.mutants import Mutant
from tests.spool.world import event, message

SEGMENT = 40 * BLOCK
EXHAUSTIVE = 12
RANDOM = 400


class Writes(GhostDisk):
    """Remembers each write into a segment, and what was there."""

    def __init__(self) -> None:
        super().__init__(Kernel())
        self.make_folder("journal")
        self.seen: list[tuple[str, int, bytes, bytes]] = []  # segment, offset, the file before, the file after

    def write_at(self, fd: int, parts: Sequence[bytes | memoryview], offset: int) -> None:
        name = self._open[fd].name
        before = self.read(name)
        super().write_at(fd, parts, offset)
        self.seen.append((name, offset, before, self.read(name)))


def payloads(rng: Random, generation: int, count: int) -> list[Encoded]:
    """A batch as it comes: puts with bodies of all sizes, events, removes; the same sizes in every generation."""
    made = []
    for place in range(count):
        number = generation << 32 | place + 1
        line, body = message(number, bytes([65 + generation % 26]) * rng.choice((3, 700, 1900, 3000)))
        operations = [
            Put(number, line, body, bytes(16)),
            Append(number, 1, event(1, "deferred", rcpt="0")),
            Remove(number),
        ]
        made.append(record.encode([operations[place % 3]]))
    return made


def run(generations: int, seed: int) -> Iterator[tuple[Writes, Journal, list[bytes]]]:
    """After each batch: the disk, the journal, and the records that the segment holds."""
    disk = Writes()
    log = Journal(disk, SEGMENT, 1)
    log.begin()
    for generation in range(1, generations + 1):
        rng, written = Random(seed), []  # sizes repeat, so that old records lie where new ones are expected
        for _ in range(4):
            batch = payloads(rng, generation, rng.randrange(3, 8))
            assert log.write(batch) == generation
            written += [b"".join(one.parts) for one in batch]
            yield disk, log, written
        log.turn()
        log.recycle(file for made, _, file in journal.segment_names(disk) if made <= generation)


def torn(before: bytes, after: bytes, rng: Random) -> Iterator[bytes]:
    """The file with every choice of the sectors that the write changed; many choices at random, where they are many."""
    after = after.ljust(len(before), b"\0")
    places = [at for at in range(0, len(after), SECTOR) if before[at : at + SECTOR] != after[at : at + SECTOR]]
    if len(places) <= EXHAUSTIVE:
        choices = itertools.product((False, True), repeat=len(places))
    else:
        choices = (tuple(rng.random() < 0.5 for _ in places) for _ in range(RANDOM))
    for choice in choices:
        text = bytearray(after)
        for at, lost in zip(places, choice, strict=True):
            if lost:
                text[at : at + SECTOR] = before[at : at + SECTOR]
        yield bytes(text)


@dataclass(slots=True)
class Torn:
    """cases: torn segments that were read; parts: those that held a part of the last batch; wrong: sentences."""

    cases: int = 0
    parts: int = 0
    wrong: list[str] = field(default_factory=list)


def read_torn(seed: int) -> Torn:
    """Every batch of a run, torn in every way."""
    rng, seen = Random(seed), Torn()
    for disk, log, written in run(5, seed):
        name, _, before, after = disk.seen[-1]
        durable = records(name, before, log.generation)
        for text in torn(before, after, rng):
            found = records(name, text, log.generation)
            seen.cases += 1
            seen.parts += len(durable) < len(found) < len(written)
            if found != written[: len(found)]:
                seen.wrong.append("records that are no beginning of what was written")
            if len(found) < len(durable):
                seen.wrong.append("a record that was durable is gone")
    return seen


@pytest.mark.parametrize("seed", range(6))
def test_a_torn_batch_is_read_as_its_beginning(seed: int) -> None:
    seen = read_torn(seed)
    assert seen.wrong == []
    assert seen.cases > 1000
    assert seen.parts > 50, "the tearing never left a part of a batch"


def test_a_reader_that_takes_old_records_or_torn_ones_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = "return payload if good == total else None"
    for cuts in (
        (("found != generation or ", ""), ("pack(generation, number", "pack(found, number")),
        ((whole, "return payload"),),
    ):
        monkeypatch.setattr(record, "unframe", Mutant("J2", record, "unframe", cuts).code())
        assert any(read_torn(seed).wrong for seed in range(3))
        monkeypatch.undo()


@pytest.mark.parametrize("seed", range(3))
def test_a_torn_header_begins_no_segment_or_the_right_one(seed: int) -> None:
    headers = 0
    for disk, _, _ in run(4, seed):
        for name, offset, before, after in disk.seen:
            if offset == 0 and name.endswith(".log"):
                generation = int(name[8:16], 16)
                headers += 1
                for text in torn(before, after, Random(seed)):
                    segment = read_segment(text, name, generation, 0)
                    assert segment is None or (segment.first == 1 and segment.records == [])
        disk.seen.clear()
    assert headers >= 4


def records(name: str, text: bytes, generation: int) -> list[bytes]:
    segment = read_segment(text, name, generation, int(name[17:21], 16))
    assert segment is not None
    return [bytes(payload) for _, payload in segment.records]
