"""What nobody can deliver and nobody may delete: it goes to poison/ as it is, with the reason in a file beside it.

Promise:  the new names are durable before the old ones go; stopped anywhere and done again it ends the same.
On crash: done again by whoever finds the damage again.
Callers:  recovery, the scheduler process while it loads, mending.
"""

import contextlib
import errno
import itertools

from kmq.spool import layout
from kmq.spool.disk import Disk


def set_aside(disk: Disk, number: int, reason: str) -> None:
    """Whatever files the queue has of a message that no record of the journal names any more."""
    names = [layout.body(number), layout.envelope(number)]
    there = [name for name in names if disk.status(name)]
    if there:
        explain(disk, number, f"{reason}; it lay in {layout.folder(number)}")
    moved = [name for name in there if _link(disk, name, first=0)]
    disk.sync_folder("poison")
    for name in reversed(moved):
        disk.unlink(name)


def keep(disk: Disk, number: int, name: str, reason: str) -> bool:
    """One file that another takes the place of: it gets a name of its own in poison/ beside the one that it has.
    False: it has left that one."""
    explain(disk, number, reason)
    there = _link(disk, name, first=1)
    disk.sync_folder("poison")
    return there


def _link(disk: Disk, name: str, first: int) -> bool:
    """A name in poison/ for this very file; another file that has the name already keeps it. False: it is a folder, of
    which there is but one name, and has left the old one."""
    stem, _, ending = name.rpartition("/")[2].partition(".")
    inode = disk.status(name)
    for count in itertools.count(first):
        target = f"poison/{stem}.{count}.{ending}" if count else f"poison/{stem}.{ending}"
        found = disk.status(target)
        mine = found is not None and inode is not None and found.st_ino == inode.st_ino
        if mine:
            disk.unlink(target)  # made anew: the sync of a try before this one may have failed (J7)
        if found is None or mine:
            return _name(disk, name, target)
    raise AssertionError("numbers do not end")


def _name(disk: Disk, name: str, target: str) -> bool:
    try:
        disk.link(name, target)
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.EISDIR):
            raise
        disk.rename(name, target)
        return False
    return True


def reason_of(disk: Disk, number: int) -> str:
    """Why a message lies in poison/ without a word of it in its envelope; "" when nothing says so."""
    try:
        return disk.read(layout.reason(number), 4096).decode(errors="replace").strip()
    except OSError:
        return ""


def explain(disk: Disk, number: int, reason: str) -> None:
    """Writes the reason beside what lies in poison/; the first one stays, unless a crash has left nothing of it."""
    if reason_of(disk, number):
        return
    name = layout.reason(number)
    with contextlib.suppress(FileNotFoundError):
        disk.unlink(name)
    fd = disk.create(name)
    try:
        disk.write(fd, (reason + "\n").encode())
        disk.sync(fd)
    finally:
        disk.close_file(fd)
