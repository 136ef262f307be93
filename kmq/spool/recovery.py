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
import stat
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from kmq.errors import StorageFailed
from kmq.model import queue_id
from kmq.model.envelope import Head, lines_of, read_event, read_head, unseal
from kmq.model.event import Moved
from kmq.spool import archive, checkpoint, journal, layout, strays
from kmq.spool.archive import seq_of as _seq_of
from kmq.spool.checkpoint import Checkpoint, Note
from kmq.spool.disk import Disk
from kmq.spool.gathered import UNLINKABLE
from kmq.spool.journal import Journal, Segment
from kmq.spool.record import Dropped, Put
from kmq.spool.store import remove_quietly, sync_all
from kmq.spool.tracing import Traced, trace

#: So many bytes of each file are fetched ahead.
_FETCHED = 1 << 20


@dataclass(slots=True)
class Plan:
    """What is to be done for one message. made: (temporary name, final name); gone: names that must not be there."""

    made: list[tuple[str, str]] = field(default_factory=list)
    gone: list[str] = field(default_factory=list)
    lost: str = ""


@dataclass(slots=True)
class Copy:
    """An envelope as it lies in a home: its good lines, a head first. whole: the head is the file's own."""

    home: str
    lines: list[bytes]
    whole: bool


@dataclass(slots=True)
class Recovered:
    """What a start needs to know.

    tokens:    of all puts in the journal (J10); traced: their messages, removed or not.
    set_aside: what lay there that nobody knows, as sentences; it is in poison/ now.
    damaged:   messages whose body nobody can restore, and why; they still lie in the queue.
    journal:   what is damaged in the journal itself, as sentences.
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
    journal: list[str]


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
        """All steps; -> what was found, and the journal, begun in a new generation. StorageFailed: nothing is lost,
        the next start goes on."""
        try:
            return self._recover()
        except OSError as error:
            raise StorageFailed(
                f"what the journal of {self.disk.root} says could not be brought to the plain files: {error}. "
                "Nothing is lost; make room, or mend the disk, and start kmqd again"
            ) from error

    def _recover(self) -> tuple[Recovered, Journal]:
        known = checkpoint.read(self.disk)
        segments = journal.read(self.disk)
        if segments:
            self._keep_tail(segments[-1])
        traced, tokens = trace(segments, first_needed(known, segments))
        plain = known is not None and known.plain
        if plain:
            self._trace_plain(traced)
        self._fetch(traced)
        plans = {number: self._plan(number, one) for number, one in traced.items()}
        self._sync()
        for plan in plans.values():
            self._rename(plan)
        self._sync()
        set_aside = strays.sweep(self.disk, traced, plain)
        strays.sweep_kept(self.disk, {place for one in traced.values() for place in one.places})
        for plan in plans.values():
            for name in plan.gone:
                self._drop(name)
        self._sweep_incoming(traced)
        self._sync()
        strays.sweep_folders(self.disk)
        newest = max((made for made, _, _ in journal.segment_names(self.disk)), default=0)
        generation = max(newest, known.generation if known else 0) + 1
        last_id = max([known.next_id - 1 if known else 0, *traced, *strays.newest_ids(self.disk)])
        if known is None:  # a damaged disk: what was issued last may have been delivered
            last_id = max(last_id, strays.newest_kept(self.disk))
        log = self._begin(generation, last_id, segments)
        recovered = Recovered(
            generation,
            last_id,
            tokens,
            set(traced),
            strays.poisoned(self.disk),
            sum(bool(plan.made) for plan in plans.values()),
            set_aside,
            self.damaged,
            self.rewrite,
            damage_of(segments, first_needed(known, segments)),
        )
        return recovered, log

    # --- 1: the log --------------------------------------------------------------------------------------------------

    def _keep_tail(self, newest: Segment) -> None:
        """Only the newest segment has bytes that may not be durable though they can be read: they are copied under a
        name that no reader takes for a segment, synced, and only then named (J5.1)."""
        serials = [serial for made, serial, _ in journal.segment_names(self.disk) if made == newest.generation]
        Journal(self.disk, self._size, newest.generation).copy(newest, max(serials) + 1)

    def _trace_plain(self, traced: dict[int, Traced]) -> None:
        """What a run without journal left (store.FileStore): puts whose second step had begun are carried through, and
        messages that may have been on their way between the homes are looked at, on a mount that cannot be trusted
        all. A message that was a dropped file tells of it, in case the file is still there."""
        for number, ending, path in strays.names(self.disk, "queue"):
            if ending not in ("put", "env"):
                continue
            text = self.disk.read(path)
            line = next(iter(lines_of(text)), b"")
            head = _head_of(line, number)
            dropped = _dropped_of(head)
            if ending == "put":
                if head is not None and self._whole(layout.body(number), head):
                    traced.setdefault(number, Traced()).put = Put(number, line, None, dropped=dropped)
            elif dropped is not None:
                traced.setdefault(number, Traced()).put = Put(number, line, None, dropped=dropped)
            elif self.rewrite or b'"moved"' in text:
                traced.setdefault(number, Traced())
        for number in strays.poisoned(self.disk):
            traced.setdefault(number, Traced())

    def _fetch(self, traced: dict[int, Traced]) -> None:
        """After a power cut each look at a file waits for the disk; many at once wait together. What they bring is in
        the kernel's cache when `_plan` comes to it."""
        for number in traced:
            for name in _files(number, "queue"):
                with contextlib.suppress(OSError):
                    self.disk.fetch(name, _FETCHED)

    # --- 2: what must be there ---------------------------------------------------------------------------------------

    def _plan(self, number: int, one: Traced) -> Plan:
        """Makes new files under temporary names; nothing that anybody reads is changed yet."""
        plan = Plan(gone=self._leavings(one))
        for place, seq in one.archived.items():
            self._plan_archived(number, one, place, seq, plan)
        if one.kept:
            return self._plan_kept(number, one, plan)
        if one.removed:
            plan.gone += [name for home in layout.HOMES for name in _files(number, home)]
            plan.gone.append(layout.reason(number))
            return plan
        found = self._best_envelope(number, one.put)
        if found is None and one.put is None:
            self._keep_lines(number, one, plan)
            return plan
        old = found.lines if found else [one.put.line] if one.put else []
        lines = _merged(old, one.lines)
        home = _home_of(lines) or (found.home if found else "queue")
        if self.rewrite or not found or not found.whole or found.home != home or lines != old:
            self._make(layout.envelope(number, home), b"\n".join(lines), plan)
        self._plan_body(number, home, one, lines[0], plan)
        if plan.lost:
            self.damaged[number] = plan.lost
        else:
            plan.gone += _files(number, "poison" if home == "queue" else "queue")
        return plan

    def _plan_kept(self, number: int, one: Traced, plan: Plan) -> Plan:
        """A delivered message lies in sent/ and nowhere else. Of one of which nothing is left there the net has let go;
        of one whose body is damaged it does: it has been delivered."""
        place = layout.kept_on(one.kept)
        homes = (*layout.HOMES, place)
        plan.gone += [name for home in layout.HOMES for name in _files(number, home)]
        found = self._best_envelope(number, one.put, homes)
        old = found.lines if found else [one.put.line] if one.put else []
        lines = _merged(old, one.lines)
        if old:
            self._plan_body(number, place, one, lines[0], plan, homes)
        if not old or plan.lost:
            plan.gone += _files(number, place)
        elif self.rewrite or not found or not found.whole or found.home != place or lines != old:
            self._make(layout.envelope(number, place), b"\n".join(lines), plan)
        return plan

    def _plan_archived(self, number: int, one: Traced, place: str, seq: int, plan: Plan) -> None:
        """Of what is archived nothing may be left anywhere: then it was compressed, or taken away."""
        homes = (*layout.HOMES, *one.places)
        found = self._best_envelope(number, one.put, homes)
        old = found.lines if found else [one.put.line] if one.put else []
        if not old:
            return
        text = b"\n".join(archive.up_to(_merged(old, one.lines), seq))
        part = Plan()
        self._plan_body(number, place, one, old[0], part, homes)
        if not part.lost:
            plan.made += part.made
            name = layout.envelope(number, place)
            if self.rewrite or not self._is_file(name) or self.disk.read(name) != text:
                self._make(name, text, plan)

    def _best_envelope(self, number: int, put: Put | None, homes: Sequence[str] = layout.HOMES) -> Copy | None:
        """The copy that has most lines, the queue's of two that are alike. One whose head is damaged counts when the
        journal knows the head."""
        copies = []
        for home in homes:
            try:
                lines = lines_of(self.disk.read(layout.envelope(number, home)))
            except OSError:
                continue
            events = [line for line in lines[1:] if unseal(line) is not None]  # also those of a later kmq
            if lines and _head_of(lines[0], number) is not None:
                copies.append(Copy(home, [lines[0], *events], True))
            elif put is not None:
                copies.append(Copy(home, [put.line, *events], False))
        return max(copies, key=lambda copy: (copy.whole, len(copy.lines)), default=None)

    def _keep_lines(self, number: int, one: Traced, plan: Plan) -> None:
        """Events of a message of which no record and no file says the head. Without files it was removed, and a
        checkpoint covers that. A damaged envelope gets them all the same: somebody may mend its head."""
        for home in layout.HOMES:
            with contextlib.suppress(FileNotFoundError, IsADirectoryError):
                name = layout.envelope(number, home)
                text = self.disk.read(name) if self._is_file(name) else None
                missing = [line for _, line in one.lines if text is not None and line not in text]
                if missing and text is not None:
                    self._make(name, b"\n".join([text, *missing]), plan)

    def _plan_body(
        self, number: int, home: str, one: Traced, line: bytes, plan: Plan, homes: Sequence[str] = layout.HOMES
    ) -> None:
        head = read_head(line)
        assert head is not None
        target = layout.body(number, home)
        places = [target] + [layout.body(number, place) for place in homes if place != home]
        whole = next((place for place in places if self._whole(place, head)), None)
        incoming = f"incoming/{one.put.incoming}" if one.put and one.put.incoming else ""
        if whole is not None and not self.rewrite:
            if whole != target:
                self._link(whole, target, plan)
        elif one.put and one.put.body is not None:
            self._make(target, bytes(one.put.body), plan)
        elif incoming and self._whole(incoming, head):
            if self.rewrite:
                self._make(target, self.disk.read(incoming), plan)
            else:
                self._link(incoming, target, plan)
        elif whole is not None:
            self._make(target, self.disk.read(whole), plan)
        else:
            plan.lost = "the body is damaged and the journal does not hold it"

    def _whole(self, name: str, head: Head) -> bool:
        """Whether the file is there with this content; a large one is read in pieces."""
        found = self.disk.status(name)
        if found is None or found.st_size != head.size or not stat.S_ISREG(found.st_mode):
            return False
        total = hashlib.sha256()
        for part in self.disk.pieces(name):
            total.update(part)
        return total.hexdigest() == head.sha256

    def _is_file(self, name: str) -> bool:
        found = self.disk.status(name)
        return found is not None and stat.S_ISREG(found.st_mode)

    def _make(self, name: str, text: bytes, plan: Plan) -> None:
        temporary = self._temporary(name)
        fd = self.disk.create(temporary)
        try:
            self.disk.write(fd, text)
            if self._is_alone(name.rpartition("/")[0]):
                self.disk.sync(fd)
        finally:
            self.disk.close_file(fd)
        plan.made.append((temporary, name))

    def _link(self, old: str, name: str, plan: Plan) -> None:
        temporary = self._temporary(name)
        try:
            self.disk.link(old, temporary)
        except OSError as error:
            if error.errno not in UNLINKABLE:
                raise
            self._make(name, self.disk.read(old), plan)
        else:
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
        """In rewriting mode the note must outlive this: until all is written anew, a yes means nothing (J7)."""
        sync_all(self.disk, self.note, keep_note=self.rewrite)

    def _is_alone(self, folder: str) -> bool:
        """The spool's syncfs cannot be trusted, or does not reach the folder (J7, J12)."""
        place = self.disk.status(folder)
        return self.rewrite or (place is not None and place.st_dev != self.disk.device)

    def _rename(self, plan: Plan) -> None:
        """The body first: an envelope never stands without it."""
        for temporary, name in sorted(plan.made, key=lambda pair: pair[1].endswith(".env")):
            self.disk.rename(temporary, name)
        for folder in {name.rpartition("/")[0] for _, name in plan.made}:
            if self._is_alone(folder):
                self.disk.sync_folder(folder)
                self.disk.sync_folder(folder.rpartition("/")[0] or ".")

    def _drop(self, name: str) -> None:
        """Unlinks a name; where an unlinking that was done may not be on disk, also one that is not there."""
        folder = name.rpartition("/")[0]
        place = self.disk.status(folder)
        if place is None:
            return
        there = self.disk.status(name) is not None
        alone = self._is_alone(folder)
        if not there and alone:
            self.disk.close_file(self.disk.create(name))
        if there or alone:
            self.disk.unlink(name)
        if alone:
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
        """Whether what lies there, or may lie there again after a power cut, is what the put took. An empty file is the
        mark of an unlinking that was to be done anew (`_drop`)."""
        found = self.disk.status(dropped.name)
        return dropped.lies(found) or ((found is None or not found.st_size) and self._may_return(dropped.name))

    def _may_return(self, name: str) -> bool:
        """Whether an unlink that was done may not be on disk: nothing else will sync it."""
        folder = self.disk.status(name.rpartition("/")[0])
        return self.rewrite or (folder is not None and folder.st_dev != self.disk.device)

    def _sweep_incoming(self, traced: dict[int, Traced]) -> None:
        """Names that no live record bears, of dead receivers (J6); what a record bears goes after the checkpoint."""
        kept = {one.put.incoming for one in traced.values() if one.put and one.put.incoming}
        self._covered = [name for name in kept if self.disk.status(f"incoming/{name}")]
        for name in self.disk.names("incoming"):
            path = f"incoming/{name}"
            if name not in kept and name != "README.md" and not self.lives(name) and self._is_file(path):
                self._drop(path)

    # --- 6: a new generation -----------------------------------------------------------------------------------------

    def _begin(self, generation: int, last_id: int, segments: list[Segment]) -> Journal:
        checkpoint.write(self.disk, generation, last_id + 1)
        if self.rewrite:
            self.note.clear()  # all that a record names is written anew, and no record is needed any more
        for name in self._covered:
            self._drop(f"incoming/{name}")
        log = Journal(self.disk, self._size, generation)
        for one in segments:
            if one.damaged and self.disk.status(one.file):
                self.disk.rename(one.file, _kept_aside(one))
        log.recycle(file for made, _, file in journal.segment_names(self.disk) if made < generation)
        log.begin()
        return log


def damage_of(segments: list[Segment], from_generation: int) -> list[str]:
    """What of the records that count cannot be read though it was durable, a sentence each."""
    found = {one.generation for one in segments if one.generation >= from_generation}
    missing = set(range(from_generation or min(found, default=0), max(found, default=0))) - found
    sentences = [f"the journal's generation {one} is missing, or cannot be read" for one in sorted(missing)]
    for one in segments:
        if one.damaged and one.generation >= from_generation:
            last = one.first + len(one.records) - 1
            sentences.append(f"{one.file}: what follows record {last} is damaged; a start keeps {_kept_aside(one)}")
    return sentences


def _kept_aside(segment: Segment) -> str:
    """The name of a segment that nobody may write over: it holds records that somebody may want to dig out."""
    return segment.file.replace("journal/", "journal/damaged.")


def first_needed(known: Checkpoint | None, segments: Sequence[Segment]) -> int:
    """The oldest generation whose records count. Without a checkpoint: generations follow one another; what lies before
    a gap was covered once, and is the rest of segments whose recycling a power cut has undone in part. To read it would
    bring removed mail back."""
    if known is not None:
        return known.generation
    wanted = segments[-1].generation if segments else 0
    for segment in reversed(segments):
        if segment.generation < wanted - 1:
            break
        wanted = segment.generation
    return wanted


def _head_of(line: bytes, number: int) -> Head | None:
    """The head of this very message; None for a damaged one and for another's."""
    head = read_head(line)
    return head if head is not None and head.id == queue_id.text(number) else None


def _dropped_of(head: Head | None) -> Dropped | None:
    """The dropped file that a message was: where no record names it, its head does (J12)."""
    source = head.source if head is not None else None
    return Dropped(source.file, source.inode, source.mtime_ns) if source is not None and source.inode else None


def _files(number: int, home: str) -> tuple[str, str]:
    """Envelope first: that is the order in which they go."""
    return layout.envelope(number, home), layout.body(number, home)


def _merged(lines: list[bytes], missing: list[tuple[int, bytes]]) -> list[bytes]:
    """The envelope's lines and those of the journal that it does not have, by their numbers (J5.2)."""
    have = {_seq_of(line) for line in lines[1:]}
    more = {seq: line for seq, line in missing if seq not in have}
    if not more:
        return lines
    return lines[:1] + sorted([*lines[1:], *more.values()], key=lambda line: _seq_of(line) or 0)


def _home_of(lines: list[bytes]) -> str:
    """Where the last move says that the message lives (J4); "" when it never moved."""
    moves = [event for line in lines[1:] if isinstance(event := read_event(line), Moved)]
    return max(moves, key=lambda move: move.seq).home if moves else ""
