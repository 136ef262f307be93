"""The next sequence number of each message's events (J2): above those in its envelope and in the journal.

Memory:   messages without events are not in here; a small number costs no object of its own.
Callers:  run.results, run.outcasts, run.operators, run.loader.
"""


class Numbers:
    """The next sequence number of each message's events (J2); messages without events are not in here."""

    def __init__(self) -> None:
        self._next: dict[int, int] = {}

    def next(self, number: int) -> int:
        seq = self._next.get(number, 1)
        self._next[number] = seq + 1
        return seq

    def begin(self, number: int, seq: int) -> None:
        """A message from the disk whose next event has this number."""
        if seq > 1:
            self._next[number] = seq

    def forget(self, number: int) -> None:
        self._next.pop(number, None)
