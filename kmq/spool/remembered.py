"""What the index remembers of messages, for a start that need not read every envelope.

Does:     opens the index beside the process that writes it, and tells for some messages in one question which files it
          has read and what it noted of them (spool/standing).
Promise:  a hint, to be held against the files by whoever asks. Without an index that can be believed, or when it fails
          half way, nothing is remembered, and the envelopes are read. Nothing is written.
On crash: nothing is kept here.
Callers:  spool/loading, in one thread.
"""

import contextlib
import sqlite3
from collections.abc import Sequence
from pathlib import Path

from kmq.spool.index import Index, NoIndex
from kmq.spool.index_rows import mid_of, number_of
from kmq.spool.standing import Files

#: Rows between the first ID and the last that was asked for: more than so many for each of them lie there only when the
#: index is of another queue.
_BETWEEN = 4

_QUESTION = (
    "SELECT mid, bytes, changed, size, standing FROM message"
    " WHERE mid BETWEEN ? AND ? AND standing IS NOT NULL ORDER BY mid LIMIT ?"
)

#: What is remembered of a message, and of which files.
Memory = tuple[Files, str]


class Remembered:
    """The index of one spool, as long as it answers."""

    def __init__(self, spool: Path) -> None:
        self._index: Index | None = None
        with contextlib.suppress(NoIndex, sqlite3.Error):
            self._index = Index.to_consult(spool)

    def of(self, numbers: Sequence[int]) -> dict[int, Memory]:
        """What is remembered of these messages and of some between them. numbers: ascending."""
        if self._index is None:
            return {}
        between = (mid_of(numbers[0]), mid_of(numbers[-1]), _BETWEEN * len(numbers))
        try:
            rows = self._index.connection.execute(_QUESTION, between).fetchall()
            return {
                number_of(mid): (Files(number_of(mid), size, changed, body), line)
                for mid, size, changed, body, line in rows
            }
        except (sqlite3.Error, ValueError):
            self.close()
            return {}

    def close(self) -> None:
        """Nothing is remembered from here on."""
        index, self._index = self._index, None
        if index is not None:
            index.close()
