"""The safety net: what was delivered gets names in sent/<day>/, and only then loses those in the queue.

Promise:  a message whose files were made is linked, the new names are durable before the old ones go (J4), some hundred
          messages with one sync. One that is removed before its files were begun (J1) gets them in sent/ alone. What
          cannot be kept, because the disk is full or the body has too many names already, is delivered all the same:
          mail never waits for the net.
On crash: recovery makes from the records what is missing here (spool.net_recovery).
Callers:  effects, and the store without a journal. One thread, but for `gather`: what that changes is only looked up.
"""

import contextlib
from collections import Counter
from dataclasses import dataclass, field
from itertools import chain

from kmq.spool import layout
from kmq.spool.homes import Homes
from kmq.spool.record import Keep, Mark, Put

#: Messages whose names in the queue go after one sync.
TOGETHER = 200


@dataclass(slots=True)
class Gathered:
    """A message without files, as its records tell it until its keep has its turn. generation: of its put."""

    put: Put | None = None
    generation: int = 0
    lines: list[bytes] = field(default_factory=list)


class Net:
    """What is kept. kept, lost: messages, since the start; bytes: of those; why: the last one was lost."""

    def __init__(self, homes: Homes) -> None:
        self.homes = homes
        self.kept = 0
        self.lost = 0
        self.bytes = 0
        self.why: OSError | None = None
        self._gathered: dict[int, Gathered] = {}
        self._awaited: Counter[int] = Counter()  # puts among those, by generation
        self._linked: dict[int, str] = {}  # whose names in sent/ may not be durable -> the day
        self._leaving: dict[int, tuple[int, str]] = {}  # the same, removed: (generation, day)

    # --- messages without files ----------------------------------------------------------------------------------

    def gather(self, number: int) -> None:
        """Its put waits for its turn behind a durable keep: what follows is gathered instead of made."""
        self._gathered[number] = Gathered()

    def gathers(self, number: int) -> bool:
        return number in self._gathered

    def take(self, generation: int, put: Put) -> None:
        """Its put had its turn."""
        one = self._gathered[put.id]
        self._awaited[generation] += one.put is None  # it may have its turn again
        one.put, one.generation = put, generation

    def take_line(self, number: int, line: bytes) -> None:
        """So had an event of it; of a message that is not gathered nothing is wanted."""
        one = self._gathered.get(number)
        if one is not None:
            one.lines.append(line)

    # --- keeping -------------------------------------------------------------------------------------------------

    def keep(self, keep: Keep) -> str:
        """Its names in sent/. -> the name of its body in incoming/, which nobody needs from now on, or ""."""
        one = self._gathered.pop(keep.id, None)
        if one is not None and one.put is not None:
            self._awaited[one.generation] -= 1
            if not self._awaited[one.generation]:
                del self._awaited[one.generation]
        place = layout.kept_on(keep.day)
        try:
            if one is None:
                self._link(keep, place)
            elif one.put is not None:
                self._make(one.put, one.lines, place)
        except OSError as error:
            self.lost += 1
            self.why = error
            self._undo(keep.id, place)
        else:
            self.kept += 1
            self.bytes += self._length(keep.id, place)
        return one.put.incoming if one is not None and one.put is not None else ""

    def _link(self, keep: Keep, place: str) -> None:
        home = self.homes.of(keep.id)
        for name in (layout.body, layout.envelope):
            old, new = name(keep.id, home), name(keep.id, place)
            if self.homes.disk.status(new) is not None:  # a try before this one
                if self.homes.disk.status(old) is None:
                    continue
                self.homes.unlink(new)
            self.homes.link(old, new)
        self._linked[keep.id] = keep.day

    def _make(self, put: Put, lines: list[bytes], place: str) -> None:
        body = layout.body(put.id, place)
        if put.body is not None:
            self.homes.make(body, put.body, again=True)
        else:
            self.homes.unlink(body)
            self.homes.link(f"incoming/{put.incoming}", body)
        self.homes.make(layout.envelope(put.id, place), b"\n".join([put.line, *lines]), again=True)

    def _undo(self, number: int, place: str) -> None:
        for name in (layout.envelope, layout.body):
            with contextlib.suppress(OSError):
                self.homes.unlink(name(number, place))

    def _length(self, number: int, place: str) -> int:
        names = (layout.body(number, place), layout.envelope(number, place))
        return sum(found.st_size for name in names if (found := self.homes.disk.status(name)) is not None)

    def mark(self, mark: Mark) -> None:
        """One more line of a message that is kept; the net may have let it go."""
        with contextlib.suppress(FileNotFoundError):
            name = layout.envelope(mark.id, layout.kept_on(mark.day))
            self.homes.disk.append(name, b"\n" + mark.line)

    # --- leaving the queue ---------------------------------------------------------------------------------------

    def leaves(self, generation: int, number: int) -> bool:
        """Whether the names in the queue of a removed message wait for those in sent/."""
        day = self._linked.pop(number, None)
        if day is not None:
            self._leaving[number] = generation, day
        return day is not None

    def forget(self, number: int) -> None:
        """Nobody waits for its names in sent/."""
        self._linked.pop(number, None)

    @property
    def full(self) -> bool:
        """Whether enough wait for one sync."""
        return len(self._leaving) >= TOGETHER

    @property
    def idle(self) -> bool:
        return not self._leaving and not self._gathered

    def finished(self, generation: int) -> bool:
        """Whether nothing of this generation or an older one is still to be done here (J3)."""
        waits = chain(self._awaited, (made for made, _ in self._leaving.values()))
        return min(waits, default=generation + 1) > generation

    def let_go(self) -> list[tuple[int, int]]:
        """The new names are durable, or StorageFailed; then the old ones go. -> (generation, ID) of what could not."""
        if not self._leaving:
            return []
        disk = self.homes.disk
        with self.homes.note.around(disk):
            for day in {day for _, day in self._leaving.values()}:
                with contextlib.suppress(FileNotFoundError):  # the net let go of the whole day
                    disk.sync_folder(layout.kept_on(day))
            disk.sync_folder(layout.SENT)
        stuck = []
        for number, (generation, _) in self._leaving.items():
            try:
                self.homes.leave(number, self.homes.of(number))
                self.homes.moved(number, "queue")
            except OSError:
                stuck.append((generation, number))
        self._leaving.clear()
        return stuck
