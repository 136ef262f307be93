"""The queue on disk: what is added is durable when `settle` says so, and in the plain files soon after.

Two stores with one face: JournalStore (log first, effects behind it) and FileStore (plain files alone, two syncfs a
batch: slower, simple, the oracle of the tests). Neither has threads of its own; whoever runs it calls

    loop     add, take, settle, refuse        one batch is in flight at a time, all that comes meanwhile is the next
    journal  sync, and abandon after OSError, turn
    files    apply_next, retry_owed, checkpoint

Promise:  J1, J3, J8, J11 of docs/ARCHITECTURE.md. Nothing is told before `settle`.
On crash: recovery; see there.
"""

import contextlib
from collections import deque
from collections.abc import Iterable, Iterator
from itertools import islice

import msgspec

from kmq.model import queue_id
from kmq.spool import checkpoint, journal, layout, record
from kmq.spool.checkpoint import Note
from kmq.spool.disk import Disk
from kmq.spool.effects import Durable, Effects
from kmq.spool.journal import Journal
from kmq.spool.record import Append, Archive, Encoded, Keep, Mark, Move, Operation, Put, Remove


class Pending(msgspec.Struct, gc=False):
    """A record that is not durable yet. ticket: the caller's own; refusable: a put that may be answered with 451;
    payload: its bytes in the journal, if there is one."""

    operations: list[Operation]
    ticket: object
    at: float
    refusable: bool
    payload: Encoded


class Store:
    """What both stores share: IDs and the batch in flight."""

    #: Effects follow behind the journal, in the files' thread; else `sync` itself makes them.
    effects_behind = False

    def __init__(self, disk: Disk, effects: Effects, note: Note, last_id: int, batch_size: int) -> None:
        self.disk = disk
        self.effects = effects
        self.note = effects.homes.note = note
        self.written_bytes = 0
        self.last_id = last_id
        self.batch_size = batch_size
        self.pending: deque[Pending] = deque()
        self.in_flight = False

    def new_id(self, now: float) -> int:
        """Issued once for ever (J11); `now` is Unix time, and may go back."""
        self.last_id = queue_id.following(self.last_id, now)
        return self.last_id

    def add(self, operations: list[Operation], ticket: object, at: float, refusable: bool = False) -> None:
        """One record, all or none; `at` is monotonic time."""
        for one in operations:
            if type(one) is Put:
                self.effects.unmade_from_now(one.id)
        self.pending.append(Pending(operations, ticket, at, refusable, self._encoded(operations)))

    @staticmethod
    def _encoded(operations: Iterable[Operation]) -> Encoded:
        return record.NOTHING

    def take(self) -> list[Pending] | None:
        """The next batch to sync, None when there is nothing or one is in flight."""
        if self.in_flight or not self.pending:
            return None
        count, room, heading = 0, self._room(), record.HEADER.size
        for one in islice(self.pending, self.batch_size):
            room -= one.payload.length + heading
            if room < 0 and count:
                break
            count += 1
        self.in_flight = True
        return [self.pending.popleft() for _ in range(count)]

    def _room(self) -> int:
        return 1 << 30

    # --- what each store does in its own way; FileStore needs but the first --------------------------------------

    def sync(self, batch: list[Pending]) -> int:
        """Makes a batch durable; -> its generation. OSError: none of it counts, `abandon` comes next."""
        raise AssertionError(f"{type(self).__name__} has no way to sync")

    def abandon(self) -> None:
        """After a failed sync."""

    def turn(self) -> None:
        """Ends the generation; nothing may be in flight."""

    def settle(self, batch: Iterable[Pending], generation: int) -> None:
        """The batch is durable and may be told."""
        self.in_flight = False

    @property
    def dirty(self) -> bool:
        """Whether the generation that is being written holds a record."""
        return False

    @property
    def coverable(self) -> int:
        """The newest generation that a checkpoint could cover once its effects are done."""
        return -1

    def checkpoint(self, generation: int) -> Iterator[str]:
        """The steps of a checkpoint that covers this generation."""
        yield from ()

    def refuse(self, batch: Iterable[Pending]) -> list[Pending]:
        """After a failed sync whose segment was abandoned (J8): -> the refused puts; the rest is written again."""
        self.in_flight = False
        refused: list[Pending] = []
        again: list[Pending] = []
        for one in batch:
            (refused if one.refusable else again).append(one)
        for one in refused:
            self._made(one)
        self.pending.extendleft(reversed(again))
        return refused

    def _made(self, one: Pending) -> None:
        """Nobody waits for the files of its puts any more: they are there, or will never be."""
        for operation in one.operations:
            if isinstance(operation, Put):
                self.effects.made(operation.id)


class JournalStore(Store):
    """Log first."""

    effects_behind = True

    def __init__(
        self, disk: Disk, log: Journal, effects: Effects, note: Note, *, last_id: int, batch_size: int = 40
    ) -> None:
        super().__init__(disk, effects, note, last_id, batch_size)
        self.log = log
        self._ended = log.generation - 1  # the newest generation that gets no more records

    def _room(self) -> int:
        return self.log.room // 2

    #: Asked in the loop: the journal's thread is to be in the kernel, and not in the loop's way.
    _encoded = staticmethod(record.encode)

    # --- the journal's thread ------------------------------------------------------------------------------------

    def sync(self, batch: list[Pending]) -> int:
        """Writes and syncs; -> generation. OSError: `abandon` must succeed before anything else is written."""
        payloads = [one.payload for one in batch]
        generation = self.log.write(payloads)
        self.written_bytes += sum([one.length for one in payloads])
        self._ended = generation - 1
        return generation

    def abandon(self) -> None:
        self.log.abandon()

    def turn(self) -> None:
        """Ends the generation, so that a checkpoint can cover what it holds; nothing may be in flight."""
        if self.dirty:
            self.log.turn()
            self._ended = self.log.generation - 1

    # --- the loop ------------------------------------------------------------------------------------------------

    def settle(self, batch: Iterable[Pending], generation: int) -> None:
        """The batch is durable: its effects get in line, its waiters may be told (J1)."""
        self.in_flight = False
        self.effects.add([Durable(generation, one.operations, one.at) for one in batch])

    # --- the files' thread ---------------------------------------------------------------------------------------

    @property
    def dirty(self) -> bool:
        return self.log.number > 1

    @property
    def coverable(self) -> int:
        return self._ended

    def checkpoint(self, generation: int) -> Iterator[str]:
        """The steps of a checkpoint that covers this generation (J3), whose effects must all be finished.

        OSError: there is none, and all is as before; it may be tried again. What fails once the file is durable is
        done with the next one.
        """
        assert self.effects.finished(generation)
        sync_all(self.disk, self.note)
        yield "syncfs"
        self.effects.departures.synced(generation)
        self.effects.remove_empty_folders()
        yield "folders"
        checkpoint.write(self.disk, generation + 1, self.last_id + 1)
        yield "file"
        with contextlib.suppress(OSError):
            self.log.recycle(file for made, _, file in journal.segment_names(self.disk) if made <= generation)
        yield "recycled"
        with contextlib.suppress(OSError):
            for name in self.effects.covered(generation):
                remove_quietly(self.disk, f"incoming/{name}")
                self.effects.swept(name)
        yield "incoming"


class FileStore(Store):
    """Plain files alone. A batch is made in two steps, each durable before the next begins:

    0  what is archived
    1  bodies, and envelopes under a name that counts for nothing yet (<id>.put)
    2  that name gets its true one, <id>.env, beside it; events are added; envelopes of what is removed go
    Then it counts, and what is needless goes: dropped files (durably, J12), <id>.put, names in old homes, bodies.
    So an envelope never stands without its body. Two things the journal does better: a record of several operations is
    not all or none (the messages that it puts are there before its events are), and what a crash interrupts may be done
    twice: a message that was made and never told is sent again by whoever waited. A dropped file is known by the head.
    """

    #: IDs that the checkpoint file is ahead of, so that it is written once in so many messages.
    AHEAD = 4096

    def __init__(self, disk: Disk, effects: Effects, note: Note, *, last_id: int, batch_size: int = 40) -> None:
        super().__init__(disk, effects, note, last_id, batch_size)
        known = checkpoint.read(disk)
        self._generation = known.generation if known else 0  # what the journal held before stays covered
        self._promised = last_id
        self._homes = effects.homes
        self._done: set[tuple[int, int]] = set()  # (ID, seq): lines of a batch that failed are not added twice

    def sync(self, batch: list[Pending]) -> int:
        """Makes the files of a batch; OSError: what was made of its puts is gone again."""
        operations = [operation for one in batch for operation in one.operations]
        puts = [operation for operation in operations if isinstance(operation, Put)]
        try:
            self._promise_ids()
            self._archive(operations)
            self._prepare(puts)
            for operation in operations:
                self._commit(operation)
            sync_all(self.disk, self.note)
        except OSError:
            self._undo(puts)
            raise
        self._done.clear()
        self._clean(operations)
        for one in batch:
            self._made(one)
        return self._generation

    def _promise_ids(self) -> None:
        if self.last_id >= self._promised:
            checkpoint.write(self.disk, self._generation, self.last_id + self.AHEAD + 1, plain=True)
            self._promised = self.last_id + self.AHEAD

    def _archive(self, operations: list[Operation]) -> None:
        """What is archived is durable before anything says so."""
        wishes = [one for one in operations if isinstance(one, Archive)]
        for wish in wishes:
            lines = [one.line for one in operations if isinstance(one, Append) and one.id == wish.id]
            self.effects.archives.take(wish, self._generation, lines)
            self.effects.departures.forget(wish.id)
        if wishes:
            sync_all(self.disk, self.note)

    def _prepare(self, puts: list[Put]) -> None:
        for put in puts:
            self._homes.make_body(put, again=True)
            self._homes.make(layout.unborn(put.id), put.line, again=True)
        if puts:
            sync_all(self.disk, self.note)

    def _commit(self, operation: Operation) -> None:
        match operation:
            case Put():
                self._homes.link(layout.unborn(operation.id), layout.envelope(operation.id))
            case Append() if (operation.id, operation.seq) not in self._done:
                self._homes.append(operation.id, operation.line)
                self._done.add((operation.id, operation.seq))
            case Move():
                if self._homes.enter(operation):
                    self._homes.moved(operation.id, operation.home)
            case Keep():
                self.effects.net.keep(operation)
                self.effects.departures.forget(operation.id)
            case Mark() if (operation.id, operation.seq) not in self._done:
                self.effects.net.mark(operation)
                self._done.add((operation.id, operation.seq))
            case Remove():
                for home in layout.HOMES:
                    self._homes.unlink(layout.envelope(operation.id, home))

    def _clean(self, operations: list[Operation]) -> None:
        """What fails here is left to the next recovery, which does all of it again."""
        for operation in operations:
            with contextlib.suppress(OSError):
                self._clean_one(operation)
        self.effects.remove_empty_folders()
        dropped = [one.dropped for one in operations if isinstance(one, Put) and one.dropped]
        if dropped:
            with contextlib.suppress(OSError):
                for one in dropped:
                    self._homes.unlink_dropped(one)
                sync_all(self.disk, self.note)
                for one in dropped:
                    self.effects.unclaim(one)

    def _clean_one(self, operation: Operation) -> None:
        match operation:
            case Put():
                self._homes.unlink(layout.unborn(operation.id))
                if operation.incoming:
                    self._homes.unlink(f"incoming/{operation.incoming}")
            case Move():
                self._homes.leave(operation.id, "queue" if operation.home == "poison" else "poison")
            case Remove():
                for home in layout.HOMES:
                    self._homes.leave(operation.id, home)
                self._homes.moved(operation.id, "queue")

    def _undo(self, puts: list[Put]) -> None:
        """Takes back the puts; events are made again with the next batch."""
        for put in puts:
            for name in (layout.envelope(put.id), layout.unborn(put.id), layout.body(put.id)):
                with contextlib.suppress(OSError):
                    self.disk.unlink(name)


def sync_all(disk: Disk, note: Note, keep_note: bool = False) -> None:
    """syncfs with the note about it (J7); StorageFailed."""
    with note.around(disk, keep_note):
        disk.sync_all()


def remove_quietly(disk: Disk, name: str) -> None:
    """Unlinks what may be gone already."""
    with contextlib.suppress(FileNotFoundError):
        disk.unlink(name)
