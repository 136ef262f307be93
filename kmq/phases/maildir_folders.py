"""A Maildir that is open, its folders (Maildir++), and what it may hold.

Folders:  `alice+lists` goes into `.lists`, when that folder is there, or may be made; else where `alice` goes. A name
          is letters, digits, `-`, `_` and `=`, with dots between levels; what users file themselves (Sent, Drafts,
          Trash) is nobody else's to fill.
Promise:  no link is followed; of folders that strangers name no more are made than FOLDERS.
Source:   http://www.courier-mta.org/imap/README.maildirquota.html (Maildir++); RFC 5233 (detail).
Callers:  phases.maildir.
"""

import os
import re

from kmq.phases import maildir_quota
from kmq.phases.maildir_quota import Limits, Usage
from kmq.phases.storing import Refused, subfolder

FOLDERS = 100  #: of one Maildir, above which mail makes no further one

_NAME = re.compile(r"[A-Za-z0-9_=-]+(?:\.[A-Za-z0-9_=-]+)*").fullmatch
_LONGEST = 128
#: A file that tells Maildir++ that this is a folder of another Maildir.
_MARK = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_PRIVATE = frozenset({"inbox", "sent", "drafts", "trash"})


class Box:
    """tmp, new and cur of a Maildir (path "") or of one of its folders (path ".lists"), open."""

    __slots__ = ("cur", "new", "path", "tmp")

    def __init__(self, base: int, path: str) -> None:
        self.path = path
        self.tmp = self.new = self.cur = -1
        try:
            self.tmp = subfolder(base, "tmp", True)
            self.new = subfolder(base, "new", True)
            self.cur = subfolder(base, "cur", True)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        for fd in (self.tmp, self.new, self.cur):
            if fd >= 0:
                os.close(fd)


class Maildir:
    """base: its folder, open, and closed with it; owner: (uid, gid) of that."""

    def __init__(self, base: int) -> None:
        self.base = base
        found = os.fstat(base)
        self.owner = found.st_uid, found.st_gid
        self._boxes: dict[str, Box] = {}
        self._usage: Usage | None = None

    def close(self) -> None:
        for box in self._boxes.values():
            box.close()
        os.close(self.base)

    def box(self, extension: str, make: bool) -> Box:
        """Where mail for this extension goes."""
        path = self._chosen(folder_names(extension), make)
        found = self._boxes.get(path)
        if found is None:
            found = self._boxes[path] = self._opened(path)
        return found

    def _opened(self, path: str) -> Box:
        if not path:
            return Box(self.base, "")
        base = subfolder(self.base, path, create=False)
        try:
            return Box(base, path)
        finally:
            os.close(base)

    def _chosen(self, names: tuple[str, ...], make: bool) -> str:
        for name in names:
            if name in self._boxes or _is_there(self.base, name):
                return name
        if not names or not make or self._full():
            return ""
        made = subfolder(self.base, names[-1], create=True)
        try:
            os.close(os.open("maildirfolder", _MARK, 0o600, dir_fd=made))
        finally:
            os.close(made)
        return names[-1]

    def _full(self) -> bool:
        with os.scandir(self.base) as entries:
            return sum(entry.name[0] == "." for entry in entries) >= FOLDERS

    def look(self, limits: Limits, size: int, where: str) -> Usage:
        """What is there. Refused when a message of so many bytes has no room."""
        if self._usage is None:
            self._usage = maildir_quota.usage(self.base, limits)
        refusal = maildir_quota.refusal(self._usage, limits, size, where)
        if refusal is not None:
            raise Refused(refusal)
        return self._usage

    def take(self, limits: Limits, size: int, where: str) -> None:
        """The same, and the room is taken."""
        used = self.look(limits, size, where)
        self._usage = Usage(used.bytes + size, used.messages + 1)


def folder_names(extension: str) -> tuple[str, ...]:
    """The names that a folder for an extension may have, the one to be made last; () when it names none."""
    lower = extension.lower()
    if not _NAME(extension) or len(extension) > _LONGEST or lower.partition(".")[0] in _PRIVATE:
        return ()
    return tuple(dict.fromkeys((f".{extension}", f".{lower}")))


def _is_there(base: int, name: str) -> bool:
    """Whether something bears the name: what is no folder is refused when it is opened."""
    try:
        os.stat(name, dir_fd=base, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True
