"""Small files of state: sealed lines, replaced as a whole.

Shape:    state/<name>, one sealed line each (kmq-spool(5)).
Promise:  durable when `replace` returns; cut at any step, the old file or the new one is there, whole. A damaged line
          did not happen, and the lines beside it count.
On crash: a half-made file ends in .new and counts for nothing; the next `replace` takes it away.
Callers:  run.holds (queues that are suspended), run.identities (connectors); fsck, mending, snapshot.
"""

from collections.abc import Iterable, Iterator

from kmq.model.envelope import seal, unseal
from kmq.spool.disk import Disk

FOLDER = "state"
#: Queues that are suspended; connectors.
QUEUES, CONNECTORS = FILES = ("queues", "connectors")
#: Bytes that are read: 10,000 suspended queues with their reasons are less.
_LIMIT = 16 << 20


def replace(disk: Disk, name: str, texts: Iterable[bytes]) -> None:
    """The file consists of these JSON objects from now on."""
    path, half = f"{FOLDER}/{name}", f"{FOLDER}/{name}.new"
    if disk.status(half):
        disk.unlink(half)
    fd = disk.create(half)
    try:
        disk.write(fd, b"".join(seal(text) + b"\n" for text in texts))
        disk.sync(fd)
    finally:
        disk.close_file(fd)
    disk.rename(half, path)
    disk.sync_folder(FOLDER)


def names(disk: Disk) -> list[str]:
    """What lies there; a spool of an earlier kmq has no such folder."""
    try:
        return sorted(disk.names(FOLDER))
    except FileNotFoundError:
        return []


def mend(disk: Disk) -> Iterator[str]:
    """Takes away what was half made, and lines that are damaged; a sentence for each thing that was done."""
    for name in names(disk):
        if name.removesuffix(".new") not in FILES:
            continue
        if name.endswith(".new"):
            disk.unlink(f"{FOLDER}/{name}")
            yield f"took away {FOLDER}/{name}, which was half made"
            continue
        good, damaged = read(disk, name)
        if damaged:
            replace(disk, name, good)
            yield f"took {damaged} damaged {'line' if damaged == 1 else 'lines'} out of {FOLDER}/{name}"


def read(disk: Disk, name: str) -> tuple[list[bytes], int]:
    """The JSON objects of a file, and how many of its lines are damaged; none of both where there is no such file."""
    try:
        text = disk.read(f"{FOLDER}/{name}", _LIMIT)
    except FileNotFoundError:
        return [], 0
    lines = [line for line in text.split(b"\n") if line]
    good = [found for found in map(unseal, lines) if found is not None]
    return good, len(lines) - len(good)
