"""A disk that lives in memory: one process's way to a Kernel, with everything that can go wrong at any operation.

What:     `GhostDisk` is the whole of kmq.spool.disk.Disk; `watch` sees every change before it is made, `fault` makes it
          fail, `alive` ends it.
Promise:  fsync makes a file's content durable and none of its names, an fsync of a folder its names, syncfs everything
          on the spool's own device; what is not synced is at the mercy of `Kernel.after_cut`. A sync that fails forgets
          what it should have written: no later sync writes it, only a new write (as Linux does); every descriptor that
          was open then hears of it once. Names of folders are not forgotten (a file system that cannot write those
          stops).
Callers:  the tests of the spool.
"""

import errno
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from kmq.spool.checkpoint import Note
from kmq.spool.disk import Disk
from tests.spool.platter import ROOT, SECTOR, File, Folder, Kernel

__all__ = ["SECTOR", "Dead", "Fault", "GhostDisk", "GhostNote", "Kernel", "Watch"]


class Dead(BaseException):
    """The process that called is no more: killed, or the power is gone. Nothing catches it."""


class GhostNote(Note):
    """The note about a syncfs under way, in the kernel's memory."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel

    def make(self) -> None:
        self.kernel.noted = True

    def clear(self) -> None:
        self.kernel.noted = False

    def found(self) -> bool:
        return self.kernel.noted


#: What is about to happen: the kind of the operation, and the name or file that it is for.
Watch = Callable[[str, str], None]


@dataclass(slots=True)
class Descriptor:
    """An open file. at: where the next write goes; failures: lost writes that it has heard of."""

    node: File
    name: str
    failures: int
    at: int = 0


@dataclass(slots=True)
class Fault:
    """An operation that fails. half: a write has done half of its work by then."""

    number: int = errno.ENOSPC
    half: bool = False


class GhostDisk(Disk):
    """One process's disk.

    watch:  called before each change; it may raise Dead, or look at `kernel` and copy it.
    fault:  asked before each change; the Fault that it returns is what becomes of the change.
    halves: a write is seen half done, too, as a kill may leave it.
    """

    def __init__(self, kernel: Kernel, watch: Watch | None = None) -> None:
        self.kernel = kernel
        self.root = "/ghost"
        self.device = 1
        self.watch = watch
        self.fault: Callable[[str, str], Fault | None] | None = None
        self.operations = 0
        self.halves = False
        self.alive = True
        self._open: dict[int, Descriptor] = {}
        self._last_fd = 2

    def close(self) -> None:
        self._open.clear()

    # --- what goes before every change -------------------------------------------------------------------------------

    def _before(self, kind: str, name: str) -> Fault | None:
        if not self.alive:
            raise Dead
        self.operations += 1
        if self.watch:
            self.watch(kind, name)
        if not self.alive:
            raise Dead
        return self.fault(kind, name) if self.fault else None

    def _change(self, kind: str, name: str) -> None:
        fault = self._before(kind, name)
        if fault:
            raise OSError(fault.number, os.strerror(fault.number), name)

    # --- names -------------------------------------------------------------------------------------------------------

    def _folder(self, name: str) -> Folder:
        node = self.kernel.nodes[ROOT]
        for part in name.split("/") if name not in ("", ".") else ():
            assert isinstance(node, Folder)
            number = node.seen.get(part)
            if number is None:
                raise FileNotFoundError(errno.ENOENT, "No such folder", name)
            node = self.kernel.nodes[number]
            if not isinstance(node, Folder):
                raise NotADirectoryError(errno.ENOTDIR, "Not a folder", name)
        assert isinstance(node, Folder)
        return node

    def _at(self, name: str) -> tuple[Folder, str]:
        folder, _, last = name.rpartition("/")
        return self._folder(folder), last

    def _node(self, name: str) -> tuple[int, File | Folder]:
        folder, last = self._at(name)
        number = folder.seen.get(last)
        if number is None:
            raise FileNotFoundError(errno.ENOENT, "No such file", name)
        return number, self.kernel.nodes[number]

    def _file(self, name: str) -> tuple[int, File]:
        number, node = self._node(name)
        if not isinstance(node, File):
            raise OSError(errno.EINVAL, "not a regular file", name)
        return number, node

    def _opened(self, number: int, name: str) -> int:
        node = self.kernel.nodes[number]
        assert isinstance(node, File)
        self._last_fd += 1
        self._open[self._last_fd] = Descriptor(node, name, node.failures)
        return self._last_fd

    # --- changes -----------------------------------------------------------------------------------------------------

    def create(self, name: str) -> int:
        self._change("create", name)
        folder, last = self._at(name)
        if last in folder.seen:
            raise FileExistsError(errno.EEXIST, "File exists", name)
        number = self.kernel.make(File, folder.device)
        folder.change(last, number)
        self.kernel.nodes[number].links = 1
        return self._opened(number, name)

    def write(self, fd: int, text: bytes | memoryview) -> None:
        self._put(fd, "write", bytes(text), self._open[fd].at)
        self._open[fd].at += len(text)

    def write_at(self, fd: int, parts: Sequence[bytes | memoryview], offset: int) -> None:
        self._put(fd, "write_at", b"".join(parts), offset)

    def append(self, name: str, text: bytes) -> None:
        number, node = self._file(name)
        fd = self._opened(number, name)
        try:
            self._put(fd, "append", text, len(node.seen))
        finally:
            self.close_file(fd)

    def _put(self, fd: int, kind: str, text: bytes, offset: int) -> None:
        node, name = self._open[fd].node, self._open[fd].name
        fault = self._before(kind, name)
        if fault and not fault.half:
            raise OSError(fault.number, os.strerror(fault.number), name)
        half = len(text) // 2 if fault or self.halves else 0
        self._lay(node, text[:half], offset)
        if fault:
            raise OSError(fault.number, os.strerror(fault.number), name)
        if half and self.watch:
            self.watch(f"the other half of {kind}", name)
        self._lay(node, text[half:], offset + half)

    def _lay(self, node: File, text: bytes, offset: int) -> None:
        node.write(text, offset)
        self.kernel.clock += 1
        node.mtime = self.kernel.clock

    def close_file(self, fd: int) -> None:
        self._open.pop(fd, None)

    def datasync(self, fd: int) -> None:
        self._sync_file(fd, "datasync")

    def sync(self, fd: int) -> None:
        self._sync_file(fd, "sync")

    def _sync_file(self, fd: int, kind: str) -> None:
        one = self._open[fd]
        fault = self._before(kind, one.name)
        if fault:
            one.node.forget()
        if one.failures != one.node.failures:
            one.failures = one.node.failures
            raise OSError(errno.EIO, "a write was lost", one.name)
        one.node.sync()

    def sync_folder(self, name: str) -> None:
        folder = self._folder(name)
        self._settle([folder], self._before("sync_folder", name), name)

    def sync_all(self) -> None:
        fault = self._before("sync_all", ".")
        self._settle([one for one in self.kernel.nodes.values() if one.device == self.device], fault, ".")

    def _settle(self, nodes: "Sequence[File | Folder]", fault: Fault | None, name: str) -> None:
        for node in nodes:
            if fault:
                node.forget()
            else:
                node.sync()
        if fault:
            raise OSError(fault.number, os.strerror(fault.number), name)

    def rename(self, old: str, new: str) -> None:
        self._change("rename", f"{old} {new}")
        (source, first), (target, last) = self._at(old), self._at(new)
        number = self._node(old)[0]
        replaced = target.seen.get(last)
        if replaced == number:
            return  # two names of one file: rename(2) does nothing
        if replaced is not None:
            if isinstance(self.kernel.nodes[replaced], Folder):
                raise IsADirectoryError(errno.EISDIR, "Is a folder", new)
            self.kernel.nodes[replaced].links -= 1
        if source.device != target.device:
            raise OSError(errno.EXDEV, "Another device", new)
        target.change(last, number)
        source.change(first, None)

    def link(self, old: str, new: str) -> None:
        self._change("link", f"{old} {new}")
        number, node = self._node(old)
        target, last = self._at(new)
        if isinstance(node, Folder):
            raise PermissionError(errno.EPERM, "A folder has one name", old)
        if last in target.seen:
            raise FileExistsError(errno.EEXIST, "File exists", new)
        if node.device != target.device:
            raise OSError(errno.EXDEV, "Another device", new)
        target.change(last, number)
        node.links += 1

    def unlink(self, name: str) -> None:
        self._change("unlink", name)
        folder, last = self._at(name)
        _, node = self._node(name)
        if isinstance(node, Folder):
            raise IsADirectoryError(errno.EISDIR, "Is a folder", name)
        folder.change(last, None)
        node.links -= 1

    def make_folder(self, name: str, mode: int = 0o700) -> None:
        self._change("make_folder", name)
        folder, last = self._at(name)
        if last in folder.seen:
            raise FileExistsError(errno.EEXIST, "File exists", name)
        number = self.kernel.make(Folder, folder.device)
        folder.change(last, number, folder=True)
        self.kernel.nodes[number].links = 1

    def set_mode(self, name: str, mode: int) -> None:
        """Nobody's rights are looked at here."""

    def remove_folder(self, name: str) -> None:
        self._change("remove_folder", name)
        if self._folder(name).seen:
            raise OSError(errno.ENOTEMPTY, "Folder not empty", name)
        folder, last = self._at(name)
        folder.change(last, None)

    # --- looks -------------------------------------------------------------------------------------------------------

    def update(self, name: str) -> int:
        self._look()
        return self._opened(self._file(name)[0], name)

    open = update

    def read(self, name: str, limit: int = 1 << 30) -> bytes:
        self._look()
        return bytes(self._file(name)[1].seen[:limit])

    def pieces(self, name: str) -> Iterator[bytes]:
        yield self.read(name)

    def fetch(self, name: str, length: int = 0) -> None:
        self._file(name)

    def status(self, name: str) -> os.stat_result | None:
        self._look()
        try:
            number, node = self._node(name)
        except (FileNotFoundError, NotADirectoryError):
            return None
        kind, size = (stat.S_IFREG, len(node.seen)) if isinstance(node, File) else (stat.S_IFDIR, 4096)
        ten = (kind | 0o600, number, node.device, node.links, 0, 0, size, 0, node.mtime, 0)
        return os.stat_result(ten, {"st_mtime_ns": node.mtime})

    def names(self, folder: str) -> list[str]:
        self._look()
        try:
            return sorted(self._folder(folder).seen)
        except FileNotFoundError:
            return []

    def free(self) -> tuple[int, int]:
        return 1 << 40, 1 << 30

    def _look(self) -> None:
        if not self.alive:
            raise Dead

    # --- what only a test asks ---------------------------------------------------------------------------------------

    def mount(self, name: str, device: int = 2) -> None:
        """The folder lies on a file system of its own from now on."""
        self._folder(name).device = device

    def tree(self, *folders: str) -> dict[str, bytes]:
        """name -> content of every file below these folders, as programs see them."""
        found: dict[str, bytes] = {}
        for name in folders:
            self._grow(name, self._folder(name), found)
        return found

    def _grow(self, path: str, folder: Folder, found: dict[str, bytes]) -> None:
        for name, number in folder.seen.items():
            node = self.kernel.nodes[number]
            if isinstance(node, File):
                found[f"{path}/{name}"] = bytes(node.seen)
            else:
                self._grow(f"{path}/{name}", node, found)
