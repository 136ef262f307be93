"""Before anything starts: the spool is a folder of ours, and the folder of sockets and locks is there.

Promise:  a spool that is missing, a link, somebody else's, open to all, or spread over several file systems is refused
          with one sentence (SpoolError, exit 78), before a socket is bound or a process started. Mail is not put into
          a new folder beside the right one because a disk was not mounted.
On crash: making folders may be cut anywhere and begun again.
Callers:  the supervisor.
"""

import os
import stat
from pathlib import Path

from kmq import log
from kmq.config import Settings
from kmq.config.embedded import PATH as EMBEDDED_PATH
from kmq.errors import SpoolError
from kmq.spool import layout
from kmq.spool.disk import Disk

#: Folders between which files are linked and renamed.
_TOGETHER = ("queue", "poison", "incoming", "journal")


def enter(settings: Settings) -> None:
    """Looks at the spool folder and makes the run directory; SpoolError when there is no spool to be used."""
    spool, run = settings.kmq.spool, settings.kmq.run_directory
    try:
        if settings.path == EMBEDDED_PATH:
            spool.mkdir(0o750, exist_ok=True)  # trying kmq out begins with nothing
        _folder(spool, f"; make it: install -d -m 750 {spool}")
        _make_run(run)
        _folder(run)
    except OSError as error:
        raise SpoolError(f"{error.filename or spool}: {error.strerror}") from None


def _make_run(run: Path) -> None:
    """Everybody may pass through the folder of sockets, whatever the umask."""
    try:
        run.mkdir(0o755)
    except FileExistsError:
        return
    run.chmod(0o755)


def build(spool: Path) -> None:
    """Makes the folders of the spool; only for who holds kmqd's lock. SpoolError when they cannot be used together."""
    try:
        disk = Disk(spool)
        try:
            layout.prepare(disk)
            _empty(disk, layout.AGENTS)
        finally:
            disk.close()
        device = os.lstat(spool).st_dev
        for name in _TOGETHER:
            if os.lstat(spool / name).st_dev != device:
                raise SpoolError(f"{spool / name} is on another file system than {spool}; files are linked across")
    except OSError as error:
        raise SpoolError(f"{error.filename or spool}: {error.strerror}") from None


def _empty(disk: Disk, folder: str) -> None:
    """Takes away what processes of an earlier kmqd left there, which is no mail."""
    for name in disk.names(folder):
        if not name.endswith(".eml"):
            continue
        try:
            disk.unlink(f"{folder}/{name}")
        except OSError as error:
            log.warning("a file that is left over cannot be removed", name=f"{folder}/{name}", why=error.strerror)


def _folder(path: Path, hint: str = "") -> None:
    """SpoolError when it is no folder, or not for us alone."""
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        raise SpoolError(f"{path} is missing{hint}") from None
    if stat.S_ISLNK(found.st_mode):
        raise SpoolError(f"{path} is a symbolic link; name the folder itself in the configuration")
    if not stat.S_ISDIR(found.st_mode):
        raise SpoolError(f"{path} is not a folder")
    if found.st_mode & stat.S_IWOTH:
        raise SpoolError(f"everybody may write in {path}; chmod o-w {path}")
    if found.st_uid != os.geteuid() and os.geteuid() != 0:
        raise SpoolError(f"{path} belongs to user {found.st_uid}, and kmqd runs as user {os.geteuid()}")
