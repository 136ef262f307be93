"""Of which moment the index is: one line in a file beside it, so that whoever looks knows whether to believe it.

Shape:    `index/as_of`: 32 bytes, Unix time with milliseconds and the CRC-32 of that text, padded with blanks.
Promise:  what is told is told after the index was changed. A line that is torn, missing, or of the future says nothing.
          It is written each second, or when somebody is about to look while nothing happens (spool/rhythm); it rings
          nobody's bell (spool/bell).
On crash: the line grows old, and who looks reads the files.
Callers:  run/indexer tells, admin/selection_source looks.
"""

import contextlib
import os
import time
from pathlib import Path
from zlib import crc32

from kmq.spool.index import FOLDER
from kmq.spool.rhythm import REST

FILE = "as_of"
_LINE = 32

#: Seconds; an index that was told of longer ago is not believed.
FRESH = 2.5
#: The same, of one that may only be at rest: it is told of at once when kmqd is asked for its queues.
RESTING = 2 * REST


class AsOf:
    """The writer's side."""

    def __init__(self, spool: Path) -> None:
        self._path = spool / FOLDER / FILE
        self._fd = -1

    def tell(self, at: float) -> None:
        """The index is of this moment. OSError."""
        if self._fd < 0:
            self._fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        text = f"{int(at * 1000) / 1000:.3f}".encode()  # never later than it was
        os.pwrite(self._fd, b"%b %08x" % (text, crc32(text)) + b" " * (_LINE - len(text) - 10) + b"\n", 0)

    def forget(self) -> None:
        """It is of no moment."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        with contextlib.suppress(OSError):
            os.unlink(self._path)


def read(spool: Path, fresh: float = FRESH) -> float:
    """Unix time, 0.0 when nothing is told, or what is told is older than `fresh` seconds and not to be believed."""
    try:
        fd = os.open(spool / FOLDER / FILE, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return 0.0
    try:
        text, _, sealed = os.pread(fd, _LINE, 0).partition(b" ")
        at = float(text) if sealed.strip() == b"%08x" % crc32(text) else 0.0
    except (OSError, ValueError):
        return 0.0
    finally:
        os.close(fd)
    return at if 0 <= time.time() - at <= fresh else 0.0
