"""What durable records do to the plain files: one after the other, unsynced, close behind the journal.

Promise:  effects of one message happen in the order of their records; a body is there before its envelope and goes
          after it (J1). An effect that fails is owed: the later ones of its message wait behind it, those of other
          messages go on (J13). A message that is put and removed before its files were begun needs none (J1).
On crash: recovery does from the records what is missing here; doing an effect twice changes nothing.
Callers:  `add` from the loop, all else from one thread.
"""

import contextlib
import threading
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from kmq.spool import layout
from kmq.spool.disk import Disk
from kmq.spool.record import Append, Dropped, Move, Operation, Put, Remove


@dataclass(slots=True)
class Durable:
    """A record whose sync is done: its generation, its operations, and the monotonic time at which it was added."""

    generation: int
    operations: list[Operation]
    at: float


class Effects:
    """The operations that wait for their turn, and those that are owed."""

    def __init__(self, disk: Disk, poison: Iterable[int] = ()) -> None:
        self.disk = disk
        self.owed: dict[int, deque[tuple[int, Operation]]] = {}
        self.trouble: OSError | None = None
        self.waiting_bytes = 0
        self.done_count = 0
        self.incoming: list[tuple[int, str]] = []  # (generation, name): go with the checkpoint that covers them (J6)
        self._waiting: deque[Durable] = deque()
        self._poison = set(poison)
        self._doomed: set[int] = set()  # a durable remove waits behind a put that has not had its turn
        self._fresh: set[int] = set()  # puts that wait and of which no file was begun
        self._dropped: dict[str, tuple[int, int]] = {}  # J12: files whose unlink is not done yet
        self._left: set[str] = set()  # folders of the queue that a message has left
        self._turn = threading.Lock()  # holds the decision whether a put and its remove cancel each other

    # --- the loop's side -----------------------------------------------------------------------------------------

    def add(self, records: Iterable[Durable]) -> None:
        """Durable records, in order."""
        with self._turn:
            for one in records:
                for operation in one.operations:
                    if isinstance(operation, Put):
                        self._fresh.add(operation.id)
                        self.waiting_bytes += len(operation.body or b"")
                    elif isinstance(operation, Remove) and operation.id in self._fresh:
                        self._doomed.add(operation.id)
                self._waiting.append(one)

    def claim(self, dropped: Dropped) -> bool:
        """Whether a dropped file may become a message: no written put names it with its unlink still to come (J12)."""
        if self._dropped.get(dropped.name) == (dropped.inode, dropped.mtime_ns):
            return False
        found = self.disk.status(dropped.name)
        if found is None or (found.st_ino, found.st_mtime_ns) != (dropped.inode, dropped.mtime_ns):
            return False
        self._dropped[dropped.name] = (dropped.inode, dropped.mtime_ns)
        return True

    def unclaim(self, dropped: Dropped) -> None:
        """The put that named it was refused."""
        self._dropped.pop(dropped.name, None)

    def unmade(self, number: int) -> bool:
        """Whether the files of a message may not be there yet."""
        return number in self._fresh or number in self.owed

    @property
    def idle(self) -> bool:
        return not self._waiting and not self.owed

    # --- the thread's side ---------------------------------------------------------------------------------------

    def next_at(self) -> float | None:
        """When the record was added whose turn is next."""
        return self._waiting[0].at if self._waiting else None

    def finished(self, generation: int) -> bool:
        """Whether every effect of this generation and of older ones is done or cancelled (J3)."""
        waiting = self._waiting[0].generation if self._waiting else generation + 1
        owed = min((operations[0][0] for operations in self.owed.values()), default=generation + 1)
        return min(waiting, owed) > generation

    def apply_next(self) -> bool:
        """The effects of the next record; False when none waits. Never raises for the disk: what fails is owed."""
        if not self._waiting:
            return False
        one = self._waiting[0]
        ends = {operation.id for operation in one.operations if isinstance(operation, Remove)}
        for operation in one.operations:
            if not (isinstance(operation, Append) and operation.id in ends):  # its file goes with the same record
                self._apply_or_owe(one.generation, operation)
        self._waiting.popleft()  # only now: `finished` must not see a record gone whose effects are under way
        return True

    def retry_owed(self) -> bool:
        """Tries again what is owed; True when nothing is left."""
        for number in list(self.owed):
            queue = self.owed[number]
            while queue:
                if not self._apply(*queue[0]):
                    return False
                queue.popleft()
            del self.owed[number]
        self.trouble = None
        return True

    def remove_empty_folders(self) -> None:
        """Folders of the queue whose last message has left; only between a syncfs and the next effect (J3)."""
        for folder in self._left:
            with contextlib.suppress(OSError):  # not empty: the next unlink in it brings it here again
                self.disk.remove_folder(folder)
        self._left.clear()

    def covered(self, generation: int) -> list[str]:
        """Names in incoming/ of puts up to this generation, which a durable checkpoint covers now (J6)."""
        names = [name for made, name in self.incoming if made <= generation]
        self.incoming = [(made, name) for made, name in self.incoming if made > generation]
        return names

    # --- one operation -------------------------------------------------------------------------------------------

    def _apply_or_owe(self, generation: int, operation: Operation) -> None:
        queue = self.owed.get(operation.id)
        if queue is not None:
            queue.append((generation, operation))
        elif not self._apply(generation, operation):
            self.owed[operation.id] = deque([(generation, operation)])

    def _apply(self, generation: int, operation: Operation) -> bool:
        try:
            match operation:
                case Append():
                    self._append(operation.id, operation.line)
                case Put():
                    self._put(generation, operation)
                case Remove():
                    self._remove(operation.id)
                case Move():
                    self._move(operation)
        except OSError as error:
            self.trouble = error
            return False
        self.done_count += 1
        return True

    def _home(self, number: int) -> str:
        return "poison" if number in self._poison else "queue"

    def _put(self, generation: int, put: Put) -> None:
        with self._turn:
            first = put.id in self._fresh
            self._fresh.discard(put.id)
            cancelled = first and put.id in self._doomed  # no file of it exists, and the remove is durable (J1)
        if not cancelled:
            self._make_body(put, not first)
            self._make(layout.envelope(put.id), put.line, not first)
        if put.incoming:
            self.incoming.append((generation, put.incoming))
        if put.dropped:
            self._unlink_dropped(put.dropped)
        self.waiting_bytes -= len(put.body or b"")

    def _make_body(self, put: Put, again: bool) -> None:
        name = layout.body(put.id)
        if put.body is not None:
            self._make(name, put.body, again)
            return
        if not (again and self.disk.status(name)):
            self._link(f"incoming/{put.incoming}", name)

    def _make(self, name: str, text: bytes | memoryview, again: bool) -> None:
        """A new file with this content; `again`: an owed put may have left a part of it."""
        if again and self.disk.status(name):
            self.disk.unlink(name)
        fd = self._create(name)
        try:
            self.disk.write(fd, text)
        finally:
            self.disk.close_file(fd)

    def _create(self, name: str) -> int:
        try:
            return self.disk.create(name)
        except FileNotFoundError:
            self._make_folder(name.rpartition("/")[0])
            return self.disk.create(name)

    def _make_folder(self, folder: str) -> None:
        with contextlib.suppress(FileExistsError):
            self.disk.make_folder(folder)

    def _append(self, number: int, line: bytes) -> None:
        if number in self._doomed:
            return
        with contextlib.suppress(FileNotFoundError):  # without files: removed before a crash (J4)
            self.disk.append(layout.envelope(number, self._home(number)), b"\n" + line)

    def _move(self, move: Move) -> None:
        """The line first, then the new names, durable before the old ones go (J4)."""
        old, new = ("queue", "poison") if move.home == "poison" else ("poison", "queue")
        homes = [home for home in (old, new) if self.disk.status(layout.envelope(move.id, home))]
        if move.id in self._doomed or not homes:
            return
        envelope = layout.envelope(move.id, homes[0])
        if move.line not in self.disk.read(envelope):
            self.disk.append(envelope, b"\n" + move.line)
        target = layout.folder(move.id, new)
        for name in (layout.body, layout.envelope):
            if self.disk.status(name(move.id, old)) and not self.disk.status(name(move.id, new)):
                self._link(name(move.id, old), name(move.id, new))
        self.disk.sync_folder(target)
        (self._poison.add if new == "poison" else self._poison.discard)(move.id)
        self._unlink_files(move.id, old)

    def _link(self, old: str, new: str) -> None:
        try:
            self.disk.link(old, new)
        except FileNotFoundError:
            self._make_folder(new.rpartition("/")[0])
            self.disk.link(old, new)

    def _remove(self, number: int) -> None:
        if number in self._doomed:
            self._doomed.discard(number)
            return
        self._unlink_files(number, self._home(number))
        self._poison.discard(number)

    def _unlink_files(self, number: int, home: str) -> None:
        for name in (layout.envelope(number, home), layout.body(number, home)):
            with contextlib.suppress(FileNotFoundError):
                self.disk.unlink(name)
        if home == "queue":
            self._left.add(layout.folder(number))

    def _unlink_dropped(self, dropped: Dropped) -> None:
        """The file became a message; one with the same name that came later is another and stays."""
        found = self.disk.status(dropped.name)
        if found and (found.st_ino, found.st_mtime_ns) == (dropped.inode, dropped.mtime_ns):
            self.disk.unlink(dropped.name)
            folder = dropped.name.rpartition("/")[0]
            place = self.disk.status(folder)
            if place and place.st_dev != self.disk.device:
                self.disk.sync_folder(folder)  # syncfs of the spool does not reach it (J12)
        self._dropped.pop(dropped.name, None)
