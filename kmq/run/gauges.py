"""What the machine has left: room on the disks of spool and log, and memory.

Does:     looks from threads of its own, one for each disk and one for memory, so that a disk which does not answer
          keeps neither the loop waiting nor the other looks.
Promise:  a figure that cannot be had is missing, never wrong; one that is old is missing too, and `silent` names what
          does not answer. The threads are daemons: a process ends although one of them hangs in the kernel.
Callers:  run/metering, in the scheduler process.
"""

import math
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

from kmq.run.pressure import Resource

#: What one look finds. sizes: of disks in bytes or inodes, for thresholds that follow them.
Figures = dict[Resource, float]

#: Bytes of the longest file that is read.
_SHORT = 1 << 14

#: Seconds beyond the interval after which a look that has not come back counts as no answer.
_LATE = 10.0


class Disk:
    """One file system, by a folder on it. sizes: of it, as the last look found."""

    def __init__(self, folder: str, space: Resource, inodes: Resource) -> None:
        self.folder = folder
        self.sizes: Figures = {}
        self._space, self._inodes = space, inodes

    def look(self) -> Figures:
        """Bytes and inodes that are free for us. A file system that counts no inodes never lacks them."""
        room = os.statvfs(self.folder)
        self.sizes = {self._space: room.f_blocks * room.f_frsize, self._inodes: room.f_files}
        found: Figures = {self._space: room.f_bavail * room.f_frsize}
        if room.f_files:
            found[self._inodes] = room.f_favail
        return found


class Memory:
    """That of our processes, and the machine's. What a child was born with is its parent's (run/birth): as much as the
    parent had when the child was seen first, or less since; what the parent gets later is no child's."""

    def __init__(self) -> None:
        self._born: dict[int, int] = {}

    def look(self) -> Figures:
        """Percent of the memory that we may have that our processes have for themselves, and of the machine's that is
        not available to anybody."""
        total, available = _meminfo()
        parent, *children = _family()
        own = first = _private(parent)
        self._born = {child: min(first, self._born.get(child, first)) for child in children}
        own += sum(max(0, _private(child) - born) for child, born in self._born.items())
        return {
            Resource.OWN_MEMORY: 100 * own / min(total, allowed()),
            Resource.SYSTEM_MEMORY: 100 * (total - available) / total,
        }


def _meminfo() -> tuple[int, int]:
    """Bytes: of all memory, and of what is available without swapping (proc_meminfo(5))."""
    found = {}
    for line in _text("/proc/meminfo").splitlines():
        name, _, rest = line.partition(":")
        if name in ("MemTotal", "MemAvailable"):
            found[name] = int(rest.split()[0]) << 10
    return found["MemTotal"], found["MemAvailable"]


def allowed(proc: str = "/proc/self/cgroup", root: str = "/sys/fs/cgroup") -> float:
    """Bytes that the service manager (MemoryMax=) or a container lets us have: the least limit from our own cgroup up
    to the root (cgroups(7), version 2); infinite when none says anything."""
    try:
        path = _text(proc).partition("0::")[2].split("\n")[0].strip("/")
    except OSError:
        return math.inf
    folders = [Path(root, path), *Path(root, path).parents]
    return min((_limit_in(folder) for folder in folders if folder.is_relative_to(root)), default=math.inf)


def _limit_in(folder: Path) -> float:
    try:
        text = _text(f"{folder}/memory.max").strip()
    except OSError:
        return math.inf
    return int(text) if text.isdecimal() and int(text) else math.inf


def _family() -> list[int]:
    """The supervisor, which began us, and all that it began; where the kernel does not tell of those, we alone."""
    parent = os.getppid()
    try:
        children = _text(f"/proc/{parent}/task/{parent}/children").split()
    except OSError:
        return [os.getpid()]
    return [parent, *map(int, children)] if str(os.getpid()) in children else [os.getpid()]


def _private(pid: int) -> int:
    """Bytes of memory that a process shares with no file; 0 when it is gone."""
    try:
        resident, shared = map(int, _text(f"/proc/{pid}/statm").split()[1:3])
    except OSError:
        return 0
    return (resident - shared) * os.sysconf("SC_PAGE_SIZE")


def _text(path: str) -> str:
    """What the kernel says in a short file. As long as kmqd rests, this is much of what it does: so it is read in half
    the time, and not by an object that reads ahead."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(fd, _SHORT).decode("ascii")
    finally:
        os.close(fd)


class Probe:
    """One look, made again and again. name: what is looked at, for people."""

    def __init__(self, name: str, look: Callable[[], Figures], interval: float) -> None:
        self.name = name
        self.interval = interval
        self._look = look
        self._found: tuple[Figures, float] = {}, time.monotonic()
        self._asked = threading.Event()
        self._asked.set()
        self._ended = False
        threading.Thread(target=self._run, name=f"gauge {name}", daemon=True).start()

    def _run(self) -> None:
        while self._asked.wait() and not self._ended:
            self._asked.clear()
            try:
                found = self._look()
            except (OSError, ValueError, KeyError):
                found = {}
            self._found = found, time.monotonic()

    def figures(self, now: float) -> Figures:
        """The last ones, as long as they are not old; and looks again, for who asks next: while nobody asks, nothing
        is looked at."""
        self._asked.set()
        found, at = self._found
        return found if now - at <= self.interval + _LATE else {}

    def silent(self, now: float) -> bool:
        """Whether it hangs."""
        return now - self._found[1] > self.interval + _LATE

    def end(self) -> None:
        self._ended = True
        self._asked.set()
