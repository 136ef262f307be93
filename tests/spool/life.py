"""One life of the scheduler process on a disk of memory, and of the receivers and workers that it serves.

What:     verbs as they come from outside (put, defer, deliver, remove, move, ...) and the steps by which the store
          carries them out (sync, apply, checkpoint), each when the test says so, all noted in a ledger.
Callers:  the tests of the spool.
"""

import itertools
from collections import Counter
from collections.abc import Callable, Iterator
from random import Random

from kmq.errors import StorageFailed
from kmq.spool import layout, loading
from kmq.spool.checkpoint import Note
from kmq.spool.disk import Disk
from kmq.spool.effects import Effects
from kmq.spool.journal import Journal
from kmq.spool.record import Append, Archive, Dropped, Keep, Mark, Move, Operation, Put, Remove
from kmq.spool.recovery import Recovered, Recovery
from kmq.spool.store import FileStore, JournalStore, Pending, Store
from tests.spool.ghost import GhostDisk, GhostNote, Kernel, Watch
from tests.spool.ledger import Ledger, Written
from tests.spool.world import NOW, event, message

#: Bytes of a segment: small enough that a short story turns generations by itself.
SEGMENT = 24 << 10
#: The day under which what is delivered is kept.
DAY = "2025-11-22"
#: The folder in which mail is archived.
PLACE = "backup/2025-11-22"


def recover(disk: Disk, note: Note, ledger: Ledger) -> tuple[Recovered, Journal]:
    """A start's first steps, as any program takes them that owns the spool."""
    layout.prepare(disk)
    return Recovery(disk, note, SEGMENT, lambda name: ledger.incoming.get(name, False)).recover()


class Life:
    """From one start to its end. seed: of the tokens, so that the same life can be led twice."""

    def __init__(
        self, kernel: Kernel, ledger: Ledger, kind: str = "journal", watch: Watch | None = None, seed: int = 0
    ) -> None:
        self.kernel, self.ledger, self.kind = kernel, ledger, kind
        self.random = Random(seed)
        self.disk = GhostDisk(kernel, watch)
        self.outside = GhostDisk(kernel, watch)  # receivers and whoever drops files have descriptors of their own
        self.start(self.disk, GhostNote(kernel))

    def start(self, disk: Disk, note: Note) -> None:
        """Recovery, then the store, and what a scheduler process knows of each message."""
        self.note = note
        self.recovered, self.log = recover(disk, note, self.ledger)
        self.effects = Effects(disk, self.recovered.poison)
        self.store: Store
        keys = {"last_id": self.recovered.last_id, "batch_size": 4}
        if self.kind == "journal":
            self.store = JournalStore(disk, self.log, self.effects, note, **keys)
        else:
            self.store = FileStore(disk, self.effects, note, **keys)
        self.covered = self.store.coverable
        self.refused: list[int] = []
        self.waiting: Counter[int] = Counter()  # records of a message that are not told yet
        self.durable: set[int] = set()
        self.seq: dict[int, int] = {}
        self.home: dict[int, str] = {}
        self.kept: dict[int, int] = {}  # delivered, and in the net -> the number of the next event
        for home in layout.HOMES:
            for one in itertools.chain.from_iterable(loading.everything(disk, home)):
                if isinstance(one, loading.Loaded):
                    self.seq[one.id], self.home[one.id] = one.state.next_seq, home
                    self.durable.add(one.id)

    # --- verbs -------------------------------------------------------------------------------------------------------

    def put(self, text: bytes = b"", **keys: object) -> int:
        """A message by SMTP; `keys`: more fields of its record."""
        put = self.new_put(text, **keys)
        self._add([put], refusable=True)
        return put.id

    def new_put(self, text: bytes = b"", **keys: object) -> Put:
        number = self.store.new_id(NOW)
        text = text or b"Subject: %d\r\n\r\n" % number
        line, body = message(number, text, recipients=2)
        self.ledger.bodies[number] = text
        self.seq[number], self.home[number] = 1, "queue"
        keys.setdefault("token", self.random.randbytes(16))
        return Put(number, line, None if "incoming" in keys else body, **keys)  # type: ignore[arg-type]

    def receive_large(self, name: str, text: bytes) -> None:
        """What a receiver does before its put (J6)."""
        fd = self.outside.create(f"incoming/{name}")
        self.ledger.incoming[name] = True
        self.outside.write(fd, text)
        self.outside.sync(fd)
        self.outside.close_file(fd)
        self.outside.sync_folder("incoming")

    def put_large(self, name: str = "1-1-1-1", text: bytes = b"") -> int:
        text = text or b"Subject: large\r\n\r\n" + name.encode() * 400
        self.receive_large(name, text)
        return self.put(text, incoming=name)

    def drop(self, name: str = "pickup/a.tmp") -> Dropped:
        """Somebody leaves a file, durably, and pickup gives it a name that no other has."""
        assert self.outside.status(name) is None
        fd = self.outside.create("pickup/new")
        self.outside.write(fd, b"Subject: dropped\r\n\r\n")
        self.outside.sync(fd)
        self.outside.close_file(fd)
        for old in [one for one in self.ledger.offered if one.name == name]:
            del self.ledger.offered[old]
        self.outside.rename("pickup/new", name)
        self.outside.sync_folder("pickup")
        status = self.outside.status(name)
        assert status is not None
        dropped = Dropped(name, status.st_ino, status.st_mtime_ns)
        self.ledger.offered[dropped] = False
        return dropped

    def put_dropped(self, dropped: Dropped) -> int | None:
        """What pickup asks for; None when the queue has the file already (J12)."""
        if not self.effects.claim(dropped):
            return None
        return self.put(b"Subject: dropped\r\n\r\n", dropped=dropped)

    def event(self, number: int, kind: str, **keys: object) -> Append:
        """The next line of a message."""
        seq = self.seq[number]
        self.seq[number] = seq + 1
        return Append(number, seq, event(seq, kind, **keys))

    def defer(self, number: int) -> None:
        line = self.event(number, "deferred", rcpt="0", attempt=self.seq[number], reply="451 4.3.0 later")
        self._add([line])

    def deliver(self, number: int) -> None:
        """The last result, and the end of the message, in one record."""
        self._add([self.event(number, "delivered", rcpt="0-1", attempt=9, reply="250 ok"), Remove(number)])
        self._gone(number)

    def keep(self, number: int) -> None:
        """The same, and the message is kept."""
        line = self.event(number, "delivered", rcpt="0-1", attempt=9, reply="250 ok")
        self.kept[number] = self.seq[number]
        self._add([line, Keep(number, DAY), Remove(number)])
        self._gone(number)

    def archive(self, number: int) -> None:
        """The phase Backup: it has been through it, and its names are made, in one record."""
        line = self.event(number, "passed", phase="Backup", archive=PLACE)
        self._add([line, Archive(number, line.seq, PLACE)])

    def archive_and_deliver(self, number: int) -> None:
        """The same in one go with its delivery."""
        self._archived_and_gone(number)

    def archive_and_keep(self, number: int) -> None:
        """The same, and it is kept."""
        self._archived_and_gone(number, Keep(number, DAY))

    def _archived_and_gone(self, number: int, *keep: Keep) -> None:
        passed = self.event(number, "passed", phase="Backup", archive=PLACE)
        line = self.event(number, "delivered", rcpt="0-1", attempt=9, reply="250 ok")
        self._add([passed, Archive(number, passed.seq, PLACE), line, *keep, Remove(number)])
        self._gone(number)

    def mark(self, number: int) -> None:
        """Something more happens to a message that is kept."""
        seq = self.kept[number]
        self.kept[number] = seq + 1
        self._add([Mark(number, seq, event(seq, "deferred", rcpt="0", reply="of the net"), DAY)])

    def fail(self, number: int) -> int:
        """A notice is put, and the recipient failed, in one record; the message goes on for the other recipient."""
        notice = self.new_put(b"Subject: undelivered\r\n\r\n")
        self._add([notice, self.event(number, "failed", rcpt="1", attempt=8, reply="550 5.1.1 no")])
        return notice.id

    def remove(self, number: int) -> None:
        self._add([Remove(number)])
        self._gone(number)

    def move(self, number: int, home: str = "poison") -> None:
        line = self.event(number, "moved", home=home, reason="test")
        self._add([Move(number, line.seq, line.line, home)])
        self.home[number] = home

    def _gone(self, number: int) -> None:
        del self.seq[number], self.home[number]

    def _add(self, operations: list[Operation], refusable: bool = False) -> None:
        self.waiting.update({operation.id for operation in operations})
        self.store.add(operations, self.ledger.write(operations), 0.0, refusable)

    # --- steps -------------------------------------------------------------------------------------------------------

    def sync(self) -> bool:
        """One batch: written, synced, told; False when it failed or there was none."""
        batch = self.take()
        return batch is not None and self.finish_sync(batch, self.write(batch))

    def take(self) -> list[Pending] | None:
        """The next batch."""
        batch = self.store.take()
        for one in batch or ():
            assert isinstance(one.ticket, Written)
            one.ticket.sent = True
        return batch

    def write(self, batch: list[Pending]) -> int | None:
        """The journal's thread: -> the generation, or None when the batch does not count and a new segment begins."""
        try:
            return self.store.sync(batch)
        except StorageFailed:
            raise
        except OSError:
            self.begin_anew()
            return None

    def begin_anew(self) -> None:
        """J8: until it works."""
        for _ in range(20):
            try:
                self.store.abandon()
                return
            except OSError:
                continue
        raise AssertionError("no new segment can be begun")

    def finish_sync(self, batch: list[Pending], generation: int | None) -> bool:
        """The loop: who waits is told."""
        if generation is None:
            for one in self.store.refuse(batch):
                self._refuse(one)
            return False
        self.store.settle(batch, generation)
        for one in batch:
            self._told(one)
        return True

    def _told(self, one: Pending) -> None:
        assert isinstance(one.ticket, Written)
        self.ledger.tell(one.ticket)
        self.waiting.subtract({operation.id for operation in one.operations})
        self.durable.update(operation.id for operation in one.operations if isinstance(operation, Put))

    def _refuse(self, one: Pending) -> None:
        assert isinstance(one.ticket, Written)
        self.ledger.refuse(one.ticket)
        self.waiting.subtract({operation.id for operation in one.operations})
        for operation in one.operations:
            if isinstance(operation, Put):
                self.refused.append(operation.id)
                self._gone(operation.id)
                if operation.dropped:
                    self.effects.unclaim(operation.dropped)
                if operation.incoming:  # a receiver removes what was refused
                    self.outside.unlink(f"incoming/{operation.incoming}")
                    del self.ledger.incoming[operation.incoming]

    def sync_all(self) -> None:
        while self.store.pending:
            self.sync()

    def apply(self, count: int = 1) -> None:
        for _ in range(count):
            self.effects.apply_next()

    def apply_all(self) -> None:
        while self.effects.apply_next():
            pass
        self.effects.retry_owed()

    def settle(self) -> None:
        self.sync_all()
        self.apply_all()

    def turn(self) -> None:
        """The generation ends."""
        try:
            self.store.turn()
        except OSError:
            self.begin_anew()

    def prepare(self) -> None:
        """The next segment and the reserve; a full disk waits for better days."""
        if self.kind == "journal":
            try:
                self.log.prepare()
            except OSError:
                pass

    @property
    def due(self) -> int | None:
        """A generation that a checkpoint may cover now (J3)."""
        generation = self.store.coverable
        return generation if generation > self.covered and self.effects.finished(generation) else None

    def checkpoint_steps(self) -> Iterator[str]:
        """The steps of a checkpoint, if one is due; a full disk stops it for now."""
        generation = self.due
        if generation is None:
            return
        try:
            yield from self.store.checkpoint(generation)
        except StorageFailed:
            raise
        except OSError:
            return
        self.covered = generation

    def checkpoint(self) -> None:
        for _ in self.checkpoint_steps():
            pass

    def end(self) -> None:
        """Killed: no descriptor is left, no call comes through any more."""
        self.disk.alive = self.outside.alive = False

    def restart(self) -> None:
        """Killed, and started again: what was written and not told is known from what is found."""
        self.end()
        self.__init__(self.kernel, self.ledger, self.kind, self.disk.watch, self.random.randrange(1 << 30))  # type: ignore[misc]
        self.ledger.settle(self.disk)


#: A story: what happens in one life.
Story = Callable[[Life], None]
