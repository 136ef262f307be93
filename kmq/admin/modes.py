"""What kmqd's user may do with a file, by its modes: whoever asks may be root, who may everything.

Promise:  only looks. Where it is not known who he is, or what groups he has, he may. A group that he was made a member
          of counts, though a kmqd that runs has it only after a new start.
Callers:  admin.check_backup, check_files, check_mailboxes, check_scanners.
"""

import os
import stat
from grp import getgrgid
from pathlib import Path
from pwd import getpwuid

from kmq.config import Settings

_ROOT = 0
_READ, _WRITE, _PASS = 0o4, 0o2, 0o1


def kmqd_s_uid(settings: Settings) -> int:
    """To whom the spool belongs; root where there is none yet, so that nothing is said of what he may."""
    try:
        return os.stat(settings.kmq.spool).st_uid
    except OSError:
        return _ROOT


def may_write(uid: int, found: os.stat_result) -> bool:
    """Into a file or a socket; in a folder that takes the right to pass through it, too."""
    return _may(uid, found, _WRITE | _PASS if stat.S_ISDIR(found.st_mode) else _WRITE)


def may_connect(uid: int, path: str) -> bool:
    """To a socket, through all folders that lead to it; OSError when they cannot be looked at."""
    return _may_there(uid, path, _WRITE)


def may_read(uid: int, path: str) -> bool:
    """A file, in the same way."""
    return _may_there(uid, path, _READ)


def may_run(uid: int, path: str) -> bool:
    """A program, in the same way."""
    return _may_there(uid, path, _PASS)


def group_name(gid: int) -> str:
    """For a command that somebody is told: its number where it has no name."""
    try:
        return getgrgid(gid).gr_name
    except KeyError:
        return str(gid)


def _may_there(uid: int, path: str, need: int) -> bool:
    whole = Path(os.path.realpath(path))
    return all(_may(uid, os.stat(folder), _PASS) for folder in whole.parents) and _may(uid, os.stat(whole), need)


def _may(uid: int, found: os.stat_result, need: int) -> bool:
    if uid == _ROOT:
        return True
    try:
        user = getpwuid(uid)
    except KeyError:
        return True
    if found.st_uid == uid:
        need <<= 6
    elif found.st_gid in os.getgrouplist(user.pw_name, user.pw_gid):
        need <<= 3
    return found.st_mode & need == need
