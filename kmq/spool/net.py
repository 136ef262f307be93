"""The safety net: what was delivered gets names in sent/<day>/, and only then loses those in the queue.

Promise:  a message whose files were made is linked, the new names are durable before the old ones go (departures). One
          that is removed before its files were begun (J1) gets them in sent/ alone. What cannot be kept, because the
          disk is full or the body has too many names already, is delivered all the same: mail never waits for the net.
On crash: recovery makes from the records what is missing here (spool.net_recovery).
Callers:  effects, and the store without a journal. One thread, but for `gather`: what that changes is only looked up.
"""

import contextlib
from collections import Counter
from dataclasses import dataclass, field

from kmq.spool import layout
from kmq.spool.departures import Departures
from kmq.spool.homes import Homes
from kmq.spool.record import Keep, Mark, Put


@dataclass(slots=True)
class Gathered:
    """A message without files, as its records tell it until its keep has its turn. generation: of its put."""

    put: Put | None = None
    generation: int = 0
    lines: list[bytes] = field(default_factory=list)


class Net:
    """What is kept. kept, lost: messages, since the start; bytes: of those; why: the last one was lost."""

    def __init__(self, homes: Homes, departures: Departures) -> None:
        self.homes = homes
        self._departures = departures
        self.kept = 0
        self.lost = 0
        self.bytes = 0
        self.why: OSError | None = None
        self._gathered: dict[int, Gathered] = {}
        self._awaited: Counter[int] = Counter()  # puts among those, by generation

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
        self._departures.named(keep.id, place)

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

    @property
    def idle(self) -> bool:
        return not self._gathered

    def finished(self, generation: int) -> bool:
        """Whether nothing of this generation or an older one is still to be done here (J3)."""
        return min(self._awaited, default=generation + 1) > generation
