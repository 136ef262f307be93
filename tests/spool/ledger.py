"""What was promised about every message, and whether a disk keeps it.

What:     a `Ledger` is told of every record that is written, and of every one that is told to be durable or refused.
          `judge` looks at a spool after recovery and names every broken promise in a sentence.
Promise:  what it names is wrong by the rules of the journal: acknowledged mail is in exactly one home, whole, with
          every event once; removed mail is nowhere; what was never told is whole or absent, record by record, in the
          order of writing; nothing is litter; no ID is issued twice. What is kept lies in sent/ alone, with every line.
          What is archived lies in backup/ for ever, with the lines that it had then.
Callers:  the tests of the spool.
"""

import hashlib
from collections import Counter, defaultdict
from dataclasses import dataclass, field

from kmq.model import queue_id
from kmq.model.envelope import lines_of, read_event, unseal
from kmq.model.event import Moved
from kmq.spool import layout, loading
from kmq.spool.disk import Disk
from kmq.spool.record import NO_TOKEN, Append, Archive, Dropped, Keep, Mark, Move, Operation, Put, Remove
from kmq.spool.recovery import Recovered

HOMES = ("queue", "poison")


@dataclass(slots=True, eq=False)
class Written:
    """A record, in the order of writing. sent: the journal has begun to write it; before, nothing of it may be seen."""

    operations: list[Operation]
    told: bool = False
    sent: bool = False


@dataclass(slots=True)
class Found:
    """What lies on the disk of one message. envelopes, bodies: home -> content."""

    envelopes: dict[str, bytes] = field(default_factory=dict)
    bodies: dict[str, bytes] = field(default_factory=dict)

    @property
    def lines(self) -> list[bytes]:
        return [line for text in self.envelopes.values() for line in lines_of(text)]

    @property
    def there(self) -> bool:
        return bool(self.envelopes or self.bodies)


@dataclass(slots=True)
class Kept:
    """What is promised of a delivered message: the day under which it lies in sent/, its lines, its body."""

    day: str
    lines: list[bytes]
    body: bytes


class Ledger:
    """atomic: the store keeps records all or none and in order (the journal does, plain files cannot).

    lossy: the disk may have been too full to keep what was delivered.
    """

    def __init__(self, atomic: bool = True) -> None:
        self.atomic = atomic
        self.records: list[Written] = []
        self.bodies: dict[int, bytes] = {}
        self.incoming: dict[str, bool] = {}  # name -> its receiver lives
        self.handed: set[str] = set()  # names in incoming/ of durable puts
        self.offered: dict[Dropped, bool] = {}  # files of a drop directory -> a durable put took it
        self.highest = 0  # the last ID that was told
        self.kept: dict[int, Kept] = {}
        self.archived: dict[int, Kept] = {}  # day: the folder below the spool
        self.wishes: dict[int, Kept] = {}  # the same of what may not be durable
        self.lossy = not atomic

    # --- what is told ------------------------------------------------------------------------------------------------

    def write(self, operations: list[Operation]) -> Written:
        one = Written(operations)
        self.records.append(one)
        for operation in operations:
            if isinstance(operation, Archive):
                self.wishes[operation.id] = self._archived(operation)
        return one

    def tell(self, one: Written) -> None:
        one.told = one.sent = True
        self.highest = max([self.highest, *(operation.id for operation in one.operations)])
        for operation in one.operations:
            if isinstance(operation, Put) and operation.dropped:
                self.offered[operation.dropped] = True
            if isinstance(operation, Put) and operation.incoming:
                self.handed.add(operation.incoming)
            if isinstance(operation, Keep):
                self.kept[operation.id] = self._kept(operation)
            if isinstance(operation, Archive):
                self.archived[operation.id] = self.wishes[operation.id]
            if isinstance(operation, Mark) and operation.id in self.kept:
                self.kept[operation.id].lines.append(operation.line)

    def _kept(self, keep: Keep) -> Kept:
        story = [op for one in self.records if one.told for op in one.operations if op.id == keep.id]
        lines = [op.line for op in story if isinstance(op, Put | Append | Move)]
        return Kept(keep.day, lines, self.bodies[keep.id])

    def _archived(self, wish: Archive) -> Kept:
        """As it is written: of a record that is found after a cut, some operations leave no trace."""
        story = [op for one in self.records for op in one.operations if op.id == wish.id]
        lines = [op.line for op in story if isinstance(op, Put)]
        lines += [op.line for op in story if isinstance(op, Append | Move) and op.seq <= wish.seq]
        return Kept(wish.place, lines, self.bodies[wish.id])

    def refuse(self, one: Written) -> None:
        self.records.remove(one)

    def after_cut(self) -> "Ledger":
        """The same promises, and no receiver lives."""
        other = Ledger(self.atomic)
        other.records, other.bodies, other.offered = self.records, self.bodies, self.offered
        other.highest, other.handed = self.highest, self.handed
        other.kept, other.lossy = self.kept, self.lossy
        other.archived, other.wishes = self.archived, self.wishes
        other.incoming = dict.fromkeys(self.incoming, False)
        return other

    # --- what is found -----------------------------------------------------------------------------------------------

    def judge(self, disk: Disk, recovered: Recovered | None = None) -> list[str]:
        """Every broken promise; empty when all is well."""
        found, wrong = _look(disk)
        stories = self._stories()
        for number in sorted(found.keys() - stories.keys()):
            wrong.append(f"{queue_id.text(number)}: a message from nowhere")
        for number, story in stories.items():
            wrong += self._judge_message(disk, number, story, found.get(number) or Found())
        wrong += self._judge_incoming(disk, stories)
        wrong += self._judge_dropped(disk, stories, found)
        wrong += self._judge_kept(disk, found)
        wrong += self._judge_archived(disk, found)
        wrong += self._judge_order(found) if self.atomic else self._judge_notices(found)
        if recovered:
            wrong += self._judge_knowledge(disk, recovered, found)
        return wrong

    def settle(self, disk: Disk) -> None:
        """After a recovery: what was not told is told from now on if it is there, and must never come if it is not."""
        found, _ = _look(disk)
        for one in list(self.records):
            if one.told:
                continue
            there = [op for op in one.operations if one.sent and self._shown(disk, op, found)]
            if there:
                one.operations = there
                self.tell(one)
                self._forgive(there, disk)
            else:
                self.records.remove(one)
        self._forget()

    def _forgive(self, operations: list[Operation], disk: Disk) -> None:
        """Without a journal a dropped file may be taken again, if its put was made and never told."""
        for operation in operations:
            if not self.atomic and isinstance(operation, Put) and operation.dropped and _lies(disk, operation.dropped):
                del self.offered[operation.dropped]

    def _forget(self) -> None:
        """Messages that are gone for good are remembered by nothing, so that whatever comes of them is from nowhere."""
        gone = {op.id for one in self.records for op in one.operations if isinstance(op, Remove) and one.told}
        for one in self.records:
            one.operations = [op for op in one.operations if op.id not in gone]
        self.records = [one for one in self.records if one.operations]
        for number in gone:
            self.bodies.pop(number, None)
        stories = self._stories()
        named = {op.incoming for story in stories.values() for _, op in story if isinstance(op, Put)}
        self.incoming = {name: lives for name, lives in self.incoming.items() if lives or name in named}

    def _stories(self) -> dict[int, list[tuple[Written, Operation]]]:
        stories: dict[int, list[tuple[Written, Operation]]] = defaultdict(list)
        for one in self.records:
            for operation in one.operations if one.sent else ():
                if isinstance(operation, Mark):
                    continue  # of a message that is gone
                stories[operation.id].append((one, operation))
        return stories

    # --- one message -------------------------------------------------------------------------------------------------

    def _judge_message(
        self, disk: Disk, number: int, story: list[tuple[Written, Operation]], found: Found
    ) -> list[str]:
        name = queue_id.text(number)
        removed = [one.told for one, operation in story if isinstance(operation, Remove)]
        if any(removed):
            return [f"{name}: a removed message is there"] if found.there else []
        put = next((operation for _, operation in story if isinstance(operation, Put)), None)
        assert put is not None, f"{name} has a story without a put"
        if not found.there:
            told = any(one.told for one, _ in story)
            return [f"{name}: acknowledged mail is lost"] if told and not removed else []
        if len(found.envelopes) != 1 or found.envelopes.keys() != found.bodies.keys():
            return [f"{name}: half a message: {sorted(found.envelopes)} {sorted(found.bodies)}"]
        home = next(iter(found.envelopes))
        wrong = self._judge_lines(name, home, story, put, found)
        if found.bodies[home] != self.bodies[number]:
            wrong.append(f"{name}: the body is not what was accepted")
        loaded = loading.one(disk, number, home)
        if not isinstance(loaded, loading.Loaded) or loaded.state.home != home:
            wrong.append(f"{name}: cannot be loaded from {home}: {loaded}")
        return wrong

    def _judge_lines(
        self, name: str, home: str, story: list[tuple[Written, Operation]], put: Put, found: Found
    ) -> list[str]:
        lines = found.lines
        wrong = [] if lines[:1] == [put.line] else [f"{name}: the head is not what was accepted"]
        known = {op.line: one.told for one, op in story if isinstance(op, Append | Move)}
        for line, told in known.items():
            if told and line not in lines:
                wrong.append(f"{name}: a durable event is forgotten: {line[:80]!r}")
            if lines.count(line) > 1:
                wrong.append(f"{name}: a line stands twice: {line[:80]!r}")
        for line in lines[1:]:
            if line not in known and unseal(line):
                wrong.append(f"{name}: an event from nowhere: {line[:80]!r}")
        moves = [event for line in lines[1:] if isinstance(event := read_event(line), Moved)]
        if home != (max(moves, key=lambda move: move.seq).home if moves else "queue"):
            wrong.append(f"{name}: in the wrong home {home}")
        return wrong

    def _judge_kept(self, disk: Disk, found: dict[int, Found]) -> list[str]:
        """What is in the net is whole, and nowhere else."""
        there = _look_sent(disk)
        tried = {op.id for one in self.records if one.sent for op in one.operations if isinstance(op, Keep)}
        wrong = [
            f"{queue_id.text(number)}: in sent/ from nowhere" for number in there.keys() - self.kept.keys() - tried
        ]
        for number, parts in there.items():
            if parts.keys() != {"env", "eml"} and self.atomic and not (self.lossy and "env" not in parts):
                wrong.append(f"{queue_id.text(number)}: half a message in sent/: {sorted(parts)}")
            if number in found and self.atomic:
                wrong.append(f"{queue_id.text(number)}: in sent/ and in the queue")
        for number, kept in self.kept.items():
            parts = there.get(number, {})
            if self.lossy and (not parts or (len(parts) < 2 and not self.atomic)):
                continue
            missing = [line for line in kept.lines if line not in lines_of(parts.get("env", b""))]
            if parts.get("eml") != kept.body or missing:
                wrong.append(f"{queue_id.text(number)}: was kept, and is not in sent/ as it was: {missing}")
        return wrong

    def _judge_archived(self, disk: Disk, found: dict[int, Found]) -> list[str]:
        """What is archived is whole, as it was then, whatever became of the message."""
        there = _look_into(disk, "backup")
        wishes = {op.id: (one, op) for one in self.records for op in one.operations if isinstance(op, Archive)}
        wrong = [
            f"{queue_id.text(number)}: archived from nowhere"
            for number in there.keys() - self.archived.keys() - {op.id for one, op in wishes.values() if one.sent}
            if self.atomic  # else half of it may lie there until the phase is run again
        ]
        promised = dict(self.archived)
        for number, (one, wish) in wishes.items():
            passed = next((op.line for op in one.operations if isinstance(op, Append) and op.seq == wish.seq), None)
            if passed in (found.get(number) or Found()).lines:
                promised.setdefault(number, self.wishes[number])
        for number, kept in promised.items():
            parts = there.get(number, {})
            if parts.get("eml") != kept.body or lines_of(parts.get("env", b"")) != kept.lines:
                lines = [line[:120] for line in lines_of(parts.get("env", b""))]
                wanted = [line[:120] for line in kept.lines]
                name = queue_id.text(number)
                wrong.append(f"{name}: was archived, and is not in {kept.day} as it was: {lines}, promised {wanted}")
        return wrong

    # --- what lies elsewhere -----------------------------------------------------------------------------------------

    def _judge_incoming(self, disk: Disk, stories: dict[int, list[tuple[Written, Operation]]]) -> list[str]:
        named = {op.incoming for story in stories.values() for _, op in story if isinstance(op, Put)}
        there, wrong = set(disk.names("incoming")), []
        for name, lives in self.incoming.items():
            if name not in there and lives and name not in named and name not in self.handed:
                wrong.append(f"incoming/{name}: swept under a living receiver")
            if name in there and not lives:
                wrong.append(f"incoming/{name}: left behind")
        return wrong + [f"incoming/{name}: from nowhere" for name in there - self.incoming.keys()]

    def _judge_dropped(
        self, disk: Disk, stories: dict[int, list[tuple[Written, Operation]]], found: dict[int, Found]
    ) -> list[str]:
        taken = {op.dropped: story for story in stories.values() for _, op in story if isinstance(op, Put)}
        twice = Counter(
            op.dropped for story in stories.values() for one, op in story if isinstance(op, Put) and one.told
        )
        wrong = [f"{one.name}: became {count} messages" for one, count in twice.items() if one and count > 1]
        for dropped, told in self.offered.items():
            story = taken.get(dropped, [])
            there = any((found.get(op.id) or Found()).there for _, op in story)
            may_be_gone = any(isinstance(op, Remove) for _, op in story)
            lies = _lies(disk, dropped)
            if lies and (told or (there and self.atomic)):
                wrong.append(f"{dropped.name}: a dropped file will be taken twice")
            if not lies and not told and not there and not may_be_gone:
                wrong.append(f"{dropped.name}: a dropped file is gone and is no message")
        return wrong

    # --- records -----------------------------------------------------------------------------------------------------

    def _shown(self, disk: Disk, operation: Operation, found: dict[int, Found]) -> bool | None:
        """The same, with a look at sent/."""
        if isinstance(operation, Keep):
            return operation.id in _look_sent(disk)
        if isinstance(operation, Archive):
            return self.atomic and operation.id in _look_into(disk, "backup")
        if isinstance(operation, Mark):
            return operation.line in lines_of(_look_sent(disk).get(operation.id, {}).get("env", b""))
        return self._evidence(operation, found.get(operation.id) or Found())

    def _evidence(self, operation: Operation, found: Found) -> bool | None:
        """Whether the disk shows that this operation is durable; None when it can show neither."""
        match operation:
            case Put():
                return True if found.there else None
            case Append() | Move():
                return operation.line in found.lines if found.there else None
            case Remove():
                return not found.there
            case Keep() | Mark() | Archive():
                return None

    def _judge_order(self, found: dict[int, Found]) -> list[str]:
        """Records that were not told: all or none of each, and none behind one that is lost."""
        lost: Written | None = None
        wrong = []
        removed = {op.id for one in self.records for op in one.operations if isinstance(op, Remove)}
        put = {op.id for one in self.records if one.told for op in one.operations if isinstance(op, Put)}
        for one in self.records:
            if one.told or not one.sent:
                continue
            seen = set()
            for op in one.operations:
                shown = self._evidence(op, found.get(op.id) or Found())
                if isinstance(op, Put) and shown is None and op.id not in removed:
                    shown = False
                if isinstance(op, Remove) and shown and op.id not in put:
                    shown = None  # put and remove are both lost, or both durable
                seen.add(shown)
            if {True, False} <= seen:
                wrong.append(f"half a record: {[(type(op).__name__, queue_id.text(op.id)) for op in one.operations]}")
            if True in seen and lost is not None:
                wrong.append("a record is there, one that was written before it is not")
            if seen == {False}:
                lost = one
        return wrong

    def _judge_notices(self, found: dict[int, Found]) -> list[str]:
        """Without a journal at least this: what a record puts is there before the events that tell of it."""
        wrong = []
        for one in self.records:
            put = next((op for op in one.operations if isinstance(op, Put)), None)
            shown = [self._evidence(op, found.get(op.id) or Found()) for op in one.operations if op is not put]
            if put and not one.told and any(shown) and not (found.get(put.id) or Found()).there:
                wrong.append(f"{queue_id.text(put.id)}: an event tells of a notice that is not there")
        return wrong

    def _judge_knowledge(self, disk: Disk, recovered: Recovered, found: dict[int, Found]) -> list[str]:
        wrong = [f"damaged: {reason}" for reason in recovered.damaged.values()]
        wrong += [f"set aside: {sentence}" for sentence in recovered.set_aside]
        poison = {number for number, one in found.items() if "poison" in one.envelopes}
        if recovered.poison != poison:
            wrong.append(f"recovery knows {recovered.poison} in poison/, there are {poison}")
        if recovered.last_id < max([self.highest, *found]):
            wrong.append("an ID will be issued twice")
        loaded = {one.id for home in HOMES for some in loading.everything(disk, home) for one in some}
        if loaded != found.keys():
            wrong.append("a durable message is known to nobody")
        return wrong

    def judge_tokens(self, recovered: Recovered, disk: Disk) -> list[str]:
        """J10: a receiver that asks about a put which was not answered hears the truth."""
        found, _ = _look(disk)
        wrong = []
        for one in self.records:
            for op in one.operations:
                if isinstance(op, Put) and not one.told and op.token != NO_TOKEN:
                    there = (found.get(op.id) or Found()).there
                    if there and op.token not in recovered.tokens:
                        wrong.append(f"{queue_id.text(op.id)}: 451 for a durable put")
        return wrong


def _look(disk: Disk) -> tuple[dict[int, Found], list[str]]:
    """All messages, and sentences about what is neither an envelope nor a body at its place."""
    found: dict[int, Found] = defaultdict(Found)
    wrong = []
    for folder, name in [*disk.walk("queue"), *(("poison", name) for name in disk.names("poison"))]:
        home = "poison" if folder == "poison" else "queue"
        try:
            number = queue_id.parse(name[:-4])
        except ValueError:
            number = -1
        if number < 0 or name[-4:] not in (".env", ".eml") or folder != layout.folder(number, home):
            wrong.append(f"{folder}/{name}: litter")
            continue
        text = disk.read(f"{folder}/{name}")
        if name.endswith(".env"):
            found[number].envelopes[home] = text
        else:
            found[number].bodies[home] = text
    return dict(found), wrong


def _look_sent(disk: Disk) -> dict[int, dict[str, bytes]]:
    return _look_into(disk, "sent")


def _look_into(disk: Disk, place: str) -> dict[int, dict[str, bytes]]:
    """Of each message in sent/ or backup/ the files that are there, by ending."""
    found: dict[int, dict[str, bytes]] = defaultdict(dict)
    for folder, name in disk.walk(place):
        found[queue_id.parse(name[:-4])][name[-3:]] = disk.read(f"{folder}/{name}")
    return dict(found)


def _lies(disk: Disk, dropped: Dropped) -> bool:
    status = disk.status(dropped.name)
    return status is not None and (status.st_ino, status.st_mtime_ns) == (dropped.inode, dropped.mtime_ns)


def sha256(text: bytes) -> str:
    return hashlib.sha256(text).hexdigest()
