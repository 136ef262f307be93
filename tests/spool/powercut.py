"""The power goes, on a real file system: before every operation of a spool's life, and of the recovery after it.

What:     an image of ext4 (or xfs) on a loop device; a child process leads a spool on it, and at operation k shuts the
          file system down as a power cut would (FS_IOC_SHUTDOWN) and is gone. The image is mounted again, which replays
          the file system's own log; recovery runs, and the ledger of what was told, kept outside, judges.
          flag 2: what the file system had not logged is lost; 1: its log is flushed first, data is not; 0: all is.
Promise:  whatever happens, no mount and no loop device outlives this process: it has a mount namespace of its own.
Use:      python -m tests.spool.powercut --help, as root
"""

import argparse
import ctypes
import fcntl
import itertools
import os
import pickle
import shutil
import struct
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from kmq.spool.checkpoint import Note
from kmq.spool.disk import Disk
from tests.spool import stories
from tests.spool.ledger import Ledger
from tests.spool.life import Life, recover
from tests.spool.mutants import MUTANTS

FS_IOC_SHUTDOWN = (2 << 30) | (4 << 16) | (ord("X") << 8) | 125
CLONE_NEWNS, MS_REC, MS_PRIVATE = 0x20000, 0x4000, 1 << 18
MAKE = {"ext4": ("mkfs.ext4", "-q", "-F", "-b", "4096", "-J", "size=4"), "xfs": ("mkfs.xfs", "-q", "-f")}
#: The loop device has no cache of its own that a barrier would flush.
OPTIONS = {"ext4": b"barrier=0", "xfs": None}
SIZE = {"ext4": 16 << 20, "xfs": 300 << 20}
ENDED, CUT = 0, 99

_libc = ctypes.CDLL(None, use_errno=True)


class CutDisk(Disk):
    """Counts every operation, and pulls the plug before number `cut`. last_words: called just before."""

    def __init__(self, root: Path, cut: int, flag: int, last_words: Callable[[], None] = lambda: None) -> None:
        super().__init__(root)
        self.count, self.cut, self.flag, self.last_words = 0, cut, flag, last_words

    def _operation(self) -> None:
        self.count += 1
        if self.count == self.cut:
            self.pull()

    def pull(self) -> None:
        self.last_words()
        shut_down(self.fd, self.flag)
        os._exit(CUT)


def _counted(name: str) -> Callable[..., object]:
    operation = getattr(Disk, name)

    def before(self: CutDisk, *given: object) -> object:
        self._operation()
        return operation(self, *given)

    return before


#: sync_folder calls sync, and is counted there.
OPERATIONS = (
    *("create", "write", "write_at", "append", "datasync", "sync", "sync_all"),
    *("rename", "link", "unlink", "make_folder", "remove_folder"),
)
for _name in OPERATIONS:
    setattr(CutDisk, _name, _counted(_name))


def shut_down(fd: int, flag: int) -> None:
    fcntl.ioctl(fd, FS_IOC_SHUTDOWN, struct.pack("I", flag))


class RealLife(Life):
    """A life on a real disk; receivers and whoever drops files use the same one."""

    def __init__(self, disk: Disk, note: Note, ledger: Ledger) -> None:
        self.ledger, self.kind, self.random = ledger, "journal", Random(1)
        self.disk = self.outside = disk  # type: ignore[assignment]
        self.start(disk, note)


class Image:
    """A file system in a file on a loop device."""

    def __init__(self, folder: Path, kind: str, size: int = 0) -> None:
        self.kind = kind
        self.mount_point = folder / "mount"
        self.mount_point.mkdir()
        self.spool = self.mount_point / "spool"
        self.note = Note(str(folder / "note"))
        file = folder / "image"
        with file.open("wb") as image:
            image.truncate(size or SIZE[kind])
        subprocess.run([*MAKE[kind], str(file)], check=True, capture_output=True)
        found = subprocess.run(["losetup", "--find", "--show", str(file)], check=True, capture_output=True, text=True)
        self.device = found.stdout.strip()
        self.fd = os.open(self.device, os.O_RDONLY | os.O_CLOEXEC)
        subprocess.run(["losetup", "--detach", self.device], check=True)  # as soon as nobody has it open any more

    def mount(self) -> None:
        _call(
            _libc.mount, self.device.encode(), str(self.mount_point).encode(), self.kind.encode(), 0, OPTIONS[self.kind]
        )

    def unmount(self) -> None:
        _call(_libc.umount2, str(self.mount_point).encode(), 0)

    def power_is_back(self) -> None:
        """The page cache is gone, and so is the note about a syncfs."""
        self.unmount()
        self.note.clear()
        self.mount()


def _call(function: Callable[..., int], *given: object) -> None:
    if function(*given) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), str(given))


def own_namespace() -> None:
    """Mounts of this process are its own, and end with it."""
    _call(_libc.unshare, CLONE_NEWNS)
    _call(_libc.mount, b"none", b"/", None, MS_REC | MS_PRIVATE, None)


# --- what children do ------------------------------------------------------------------------------------------------

Say = Callable[[object], None]


def in_child(work: Callable[[Say], None]) -> object:
    """The last thing that `work` says in a process of its own."""
    fd = os.memfd_create("words")

    def say(words: object) -> None:
        os.pwrite(fd, pickle.dumps(words), 0)

    pid = os.fork()
    if pid == 0:
        try:
            work(say)
        except BaseException:
            say(Failed(traceback.format_exc()))
        os._exit(ENDED)
    os.waitpid(pid, 0)
    text = os.pread(fd, 1 << 26, 0)
    os.close(fd)
    words = pickle.loads(text)
    if isinstance(words, Failed):
        raise AssertionError(words.trace)
    return words


@dataclass
class Failed:
    """A child met what it should not."""

    trace: str


@dataclass
class Left:
    """What a life leaves: how many operations it came to, whether it came to its end, and what it had told."""

    count: int
    ended: bool
    ledger: Ledger


def lead(image: Image, cut: int, flag: int) -> Left:
    """A life up to its operation `cut`; the power goes there, or at its end."""

    def before(say: Say) -> None:
        ledger = Ledger()
        stories.before(RealLife(Disk(image.spool), image.note, ledger))
        say(ledger)

    def cut_short(say: Say) -> None:
        disk = CutDisk(image.spool, cut, flag)
        disk.last_words = lambda: say(Left(disk.count, disk.count != cut, ledger))
        stories.everything(RealLife(disk, image.note, ledger))
        disk.pull()

    shutil.rmtree(image.spool, ignore_errors=True)
    image.spool.mkdir()
    ledger = in_child(before)
    assert isinstance(ledger, Ledger)
    left = in_child(cut_short)
    assert isinstance(left, Left)
    return left


def stop_recovery(image: Image, cut: int, flag: int) -> bool:
    """Recovery up to its operation `cut`, where the power goes again; True when it ended before."""

    def cut_short(say: Say) -> None:
        disk = CutDisk(image.spool, cut, flag, lambda: say(False))
        recover(disk, image.note, Ledger())
        say(True)

    return bool(in_child(cut_short))


def judge(image: Image, ledger: Ledger) -> list[str]:
    """What recovery makes of it."""

    def judged(say: Say) -> None:
        disk = Disk(image.spool)
        recovered, _ = recover(disk, image.note, ledger)
        say(ledger.judge(disk, recovered))

    found = in_child(judged)
    assert isinstance(found, list)
    return found


# --- the sweep -------------------------------------------------------------------------------------------------------


@dataclass
class Sweep:
    """cuts: power cuts so far; broken: sentences, each with the way that led to it. first: one of these will do."""

    image: Image
    first: bool = False
    cuts: int = 0
    broken: list[str] = field(default_factory=list)

    def run(self, flag: int, again: Callable[[int], Iterable[int]], step: int = 1) -> int:
        """Each `step`th operation of the life, then those of recovery that `again` names for it; -> operations."""
        for count in itertools.count(1, step):
            left = self.case(flag, count, 0)
            for stop in again(count):
                if self.case(flag, count, stop) is None:
                    break
            if left is None or left.ended or (self.first and self.broken):
                break
        return count

    def case(self, flag: int, cut: int, stop: int) -> Left | None:
        """One power cut, or two; None when recovery had ended before its cut."""
        way = f"flag {flag}, operation {cut}" + (f", then operation {stop} of recovery" if stop else "")
        self.image.mount()
        try:
            left = lead(self.image, cut, flag)
            self.image.power_is_back()
            ledger = left.ledger.after_cut()
            if stop and stop_recovery(self.image, stop, flag):
                return None
            if stop:
                self.image.power_is_back()
            self.cuts += 1
            self.broken += [f"{way}: {sentence}" for sentence in judge(self.image, ledger)]
            return left
        finally:
            self.image.unmount()


def once_in_six(cut: int) -> Iterable[int]:
    """The short form: recovery is cut again after every sixth operation, each time at another one of its own."""
    return () if cut % 6 else (1 + cut * 7 % 60,)


def everywhere(cut: int) -> Iterable[int]:
    """The full form."""
    return itertools.count(1)


def wander(sweep: Sweep, seconds: float, seed: int) -> None:
    """Operations of the life and of recovery at random."""
    rng, end = Random(seed), time.monotonic() + seconds
    while time.monotonic() < end and not sweep.broken:
        sweep.case(rng.choice((2, 2, 1, 0)), rng.randrange(1, 160), rng.randrange(1, 80))


def main() -> int:
    parser = argparse.ArgumentParser(description="Power cuts at every operation of a spool.")
    parser.add_argument("--flags", default="210", help="which kinds of loss")
    parser.add_argument("--fs", default="ext4", choices=sorted(MAKE))
    parser.add_argument("--step", type=int, default=1, help="every so many operations")
    parser.add_argument("--full", action="store_true", help="every operation of recovery too")
    parser.add_argument("--random", type=float, default=0, metavar="SECONDS", help="operations of both at random")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--mutant", default="", help="without this rule (see mutants.py)")
    parser.add_argument("--first", action="store_true", help="end at the first broken promise")
    chosen = parser.parse_args()
    if chosen.mutant:
        next(one for one in MUTANTS if one.rule == chosen.mutant).apply(setattr)
    own_namespace()
    began = time.monotonic()
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.path.isdir("/dev/shm") else None) as folder:
        sweep = Sweep(Image(Path(folder), chosen.fs), chosen.first)
        if chosen.random:
            wander(sweep, chosen.random, chosen.seed)
        for flag in map(int, "" if chosen.random else chosen.flags):
            sweep.run(flag, everywhere if chosen.full else once_in_six, chosen.step)
        print(f"{chosen.fs}: {sweep.cuts} power cuts, {time.monotonic() - began:.0f} s")
    print(*sweep.broken[:20], f"{len(sweep.broken)} broken promises", sep="\n")
    return 1 if sweep.broken else 0


if __name__ == "__main__":
    sys.exit(main())
