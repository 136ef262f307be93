"""A drop directory: files of others are looked at, claimed, read, given back, or set aside as bad.

States of a file: `letter.eml` waits -> `letter.tmp` is being taken -> gone, when its message is durable (the scheduler
          process unlinks it, J12), or `letter.bad` with `letter.bad.reason` beside it, or `letter.eml` again.
Promise:  a name is never followed through a link, opening never blocks and never disturbs a device; what is no regular
          file of one name and an owner who may is left alone. What was read is the file that was looked at, the same in
          inode, size and time, or `Claim.same` says no. No file takes another's place. A claim is durable before it is
          returned: after a power cut the file still has the name that the journal knows.
On crash: `.tmp` files stay. The next start finishes those that a record names, and takes the others up again.
Callers:  run.drop_taking, in threads.
"""

import contextlib
import os
import stat
import time
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from kmq.spool import drop_names
from kmq.spool.disk import Disk
from kmq.spool.record import Dropped

_OPEN = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_PIECE = 256 << 10


class Look(NamedTuple):
    """A file as it is now: two looks that are equal saw the same bytes, or a writer who turned back the clock."""

    inode: int
    size: int
    mtime_ns: int


class Unfit(NamedTuple):
    """A file that is left alone, and why. passing: it may be otherwise in a moment, and nobody needs to hear of it."""

    why: str
    passing: bool = False


class Claim(NamedTuple):
    """A file that is ours to take: open, under its `.tmp` name.

    old: its name before, "" when it was found under this one. user: its owner's number.
    """

    fd: int
    name: str
    old: str
    look: Look
    user: int


class Survey(NamedTuple):
    """What lies in a directory. files: fit to be taken; unfit: name -> why; waiting: all that may be taken, known or
    not."""

    files: dict[str, Look]
    unfit: dict[str, str]
    waiting: int


class DropFolder:
    """One directory. inside: its name in the spool, "" when it lies elsewhere. may: are a user's files taken?

    given_back: names of which the next hint is of our own making; whoever hears it takes the name out.
    """

    def __init__(self, path: Path, inside: str, may: Callable[[int], bool]) -> None:
        """OSError when there is no such directory."""
        self.path = path
        self.given_back: set[str] = set()
        self._may = may
        self._prefix = f"{inside or path}/"
        self.disk = Disk(path)

    def close(self) -> None:
        self.disk.close()

    # --- what lies there ---------------------------------------------------------------------------------------------

    def names(self) -> Iterator[str]:
        """What may be waiting, in no order: ends in `.eml` and does not begin with a dot."""
        return self._names(drop_names.waits)

    def left_behind(self) -> Iterator[str]:
        """What was being taken when kmqd ended, if nobody is taking anything now."""
        return self._names(drop_names.taken)

    def survey(self, besides: Iterable[str], all_of_it: bool, most: int) -> Survey:
        """A look at the names `besides`, and at those that wait if `all_of_it`; at `most` so many of them."""
        files: dict[str, Look] = {}
        unfit: dict[str, str] = {}
        count = 0
        for name in chain(besides, self.names() if all_of_it else ()):
            count += 1
            if len(files) + len(unfit) < most:
                look = self.look(name)
                if isinstance(look, Look):
                    files[name] = look
                elif look is not None and not look.passing:
                    unfit[name] = look.why
        return Survey(files, unfit, count - len(unfit))

    def stands(self) -> bool:
        """Whether this is still the directory of its path."""
        try:
            there = os.stat(self.path)
        except OSError:
            return False
        return os.path.samestat(there, os.fstat(self.disk.fd))

    def _names(self, wanted: Callable[[str], bool]) -> Iterator[str]:
        with os.scandir(self.disk.fd) as entries:
            for entry in entries:
                if wanted(entry.name) and not drop_names.hidden(entry.name):
                    yield entry.name

    def look(self, name: str) -> Look | Unfit | None:
        """The file under a name; None when there is none."""
        wrong = drop_names.unfit(name)
        if wrong:
            return Unfit(wrong)
        found = self.disk.status(name)
        return None if found is None else self._judged(found)

    def _judged(self, found: os.stat_result) -> Look | Unfit:
        if not stat.S_ISREG(found.st_mode):
            return Unfit(f"it is a {_KIND.get(stat.S_IFMT(found.st_mode), 'special file')}, and no regular file")
        if found.st_nlink != 1:
            return Unfit(f"it has {found.st_nlink} names (hard links)")
        if not self._may(found.st_uid):
            return Unfit(f"it belongs to user {found.st_uid}, who may not drop files here (owners)")
        return Look(found.st_ino, found.st_size, found.st_mtime_ns)

    # --- taking ------------------------------------------------------------------------------------------------------

    def claim(self, name: str) -> Claim | Unfit | None:
        """Opens a file and gives it its `.tmp` name, durably; None when it is gone. OSError when the disk fails."""
        seen = self.look(name)
        if not isinstance(seen, Look):
            return seen
        try:
            fd = os.open(name, _OPEN, dir_fd=self.disk.fd)
        except FileNotFoundError:
            return None
        except OSError as error:
            return Unfit(f"it cannot be opened: {error.strerror}")
        try:
            claimed = self._claim(fd, name)
        except BaseException:
            os.close(fd)
            raise
        if not isinstance(claimed, Claim):
            os.close(fd)
        return claimed

    def _claim(self, fd: int, name: str) -> Claim | Unfit | None:
        """The descriptor is what counts from here: what stands under the name may be exchanged at any moment."""
        found = os.fstat(fd)
        look = self._judged(found)
        if isinstance(look, Unfit):
            return look
        mine, old = (name, "") if drop_names.taken(name) else (self._rename(name, drop_names.TAKEN), name)
        if not mine:
            return None
        claim = Claim(fd, mine, old, look, found.st_uid)
        try:
            os.fsync(fd)  # its time, by which the journal knows it again
            self.disk.sync_folder(".")
        except OSError:
            self.give_back(claim)
            raise
        if not self.same(claim):
            self.give_back(claim)
            return Unfit("it was exchanged just then", passing=True)
        return claim

    def pieces(self, claim: Claim) -> Iterator[bytes]:
        """Its bytes, no more of them than there were at the look."""
        left = claim.look.size
        while left > 0 and (piece := os.read(claim.fd, min(left, _PIECE))):
            left -= len(piece)
            yield piece

    def same(self, claim: Claim) -> bool:
        """Whether the open file is as it was at the look, and still lies under its name."""
        there = self.disk.status(claim.name)
        if there is None or (there.st_ino, there.st_dev) != (claim.look.inode, os.fstat(claim.fd).st_dev):
            return False
        return self._judged(os.fstat(claim.fd)) == claim.look

    def dropped(self, claim: Claim) -> Dropped:
        """As the journal names it."""
        return Dropped(self._prefix + claim.name, claim.look.inode, claim.look.mtime_ns)

    def release(self, claim: Claim) -> None:
        """Its bytes are not needed any more."""
        os.close(claim.fd)

    # --- not taking --------------------------------------------------------------------------------------------------

    def give_back(self, claim: Claim) -> str:
        """It waits again; -> its name. It stays `.tmp` (""), for the next start, when its directory does not let us."""
        stem = claim.name[: -len(drop_names.TAKEN)]
        names = chain((claim.old or stem + drop_names.WAITING,), self._successors(claim.name, drop_names.WAITING))
        with contextlib.suppress(OSError):
            for name in names:
                self.given_back.add(name)  # ahead of the rename: its hint may be heard before we go on
                found = self._renamed(claim.name, name)
                if found is True:
                    return name
                self.given_back.discard(name)
                if found is None:
                    break
        return ""

    def set_aside(self, name: str, why: str) -> str:
        """It is bad: the reason first, so that no bad file is without one; -> its name, "" when it is gone."""
        for bad in self._successors(name, drop_names.BAD):
            if self.disk.status(bad) is not None:
                continue
            try:
                fd = self.disk.create(bad + drop_names.REASON)
            except FileExistsError:
                continue
            try:
                self.disk.write(fd, f"{why}\n".encode("utf-8", "backslashreplace"))
                os.fchmod(fd, 0o640)
            finally:
                self.disk.close_file(fd)
            found = None
            try:
                found = self._renamed(name, bad)
            finally:
                if not found:
                    self.disk.unlink(bad + drop_names.REASON)
            if found is not False:
                return bad if found else ""
        return ""

    def _rename(self, name: str, ending: str) -> str:
        """Gives a file the first free name of those that it may have; "" when it is gone, or all are taken."""
        for new in self._successors(name, ending):
            found = self._renamed(name, new)
            if found is not False:
                return new if found else ""
        return ""

    def _renamed(self, name: str, new: str) -> bool | None:
        """False: the new name is another's; None: there is no such file."""
        try:
            self.disk.rename_new(name, new)
        except FileExistsError:
            return False
        except FileNotFoundError:
            return None
        return True

    def _successors(self, name: str, ending: str) -> Iterator[str]:
        return drop_names.successors(name, ending, time.time())


_KIND = {
    stat.S_IFLNK: "symbolic link",
    stat.S_IFDIR: "directory",
    stat.S_IFIFO: "FIFO",
    stat.S_IFSOCK: "socket",
    stat.S_IFCHR: "device",
    stat.S_IFBLK: "device",
}
