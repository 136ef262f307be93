"""A large body on its way from its file to the wire, piece by piece.

Promise:  at most one piece is read ahead of what the server takes; reading, checking, rewriting and doubling of dots
          happen in a thread. The final dot is written only behind a body whose checksum is right.
On crash: the server has no final dot and throws away what it got.
Callers:  phases.connection.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor

from kmq.phases.body import BodyFile, Stuffing
from kmq.phases.rendering import Rendering
from kmq.phases.work import Work


class Upload:
    """Begins at once. `moved(percent)` for each piece; in the end `finished(None)`, or the error that stops it.

    rendering: how the body is written differently; None when it goes as it lies.
    """

    def __init__(
        self,
        transport: asyncio.Transport,
        work: Work,
        threads: Executor,
        moved: Callable[[int], None],
        finished: Callable[[BaseException | None], None],
        rendering: Rendering | None = None,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._transport = transport
        self._work = work
        self._threads = threads
        self._moved = moved
        self._finished = finished
        self._stuffing = Stuffing((rendering or work).head.dots)
        self._stream = rendering.stream() if rendering is not None else None
        self._file: BodyFile | None = None
        self._paused = False
        self._waiting = False  # a piece may be fetched as soon as the server takes more
        self._stopped = False
        self._fetch()

    def pause(self) -> None:
        self._paused = True

    def resume(self) -> None:
        self._paused = False
        if self._waiting:
            self._waiting = False
            self._fetch()

    def stop(self) -> None:
        """The connection is gone. The file is closed when no thread reads it."""
        self._stopped = True
        if self._waiting:
            self._close()

    def _fetch(self) -> None:
        self._loop.run_in_executor(self._threads, self._read).add_done_callback(self._fetched)

    def _read(self) -> tuple[bytes, int]:
        """In a thread: the next piece as it goes on the wire, and how many bytes are left."""
        if self._file is None:
            self._file = BodyFile(self._work.body.path, self._work.head.size, self._work.head.sha256)
        piece, left = self._file.read(), self._file.left
        if self._stream is not None:
            piece = self._stream.feed(piece) + (b"" if left else self._stream.end())
        piece = self._stuffing.feed(piece)
        return (piece, left) if left else (piece + self._stuffing.end(), 0)

    def _fetched(self, reading: asyncio.Future[tuple[bytes, int]]) -> None:
        error = None if reading.cancelled() else reading.exception()
        if self._stopped or error is not None or reading.cancelled():
            self._close()
            return None if self._stopped else self._finished(error)
        piece, left = reading.result()
        self._transport.write(piece)
        self._moved(100 - 100 * left // max(self._work.head.size, 1))
        if not left:
            self._close()
            return self._finished(None)
        if self._paused:
            self._waiting = True
            return None
        return self._fetch()

    def _close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None
