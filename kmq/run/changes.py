"""The scheduler process's word to the index: which messages' files have changed.

Does:     once a second (at rest each five), and when somebody asks for the queues, tells the index process the IDs
          whose envelopes were made, written to or unlinked since the last word (spool/touched), as one frame.
Promise:  costs the loop a moment for each message that outlives its first second, and nothing for others. One word is
          under way at a time: an index that is slow or dead makes nobody wait, and nothing grows because of it.
On crash: whoever joins compares all first, so nothing has to be kept.
Callers:  run/queue.
"""

import time
from array import array
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Final

from kmq.model.frame import Answer, Changed
from kmq.run.link import Link
from kmq.spool.touched import Touched

ROLE: Final = "index"

#: One ID in the raw part of a frame: an unsigned number of 8 bytes, in this machine's order.
TYPECODE: Final = "Q"

Argument = str | int | bool | list[str]
Ask = Callable[[str, Mapping[str, Argument], int], Answer | AsyncIterator[Mapping[str, object] | Answer]]


class Changes:
    """What one index process is told. asked: called when an operator asks for something, or wants something done."""

    def __init__(self, touched: Touched, asked: Callable[[], None] = lambda: None) -> None:
        self._asked = asked
        self._touched = touched
        self._link: Link | None = None
        self._waiting = False

    def joined(self, link: Link) -> None:
        """An index process is here; it knows nothing yet."""
        self._link = link
        self._touched.listen(True)
        self._say(link, None)

    def ended(self, link: Link) -> None:
        """A connection has ended."""
        if link is self._link:
            self._link = None
            self._touched.listen(False)

    def heard(self, link: Link) -> None:
        """It has done what it was told."""
        if link is self._link:
            self._waiting = False

    def tell(self) -> None:
        """What has changed; an empty word says that nothing has."""
        if self._link is not None and not self._waiting:
            self._say(self._link, self._touched.drain())

    def _say(self, link: Link, numbers: set[int] | None) -> None:
        raw = array(TYPECODE, sorted(numbers or ())).tobytes()
        self._waiting = link.send(Changed(at=time.time(), lost=numbers is None), raw)

    def told_first(self, ask: Ask) -> Ask:
        """The same answers; who asks for the queues is about to look at messages too, and finds the index fresh."""

        def asked(
            verb: str, arguments: Mapping[str, Argument], uid: int
        ) -> Answer | AsyncIterator[Mapping[str, object] | Answer]:
            self._asked()
            if verb == "queues":
                self.tell()
            return ask(verb, arguments, uid)

        return asked
