"""One drop directory, one kmqd: a mark in each directory outside the spool says whose it is.

Why:      a claim is known to the journal of one spool. Another kmqd that finds the `.tmp` file after a crash would take
          it for its own, and send it a second time.
Shape:    `.kmq` in the directory holds the same line as `drop.id` in the spool: 32 hex digits, and the spool's path for
          people. A directory within the spool needs none: the spool's lock is its mark.
Promise:  of two kmqd that come at once, one gets the directory; the other takes nothing out of it and says whose it is.
On crash: a mark stays for ever. It may be removed by hand when its spool is no more.
Callers:  run.drop_taking.
"""

import contextlib
import secrets

from kmq.spool.disk import Disk

MARK = ".kmq"
IDENTITY = "drop.id"
_LIMIT = 4096


def occupant(folder: Disk, spool: Disk) -> str:
    """Marks the directory as this spool's; "" when it is, else the path of the spool whose it is. OSError."""
    own = _line(spool, IDENTITY, f"{secrets.token_hex(16)} {spool.root}\n".encode())
    found = _line(folder, MARK, own)
    if found.partition(b" ")[0] == own.partition(b" ")[0]:
        return ""
    return found.partition(b" ")[2].strip().decode("utf-8", "replace") or "somebody who left an empty .kmq there"


def _line(disk: Disk, name: str, text: bytes) -> bytes:
    """What the file says; made with this text, whole and durable, when it is not there."""
    with contextlib.suppress(FileNotFoundError):
        return disk.read(name, _LIMIT)
    half = f"{name}.{secrets.token_hex(8)}.new"
    fd = disk.create(half)
    try:
        disk.write(fd, text)
        disk.sync(fd)
    finally:
        disk.close_file(fd)
    try:
        disk.rename_new(half, name)
    except FileExistsError:
        disk.unlink(half)
    disk.sync_folder(".")
    return disk.read(name, _LIMIT)
