"""The bytes of a message on their way to a scanner.

Promise:  what a scanner is shown is what was accepted (BodyDamaged otherwise), a large body piece by piece, read in
          threads beside the loop.
On crash: nothing is kept.
Callers:  phases.antivirus_scanner, phases.rspamd.
"""

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import Executor

from kmq.model.envelope import Head
from kmq.phases.inspection import Pieces
from kmq.phases.work import Body, read


def pieces_of(head: Head, body: Body) -> Pieces:
    """A message as it came, for each reading anew. BodyDamaged, OSError while it is read."""

    return lambda: read(head, body)


class Unreadable(Exception):
    """The text cannot be read now, which is no word about the scanner. error: why."""

    def __init__(self, error: OSError) -> None:
        super().__init__(str(error))
        self.error = error


async def beside(pieces: Pieces, threads: Executor) -> AsyncIterator[bytes]:
    """The pieces, each made in a thread. Unreadable; BodyDamaged."""
    loop = asyncio.get_running_loop()
    coming = pieces()
    while True:
        try:
            piece = await loop.run_in_executor(threads, next, coming, None)
        except OSError as error:
            raise Unreadable(error) from error
        if piece is None:
            return
        yield piece
