"""Large bodies on their way into incoming/: written beside the loop, as fast as the disk takes them and no faster.

Promise:  a body is handed over only when the file has every byte, is synced, and its name is synced too (J6). A file
          that once failed is never synced again: it is unlinked, and the client hears 452 or 451.
          At most `HIGH` bytes and one read of each body wait in memory.
On crash: the file stays under a name that tells whose it was (spool.incoming), and is removed by the scheduler process.
Callers:  intake.submission.
"""

import asyncio
import errno
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from kmq import log
from kmq.intake.door import DroppedFile
from kmq.model.reply import Reply
from kmq.spool.disk import Disk
from kmq.spool.incoming import FOLDER

HIGH = 256 << 10
LOW = 64 << 10

NO_ROOM = Reply(452, "4.3.1", "Insufficient system storage")
NO_STORAGE = Reply(451, "4.3.0", "Local storage error, try again later")

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


class Large:
    """One body. It is `written` in pieces, then either finished or discarded; each happens once.

    dropped: the file of a drop directory that it is copied from, if it is.
    """

    def __init__(
        self,
        name: str,
        disk: Disk,
        threads: ThreadPoolExecutor,
        on_room: Callable[[], None],
        dropped: DroppedFile | None = None,
    ) -> None:
        self.name = name
        self.dropped = dropped
        self._path = f"{FOLDER}/{name}"
        self._disk = disk
        self._threads = threads
        self._on_room = on_room
        self._loop = asyncio.get_running_loop()
        self._fd = -1
        self._size = 0
        self._pieces: list[bytes] = []
        self._waiting = 0
        self._behind = False
        self._busy = False
        self._there = False
        self._dropped = False
        self._trouble: Reply | None = None
        self._then: Callable[[Reply | None], None] | None = None

    # --- in the loop -------------------------------------------------------------------------------------------------

    def write(self, piece: bytes) -> bool:
        """Takes the next bytes; False when the disk is behind and `on_room` will be called."""
        if self._trouble is not None or self._dropped:
            return True  # nothing of it will be kept: the client's bytes are read to their end and forgotten
        self._size += len(piece)
        self._pieces.append(piece)
        self._waiting += len(piece)
        self._step()
        self._behind = self._behind or self._waiting > HIGH
        return not self._behind

    def finish(self, then: Callable[[Reply | None], None]) -> None:
        """Calls then(None) when the body is durable, or then(reply) when it is not and the file is gone."""
        assert self._then is None and not self._dropped, "a body ends once"
        self._then = then
        self._step()

    def discard(self) -> None:
        """Removes the file, now or when the thread that writes it is done."""
        self._dropped = True
        self._pieces.clear()
        self._waiting = 0
        self._step()

    def _step(self) -> None:
        """Gives a thread the next thing to do, one at a time."""
        if self._busy:
            return
        if self._dropped or self._trouble is not None:
            if self._there:
                self._do(self._remove)
            elif self._then is not None and self._trouble is not None:
                self._tell(self._trouble)
        elif self._pieces:
            text = b"".join(self._pieces)
            self._pieces.clear()
            self._waiting = 0
            self._do(self._append, text)
        elif self._then is not None:
            self._do(self._seal)

    def _do(self, work: Callable[..., bool], *given: bytes) -> None:
        self._busy = True
        self._threads.submit(self._in_thread, work, *given)

    def _done(self, sealed: bool, error: OSError | None) -> None:
        """A thread has done its part."""
        self._busy = False
        if error is not None:
            self._trouble = NO_ROOM if error.errno in _FULL else NO_STORAGE
            log.warning("a large body could not be written", file=self._path, why=str(error))
            self._pieces.clear()
            self._waiting = 0
        if sealed and not self._dropped:
            self._tell(None)
        else:
            self._step()
        if self._behind and self._waiting <= LOW:
            self._behind = False
            if not self._dropped:
                self._on_room()

    def _tell(self, reply: Reply | None) -> None:
        then, self._then = self._then, None
        if then is not None:
            then(reply)

    # --- in a thread -------------------------------------------------------------------------------------------------

    def _in_thread(self, work: Callable[..., bool], *given: bytes) -> None:
        sealed, error = False, None
        try:
            sealed = work(*given)
        except OSError as accident:
            error = accident
        try:
            self._loop.call_soon_threadsafe(self._done, sealed, error)
        except RuntimeError:
            pass  # the loop is closed: the process ends

    def _append(self, text: bytes) -> bool:
        if self._fd < 0:
            self._fd = self._disk.create(self._path)
            self._there = True  # only now: a file of this name that was there before is another's
        self._disk.write(self._fd, text)
        return False

    def _seal(self) -> bool:
        """Durable: every byte, and the name."""
        found = os.fstat(self._fd).st_size
        if found != self._size:
            raise OSError(errno.EIO, f"{found} bytes in the file of {self._size}", self._path)
        self._disk.sync(self._fd)
        self._close()
        self._disk.sync_folder(FOLDER)
        return True

    def _remove(self) -> bool:
        """The file goes; it is never synced again, since a sync that failed may have forgotten its bytes."""
        self._there = False
        try:
            self._close()
        except OSError:
            pass  # closed all the same
        try:
            self._disk.unlink(self._path)
        except FileNotFoundError:
            pass
        except OSError as error:
            log.warning("a large body that nobody wants could not be removed", file=self._path, why=str(error))
        return False

    def _close(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            self._disk.close_file(fd)
