"""The next sequence number of each message's events (J2): above those in its envelope and in the journal.

Memory:   messages without events are not in here. Those that were read from the disk, a whole queue of them at a start,
          stand in two flat rows, 9 bytes each; others cost a place in a table.
Callers:  run.results, run.outcasts, run.operators, run.loader.
"""

from array import array
from bisect import bisect_left

#: A number that does not fit into a byte of the row stands in the table.
_ROOM = 255


class Numbers:
    """The next sequence number of each message's events (J2); messages without events are not in here.

    edited: messages whose header phases have changed on its way out: a worker has to know their events.
    """

    def __init__(self) -> None:
        self.edited: set[int] = set()
        self._next: dict[int, int] = {}
        self._ids = array("Q")  # ascending
        self._seqs = bytearray()  # of the same messages; 0: not here, or in the table

    def next(self, number: int, count: int = 1) -> int:
        """The number of the next event of a message; the one after these `count` is so many more."""
        seq = self._next.get(number, 0)
        if not seq:
            seq = 1
            place = self._place(number) if self._ids else -1
            if place >= 0:
                seq = self._seqs[place]
                fits = seq + count <= _ROOM
                self._seqs[place] = seq + count if fits else 0
                if fits:
                    return seq
        self._next[number] = seq + count
        return seq

    def last(self, number: int) -> int:
        """The number of the last event of a message, 0 when it has none."""
        place = self._place(number) if self._ids else -1
        return (self._seqs[place] if place >= 0 else self._next.get(number, 1)) - 1

    def begin(self, number: int, seq: int) -> None:
        """A message from the disk whose next event has this number."""
        self.forget(number)
        if seq <= 1:
            return
        if seq <= _ROOM and (not self._ids or number > self._ids[-1]):
            self._ids.append(number)
            self._seqs.append(seq)
        else:
            self._next[number] = seq

    def forget(self, number: int) -> None:
        """The message is gone."""
        self._next.pop(number, None)
        self.edited.discard(number)
        if self._ids and (place := self._place(number)) >= 0:
            self._seqs[place] = 0

    def _place(self, number: int) -> int:
        """Where it stands in the rows, which are not empty; -1 when it does not."""
        ids = self._ids
        if number > ids[-1]:
            return -1
        place = bisect_left(ids, number)
        return place if ids[place] == number and self._seqs[place] else -1
