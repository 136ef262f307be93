"""The folder from which a gateway takes its mail: one file for a message and those of its recipients who go that way.

Shape:    X-headers (phases.injected), then the message with CRLF line ends, as Replay would take it. The name is
          ID.RECIPIENTS.eml (`69212ad0-0000a1f3.0-2.eml`), so that a second run finds the first one's file.
Promise:  a file that has its name is whole and durable, and so is the name before anybody is told of it. No link is
          followed, nothing that is there is touched. The quota is looked at before each file, and never makes a message
          wait that is alone too large for it.
On crash: a name that begins with a dot may be left; the next run writes it anew. A file that the gateway took just
          before the crash is written twice.
Callers:  phases.foreign, in threads: everything here blocks.
"""

import errno
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256

from kmq.config.sections import ConnectorSection
from kmq.config.way_out import drop_directory, in_spool
from kmq.model import recipients
from kmq.model.reply import Reply
from kmq.phases.body import BodyDamaged
from kmq.phases.injected import block
from kmq.phases.rendering import as_it_is, written
from kmq.phases.rewriting import Rewriter
from kmq.phases.work import Work

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
#: Characters of recipients in a file's name; for more of them a digest stands there.
_LONGEST = 60


@dataclass(slots=True)
class Sheet:
    """A message on its way into the folder, and what became of it: one of the three.

    reply: delivered, or a trouble of this message; unavailable: the folder takes nothing now; damaged: the message.
    """

    work: Work
    rewriter: Rewriter | None
    reply: Reply | None = None
    unavailable: Reply | None = None
    damaged: str = ""

    @property
    def open(self) -> bool:
        return self.reply is None and self.unavailable is None and not self.damaged


class _FolderFails(Exception):
    """What the folder's file system said."""


def prepare(section: ConnectorSection, spool: str) -> None:
    """Makes the folder when it is one in the spool and missing; what goes wrong is told when mail comes."""
    directory = drop_directory(section, spool)
    if not in_spool(directory, spool):
        return
    try:
        os.mkdir(directory, 0o700)
        parent = os.open(os.path.dirname(directory), _FOLDER)
        try:
            os.fsync(parent)
        finally:
            os.close(parent)
    except OSError:
        pass


def fill(section: ConnectorSection, spool: str, sheets: list[Sheet]) -> None:
    """Writes all of them, in their order; each is told afterwards."""
    directory = drop_directory(section, spool)
    try:
        folder = os.open(directory, _FOLDER)
    except OSError as error:
        return _refuse(sheets, _trouble(error, directory))
    try:
        _Filling(section, directory, folder).fill(sheets)
    except OSError as error:
        _refuse(sheets, _trouble(error, directory))
    finally:
        os.close(folder)
    return None


def _refuse(sheets: list[Sheet], why: Reply) -> None:
    for sheet in sheets:
        if sheet.open:
            sheet.unavailable = why


class _Filling:
    """One go. taken: bytes and files that count for the quota."""

    def __init__(self, section: ConnectorSection, directory: str, folder: int) -> None:
        self._section = section
        self._directory = directory
        self._folder = folder
        self._limited = bool(section.drop_quota or section.drop_quota_files)
        self._bytes, self._files = usage(folder) if self._limited else (0, 0)

    def fill(self, sheets: list[Sheet]) -> None:
        named: list[tuple[Sheet, str]] = []
        for sheet in sheets:
            try:
                name = self._put(sheet)
            except BodyDamaged as damage:
                sheet.damaged = str(damage)
            except _FolderFails as failed:
                return self._end(named, sheets, _trouble(failed.args[0], self._directory))
            except OSError as error:
                sheet.reply = Reply(451, "4.3.0", f"cannot read the message: {error.strerror or error}")
            else:
                if name is None:
                    return self._end(named, sheets, self._full())
                named.append((sheet, name))
        return self._end(named, sheets, None)

    def _end(self, named: list[tuple[Sheet, str]], sheets: list[Sheet], why: Reply | None) -> None:
        """One sync makes all names durable; those that were not come to wait."""
        if named:
            os.fsync(self._folder)
        for sheet, name in named:
            sheet.reply = Reply(250, "2.0.0", f"written to {name} for the gateway")
        if why is not None:
            _refuse(sheets, why)

    def _full(self) -> Reply:
        option, count = "drop_quota", f"{self._bytes} bytes"
        if 0 < self._section.drop_quota_files <= self._files:
            option, count = "drop_quota_files", f"{self._files} files"
        return Reply(452, "4.3.1", f"{self._directory} is full ({option}): {count} wait there for the gateway")

    # --- one file -----------------------------------------------------------------------------------------------------

    def _put(self, sheet: Sheet) -> str | None:
        """The name of its file, which is there now; None when there is no room for one more."""
        work = sheet.work
        rendering = as_it_is(work, sheet.rewriter)
        ahead = block(rendering.head, work.rcpt)
        name = name_of(work)
        size = len(ahead) + rendering.head.size
        if self._earlier(name, size):
            return name
        if self._limited and self._over():
            return None
        pieces = written(work, rendering)
        passing = f".{name}.tmp"
        self._write(passing, ahead, pieces)
        self._show(passing, name)
        self._bytes, self._files = self._bytes + size, self._files + 1
        return name

    def _earlier(self, name: str, size: int) -> bool:
        """Whether an earlier run wrote it; what else bears the name is in the way."""
        try:
            found = os.stat(name, dir_fd=self._folder, follow_symlinks=False)
        except FileNotFoundError:
            return False
        except OSError as error:
            raise _FolderFails(error) from None
        if stat.S_ISREG(found.st_mode) and found.st_size == size:
            return True
        raise _FolderFails(OSError(errno.EEXIST, f"{name} is there, and is not what kmq wrote"))

    def _over(self) -> bool:
        section = self._section
        return 0 < section.drop_quota <= self._bytes or 0 < section.drop_quota_files <= self._files

    def _write(self, passing: str, ahead: bytes, pieces: Iterator[bytes]) -> None:
        _remove(passing, self._folder)  # of a run that died
        try:
            fd = os.open(passing, _NEW, 0o600, dir_fd=self._folder)
        except OSError as error:
            raise _FolderFails(error) from None
        try:
            _write_all(fd, ahead)
            for piece in pieces:
                _write_all(fd, piece)
            _settled(fd, self._section.drop_mode)
        except BaseException:
            _remove(passing, self._folder)
            raise
        finally:
            os.close(fd)

    def _show(self, passing: str, name: str) -> None:
        try:
            os.rename(passing, name, src_dir_fd=self._folder, dst_dir_fd=self._folder)
        except OSError as error:
            _remove(passing, self._folder)
            raise _FolderFails(error) from None


def name_of(work: Work) -> str:
    """By the message and its recipients."""
    some = recipients.as_text(work.rcpt)
    if len(some) > _LONGEST:
        some = sha256(some.encode()).hexdigest()[:32]
    return f"{work.head.id}.{some}.eml"


def usage(folder: int) -> tuple[int, int]:
    """Bytes and number of the files in an open folder; those that are being written are none."""
    size = count = 0
    with os.scandir(folder) as entries:
        for entry in entries:
            if not entry.name.startswith(".") and entry.is_file(follow_symlinks=False):
                try:
                    size += entry.stat(follow_symlinks=False).st_size
                except FileNotFoundError:
                    continue  # the gateway took it just now
                count += 1
    return size, count


def _write_all(fd: int, text: bytes) -> None:
    done = 0
    try:
        while done < len(text):
            done += os.write(fd, text[done:] if done else text)
    except OSError as error:
        raise _FolderFails(error) from None


def _settled(fd: int, mode: int) -> None:
    try:
        os.fchmod(fd, mode)
        os.fsync(fd)
    except OSError as error:
        raise _FolderFails(error) from None


def _remove(name: str, folder: int) -> None:
    try:
        os.unlink(name, dir_fd=folder)
    except OSError:
        pass


def _trouble(error: OSError, directory: str) -> Reply:
    """What the system said of the folder, as a trouble of the queue."""
    why = error.strerror or type(error).__name__
    match error.errno:
        case errno.ENOSPC | errno.EDQUOT:
            return Reply(452, "4.3.1", f"there is no room in {directory}: {why}")
        case errno.ELOOP | errno.ENOTDIR:
            return Reply(451, "4.3.5", f"{directory} is a link, or no directory")
        case errno.ENOENT:
            return Reply(451, "4.3.5", f"{directory} is missing: make it, or take it out of the configuration")
        case _:
            return Reply(451, "4.3.0", f"cannot write into {directory}: {why}")
