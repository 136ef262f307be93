"""What every way of writing into mailboxes does with files: opened without following links, written whole, and what
the system says about it as a reply.

Promise:  nothing below the root of the mailboxes follows a link; what is made on the way there is durable.
Callers:  phases.maildir, maildir_folders, mbox.
"""

import errno
import os

from kmq.model.reply import Reply

FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Refused(Exception):
    """It is not delivered, and this reply says why."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(str(reply))
        self.reply = reply


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


def write_all(fd: int, text: bytes) -> None:
    """All of it: a short write is not an error of the kernel, so it goes on until there is one."""
    done = os.write(fd, text) if text else 0
    while done < len(text):
        done += os.write(fd, text[done:])


def unlink(name: str, folder: int) -> None:
    """Takes a name out of a folder, if it is there and may go."""
    try:
        os.unlink(name, dir_fd=folder)
    except OSError:
        pass


def opened_below(root: str, below: tuple[str, ...], create: bool) -> int:
    """The folder root/below..., no link followed below root; what is made is made durable."""
    if create:
        _make_root(root)
    fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    for part in below:
        try:
            inner = subfolder(fd, part, create)
        finally:
            os.close(fd)
        fd = inner
    return fd


def subfolder(parent: int, name: str, create: bool) -> int:
    """A folder in a folder, open."""
    try:
        return os.open(name, FOLDER, dir_fd=parent)
    except FileNotFoundError:
        if not create:
            raise
    try:
        os.mkdir(name, 0o700, dir_fd=parent)
    except FileExistsError:
        pass
    os.fsync(parent)
    return os.open(name, FOLDER, dir_fd=parent)


def _make_root(root: str) -> None:
    if os.path.isdir(root):
        return
    above = os.path.dirname(root)
    _make_root(above)
    parent = os.open(above, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.close(subfolder(parent, os.path.basename(root), True))
    finally:
        os.close(parent)
