"""A disk whose power can be cut: ext4 in a file, on a loop device, mounted below a test's folder.

The ioctl FS_IOC_SHUTDOWN stops the file system as it stands, as xfstests' godown does: what was not written is gone,
what comes after is EIO. Mounted again, the disk holds what a disk would hold. Root only.
"""

import fcntl
import os
import struct
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_SHUTDOWN = (2 << 30) | (4 << 16) | (ord("X") << 8) | 125

#: What is lost beside the pages that nobody synced: the file system's own log too, or not.
LOSE_LOG, KEEP_LOG = 2, 1


class Image:
    """The disk. at: where it is mounted."""

    def __init__(self, folder: Path, megabytes: int) -> None:
        self.at = folder / "disk"
        self.at.mkdir()
        self._file = folder / "disk.img"
        with self._file.open("wb") as file:
            file.truncate(megabytes << 20)
        _run("mkfs.ext4", "-q", "-F", "-m", "0", str(self._file))

    def mount(self, *options: str) -> None:
        _run("mount", "-o", ",".join(["loop", *options]), str(self._file), str(self.at))

    def cut(self, what: int = LOSE_LOG) -> None:
        """The power fails. Whoever has a file open there is to be killed now, then `unmount`."""
        fd = os.open(self.at, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.ioctl(fd, _SHUTDOWN, struct.pack("I", what))
        finally:
            os.close(fd)

    def unmount(self) -> None:
        """Waits for the last descriptor of a killed process to be closed."""
        deadline = time.monotonic() + 20
        while (done := subprocess.run(["umount", self.at], capture_output=True, text=True)).returncode:
            if "not mounted" in done.stderr:
                return
            assert time.monotonic() < deadline, done.stderr
            time.sleep(0.02)


@contextmanager
def mounted(folder: Path, megabytes: int = 64) -> Iterator[Image]:
    """A fresh disk while the block runs."""
    image = Image(folder, megabytes)
    image.mount()
    try:
        yield image
    finally:
        image.unmount()


@contextmanager
def tmpfs(folder: Path, kilobytes: int, inodes: int = 0) -> Iterator[Path]:
    """A small disk in memory, which can be filled. inodes: how many files it may hold, 0 for as many as fit."""
    at = folder / "small"
    at.mkdir()
    options = f"size={kilobytes}k,mode=755" + (f",nr_inodes={inodes}" if inodes else "")
    _run("mount", "-t", "tmpfs", "-o", options, "kmq-test", str(at))
    try:
        yield at
    finally:
        deadline = time.monotonic() + 20
        while (done := subprocess.run(["umount", at], capture_output=True, text=True)).returncode:
            assert time.monotonic() < deadline, done.stderr
            time.sleep(0.02)


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"
