"""Files of messages in Maildirs: tmp/, sync, new/, sync. Everything here blocks; it is run in threads.

Promise:  a copy that counts as delivered is durable under its name in new/ (or where a mail reader has moved it), whole
          and once: the name follows from the message's ID and the recipient's index, so a second run finds the first.
          No step below the root of the Maildirs follows a link. What cannot be done is a temporary reply.
On crash: before the link into new/ nobody has seen the copy, and the next run replaces what lies in tmp/. After it the
          next run finds it. What a mail reader has deleted or moved elsewhere in between comes again.
Callers:  phases.mailbox.
"""

import errno
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import time

from kmq.model.reply import Reply
from kmq.phases.body import BodyDamaged, BodyFile, LocalLines
from kmq.phases.header_stream import HeaderStream, without_return_path
from kmq.phases.work import Body

GROUP = 16  #: copies whose syncs share the file system's commits; each has a file open meanwhile

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_COARSE = 2  # seconds: the kernel's clock for mtimes is behind the one that IDs are made of

NO_USER = Reply(550, "5.1.1", "no mailbox of that name here")


@dataclass(slots=True)
class Copy:
    """One recipient's file of a message.

    root:    the folder of all Maildirs; below: the path from there to the recipient's.
    create:  make the Maildir when it is not there; otherwise the recipient is unknown.
    name:    of the file; header: lines to stand ahead of the body (LF); created: Unix time of the message's ID.
    reply, damaged: what became of it: one of them is set by `deliver`.
    """

    root: str
    below: tuple[str, ...]
    create: bool
    name: str
    header: bytes
    body: Body
    sha256: str
    created: int
    reply: Reply | None = None
    damaged: str = ""
    folders: "Folders | None" = None
    fd: int = -1

    def where(self, found: str) -> str:
        return "/".join((*self.below, found))


class Folders:
    """A Maildir, opened. owner: (uid, gid) of its folder."""

    __slots__ = ("cur", "new", "owner", "tmp")

    def __init__(self, root: str, below: tuple[str, ...], create: bool) -> None:
        self.tmp = self.new = self.cur = -1
        base = _opened_below(root, below, create)
        try:
            found = os.fstat(base)
            self.owner = found.st_uid, found.st_gid
            self.tmp = _subfolder(base, "tmp", True)
            self.new = _subfolder(base, "new", True)
            self.cur = _subfolder(base, "cur", True)
        except BaseException:
            self.close()
            raise
        finally:
            os.close(base)

    def close(self) -> None:
        for fd in (self.tmp, self.new, self.cur):
            if fd >= 0:
                os.close(fd)


def deliver(copies: Sequence[Copy]) -> None:
    """Delivers all of them; each has its reply, or `damaged`, afterwards."""
    for start in range(0, len(copies), GROUP):
        _Group(copies[start : start + GROUP]).deliver()


class _Group:
    """Some copies, each step for all of them before the next one."""

    def __init__(self, copies: Sequence[Copy]) -> None:
        self._copies = copies
        self._folders: dict[tuple[str, tuple[str, ...]], Folders] = {}

    def deliver(self) -> None:
        try:
            for copy in self._copies:
                self._step(copy, self._write)
            for copy in self._copies:
                self._step(copy, self._sync)
            for copy in self._copies:
                self._step(copy, self._link)
            self._sync_new()
        finally:
            for folders in self._folders.values():
                folders.close()

    def _step(self, copy: Copy, step: Callable[[Copy], None]) -> None:
        if copy.reply is not None or copy.damaged:
            return
        try:
            step(copy)
        except BodyDamaged as damage:
            copy.damaged = str(damage)
        except OSError as error:
            copy.reply = trouble(error, "/".join(copy.below))
        if copy.reply is not None or copy.damaged:
            self._clear(copy)

    def _clear(self, copy: Copy) -> None:
        """What was begun and does not count is taken away; what remains of it is replaced by the next run."""
        if copy.fd >= 0:
            os.close(copy.fd)
            copy.fd = -1
            _unlink(copy.name, copy.folders.tmp if copy.folders else -1)

    def _write(self, copy: Copy) -> None:
        folders = copy.folders = self._open(copy)
        if folders is None:
            copy.reply = NO_USER
            return
        _unlink(copy.name, folders.tmp)  # of a run that died
        found = earlier(folders, copy.name, copy.created)
        if found:
            os.fsync(folders.new if found.startswith("new/") else folders.cur)  # the first run may not have come to it
            copy.reply = Reply(250, "2.0.0", f"delivered to {copy.where(found)} (by an earlier attempt)")
            return
        copy.fd = os.open(copy.name, _NEW, 0o600, dir_fd=folders.tmp)
        if os.geteuid() == 0:
            os.fchown(copy.fd, *folders.owner)
        write_body(copy)

    def _open(self, copy: Copy) -> Folders | None:
        key = copy.root, copy.below
        folders = self._folders.get(key)
        if folders is None:
            try:
                folders = self._folders[key] = Folders(copy.root, copy.below, copy.create)
            except FileNotFoundError:
                if copy.create or not os.path.isdir(copy.root):
                    raise  # the whole root is away: not mounted, perhaps
                return None
        return folders

    def _sync(self, copy: Copy) -> None:
        # A sync that failed is not tried again (the kernel calls the lost pages clean); the next run writes a new file.
        os.fsync(copy.fd)

    def _link(self, copy: Copy) -> None:
        folders = copy.folders
        assert folders is not None, "a copy is written before it is linked"
        try:
            os.link(copy.name, copy.name, src_dir_fd=folders.tmp, dst_dir_fd=folders.new, follow_symlinks=False)
        finally:
            _unlink(copy.name, folders.tmp)
            os.close(copy.fd)
            copy.fd = -1

    def _sync_new(self) -> None:
        """One sync for each Maildir makes the names durable."""
        linked = [copy for copy in self._copies if copy.reply is None and not copy.damaged]
        troubles: dict[Folders | None, OSError] = {}
        for folders in {copy.folders for copy in linked if copy.folders is not None}:
            try:
                os.fsync(folders.new)
            except OSError as error:
                troubles[folders] = error
        for copy in linked:
            failed = troubles.get(copy.folders)
            if failed is None:
                copy.reply = Reply(250, "2.0.0", f"delivered to {copy.where('new/' + copy.name)}")
            elif copy.folders is not None:
                _unlink(copy.name, copy.folders.new)
                copy.reply = trouble(failed, "/".join(copy.below))


def earlier(folders: Folders, name: str, created: int) -> str | None:
    """Where an earlier run's copy lies, as new/<name> or cur/<name with flags>; None when there is none.

    cur/ may hold a hundred thousand files, and nearly always needs no look: only if something was moved into it since
    the message came (or the clock is behind the message's ID, so that this cannot be known).
    """
    try:
        os.stat(name, dir_fd=folders.new, follow_symlinks=False)
        return f"new/{name}"
    except FileNotFoundError:
        pass
    if os.fstat(folders.cur).st_mtime < created - _COARSE and created <= time():
        return None
    with os.scandir(folders.cur) as entries:
        for entry in entries:
            if entry.name.startswith(name) and entry.name[len(name) : len(name) + 1] in ("", ":", ","):
                return f"cur/{entry.name}"
    return None


def trouble(error: OSError, where: str) -> Reply:
    """What the system said, as a temporary reply."""
    why = error.strerror or type(error).__name__
    match error.errno:
        case errno.EDQUOT:
            return Reply(452, "4.2.2", f"the mailbox is full: {why} ({where})")
        case errno.ENOSPC:
            return Reply(452, "4.3.1", f"the mail system is full: {why} ({where})")
        case errno.ELOOP | errno.ENOTDIR:
            return Reply(451, "4.3.5", f"not a folder of its own, or a link: {why} ({where})")
        case _:
            return Reply(451, "4.3.0", f"local storage error: {why} ({where})")


def write_body(copy: Copy) -> None:
    """The copy's bytes into its file: what goes on top, then the body with the line ends of this machine."""
    _write_all(copy.fd, copy.header)
    lines, stream = LocalLines(), HeaderStream(without_return_path)
    if copy.body.text is not None:
        _write_all(copy.fd, lines.feed(stream.feed(copy.body.text)))
    else:
        file = BodyFile(copy.body.path, copy.body.size, copy.sha256)
        try:
            while file.left:
                _write_all(copy.fd, lines.feed(stream.feed(file.read())))
        finally:
            file.close()
    _write_all(copy.fd, lines.feed(stream.end()) + lines.end())


def _write_all(fd: int, text: bytes) -> None:
    """All of it: a short write is not an error of the kernel, so it goes on until there is one."""
    done = os.write(fd, text) if text else 0
    while done < len(text):
        done += os.write(fd, text[done:])


def _unlink(name: str, folder: int) -> None:
    try:
        os.unlink(name, dir_fd=folder)
    except OSError:
        pass


def _opened_below(root: str, below: tuple[str, ...], create: bool) -> int:
    """The folder root/below..., no link followed below root; what is made is made durable."""
    if create:
        _make_root(root)
    fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    for part in below:
        try:
            inner = _subfolder(fd, part, create)
        finally:
            os.close(fd)
        fd = inner
    return fd


def _subfolder(parent: int, name: str, create: bool) -> int:
    try:
        return os.open(name, _FOLDER, dir_fd=parent)
    except FileNotFoundError:
        if not create:
            raise
    try:
        os.mkdir(name, 0o700, dir_fd=parent)
    except FileExistsError:
        pass
    os.fsync(parent)
    return os.open(name, _FOLDER, dir_fd=parent)


def _make_root(root: str) -> None:
    if os.path.isdir(root):
        return
    above = os.path.dirname(root)
    _make_root(above)
    parent = os.open(above, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.close(_subfolder(parent, os.path.basename(root), True))
    finally:
        os.close(parent)
