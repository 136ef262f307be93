"""What phases have said of a message already, read back from its envelope.

Why:      a worker is handed a message's head; its events stand in the file, which only those need whose message is
          taken up again by a phase, or goes out with a changed header.
Promise:  told once, with all events up to the one that the scheduler process named; the file follows the journal by
          some milliseconds, so it is asked again until it has them. None after PATIENCE seconds.
On crash: nothing is kept.
Callers:  run.walk.
"""

import asyncio
import os
from collections.abc import Callable
from contextlib import suppress

from kmq.model.envelope import fold
from kmq.model.event import Passed

#: Seconds between two looks, and for which it is looked.
_PAUSE = 0.02
PATIENCE = 10.0
#: Bytes of an envelope.
_LIMIT = 256 << 20

#: What was said, oldest first; None when the file does not have it.
Past = tuple[Passed, ...] | None


def recall(path: str, before: int, then: Callable[[Past], None]) -> None:
    """The steps that a message has passed, up to its event number `before`. path: of its envelope. Told in the loop,
    perhaps at once; what the file does not have is waited for."""
    loop = asyncio.get_running_loop()
    end = loop.time() + PATIENCE

    def look() -> None:
        found = read(path, before)
        if found is None and loop.time() < end:
            loop.call_later(_PAUSE, look)
        else:
            then(found)

    look()


def read(path: str, before: int) -> Past:
    """The same, as the file is now."""
    with suppress(OSError):
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(fd, "rb") as file:
            found = fold(file.read(_LIMIT))
        if found is not None:
            _, state, events = found
            if events and events[-1].seq >= before:
                return tuple(state.passed)
    return None
