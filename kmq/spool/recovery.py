"""After any start: what the journal says and what lies on the disk are made one (J5).

Promise:  when `recover` returns, the plain files are exactly what the durable records say, durably, and a new
          generation has begun. Nothing acknowledged is lost, nothing that was removed is back, nothing half made is
          left. It may be stopped after any step and run again: it ends in the same files.
          What it cannot understand it sets aside in poison/ with the reason, and never deletes.
On crash: that is what it is for.
Callers:  the scheduler process, under the spool lock; fsck.

The order, by the numbers of J5: (1) the newest segment's records are copied into a file that counts only when it is
whole; (2) what must be there is made; (3) syncfs; (4) what must not be there goes; (5) syncfs; (6) checkpoint.
"""

import contextlib
import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field

from kmq.errors import SpoolError
from kmq.model import queue_id
from kmq.model.envelope import lines_of, read_event, read_head
from kmq.model.event import Moved
from kmq.spool import checkpoint, journal, layout, record
from kmq.spool.aside import set_aside
from kmq.spool.checkpoint import Note
from kmq.spool.disk import Disk
from kmq.spool.journal import Journal, Segment
from kmq.spool.record import Append, Dropped, Move, Operation, Put, Remove
from kmq.spool.store import remove_quietly, sync_all


@dataclass(slots=True)
class Traced:
    """What the journal says of one message. lines: (seq, line) of events, moves among them."""

    put: Put | None = None
    lines: list[tuple[int, bytes]] = field(default_factory=list)
    removed: bool = False

    def take(self, operation: Operation) -> None:
        match operation:
            case Put():
                self.put = operation
            case Remove():
                self.removed = True
            case Append() | Move():
                self.lines.append((operation.seq, operation.line))


@dataclass(slots=True)
class Plan:
    """What is to be done for one message. made: (temporary name, final name); gone: names that must not be there."""

    made: list[tuple[str, str]] = field(default_factory=list)
    gone: list[str] = field(default_factory=list)
    lost: str = ""


@dataclass(slots=True)
class Recovered:
    """What a start needs to know.

    tokens:    of all puts in the journal (J10); traced: their messages, removed or not.
    set_aside: what lay there that nobody knows, as sentences; it is in poison/ now.
    damaged:   messages whose body nobody can restore, and why; they still lie in the queue.
    """

    generation: int
    last_id: int
    tokens: dict[bytes, int]
    traced: set[int]
    poison: set[int]
    repaired: int
    set_aside: list[str]
    damaged: dict[int, str]
    rewritten: bool


class Recovery:
    """One run. lives(name): whether the receiver that made this name in incoming/ is still there (J6)."""

    def __init__(
        self,
        disk: Disk,
        note: Note,
        segment_size: int,
        lives: Callable[[str], bool] = lambda name: False,
    ) -> None:
        self.disk = disk
        self.note = note
        self.lives = lives
        self.rewrite = note.found()
        self.damaged: dict[int, str] = {}
        self._covered: list[str] = []
        self._size = segment_size
        self._touched: set[str] = set()

    def recover(self) -> tuple[Recovered, Journal]:
        """All steps; -> what was found, and the journal, begun in a new generation."""
        known = checkpoint.read(self.disk)
        segments = journal.read(self.disk)
        if segments:
            self._keep_tail(segments[-1])
        traced, tokens = trace(segments, known[0] if known else 0)
        plans = {number: self._plan(number, one) for number, one in traced.items()}
        self._sync()
        for plan in plans.values():
            self._rename(plan)
        self._sync()
        orphans = self._unexpected(traced)
        for plan in plans.values():
            for name in plan.gone:
                self._drop(name)
        self._sweep_incoming(traced)
        self._sync()
        newest = max((made for made, _, _ in journal.segment_names(self.disk)), default=0)
        generation = max(newest, known[0] if known else 0) + 1
        last_id = max([known[1] - 1 if known else 0, *traced, *self._ids_on_disk()])
        log = self._begin(generation, last_id)
        recovered = Recovered(
            generation,
            last_id,
            tokens,
            set(traced),
            self._poison(),
            sum(bool(plan.made) for plan in plans.values()),
            orphans,
            self.damaged,
            self.rewrite,
        )
        return recovered, log

    # --- 1: the log --------------------------------------------------------------------------------------------------

    def _keep_tail(self, newest: Segment) -> None:
        """Only the newest segment has bytes that may not be durable though they can be read: they are copied under a
        name that no reader takes for a segment, synced, and only then named (J5.1)."""
        serials = [serial for made, serial, _ in journal.segment_names(self.disk) if made == newest.generation]
        Journal(self.disk, self._size, newest.generation).copy(newest, max(serials) + 1)

    # --- 2: what must be there ---------------------------------------------------------------------------------------

    def _plan(self, number: int, one: Traced) -> Plan:
        """Makes new files under temporary names; nothing that anybody reads is changed yet."""
        plan = Plan(gone=self._leavings(one))
        if one.removed:
            plan.gone += [name for home in layout.HOMES for name in _files(number, home)]
            return plan
        found = self._best_envelope(number)
        lines = found[1] if found else [one.put.line] if one.put else []
        if not lines:
            return plan  # lines of a message that has no files and no put: its removal was covered by a checkpoint
        old = lines
        lines = _merged(lines, one.lines)
        home = _home_of(lines) or (found[0] if found else "queue")
        if self.rewrite or not found or found[0] != home or lines != old:
            self._make(layout.envelope(number, home), b"\n".join(lines), plan)
        self._plan_body(number, home, one, lines[0], plan)
        other = "poison" if home == "queue" else "queue"
        plan.gone += list(_files(number, other))
        if plan.lost:
            self.damaged[number] = plan.lost
        return plan

    def _best_envelope(self, number: int) -> tuple[str, list[bytes]] | None:
        """(home, good lines) of the copy that has most of them; a copy without a good head does not count."""
        best: tuple[str, list[bytes]] | None = None
        for home in ("poison", "queue"):
            try:
                lines = lines_of(self.disk.read(layout.envelope(number, home)))
            except OSError:
                continue
            if lines and read_head(lines[0]) is not None:
                good = [lines[0], *(line for line in lines[1:] if read_event(line) is not None)]
                if best is None or len(good) > len(best[1]):
                    best = (home, good)
        return best

    def _plan_body(self, number: int, home: str, one: Traced, head_line: bytes, plan: Plan) -> None:
        head = read_head(head_line)
        assert head is not None
        target = layout.body(number, home)
        places = [target] + [layout.body(number, place) for place in layout.HOMES if place != home]
        whole = next((place for place in places if self._whole(place, head.size, head.sha256)), None)
        incoming = f"incoming/{one.put.incoming}" if one.put and one.put.incoming else ""
        if whole is None or self.rewrite:
            text = None
            if one.put and one.put.body is not None and not incoming:
                text = bytes(one.put.body)
            elif incoming and self._whole(incoming, head.size, head.sha256):
                if not self.rewrite:
                    self._link(incoming, target, plan)
                    return
                text = self.disk.read(incoming)
            elif whole is not None:
                text = self.disk.read(whole)
            if text is None:
                plan.lost = "the body is damaged and the journal does not hold it"
                return
            self._make(target, text, plan)
        elif whole != target:
            self._link(whole, target, plan)

    def _whole(self, name: str, size: int, sha256: str) -> bool:
        """Whether the file is there with this content; a large one is read in pieces."""
        found = self.disk.status(name)
        if found is None or found.st_size != size:
            return False
        total = hashlib.sha256()
        fd = self.disk.open(name)
        try:
            with open(fd, "rb", closefd=False) as file:
                while part := file.read(1 << 20):
                    total.update(part)
        finally:
            self.disk.close_file(fd)
        return total.hexdigest() == sha256

    def _make(self, name: str, text: bytes, plan: Plan) -> None:
        temporary = self._temporary(name)
        fd = self.disk.create(temporary)
        try:
            self.disk.write(fd, text)
            if self.rewrite:
                self.disk.sync(fd)  # the syncfs that follows cannot be trusted (J7)
        finally:
            self.disk.close_file(fd)
        plan.made.append((temporary, name))

    def _link(self, old: str, name: str, plan: Plan) -> None:
        temporary = self._temporary(name)
        self.disk.link(old, temporary)
        plan.made.append((temporary, name))

    def _temporary(self, name: str) -> str:
        folder = name.rpartition("/")[0]
        if folder not in self._touched:
            self._touched.add(folder)
            with contextlib.suppress(FileExistsError):
                self.disk.make_folder(folder)
        remove_quietly(self.disk, name + ".new")  # left by a recovery that was cut
        return name + ".new"

    # --- 3 to 5: names come and go, each half behind its sync --------------------------------------------------------

    def _sync(self) -> None:
        sync_all(self.disk, self.note)

    def _rename(self, plan: Plan) -> None:
        """The body first: an envelope never stands without it."""
        for temporary, name in sorted(plan.made, key=lambda pair: pair[1].endswith(".env")):
            self.disk.rename(temporary, name)
        if self.rewrite:
            for folder in {name.rpartition("/")[0] for _, name in plan.made}:
                self.disk.sync_folder(folder)

    def _drop(self, name: str) -> None:
        """Unlinks a name; in rewriting mode also one that is not there, since its unlinking may not be on disk (J7)."""
        there = self.disk.status(name) is not None
        folder = name.rpartition("/")[0]
        if not there and self.rewrite and self.disk.status(folder):
            self.disk.close_file(self.disk.create(name))
            there = True
        if there:
            self.disk.unlink(name)
            if self.rewrite:
                self.disk.sync_folder(folder)

    def _leavings(self, one: Traced) -> list[str]:
        """Names outside the queue that a put made needless: its dropped file (J12), a removed one's incoming body."""
        names = []
        if one.put and one.put.dropped and self._same(one.put.dropped):
            names.append(one.put.dropped.name)
        if one.put and one.put.incoming and one.removed:
            names.append(f"incoming/{one.put.incoming}")
        return names

    def _same(self, dropped: Dropped) -> bool:
        found = self.disk.status(dropped.name)
        if found is None:
            return self.rewrite
        return (found.st_ino, found.st_mtime_ns) == (dropped.inode, dropped.mtime_ns)

    def _unexpected(self, traced: dict[int, Traced]) -> list[str]:
        """Bodies without envelope, and temporary names of a cut recovery; the first are set aside, the second go."""
        aside = []
        for folder, name in [*self.disk.walk("queue"), *(("poison", name) for name in self.disk.names("poison"))]:
            path = f"{folder}/{name}"
            if name.endswith(".new"):
                self.disk.unlink(path)
            elif name.endswith(".eml") and folder != "poison":
                number = _number(name)
                if number is not None and number not in traced and not self.disk.status(path[:-4] + ".env"):
                    set_aside(self.disk, number, "a body without an envelope")
                    aside.append(f"{path}: a body without an envelope")
        return aside

    def _sweep_incoming(self, traced: dict[int, Traced]) -> None:
        """Names that no live record bears, of dead receivers (J6); what a record bears goes after the checkpoint."""
        kept = {one.put.incoming for one in traced.values() if one.put and one.put.incoming}
        self._covered = [name for name in kept if self.disk.status(f"incoming/{name}")]
        for name in self.disk.names("incoming"):
            if name not in kept and name != "README.md" and not self.lives(name):
                self._drop(f"incoming/{name}")

    # --- 6: a new generation -----------------------------------------------------------------------------------------

    def _begin(self, generation: int, last_id: int) -> Journal:
        checkpoint.write(self.disk, generation, last_id + 1)
        for name in self._covered:
            self._drop(f"incoming/{name}")
        log = Journal(self.disk, self._size, generation)
        log.recycle(file for made, _, file in journal.segment_names(self.disk) if made < generation)
        log.begin()
        return log

    def _ids_on_disk(self) -> list[int]:
        """The newest ID that lies in each home (the checkpoint may be lost with a damaged disk)."""
        found = []
        folders = self.disk.names("queue")
        for folder in [*(f"queue/{name}" for name in folders[-1:]), "poison"]:
            with contextlib.suppress(NotADirectoryError):
                found += [number for name in self.disk.names(folder) if (number := _number(name)) is not None]
        return found

    def _poison(self) -> set[int]:
        names = self.disk.names("poison")
        return {number for name in names if name.endswith(".env") and (number := _number(name)) is not None}


def trace(segments: list[Segment], from_generation: int) -> tuple[dict[int, Traced], dict[bytes, int]]:
    """What the journal says from a generation on: message by message, and the tokens of its puts."""
    traced: dict[int, Traced] = {}
    tokens: dict[bytes, int] = {}
    for generation, payloads in sorted(journal.valid(segments).items()):
        if generation >= from_generation:
            for payload in payloads:
                for operation in _operations(payload):
                    traced.setdefault(operation.id, Traced()).take(operation)
                    if isinstance(operation, Put) and operation.token != record.NO_TOKEN:
                        tokens[operation.token] = operation.id
    return traced, tokens


def _operations(payload: memoryview) -> list[Operation]:
    try:
        return list(record.operations(payload))
    except ValueError as error:
        raise SpoolError(f"the journal cannot be read: {error}; install the kmq that wrote it") from error


def _files(number: int, home: str) -> tuple[str, str]:
    """Envelope first: that is the order in which they go."""
    return layout.envelope(number, home), layout.body(number, home)


def _number(name: str) -> int | None:
    try:
        return queue_id.parse(name[: queue_id.LENGTH])
    except ValueError:
        return None


def _merged(lines: list[bytes], missing: list[tuple[int, bytes]]) -> list[bytes]:
    """The envelope's lines and those of the journal that it does not have, by their numbers (J5.2)."""
    have = {event.seq for line in lines[1:] if (event := read_event(line)) is not None}
    more = {seq: line for seq, line in missing if seq not in have}
    return lines + [more[seq] for seq in sorted(more)]


def _home_of(lines: list[bytes]) -> str:
    """Where the last move says that the message lives (J4); "" when it never moved."""
    moves = [event for line in lines[1:] if isinstance(event := read_event(line), Moved)]
    return max(moves, key=lambda move: move.seq).home if moves else ""
