"""Alone with a spool: every lock that a kmqd takes, and the rights of its user.

Promise:  no kmqd begins meanwhile, and none of its processes lives. Locks are let go at the end, and with the process.
Callers:  kmq.cli.fsck, kmq.cli.snapshot, kmq.cli.restore.
"""

import contextlib
import os
import pwd
from collections.abc import Iterator
from pathlib import Path

from kmq.config import KmqSection
from kmq.errors import SpoolError, SpoolLocked
from kmq.run import family
from kmq.spool.lock import SpoolLock

#: The scheduler process's note about a syncfs under way (J7), in the run directory.
SYNCFS_NOTE = "syncfs"


def make_run_directory(path: Path, owner: os.stat_result) -> None:
    """Where kmqd's locks lie; systemd takes it away when kmqd stops."""
    try:
        path.mkdir(mode=0o755, parents=True)
        if os.geteuid() == 0:
            os.chown(path, owner.st_uid, owner.st_gid)
    except FileExistsError:
        pass
    except OSError as error:
        raise SpoolError(f"{path} cannot be made: {error.strerror}") from error


@contextlib.contextmanager
def alone(spool: Path, run_directory: Path, hint: str) -> Iterator[None]:
    """No kmqd begins meanwhile; SpoolLocked when one lives, or a process of one: it has mail in its hands.

    hint: what to do then.
    """
    try:
        with contextlib.ExitStack() as held:
            held.callback(family.lock_kmqd(run_directory).release)
            family.outlive_orphans(run_directory, patience=-1)
            held.callback(SpoolLock(spool).release)
            yield
    except SpoolLocked as error:
        raise SpoolLocked(f"{error}. {hint}") from None


@contextlib.contextmanager
def alone_in(section: KmqSection, hint: str) -> Iterator[None]:
    """The same, with locks that are the owner's, and our own rights meanwhile: root may write elsewhere too."""
    make_run_directory(section.run_directory, section.spool.stat())
    with contextlib.ExitStack() as held:
        with as_owner(section.spool):
            held.enter_context(alone(section.spool, section.run_directory, hint))
        yield


@contextlib.contextmanager
def as_owner(spool: Path) -> Iterator[None]:
    """Files that are made belong to the user that kmqd runs as, also when root asks for it."""
    owner = spool.stat()
    if os.geteuid() == owner.st_uid:
        yield
    elif os.geteuid() == 0:
        group = os.getegid()
        os.setegid(owner.st_gid)
        os.seteuid(owner.st_uid)
        try:
            yield
        finally:
            os.seteuid(0)
            os.setegid(group)
    else:
        raise SpoolError(f"{spool} belongs to {_name_of(owner.st_uid)}: do this as that user, or as root")


def _name_of(user: int) -> str:
    try:
        return pwd.getpwuid(user).pw_name
    except KeyError:
        return f"user {user}"
