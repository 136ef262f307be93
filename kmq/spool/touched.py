"""Which messages' files have changed, for whoever keeps an index of them.

Does:     `Homes` notes each envelope that it makes, writes to or unlinks; `drain` tells which are worth a look. One
          that was made and removed since the last time is not: most mail is never in an index.
Promise:  bounded. When more is noted than anybody fetches, or nobody listens, nothing is kept, and `drain` says that
          something was lost: then all is compared.
On crash: nothing is kept; whoever listens compares all when it joins again.
Callers:  homes, in the threads that change files; run/changes drains, in the loop.
"""

from collections import deque
from typing import Final

#: Notes that wait at most.
LIMIT: Final = 400_000

_MADE, _CHANGED, _LEFT = 0, 1, 2


class Touched:
    """Notes of one spool."""

    def __init__(self) -> None:
        self._listening = False
        self._lost = False
        self._notes: deque[int] = deque()

    def listen(self, listening: bool) -> None:
        """Whether somebody fetches notes from now on; what was noted before is not kept."""
        self._listening = listening
        self._notes.clear()
        self._lost = False

    def made(self, number: int) -> None:
        """Its envelope is there."""
        if self._listening:
            self._note(number << 2 | _MADE)

    def changed(self, number: int) -> None:
        """Its envelope has grown, or lives elsewhere."""
        if self._listening:
            self._note(number << 2 | _CHANGED)

    def left(self, number: int) -> None:
        """It is gone."""
        if self._listening:
            self._note(number << 2 | _LEFT)

    def _note(self, note: int) -> None:
        if len(self._notes) >= LIMIT:
            self._listening, self._lost = False, True
        self._notes.append(note)

    def drain(self) -> set[int] | None:
        """IDs that are worth a look, None when notes were lost; from then on all are noted again."""
        if self._lost:
            self.listen(True)
            return None
        born: set[int] = set()
        worth: set[int] = set()
        for _ in range(len(self._notes)):
            note = self._notes.popleft()
            number, what = note >> 2, note & 3
            if what == _LEFT and number in born:
                worth.discard(number)
                continue
            if what == _MADE:
                born.add(number)
            worth.add(number)
        return worth
