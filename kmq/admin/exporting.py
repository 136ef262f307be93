"""Messages as files for the Replay directory: X-headers that say what the envelope said, and below them the message.

Shape:    the fields of kmq-drop(5), X-EndOfInjectedXHeaders last, then the body's bytes as they lie in the queue.
          X-kmq-Original names the message: while it is in the queue, such a file is not taken, so that nobody gets his
          mail twice by accident.
Promise:  a file appears under its name when it is whole and durable, or not at all. No file that is there is touched,
          no link is followed, and the names are ours: ID.eml.
On crash: a name that begins with a dot may be left, which no drop directory looks at.
Callers:  kmq.cli.export.
"""

import contextlib
import os
import stat
from collections.abc import Collection, Iterator
from pathlib import Path

from kmq.errors import UsageError
from kmq.phases.injected import block
from kmq.spool.look import Found

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_BODY = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_PIECE = 1 << 20


class Folder:
    """The folder into which files go. UsageError when it cannot be used."""

    def __init__(self, path: str) -> None:
        self.path = Path(path)
        try:
            self._fd = os.open(path, _FOLDER)
        except OSError as error:
            if self.path.is_symlink():
                raise UsageError(f"{path} is a symbolic link: name the folder itself") from None
            raise UsageError(f"{path} cannot be used: {error.strerror}; the folder has to be there") from None

    def close(self) -> None:
        os.close(self._fd)

    def sync(self) -> None:
        """All files are there for good."""
        with contextlib.suppress(OSError):  # some file systems cannot sync a folder
            os.fsync(self._fd)

    def write(self, found: Found, rcpt: Collection[int], owner: os.stat_result) -> str:
        """One message; -> the name of its file. FileExistsError, or another OSError: nothing is there."""
        name = f"{found.head.id}.eml"
        passing = f".{found.head.id}.{os.getpid()}"
        with _opened(found.body) as body:
            made = os.open(passing, _NEW, 0o600, dir_fd=self._fd)
            try:
                with open(made, "wb", buffering=0) as file:
                    if os.geteuid() == 0:
                        os.fchown(made, owner.st_uid, owner.st_gid)
                    _copy(block(found.head, rcpt), body, file.fileno())
                    os.fsync(made)
                self._show(passing, name)
            finally:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(passing, dir_fd=self._fd)
        return name

    def _show(self, passing: str, name: str) -> None:
        """Gives the file its name, if nothing has it."""
        try:
            os.link(passing, name, src_dir_fd=self._fd, dst_dir_fd=self._fd, follow_symlinks=False)
        except FileExistsError:
            raise
        except OSError:
            # A file system without hard links. The name is taken first, so that what has it is not replaced.
            os.close(os.open(name, _NEW, 0o600, dir_fd=self._fd))
            os.rename(passing, name, src_dir_fd=self._fd, dst_dir_fd=self._fd)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[int]:
    fd = os.open(path, _BODY)
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise OSError(0, "it is no regular file")
        yield fd
    finally:
        os.close(fd)


def _copy(head: bytes, body: int, to: int) -> None:
    view = memoryview(head)
    while view:
        view = view[os.write(to, view) :]
    while os.sendfile(to, body, None, _PIECE):
        pass
