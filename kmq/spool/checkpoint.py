"""Up to where the plain files are complete: the checkpoint file, and the note about a sync of them under way.

The checkpoint, journal/checkpoint, is one line: `{"sum":...,"checkpoint":1,"generation":g,"next":"<id>"}`. All effects
of records below generation g are in the plain files, durably, and every ID that was issued in them is below `next`.
`"plain":true` at its end says that since then mail was kept without a journal (store.FileStore).
"""

import contextlib
import os
import re
from collections.abc import Iterator
from typing import NamedTuple

from kmq.errors import StorageFailed
from kmq.model import queue_id
from kmq.model.envelope import seal, unseal
from kmq.spool.disk import Disk

FILE = "journal/checkpoint"
_NEW = "journal/checkpoint.new"
_TEXT = re.compile(rb'{"checkpoint":1,"generation":(\d+),"next":"([0-9a-f]{8}-[0-9a-f]{8})"(,"plain":true)?}')


class Checkpoint(NamedTuple):
    """The file's content."""

    generation: int
    next_id: int
    plain: bool = False


def read(disk: Disk) -> Checkpoint | None:
    """None when there is none or it is damaged."""
    try:
        line = unseal(disk.read(FILE, 4096).rstrip())
    except OSError:
        return None
    match = _TEXT.fullmatch(line) if line else None
    return Checkpoint(int(match[1]), queue_id.parse(match[2].decode()), bool(match[3])) if match else None


def write(disk: Disk, generation: int, next_id: int, plain: bool = False) -> None:
    """Durable when it returns; cut at any step, the old one or the new one is there, whole (J3)."""
    name, end = queue_id.text(next_id).encode(), b',"plain":true' if plain else b""
    text = seal(b'{"checkpoint":1,"generation":%d,"next":"%b"%b}' % (generation, name, end))
    if disk.status(_NEW):
        disk.unlink(_NEW)
    fd = disk.create(_NEW)
    try:
        disk.write(fd, text + b"\n")
        disk.sync(fd)
    finally:
        disk.close_file(fd)
    disk.rename(_NEW, FILE)
    disk.sync_folder("journal")


def boot_id() -> str:
    """Tells this run of the kernel from any other."""
    try:
        with open("/proc/sys/kernel/random/boot_id") as file:
            return file.read().strip()
    except OSError:
        return "unknown"


class Note:
    """Says that a sync of plain files may have failed (J7); it survives a kill of every process, but not a reboot.

    What a failed sync could not write counts as clean, so that a later one says yes to what is not on disk.
    A note of another boot means nothing: the page cache that it warned of is gone.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._boot = boot_id()

    def make(self) -> None:
        if self.found():
            return  # it says already what it must say; to write it anew would leave a moment without it
        fd = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            os.write(fd, self._boot.encode())
        finally:
            os.close(fd)

    def clear(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.path)

    @contextlib.contextmanager
    def around(self, disk: Disk, keep: bool = False) -> Iterator[None]:
        """A sync of plain files. StorageFailed when it fails: nothing of this mount can be trusted any more, the
        process must end. keep: the note stays also when it succeeds."""
        self.make()
        try:
            yield
        except OSError as error:
            raise StorageFailed(
                f"a sync of {disk.root} failed: {error.strerror}. What the kernel holds of this file system may not be "
                "on the disk: kmqd stops, and writes everything that the journal names anew when it starts"
            ) from error
        if not keep:
            self.clear()

    def found(self) -> bool:
        """A sync was under way, or failed, since the machine was started."""
        try:
            with open(self.path) as file:
                return file.read() == self._boot
        except OSError:
            return False
