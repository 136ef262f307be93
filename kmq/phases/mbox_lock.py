"""The two locks of an mbox, as Debian policy has them (11.6): fcntl on the file, then a file `NAME.lock` beside it.

fcntl:    a lock of the open file (F_OFD_SETLK), which conflicts with the ordinary fcntl locks of other programs, and
          holds between threads of ours too.
.lock:    made under another name and linked (safe on NFS). It holds our process's number, as other programs have it,
          and below that how long the mbox was: should we die, the next of ours knows what may be cut off again.
Waiting:  nobody waits here; who finds it locked comes again. A `.lock` is nobody's when the process of ours that it
          names is gone, or when it has not changed for five minutes (as liblockfile has it).
On crash: the kernel lets go of the file; the `.lock` is found by who comes next.
Callers:  phases.mbox.
"""

import errno
import fcntl
import os
import struct
from typing import NamedTuple

from kmq.phases.storing import unlink, write_all

STALE = 300.0  #: seconds after which a .lock is nobody's

_MINE = "kmq"
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_MADE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_BUSY = (errno.EAGAIN, errno.EACCES)


class Held(NamedTuple):
    """A `.lock` that is ours. before: how long the mbox was when one of ours died while it wrote there; None: none did
    so."""

    name: str
    before: int | None


class Busy(NamedTuple):
    """Somebody else has it. by: what there is to say about him."""

    by: str


def hold_file(fd: int) -> bool:
    """Locks an open file for writing, whoever opened it; False when somebody else has it. It ends with the file."""
    lock = struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
    try:
        fcntl.fcntl(fd, fcntl.F_OFD_SETLK, lock)
    except OSError as error:
        if error.errno in _BUSY:
            return False
        raise
    return True


def hold_name(folder: int, name: str, host: str, length: int) -> Held | Busy:
    """Makes the `.lock` of a file in a folder that is open. length: of the mbox, to be told to who comes after us.

    The file itself is held already, so no other of ours is at it.
    """
    lock = f"{name}.lock"
    before: int | None = None
    for _ in range(2):
        if _made(folder, lock, host, length if before is None else before):
            return Held(lock, before)
        found = _read(folder, lock)
        if found is None:
            continue  # it went in this moment
        text, age = found
        note = _note(text, host)
        if age < STALE and (note is None or _lives(note.process)):
            return Busy(f"{lock} is there")
        before = None if note is None else note.length
        unlink(lock, folder)
    return Busy(f"{lock} is there again and again")


def let_go(folder: int, held: Held) -> None:
    """Takes the `.lock` away."""
    unlink(held.name, folder)


def _made(folder: int, lock: str, host: str, length: int) -> bool:
    made = f".{lock}.{_MINE}"
    unlink(made, folder)  # of one of ours that died
    fd = os.open(made, _MADE, 0o644, dir_fd=folder)
    try:
        write_all(fd, f"{os.getpid()}\n{_MINE} {length} {host}\n".encode())
    finally:
        os.close(fd)
    try:
        os.link(made, lock, src_dir_fd=folder, dst_dir_fd=folder, follow_symlinks=False)
    except FileExistsError:
        return False
    finally:
        unlink(made, folder)
    return True


def _read(folder: int, lock: str) -> tuple[str, float] | None:
    """(what it says, its age in seconds by the clock of its disk); None when it is gone."""
    try:
        fd = os.open(lock, _READ, dir_fd=folder)
    except FileNotFoundError:
        return None
    except OSError:
        return "", 0.0  # a link, or not ours to read
    try:
        return os.read(fd, 1000).decode(errors="replace"), _now(folder) - os.fstat(fd).st_mtime
    finally:
        os.close(fd)


def _now(folder: int) -> float:
    """What the file system takes for the time: `_made` just changed the folder."""
    return os.fstat(folder).st_mtime


class _Note(NamedTuple):
    """What one of ours wrote into its `.lock`."""

    process: int
    length: int


def _note(text: str, host: str) -> _Note | None:
    """None when it is another program's, or of another machine."""
    process, *lines = text.split("\n")
    words = lines[0].split() if lines else []
    if len(words) != 3 or words[0] != _MINE or words[2] != host or not (words[1] + process).isdecimal():
        return None
    return _Note(int(process), int(words[1]))


def _lives(process: int) -> bool:
    if process == os.getpid():
        return False  # one that bore our number: of ours, who holds the file is at it alone
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        pass
    return True
