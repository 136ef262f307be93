"""A disk on which a sync takes ten milliseconds, as on a spinning one: ext4 on a loop device on a slow file.

nbdkit would be a stranger's work, but its delay filter delays writes, not flushes, and many kernels lack nbd.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.waiting import until

SECONDS = 0.010
SIZE = 4 << 30


def missing() -> str:
    """What this machine lacks for one; empty where it has all."""
    return "" if os.access("/dev/fuse", os.R_OK | os.W_OK) else "/dev/fuse"


@contextmanager
def mounted(folder: Path, seconds: float = SECONDS, size: int = SIZE) -> Iterator[Path]:
    """The folder in which the disk is mounted while the block runs. All of it lies below `folder`, which is empty."""
    backing, slow, at = folder / "backing", folder / "slow", folder / "disk"
    with backing.open("wb") as file:
        file.truncate(size)
    # Whole from the start: the file system would write its tables later, in the midst of what is measured.
    _run("mkfs.ext4", "-q", "-F", "-m", "0", "-E", "nodiscard,lazy_itable_init=0,lazy_journal_init=0", str(backing))
    slow.touch()
    at.mkdir()
    command = [sys.executable, "-m", "bench.slow_file", str(slow), str(backing), str(seconds)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as server:
        assert server.stdout is not None
        if server.stdout.readline() != b"mounted\n":
            raise RuntimeError("a slow file can not be mounted here")
        try:
            with _device(slow) as device, _mounted(device, at):
                yield at
        finally:
            _run("umount", "--lazy", str(slow))


@contextmanager
def _device(file: Path) -> Iterator[str]:
    device = _run("losetup", "--find", "--show", str(file))
    try:
        yield device
    finally:
        _run("losetup", "--detach", device)


@contextmanager
def _mounted(device: str, at: Path) -> Iterator[None]:
    _run("mount", "-t", "ext4", device, str(at))
    at.chmod(0o755)
    try:
        yield
    finally:
        # A process that was killed a moment ago may still hold a file.
        until(lambda: subprocess.run(["umount", at], stderr=subprocess.DEVNULL).returncode == 0, f"{at} is unmounted")


def _run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}")
    return done.stdout.strip()
