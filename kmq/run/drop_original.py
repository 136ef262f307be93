"""A copy of a message that is still in the queue is not taken: whoever it is for would get it twice.

What:     `kmq export` names the original in the copy. While one of the copy's recipients still waits there, in queue/
          or in poison/, the copy waits for a moment (the files of what was just removed may be there still), and is a
          bad file then, whose reason names the command that makes it a good one.
Promise:  looks at the original's envelope alone, and only for files that name one.
On crash: only reads; a copy is given its moment again.
Callers:  run.pickup, for the Replay directory.
"""

import time
from pathlib import Path

from kmq.intake.dropped import BadFile, Letter, NotYet, Reader
from kmq.model import queue_id
from kmq.spool.look import Found, find

#: Seconds after which what was removed is gone from the disk, whatever the disk has to do.
MOMENT = 3.0
#: Originals of which that is remembered.
_KNOWN = 1000


class Once:
    """A reader of files that lets no copy pass beside its original."""

    def __init__(self, reader: Reader, spool: Path) -> None:
        self.header_limit = reader.header_limit
        self.hop_limit = reader.hop_limit
        self._reader = reader
        self._spool = spool
        self._seen: dict[str, float] = {}

    def read(self, header: bytes, user: str, now: float) -> Letter:
        """As the reader's; BadFile or NotYet for a copy, too."""
        letter = self._reader.read(header, user, now)
        twice = self._twice(letter) if letter.original else ""
        if not twice:
            return letter
        if self._since(letter.original) < MOMENT:
            raise NotYet(f"it is a copy of {letter.original}, which still waits here")
        del self._seen[letter.original]  # whoever puts it here again has removed the original, perhaps just now
        raise BadFile(
            f"it is a copy of {letter.original}, which still waits here for {twice}: kmq remove {letter.original}"
            " first, or take the line X-kmq-Original out, then rename this file to .eml"
        )

    def _twice(self, letter: Letter) -> str:
        """A recipient of the copy who waits for the original; "" for none."""
        found = find(self._spool, queue_id.parse(letter.original))
        if not isinstance(found, Found):
            self._seen.pop(letter.original, None)
            return ""
        waiting = {found.head.recipients[index].address for index in found.state.open}
        return next((one.address for one in letter.recipients if one.address in waiting), "")

    def _since(self, original: str) -> float:
        """Seconds since a copy of it came first."""
        now = time.monotonic()
        if len(self._seen) >= _KNOWN:
            self._seen.clear()
        return now - self._seen.setdefault(original, now)
