"""Every row of LEGAL STATES, staged: a spool with one thing in it that is not at rest, and what is to be said of it.

What:     `stage(spool, name)` makes a spool with mail at rest in both homes, and one `Scene` of those in SCENES in it.
Callers:  test_fsck, test_second_reader.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from kmq.model import queue_id
from kmq.spool import journal, kept, layout
from kmq.spool.disk import Disk
from kmq.spool.record import Move, Put
from tests.spool.world import NOW, World, event, message

TEXT = b"Subject: the one\r\n\r\nthat something happens to\r\n"


@dataclass
class Scene:
    """A spool, and the message that something happens to.

    state, path, detail: what is to be found. mail: bodies that must outlive every repair, by checksum.
    """

    spool: Path
    world: World
    number: int = 0
    state: str = ""
    path: str = ""
    detail: str = ""
    mail: set[str] = field(default_factory=set)

    @property
    def name(self) -> str:
        return queue_id.text(self.number)

    @property
    def envelope(self) -> Path:
        return self.spool / layout.envelope(self.number)

    @property
    def body(self) -> Path:
        return self.spool / layout.body(self.number)

    @property
    def poisoned_envelope(self) -> Path:
        return self.spool / layout.envelope(self.number, "poison")

    @property
    def poisoned_body(self) -> Path:
        return self.spool / layout.body(self.number, "poison")

    def finds(self, state: str, path: "Path | str", detail: str = "") -> None:
        self.state, self.detail = state, detail
        self.path = path if isinstance(path, str) else str(path.relative_to(self.spool))

    def accepts(self) -> None:
        """The one message, at rest and covered by a checkpoint."""
        self.number = self.world.put(TEXT)
        self.world.append(self.number, 1, "deferred", rcpt="0", attempt=1, reply="451 4.3.0 later")
        self.world.settle()
        self.world.checkpoint()

    def sets_aside(self) -> None:
        """The one message, at rest in poison/."""
        self.accepts()
        self.world.move(self.number, 2)
        self.world.settle()
        self.world.checkpoint()

    def next_effect(self) -> object:
        return self.world.effects._waiting[0].operations[0]


SCENES: dict[str, Callable[[Scene], None]] = {}


def scene(make: Callable[[Scene], None]) -> Callable[[Scene], None]:
    SCENES[make.__name__] = make
    return make


def stage(spool: Path, name: str) -> Scene:
    """The spool of a scene; nobody has it open any more."""
    spool.mkdir()
    world = World(spool)
    made = Scene(spool, world)
    kept = [b"Subject: bystander %d\r\n\r\n" % count for count in range(3)]
    numbers = [world.put(text) for text in kept]
    world.settle()
    world.move(numbers[2], 1)
    world.settle()
    world.checkpoint()
    SCENES[name](made)
    made.mail |= {hashlib.sha256(text).hexdigest() for text in kept}
    world.log.close()  # type: ignore[attr-defined]
    world.disk.close()
    return made


# --- what a start brings on -------------------------------------------------------------------------------------------


@scene
def S1(it: Scene) -> None:
    it.number = it.world.put(TEXT)
    it.world.sync()
    it.finds("S1", str(it.envelope.relative_to(it.spool).with_suffix("")))
    it.mail.add(hashlib.sha256(TEXT).hexdigest())


@scene
def S2_body_alone(it: Scene) -> None:
    S1(it)
    put = it.next_effect()
    assert isinstance(put, Put)
    it.world.effects.homes.make_body(put, again=False)
    it.state = "S2"


@scene
def S2_torn_envelope(it: Scene) -> None:
    S2_body_alone(it)
    put = it.next_effect()
    assert isinstance(put, Put)
    it.envelope.write_bytes(put.line[:30])


@scene
def S2_body_of_zeros(it: Scene) -> None:
    S1(it)
    it.world.apply_all()
    it.body.write_bytes(bytes(len(TEXT)))
    it.state = "S2"


@scene
def S2_large(it: Scene) -> None:
    it.number = it.world.store.new_id(NOW)
    (it.spool / "incoming" / "1-1-1-7").write_bytes(TEXT)
    line, _ = message(it.number, TEXT)
    it.world.record(Put(it.number, line, None, bytes(16), "1-1-1-7"))
    it.world.settle()
    it.body.unlink()
    it.finds("S2", str(it.envelope.relative_to(it.spool).with_suffix("")))
    it.mail.add(hashlib.sha256(TEXT).hexdigest())


@scene
def S4(it: Scene) -> None:
    it.accepts()
    it.world.move(it.number, 2)
    it.world.sync()
    move = it.next_effect()
    assert isinstance(move, Move)
    it.world.effects.homes.enter(move)
    it.finds("S4", str(it.envelope.relative_to(it.spool).with_suffix("")))
    it.mail.add(hashlib.sha256(TEXT).hexdigest())


@scene
def S6(it: Scene) -> None:
    it.accepts()
    it.world.remove(it.number)
    it.world.sync()
    it.finds("S6", str(it.envelope.relative_to(it.spool).with_suffix("")))


@scene
def S7(it: Scene) -> None:
    (it.spool / "incoming" / "1-1-1-9").write_bytes(TEXT)
    it.finds("S7", "incoming/1-1-1-9")


@scene
def S8(it: Scene) -> None:
    it.accepts()
    half = it.envelope.with_suffix(".env.new")
    half.write_bytes(b"half")
    it.finds("S8", half)
    it.mail.add(hashlib.sha256(TEXT).hexdigest())


# --- damage -----------------------------------------------------------------------------------------------------------


@scene
def D0_missing(it: Scene) -> None:
    (it.spool / "FORMAT").unlink()
    it.finds("D0", "FORMAT", "it is missing")


@scene
def D1(it: Scene) -> None:
    it.accepts()
    it.envelope.unlink()
    it.finds("D1", it.body)
    it.mail.add(hashlib.sha256(TEXT).hexdigest())


@scene
def D1_in_poison(it: Scene) -> None:
    it.sets_aside()
    it.poisoned_envelope.unlink()
    it.finds("D1", it.poisoned_body)
    it.mail.add(hashlib.sha256(TEXT).hexdigest())


@scene
def D2(it: Scene) -> None:
    it.accepts()
    it.body.unlink()
    it.finds("D2", it.envelope)


@scene
def D2_large_body_lost(it: Scene) -> None:
    S2_large(it)
    (it.spool / "incoming" / "1-1-1-7").unlink()
    it.mail.clear()
    it.finds("D2", it.envelope)


@scene
def D2_in_the_journal(it: Scene) -> None:
    D2_large_body_lost(it)
    it.envelope.unlink()
    it.detail = "it is in the journal; its body is lost"


@scene
def D3(it: Scene) -> None:
    it.accepts()
    text = it.envelope.read_bytes()
    it.envelope.write_bytes(text.replace(b"example.org", b"example.net", 1))
    it.finds("D3", it.envelope)
    it.mail.add(hashlib.sha256(TEXT).hexdigest())


@scene
def D3_empty(it: Scene) -> None:
    it.accepts()
    it.envelope.write_bytes(b"")
    it.finds("D3", it.envelope, "it is empty")
    it.mail.add(hashlib.sha256(TEXT).hexdigest())


@scene
def D3_a_folder(it: Scene) -> None:
    it.accepts()
    it.envelope.unlink()
    it.envelope.mkdir()
    it.finds("D3", it.envelope, "not a regular file")
    it.mail.add(hashlib.sha256(TEXT).hexdigest())


@scene
def D4_checksum(it: Scene) -> None:
    it.accepts()
    text = TEXT.replace(b"one", b"two")
    it.body.write_bytes(text)
    it.finds("D4", it.body, "its checksum is wrong")
    it.mail.add(hashlib.sha256(text).hexdigest())


@scene
def D4_size(it: Scene) -> None:
    it.accepts()
    it.body.write_bytes(TEXT + b"more\r\n")
    it.finds("D4", it.body, f"{len(TEXT) + 6} bytes, accepted were {len(TEXT)}")
    it.mail.add(hashlib.sha256(TEXT + b"more\r\n").hexdigest())


@scene
def D4_in_poison(it: Scene) -> None:
    it.sets_aside()
    it.poisoned_body.write_bytes(b"")
    it.finds("D4", it.poisoned_body, f"0 bytes, accepted were {len(TEXT)}")


@scene
def D4_a_folder(it: Scene) -> None:
    it.accepts()
    it.body.unlink()
    it.body.mkdir()
    it.finds("D4", it.body, "it is not a regular file")


@scene
def D5(it: Scene) -> None:
    it.accepts()
    line, _ = message(it.number + 7, TEXT)
    it.envelope.write_bytes(line)
    it.finds("D5", it.envelope, f"it is that of {queue_id.text(it.number + 7)!r}")
    it.mail.add(hashlib.sha256(TEXT).hexdigest())


@scene
def D6_copied(it: Scene) -> None:
    """Somebody copied a message to poison/; then it lived on."""
    it.accepts()
    it.poisoned_body.write_bytes(TEXT)
    it.poisoned_envelope.write_bytes(it.envelope.read_bytes())
    with it.envelope.open("ab") as file:
        file.write(b"\n" + event(2, "deferred", rcpt="0", attempt=2, reply="452 4.2.2 full"))
    it.finds("D6", str(it.envelope.relative_to(it.spool).with_suffix("")))
    it.mail.add(hashlib.sha256(TEXT).hexdigest())


@scene
def D6_moved(it: Scene) -> None:
    """A copy in the queue got events that are its last move's business no more: that says poison/."""
    it.sets_aside()
    it.body.parent.mkdir(exist_ok=True)
    it.body.write_bytes(TEXT)
    line = event(3, "deferred", rcpt="0", attempt=2, reply="452 4.2.2 full")
    it.envelope.write_bytes(it.poisoned_envelope.read_bytes() + b"\n" + line)
    it.finds("D6", str(it.envelope.relative_to(it.spool).with_suffix("")))
    it.mail.add(hashlib.sha256(TEXT).hexdigest())


@scene
def D6_other_body(it: Scene) -> None:
    """The envelope with more lines has no whole body; that of the other home is. Whatever is there is kept."""
    it.sets_aside()
    it.body.parent.mkdir(exist_ok=True)
    it.body.write_bytes(TEXT)
    it.envelope.write_bytes(it.poisoned_envelope.read_bytes().rpartition(b"\n")[0])
    it.poisoned_body.write_bytes(b"Subject: something else\r\n\r\n")
    it.finds("D6", str(it.envelope.relative_to(it.spool).with_suffix("")))
    it.mail |= {hashlib.sha256(text).hexdigest() for text in (TEXT, it.poisoned_body.read_bytes())}


@scene
def D6_second_body(it: Scene) -> None:
    """Beside a whole message the body of another lies in poison/ under its name."""
    it.accepts()
    it.poisoned_body.write_bytes(b"Subject: something else\r\n\r\n")
    it.finds("D6", str(it.envelope.relative_to(it.spool).with_suffix("")))
    it.mail |= {hashlib.sha256(text).hexdigest() for text in (TEXT, it.poisoned_body.read_bytes())}


@scene
def D6_no_envelope(it: Scene) -> None:
    """Bodies in both homes, and what they belong to is not readable any more."""
    it.accepts()
    it.envelope.write_bytes(b"rot")
    it.poisoned_body.write_bytes(b"Subject: something else\r\n\r\n")
    it.finds("D6", str(it.envelope.relative_to(it.spool).with_suffix("")))
    it.mail |= {hashlib.sha256(text).hexdigest() for text in (TEXT, it.poisoned_body.read_bytes())}


@scene
def D7(it: Scene) -> None:
    it.accepts()
    strange = it.envelope.with_name("notes.txt")
    strange.write_bytes(b"my notes")
    it.finds("D7", strange)
    it.mail.add(hashlib.sha256(TEXT).hexdigest())


@scene
def D7_misplaced(it: Scene) -> None:
    """A message's name in a folder where no message of that ID lies."""
    it.accepts()
    strange = it.envelope.with_name("00000001-00000001.env")
    strange.write_bytes(b"")
    it.finds("D7", strange)
    it.mail.add(hashlib.sha256(TEXT).hexdigest())


@scene
def D7_in_the_journal(it: Scene) -> None:
    (it.spool / "journal" / "old.tar").write_bytes(b"")
    it.finds("D7", "journal/old.tar")


@scene
def D8(it: Scene) -> None:
    it.accepts()
    text = it.envelope.read_bytes()
    it.envelope.write_bytes(text.replace(b"451 4.3.0", b"551 4.3.0"))
    it.finds("D8", it.envelope, "line 2")
    it.mail.add(hashlib.sha256(TEXT).hexdigest())


@scene
def D9(it: Scene) -> None:
    checkpoint = it.spool / "journal" / "checkpoint"
    checkpoint.write_bytes(checkpoint.read_bytes().replace(b'"generation":', b'"generation":1'))
    it.finds("D9", "journal/checkpoint")


@scene
def D9_old_segment(it: Scene) -> None:
    """With the checkpoint a segment comes back that it covered: its mail has gone since."""
    it.number = it.world.put(TEXT)
    it.world.settle()
    (old,) = (it.spool / "journal").glob("*.log")
    text = old.read_bytes()
    it.world.checkpoint()
    it.world.remove(it.number)
    for _ in range(2):
        it.world.settle()
        it.world.checkpoint()
        it.world.put(b"Subject: goes too\r\n\r\n")
        it.world.sync()
        it.world.remove(it.world.store.last_id)
    it.world.settle()
    it.world.checkpoint()
    old.write_bytes(text)
    D9(it)


@scene
def D12(it: Scene) -> None:
    """A line of state/ that rotted, beside one that did not."""
    disk = Disk(it.spool)
    kept.replace(disk, kept.QUEUES, [b'{"hop":"a","by":"uid 0"}', b'{"hop":"b","by":"uid 0"}'])
    disk.close()
    path = it.spool / "state" / "queues"
    path.write_bytes(path.read_bytes().replace(b'"a"', b'"c"'))
    it.finds("D12", "state/queues", "1 line")


@scene
def D10(it: Scene) -> None:
    """A batch that was durable once cannot be read; a later one can."""
    at = it.world.log._offset  # type: ignore[attr-defined]
    it.world.put(b"Subject: lost\r\n\r\n")
    it.world.sync()
    it.world.put(b"Subject: behind it\r\n\r\n")
    it.world.sync()
    segment = it.spool / journal.name(it.world.log.generation, 0)  # type: ignore[attr-defined]
    text = segment.read_bytes()
    segment.write_bytes(text[: at + 40] + b"rot" + text[at + 43 :])
    it.finds(
        "D10",
        "journal",
        f"journal/{segment.name}: what follows record 0 is damaged; a start keeps journal/damaged.{segment.name}",
    )
