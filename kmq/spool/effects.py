"""What durable records do to the plain files: one after the other, unsynced, close behind the journal.

Promise:  effects of one message happen in the order of their records. An effect that fails is owed: the later ones of
          its message wait behind it, those of other messages go on (J13). A message that is put and removed before its
          files were begun needs none (J1); what the safety net (spool.net) or the archive (spool.archive) keeps of it
          is made there alone (spool.gathered).
On crash: recovery does from the records what is missing here; doing an effect twice changes nothing.
Callers:  `add` from the loop, all else from one thread.
"""

import threading
from collections import deque
from collections.abc import Iterable, Iterator, Sequence

import msgspec

from kmq.spool import layout
from kmq.spool.archive import Archives
from kmq.spool.departures import Departures
from kmq.spool.disk import Disk
from kmq.spool.gathered import Gathering
from kmq.spool.homes import Homes
from kmq.spool.net import Net
from kmq.spool.record import Append, Archive, Dropped, Keep, Mark, Move, Operation, Put, Remove

_NONE: frozenset[int] = frozenset()


class Durable(msgspec.Struct, gc=False, eq=False):
    """A record whose sync is done: its generation, those of its operations that are not cancelled, and the monotonic
    time at which it was added."""

    generation: int
    operations: Sequence[Operation]
    at: float


class Effects:
    """The operations that wait for their turn, and those that are owed.

    trouble: why something of the spool is owed, None when nothing is; stuck: the same of dropped files that lie outside
    the spool: whoever owns their folder must not be able to stop all mail. waiting_bytes: of bodies whose files are not
    made.
    """

    def __init__(self, disk: Disk, poison: Iterable[int] = ()) -> None:
        self.disk = disk
        self.homes = Homes(disk, poison)
        self.departures = Departures(self.homes)
        self.gathering = Gathering(self.homes)
        self.net = Net(self.homes, self.departures, self.gathering)
        self.archives = Archives(self.homes, self.departures, self.gathering)
        self.owed: dict[int, deque[tuple[int, Operation]]] = {}
        self.trouble: OSError | None = None
        self.stuck: OSError | None = None
        self._error = OSError()  # of the last operation that failed
        self.waiting_bytes = 0
        self.done_count = 0
        self.incoming: list[tuple[int, str]] = []  # (generation, name): go with the checkpoint that covers them (J6)
        self._waiting: deque[Durable] = deque()
        self._doomed: set[int] = set()  # a durable remove waits behind a put that had not had its turn, and has one
        self._fresh: dict[int, Durable] = {}  # puts that wait for their turn: of them no file was begun
        self._archived: set[int] = set()  # of those: a durable archive waits behind them
        self._unmade: set[int] = set()  # puts, written or durable, whose files are not all there
        self._ending = _NONE  # whose envelopes end with the record that has its turn
        self._dropped: set[Dropped] = set()  # J12: files whose unlink is not done yet
        self._turn = threading.Lock()  # holds the decision whether a put and its remove cancel each other

    # --- the loop's side -----------------------------------------------------------------------------------------

    def add(self, records: Iterable[Durable]) -> None:
        """Durable records, in order."""
        fresh = self._fresh
        with self._turn:
            for one in records:
                for operation in one.operations:
                    if type(operation) is Append:
                        continue
                    if type(operation) is Put:
                        fresh[operation.id] = one
                        self._unmade.add(operation.id)
                        self.waiting_bytes += len(operation.body or b"")
                    elif operation.id in fresh:
                        self._follows_a_put(operation, one)
                self._waiting.append(one)

    def _follows_a_put(self, operation: Operation, record: Durable) -> None:
        """Of which no file was begun."""
        if isinstance(operation, Remove):
            if operation.id in self._archived:
                self.gathering.expect(operation.id)
            self._cancel(operation.id, record)
        elif isinstance(operation, Archive):
            self._archived.add(operation.id)
        elif isinstance(operation, Keep):
            self.gathering.expect(operation.id)

    def _cancel(self, number: int, end: Durable) -> None:
        """A put and its remove. Where nothing else hangs on the put, as with most mail, both are over, and its bytes go
        now; else its turn finds it doomed."""
        begin = self._fresh[number]
        put, *others = begin.operations
        hangs = others or self.gathering.of(number) is not None
        if hangs or type(put) is not Put or put.body is None or put.dropped:
            self._doomed.add(number)
            return
        begin.operations = ()
        end.operations = [one for one in end.operations if one.id != number]
        del self._fresh[number]
        self._unmade.discard(number)
        self.waiting_bytes -= len(put.body)

    def claim(self, dropped: Dropped) -> bool:
        """Whether a dropped file may become a message: no written put names it with its unlink still to come (J12)."""
        if dropped in self._dropped or not dropped.lies(self.disk.status(dropped.name)):
            return False
        self._dropped.add(dropped)
        return True

    def unclaim(self, dropped: Dropped) -> None:
        """The put that named it was refused, or its unlink is done."""
        self._dropped.discard(dropped)

    def unmade(self, number: int) -> bool:
        """Whether the files of a message may not be there yet, from the writing of its put on."""
        return number in self._unmade

    def unmade_from_now(self, number: int) -> None:
        """Its put is written."""
        self._unmade.add(number)

    def made(self, number: int) -> None:
        """Its files are there, or it was refused or cancelled."""
        self._unmade.discard(number)

    @property
    def behind(self) -> int:
        """Durable records that have not had their turn; what is owed has had it."""
        return len(self._waiting)

    @property
    def idle(self) -> bool:
        return not self._waiting and not self.owed and self.gathering.idle and self.departures.idle

    # --- the thread's side ---------------------------------------------------------------------------------------

    def next_at(self) -> float | None:
        """When the record was added whose turn is next."""
        return self._waiting[0].at if self._waiting else None

    def finished(self, generation: int) -> bool:
        """Whether every effect of this generation and of older ones is done or cancelled (J3)."""
        waiting = self._waiting[0].generation if self._waiting else generation + 1
        owed = min((operations[0][0] for operations in self.owed.values()), default=generation + 1)
        elsewhere = self.gathering.finished(generation) and self.departures.finished(generation)
        return min(waiting, owed) > generation and elsewhere

    def apply_next(self) -> bool:
        """The effects of the next record; False when none waits. Never raises for the disk: what fails is owed."""
        while self._waiting and not self._waiting[0].operations:
            self._waiting.popleft()
        if not self._waiting:
            self.let_go()
            return False
        one = self._waiting[0]
        operations = self._begin(one)
        self._ending = ends = _ending(operations)
        for operation in _outliving(operations, ends) if ends else operations:
            self._apply_or_owe(one.generation, operation)
        self._ending = _NONE
        if self.departures.full or len(self._waiting) == 1:
            self.let_go()
        self._waiting.popleft()  # only now: `finished` must not see a record gone whose effects are under way
        return True

    def _begin(self, one: Durable) -> Sequence[Operation]:
        """Its turn has come: a remove that becomes durable from now on finds files, and cancels nothing."""
        with self._turn:
            for operation in one.operations:
                if isinstance(operation, Put):
                    self._fresh.pop(operation.id, None)
                    self._archived.discard(operation.id)
            return one.operations

    def let_go(self) -> None:
        """What is kept elsewhere by now leaves the queue. StorageFailed."""
        for generation, number in self.departures.let_go():
            self._apply_or_owe(generation, Remove(number))

    def retry_owed(self) -> bool:
        """Tries again what is owed, message by message; True when nothing is left."""
        trouble = stuck = None
        for number, queue in list(self.owed.items()):
            while queue and self._apply(*queue[0], again=True):
                queue.popleft()
            if not queue:
                del self.owed[number]
            elif self._is_elsewhere(queue[0][1]):
                stuck = self._error
            else:
                trouble = self._error
        self.trouble, self.stuck = trouble, stuck
        self.let_go()
        return not self.owed

    def _is_elsewhere(self, failed: Operation) -> bool:
        """Whether all that is left of a put is the unlinking of a dropped file outside the spool."""
        if not isinstance(failed, Put) or failed.id in self._unmade:
            return False
        return failed.dropped is not None and failed.dropped.name.startswith("/")

    def remove_empty_folders(self) -> None:
        """Only between a syncfs and the next effect (J3)."""
        self.homes.remove_empty_folders()

    def covered(self, generation: int) -> list[str]:
        """Names in incoming/ of puts up to this generation, which may go when a durable checkpoint covers them (J6)."""
        return [name for made, name in self.incoming if made <= generation]

    def swept(self, name: str) -> None:
        """A name in incoming/ is gone."""
        self.incoming = [(made, one) for made, one in self.incoming if one != name]

    # --- one operation -------------------------------------------------------------------------------------------

    def _apply_or_owe(self, generation: int, operation: Operation) -> None:
        queue = self.owed.get(operation.id)
        if queue is not None:
            queue.append((generation, operation))
        elif not self._apply(generation, operation):
            self.owed[operation.id] = deque([(generation, operation)])
            if self._is_elsewhere(operation):
                self.stuck = self._error
            else:
                self.trouble = self._error

    def _apply(self, generation: int, operation: Operation, again: bool = False) -> bool:
        """again: a try before this one may have left a part of it."""
        try:
            match operation:
                case Append():
                    self._append(operation)
                case Put():
                    self._put(generation, operation, again)
                case Remove():
                    self._remove(generation, operation.id)
                case Keep():
                    self.net.keep(operation)
                case Mark():
                    self.net.mark(operation)
                case Archive():
                    self.archives.take(operation, generation, last=operation.id in self._ending)
                case Move():
                    self._move(operation)
        except OSError as error:
            self._error = error
            return False
        self.done_count += 1
        return True

    def _put(self, generation: int, put: Put, again: bool) -> None:
        if put.id not in self._doomed and put.id in self._unmade:
            self._make(put, again)
        elif self.gathering.of(put.id):
            self.gathering.take(generation, put)
        self.made(put.id)
        if put.dropped:
            self.homes.unlink_dropped(put.dropped)
            self._dropped.discard(put.dropped)
        if put.incoming and not self.gathering.of(put.id):
            self.incoming.append((generation, put.incoming))
        with self._turn:
            self.waiting_bytes -= len(put.body or b"")

    def _make(self, put: Put, again: bool) -> None:
        """The body first (J1). again: a try before this one may have left a part of each."""
        envelope = layout.envelope(put.id)
        if again:
            self.homes.unlink(envelope)
        self.homes.make_body(put, again)
        self.homes.make(envelope, put.line, again)

    def _append(self, line: Append) -> None:
        if line.id in self._doomed:
            self.gathering.take_line(line.id, line.line)
        else:
            self.homes.append(line.id, line.line)

    def _move(self, move: Move) -> None:
        if move.id in self._doomed:
            self.gathering.take_line(move.id, move.line)
            return
        if not self.homes.enter(move):
            return
        self.homes.sync_names(move.id, move.home)  # the new names are durable before the old ones go (J4)
        self.homes.moved(move.id, move.home)
        self.homes.leave(move.id, "queue" if move.home == "poison" else "poison")

    def _remove(self, generation: int, number: int) -> None:
        if number in self._doomed:
            self._doomed.discard(number)
            incoming = self.gathering.end(number)
            if incoming:
                self.incoming.append((generation, incoming))
            return
        if self.departures.leaves(generation, number):
            return
        self.homes.leave(number, self.homes.of(number))
        self.homes.moved(number, "queue")


def _ending(operations: Iterable[Operation]) -> frozenset[int]:
    """Messages that a record removes and the net does not keep: no further line of them is wanted."""
    removed = {operation.id for operation in operations if isinstance(operation, Remove)}
    if not removed:
        return _NONE
    return frozenset(removed.difference(operation.id for operation in operations if isinstance(operation, Keep)))


def _outliving(operations: Iterable[Operation], ends: frozenset[int]) -> Iterator[Operation]:
    """What has to be done of a record with which some messages end: a line of such a one goes with its file, but where
    the file is archived with that line."""
    archived = {operation.id for operation in operations if isinstance(operation, Archive)}
    for operation in operations:
        if isinstance(operation, Append) and operation.id in ends and operation.id not in archived:
            continue
        if isinstance(operation, Archive):
            archived.discard(operation.id)
        yield operation
