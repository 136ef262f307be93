"""What `kmq check` says of the way in for the programs of this machine.

Promise:  looks only. What is in order is not told.
Callers:  admin.check.
"""

import os
import pwd
from collections.abc import Iterator
from pathlib import Path

from kmq.admin.verdict import Grade, Verdict
from kmq.config import Settings

#: Folders above the socket that are looked at: the run directory, and what it lies in.
_ABOVE = 2


def programs(settings: Settings) -> Iterator[Verdict]:
    """Whether other users can reach the socket, and whether those who are trusted are there."""
    section = settings.sendmail
    if not section.socket:
        return
    for folder in list(Path(section.socket).parents)[:_ABOVE]:
        if not _passable(folder):
            what = f"[sendmail] socket {section.socket}: {folder} is closed to other users: they cannot send mail"
            remedy = f"chmod o+x {folder}, or say run_directory = /run/kmq"
            yield Verdict(Grade.NOTE, what, remedy)
            break
    for name in section.trusted_users:
        if not (name == "*" or name.isdecimal() or _is_there(name)):
            yield Verdict(Grade.NOTE, f"[sendmail] trusted_users: there is no user {name} on this machine")


def _passable(folder: Path) -> bool:
    """Everybody may go through; a folder that is not there yet is made so."""
    try:
        return bool(os.stat(folder).st_mode & 0o001)
    except OSError:
        return True


def _is_there(name: str) -> bool:
    try:
        pwd.getpwnam(name)
    except KeyError:
        return False
    return True
