"""The safety net: what was delivered gets names in sent/<day>/, and only then loses those in the queue.

Promise:  a message whose files were made is linked, the new names are durable before the old ones go (departures). One
          that is removed before its files were begun (J1) gets them in sent/ alone (gathered). What cannot be kept, as
          the disk is full or the body has too many names already, is delivered all the same: no mail waits for the net.
On crash: recovery makes from the records what is missing here.
Callers:  effects, and the store without a journal. One thread.
"""

import contextlib

from kmq.spool import layout
from kmq.spool.departures import Departures
from kmq.spool.gathered import Gathering
from kmq.spool.homes import Homes
from kmq.spool.record import Keep, Mark


class Net:
    """What is kept. kept, lost: messages, since the start; bytes: of those; why: the last one was lost."""

    def __init__(self, homes: Homes, departures: Departures, gathering: Gathering) -> None:
        self.homes = homes
        self._departures = departures
        self._gathering = gathering
        self.kept = 0
        self.lost = 0
        self.bytes = 0
        self.why: OSError | None = None

    def keep(self, keep: Keep) -> None:
        """Its names in sent/."""
        place = layout.kept_on(keep.day)
        gathered = self._gathering.of(keep.id)
        try:
            if gathered is None:
                self._link(keep, place)
            else:
                self._gathering.make(gathered, place)
        except OSError as error:
            self.lost += 1
            self.why = error
            self._undo(keep.id, place)
        else:
            self.kept += 1
            self.bytes += self._length(keep.id, place)

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
