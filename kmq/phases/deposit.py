"""Archived messages in a folder that the spool's journal does not reach: `<period>/<id>.eml` and `<id>.env` beside it.

Promise:  what counts as stored is durable under its names, whole: both files are written and synced under other names
          first, the folder after. Names follow from the message's ID and the time at which it came, so a second run
          finds what the first one made. No link is followed below the folder, which nobody makes here: where it is
          not there, nothing is mounted.
On crash: `<name>.new` is replaced by the next run.
Callers:  phases.backup, in a thread: everything here blocks.
"""

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from kmq.phases.storing import FOLDER, subfolder, unlink, write_all

_NEW = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC

BODY, ENVELOPE = ".eml", ".env"


@dataclass(slots=True)
class Deposit:
    """One message. period: name of its folder; id: of its files. path: where its body lies as a file, "" for nowhere
    yet; pieces: its bytes; envelope: its lines at this moment. trouble: why it is not stored, set by `store`."""

    period: str
    id: str
    size: int
    path: str
    pieces: Callable[[], Iterator[bytes]]
    envelope: Callable[[], bytes]
    trouble: Exception | None = None


def store(root: str, deposits: Sequence[Deposit]) -> None:
    """All of them, with one sync of each folder; each has its `trouble` afterwards, or is durable."""
    try:
        above = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        for one in deposits:
            one.trouble = error
        return
    folders: dict[str, int] = {}
    try:
        for one in deposits:
            with _trouble_of(one):
                folder = folders.get(one.period)
                if folder is None:
                    folder = folders[one.period] = subfolder(above, one.period, create=True)
                _store(folder, one)
        _sync(folders, deposits)
    finally:
        for folder in (above, *folders.values()):
            os.close(folder)


@contextlib.contextmanager
def _trouble_of(one: Deposit) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # whatever making the text raises is the message's own
        one.trouble = error


def _store(folder: int, one: Deposit) -> None:
    """Both files; what an earlier run has renamed was whole and synced."""
    if not _is_there(folder, one.id + BODY, one.size) and not (one.path and _linked(folder, one)):
        _write(folder, one.id + BODY, one.pieces())
    if not _is_there(folder, one.id + ENVELOPE, None):
        _write(folder, one.id + ENVELOPE, iter((one.envelope(),)))


def _is_there(folder: int, name: str, size: int | None) -> bool:
    try:
        found = os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return size is None or found.st_size == size


def _linked(folder: int, one: Deposit) -> bool:
    """A further name instead of a copy, where the folder is on the file system of the body's file."""
    try:
        os.link(one.path, one.id + BODY, dst_dir_fd=folder, follow_symlinks=False)
    except OSError:
        return False  # the copy says what is wrong, if anything is
    fd = os.open(one.id + BODY, _READ, dir_fd=folder)
    try:
        if os.fstat(fd).st_size != one.size:
            unlink(one.id + BODY, folder)
            return False
        os.fsync(fd)
    finally:
        os.close(fd)
    return True


def _write(folder: int, name: str, pieces: Iterator[bytes]) -> None:
    try:
        fd = os.open(name + ".new", _NEW, 0o600, dir_fd=folder)
        try:
            for piece in pieces:
                write_all(fd, piece)
            os.fsync(fd)
        finally:
            os.close(fd)
        os.rename(name + ".new", name, src_dir_fd=folder, dst_dir_fd=folder)
    except BaseException:
        unlink(name + ".new", folder)
        raise


def _sync(folders: dict[str, int], deposits: Sequence[Deposit]) -> None:
    for period, folder in folders.items():
        try:
            os.fsync(folder)
        except OSError as error:
            for one in deposits:
                if one.period == period and one.trouble is None:
                    one.trouble = error


def writable(root: str) -> OSError | None:
    """Why nothing can be archived in a folder, None when it looks well. For who checks before mail comes."""
    try:
        fd = os.open(root, FOLDER & ~os.O_NOFOLLOW)
    except OSError as error:
        return error
    os.close(fd)
    return None if os.access(root, os.W_OK | os.X_OK) else PermissionError(13, "Permission denied", root)
