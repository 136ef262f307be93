"""Before anything is taken: the drop directories are there, ours to change, and not everybody's.

Promise:  a directory that is missing, a link, open to all, or closed to us is refused with one sentence (SpoolError,
          exit 78), at the start and at a reload. kmqd makes none but those in the spool: where a disk is not mounted,
          nothing is taken out of the place that it is missing from.
On crash: nothing is changed here.
Callers:  the supervisor at its start, the pickup process at a reload.
"""

import os
import stat

from kmq import log
from kmq.config import Settings
from kmq.errors import SpoolError


def require(settings: Settings) -> None:
    """SpoolError for the first directory that cannot be used."""
    for name, directory in (("pickup", settings.pickup.directory), ("replay", settings.replay.directory)):
        if directory:
            place = settings.origin(name, "directory").place
            _look(directory, f"{place}: [{name}] directory = {directory}", "770" if name == "pickup" else "700")
    _only_ours(settings.replay.directory)


def _look(directory: str, named: str, mode: str) -> None:
    try:
        found = os.lstat(directory)
    except OSError as error:
        raise SpoolError(f"{named}: {error.strerror}; make it: install -d -m {mode} {directory}") from None
    if stat.S_ISLNK(found.st_mode):
        raise SpoolError(f"{named} is a symbolic link; name the directory itself")
    if not stat.S_ISDIR(found.st_mode):
        raise SpoolError(f"{named} is no directory")
    if found.st_mode & stat.S_IWOTH:
        raise SpoolError(f"{named}: everybody may write there, and so send any mail; chmod o-w {directory}")
    if not os.access(directory, os.R_OK | os.W_OK | os.X_OK):
        raise SpoolError(f"{named}: kmqd's user (number {os.geteuid()}) has to read and change it")


def _only_ours(replay: str) -> None:
    """Who can write in the Replay directory can send any mail in anybody's name: that is to be known."""
    if replay and os.lstat(replay).st_mode & stat.S_IWGRP:
        log.warning("a group may write in the replay directory, and send mail in anybody's name", directory=replay)
