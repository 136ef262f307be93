"""The one seam between kmq and the file system below the spool folder.

Promise:  every change that kmq makes below the spool goes through one of these methods, one operation of the kernel
          each, so that a test can stop the world before and after any of them. Names are relative to the spool folder.
          No name is followed through a link at its last step; new files are 0600 and must not exist.
On crash: nothing here is durable by itself; what must be synced, and when, is the business of journal and store.
"""

import ctypes
import errno
import os
import stat
from collections.abc import Iterator, Sequence

_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_APPEND = os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_UPDATE = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC

_MOST_PARTS = 1024  #: that the kernel takes at once (IOV_MAX)

_libc = ctypes.CDLL(None, use_errno=True)
_RENAME_NOREPLACE = 1
#: What a file system says that cannot rename without replacing (NFS): rename(2).
_CANNOT = frozenset({errno.EINVAL, errno.ENOSYS, errno.ENOTTY, errno.EOPNOTSUPP})


class Disk:
    """File operations below one folder. All may raise OSError; whoever calls knows what that means there."""

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self.root = os.path.abspath(root)
        self.fd = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self.device = os.fstat(self.fd).st_dev

    def close(self) -> None:
        os.close(self.fd)

    # --- changes ---------------------------------------------------------------------------------------------------

    def create(self, name: str) -> int:
        """A new file, open for writing; FileExistsError when the name is taken."""
        return os.open(name, _CREATE, 0o600, dir_fd=self.fd)

    def write(self, fd: int, text: bytes | memoryview) -> None:
        """All of it: a short write is not an error of the kernel (RLIMIT, ENOSPC on tmpfs), so it goes on."""
        done = os.write(fd, text)
        while done < len(text):
            done += os.write(fd, text[done:])

    def write_at(self, fd: int, parts: Sequence[bytes | memoryview], offset: int) -> None:
        """All of them at a place of their own, one behind the other. The kernel gathers them, since joining them would
        be one more copy."""
        for first in range(0, len(parts), _MOST_PARTS):
            some = parts[first : first + _MOST_PARTS]
            length, done = sum(map(len, some)), os.pwritev(fd, some, offset)
            while done < length:  # seldom, so that a copy does no harm
                done += os.pwritev(fd, [b"".join(some)[done:]], offset + done)
            offset += length

    def append(self, name: str, text: bytes) -> None:
        """One write at the end of a file that exists; what the kernel did not take is an OSError (J4: a torn line)."""
        fd = os.open(name, _APPEND, dir_fd=self.fd)
        try:
            if os.write(fd, text) != len(text):
                raise OSError(28, "short append", name)
        finally:
            os.close(fd)

    def close_file(self, fd: int) -> None:
        os.close(fd)

    def datasync(self, fd: int) -> None:
        os.fdatasync(fd)

    def sync(self, fd: int) -> None:
        os.fsync(fd)

    def sync_folder(self, name: str) -> None:
        """What was made, renamed or unlinked in the folder is durable when this returns."""
        fd = os.open(name, _FOLDER, dir_fd=self.fd)
        try:
            self.sync(fd)
        finally:
            os.close(fd)

    def sync_all(self) -> None:
        """syncfs, with its error (Linux 5.8 or later reports write-back errors of every file since the last call)."""
        if _libc.syncfs(self.fd) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), self.root)

    def rename(self, old: str, new: str) -> None:
        os.rename(old, new, src_dir_fd=self.fd, dst_dir_fd=self.fd)

    def rename_new(self, old: str, new: str) -> None:
        """A rename that never takes another file's place: FileExistsError. Where the file system cannot promise it, the
        new name is looked for before, so it must be one that nobody else chooses at the same moment."""
        if _libc.renameat2(self.fd, os.fsencode(old), self.fd, os.fsencode(new), _RENAME_NOREPLACE) == 0:
            return
        number = ctypes.get_errno()
        if number not in _CANNOT:
            raise OSError(number, os.strerror(number), new)
        if self.status(new) is not None:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), new)
        self.rename(old, new)

    def link(self, old: str, new: str) -> None:
        os.link(old, new, src_dir_fd=self.fd, dst_dir_fd=self.fd, follow_symlinks=False)

    def unlink(self, name: str) -> None:
        os.unlink(name, dir_fd=self.fd)

    def make_folder(self, name: str, mode: int = 0o700) -> None:
        os.mkdir(name, mode, dir_fd=self.fd)

    def set_mode(self, name: str, mode: int) -> None:
        """Who may do what in a folder."""
        fd = os.open(name, _FOLDER, dir_fd=self.fd)
        try:
            os.fchmod(fd, mode)
        finally:
            os.close(fd)

    def remove_folder(self, name: str) -> None:
        os.rmdir(name, dir_fd=self.fd)

    # --- looks -----------------------------------------------------------------------------------------------------

    def update(self, name: str) -> int:
        """An existing file, open for reading and writing."""
        return os.open(name, _UPDATE, dir_fd=self.fd)

    def read(self, name: str, limit: int = 1 << 30) -> bytes:
        """The whole of a regular file; OSError for anything else (a FIFO does not block)."""
        fd = os.open(name, _READ, dir_fd=self.fd)
        try:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                raise OSError(22, "not a regular file", name)
            parts = []
            while limit > 0 and (part := os.read(fd, min(limit, 1 << 20))):
                parts.append(part)
                limit -= len(part)
            return b"".join(parts)
        finally:
            os.close(fd)

    def pieces(self, name: str) -> Iterator[bytes]:
        """The content of a file, a megabyte at a time."""
        fd = self.open(name)
        try:
            while part := os.read(fd, 1 << 20):
                yield part
        finally:
            os.close(fd)

    def fetch(self, name: str, length: int = 0) -> None:
        """Asks the kernel for a file's first bytes (0: all), and does not wait: who then reads some hundred files that
        were asked for waits for the disk once. OSError when the file cannot be opened."""
        fd = self.open(name)
        try:
            os.posix_fadvise(fd, 0, length, os.POSIX_FADV_WILLNEED)
        finally:
            os.close(fd)

    def open(self, name: str) -> int:
        """An existing file for reading; the caller closes it."""
        return os.open(name, _READ, dir_fd=self.fd)

    def status(self, name: str) -> os.stat_result | None:
        """lstat, or None when there is no such name."""
        try:
            return os.stat(name, dir_fd=self.fd, follow_symlinks=False)
        except FileNotFoundError:
            return None

    def names(self, folder: str) -> list[str]:
        """What the folder holds, sorted; empty when there is no folder."""
        try:
            fd = os.open(folder, _FOLDER, dir_fd=self.fd)
        except FileNotFoundError:
            return []
        try:
            return sorted(os.listdir(fd))
        finally:
            os.close(fd)

    def free(self) -> tuple[int, int]:
        """Bytes and inodes that are free for us."""
        room = os.statvfs(self.fd)
        return room.f_bavail * room.f_frsize, room.f_favail if room.f_files else 1 << 40

    def walk(self, folder: str) -> Iterator[tuple[str, str]]:
        """(folder, name) of every entry two levels below `folder`."""
        for inner in self.names(folder):
            try:
                for name in self.names(f"{folder}/{inner}"):
                    yield f"{folder}/{inner}", name
            except NotADirectoryError:
                yield folder, inner
