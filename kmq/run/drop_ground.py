"""Before anything is taken: the drop directories are there, ours to change, and not everybody's.

Promise:  a directory that is missing, a link, open to all, or closed to us is refused with one sentence (SpoolError,
          exit 78), at the start and at a reload. kmqd makes none but those in the spool: where a disk is not mounted,
          nothing is taken out of the place that it is missing from.
On crash: nothing is changed here.
Callers:  the supervisor at its start and at a reload, kmq check.
"""

import os
import stat
from collections.abc import Iterator
from typing import NamedTuple

from kmq.config import Settings
from kmq.errors import SpoolError

_MODES = {"pickup": "770", "replay": "700"}


class Unusable(NamedTuple):
    """A directory that cannot be used, what is wrong with it, and what to do."""

    directory: str
    why: str
    remedy: str


def require(settings: Settings) -> None:
    """SpoolError for the first directory that cannot be used."""
    for name, directory in directories(settings):
        wrong = unusable(settings, name, directory)
        if wrong is not None:
            place = settings.origin(name, "directory").place
            raise SpoolError(f"{place}: [{name}] directory = {directory}: {wrong.why}; {wrong.remedy}")


def directories(settings: Settings) -> Iterator[tuple[str, str]]:
    """(section, directory) of those that are used."""
    for name, directory in (("pickup", settings.pickup.directory), ("replay", settings.replay.directory)):
        if directory:
            yield name, directory


def unusable(settings: Settings, name: str, directory: str) -> Unusable | None:
    """None when files can be taken out of the directory. One in the spool may be missing: kmqd makes it, or
    has more to say of the spool."""
    try:
        found = os.lstat(directory)
    except OSError as error:
        inside = os.path.normpath(directory).startswith(f"{os.path.normpath(settings.kmq.spool)}/")
        if inside and isinstance(error, FileNotFoundError | NotADirectoryError):
            return None
        return Unusable(directory, error.strerror or str(error), f"make it: install -d -m {_MODES[name]} {directory}")
    if stat.S_ISLNK(found.st_mode):
        return Unusable(directory, "it is a symbolic link", "name the directory itself")
    if not stat.S_ISDIR(found.st_mode):
        return Unusable(directory, "it is no directory", "name one")
    if found.st_mode & stat.S_IWOTH:
        return Unusable(directory, "everybody may write there, and so send any mail", f"chmod o-w {directory}")
    if not os.access(directory, os.R_OK | os.W_OK | os.X_OK):
        remedy = f"give it to user {os.geteuid()}, or to a group of his"
        return Unusable(directory, "kmqd cannot read and change it", remedy)
    return None
