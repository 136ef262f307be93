"""A spool that a test drives step by step: writing, syncing, effects, checkpoint, each when the test says so."""

import hashlib
import itertools
import os
from pathlib import Path

from kmq.errors import StorageFailed
from kmq.model import envelope, moment, queue_id
from kmq.model.event import Deferred, Delivered, Failed, Moved, Passed
from kmq.spool import layout, loading
from kmq.spool.checkpoint import Note
from kmq.spool.disk import Disk
from kmq.spool.effects import Effects
from kmq.spool.record import Append, Dropped, Move, Operation, Put, Remove
from kmq.spool.recovery import Recovered, Recovery
from kmq.spool.store import FileStore, JournalStore, Pending, Store

SEGMENT = 1 << 20
NOW = 1_763_790_000


def message(number: int, text: bytes = b"Subject: x\r\n\r\nhello\r\n", recipients: int = 1) -> tuple[bytes, bytes]:
    """(head line, body) of a message."""
    people = [envelope.Recipient(f"r{n}@example.org") for n in range(recipients)]
    head = envelope.Head("", "", moment.as_text(NOW), "a@example.org", people, len(text))
    line = envelope.head_line(queue_id.text(number), hashlib.sha256(text).hexdigest(), envelope.head_tail(head))
    return line, text


def event(seq: int, kind: str, **keys: object) -> bytes:
    """A sealed line."""
    kinds = {"delivered": Delivered, "failed": Failed, "deferred": Deferred, "moved": Moved, "passed": Passed}
    made = kinds[kind](seq=seq, at=moment.as_text(NOW + seq), **keys)
    return envelope.event_line(made)


class World:
    """One scheduler process's storage, from its recovery on."""

    def __init__(self, root: Path, note: Path | None = None, disk: Disk | None = None, kind: str = "journal") -> None:
        self.disk = disk or Disk(root)
        layout.prepare(self.disk)
        self.note = Note(str(note or root / "run" / "syncfs"))
        self.recovered, log = self.recover()
        self.effects = Effects(self.disk, self.recovered.poison)
        self.log = log
        self.store: Store
        if kind == "journal":
            self.store = JournalStore(self.disk, log, self.effects, self.note, last_id=self.recovered.last_id)
        else:
            self.store = FileStore(self.disk, self.effects, self.note, last_id=self.recovered.last_id)
        self.told: list[object] = []
        self.refused: list[object] = []

    def recover(self) -> tuple[Recovered, "object"]:
        return Recovery(self.disk, self.note, SEGMENT).recover()

    # --- what happens ---------------------------------------------------------------------------------------------

    def put(self, text: bytes = b"Subject: x\r\n\r\nhello\r\n", ticket: object = None, **keys: object) -> int:
        number = self.store.new_id(NOW)
        line, body = message(number, text)
        put = Put(number, line, body, os.urandom(16), **keys)  # type: ignore[arg-type]
        self.store.add([put], ticket or ("put", number), 0.0, refusable=True)
        return number

    def append(self, number: int, seq: int, kind: str, **keys: object) -> None:
        line = event(seq, kind, **keys)
        self.store.add([Append(number, seq, line)], (kind, number, seq), 0.0)

    def record(self, *operations: Operation, ticket: object = None) -> None:
        self.store.add(list(operations), ticket, 0.0)

    def remove(self, number: int) -> None:
        self.store.add([Remove(number)], ("removed", number), 0.0)

    def move(self, number: int, seq: int, home: str = "poison") -> None:
        line = event(seq, "moved", home=home, reason="test")
        self.store.add([Move(number, seq, line, home)], ("moved", number, home), 0.0)

    def sync(self) -> list[Pending]:
        """One batch: written, synced, told."""
        batch = self.store.take()
        if batch is None:
            return []
        try:
            generation = self.store.sync(batch)
        except OSError:
            self.store.abandon()
            refused = self.store.refuse(batch)
            self.refused += [one.ticket for one in refused]
            return []
        self.store.settle(batch, generation)
        self.told += [one.ticket for one in batch]
        return batch

    def sync_all(self) -> None:
        while self.store.pending:
            self.sync()

    def apply_all(self) -> None:
        while self.effects.apply_next():
            pass
        self.effects.retry_owed()

    def checkpoint(self) -> None:
        self.store.turn()
        for _ in self.store.checkpoint(self.store.coverable):
            pass

    def settle(self) -> None:
        self.sync_all()
        self.apply_all()

    # --- what is there --------------------------------------------------------------------------------------------

    def found(self, home: str = "queue") -> dict[int, loading.Loaded | loading.Damaged]:
        return {one.id: one for some in loading.everything(self.disk, home) for one in some}

    def body(self, number: int, home: str = "queue") -> bytes:
        return self.disk.read(layout.body(number, home))


def tree(root: Path) -> list[str]:
    """Every file below queue/, poison/ and incoming/."""
    homes = ((root / home).rglob("*") for home in ("queue", "poison", "incoming", "pickup"))
    return sorted(str(path.relative_to(root)) for path in itertools.chain(*homes) if path.is_file())


__all__ = ["NOW", "SEGMENT", "Dropped", "StorageFailed", "World", "event", "message", "tree"]
