"""Status files: what each process does now, and what a dead one died on.

Shape:    `status/<role>-<n>.status`, fixed lines of 512 bytes: space-padded JSON with a checksum, as in an envelope.
          Line 0 is the process, then one line per message in its hands; a blank line is a free slot.
Promise:  a phase on local bytes is in the file before it begins, but the first: what kills a process stands in its
          file, or was taken in hand since the last `flush` and is in Executing yet. All else follows within a `flush`.
          A full or broken disk is counted (`lost`) and hinders nobody. When more than its beat has changed, the file's
          times are set (`stir`, spool/bell): who watches need not look each second.
On crash: the file stays and the lock beside it (`<role>-<n>.lock`) is free: that is how one knows. The next process
          of the name sets it aside as `<role>-<n>.<time>.dead`; ten of them are kept.
Callers:  every process of kmqd writes its own; kmq.spool.processes reads.
"""

import contextlib
import os
import time
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path

import msgspec

from kmq.errors import SpoolLocked
from kmq.model.envelope import seal
from kmq.model.moment import as_text
from kmq.model.phase import LOCAL_BYTES, Phase
from kmq.spool.lock import Lock

LINE = 512
BLANK = b" " * (LINE - 1) + b"\n"

#: Seconds between two beats of the process line.
BEAT = 1.0

#: Seconds that a new process waits for the lock of its name.
PATIENCE = 2.0

#: Status files of dead processes that are kept, for each name.
KEPT_DEAD = 10

#: Statuses in which a process works on bytes of this machine alone, so that the message may be what kills it.
LOCAL_STATUS = frozenset(phase.value for phase in LOCAL_BYTES)


class InHand(msgspec.Struct, gc=False):
    """One message in a process's hands; the columns of `kmq processes`.

    size: bytes of the body; since: RFC 3339; percent: of the body sent; server: only while it is sent by SMTP.
    """

    id: str = ""
    size: int = 0
    sender: str = msgspec.field(default="", name="from")
    to: str = ""
    status: str = ""
    server: str = ""
    since: str = ""
    percent: int = 0


class Process(msgspec.Struct):
    """Line 0. boot: the kernel's boot ID; clock: CLOCK_MONOTONIC at the beat, comparable within one boot.

    lost: writes of this file that failed.
    """

    role: str
    n: int
    pid: int
    boot: str
    started: str
    beat: str = ""
    clock: float = 0.0
    lost: int = 0
    counters: dict[str, int] = {}


_EXECUTING = Phase.EXECUTING.text
_encode = msgspec.json.Encoder().encode
_SEAL = len(seal(b"{}")) - len(b"{}")


@cache
def boot_id() -> str:
    """The kernel's name for this boot."""
    return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()


def addressees(addresses: Iterable[str]) -> str:
    """Recipients for the To column: joined, and cut at a whole address when they are many."""
    out: list[str] = []
    room = 130
    for address in addresses:
        if room < len(address) and out:
            return ", ".join(out) + ", ..."
        out.append(address)
        room -= len(address) + 2
    return ", ".join(out)


class StatusFile:
    """The status file of this process.

    counters: name -> count, shown with the process; the owner changes it at will. lost: writes that failed.
    on_change: called once when there is something to show, until the next `flush`. stirred_at: when something changed
    last that others look at, monotonic (spool/rhythm).
    """

    def __init__(self, folder: Path, role: str, n: int) -> None:
        """Sets a dead predecessor's file aside and begins a new one; SpoolLocked when the predecessor lives."""
        self.counters: dict[str, int] = {}
        self.lost = 0
        self.on_change: Callable[[], None] = lambda: None
        self._folder = folder
        self._name = f"{role}-{n}"
        self._process = Process(role, n, os.getpid(), boot_id(), as_text(time.time()))
        self._lines: list[InHand] = []
        self._begun: list[float] = []
        self._shown: list[str] = []  # statuses that the file has for these messages; "" for none
        self._filled: set[int] = set()  # slots whose line in the file is some message, or not known
        self._free: list[int] = []
        self._dirty: set[int] = set()
        self._beaten = 0.0
        self._stirred = True
        self.stirred_at = time.monotonic()
        self._told: dict[str, int] = {}
        self._lock: Lock | None = None
        self._fd = -1
        try:
            self._open(PATIENCE)
        except OSError:
            self.lost += 1
        self._beat(time.monotonic())

    def begin(self, queue_id: str, size: int, sender: str, to: str) -> int:
        """A message is taken in hand: its slot. It is in Executing.

        Most mail goes from there into the network in the same turn of the loop, so it is not worth a write: a message
        that we have, and that our file does not show, counts as being in Executing (run.deaths).
        """
        slot = self._free.pop() if self._free else self._new_slot()
        self._lines[slot] = InHand(queue_id, size, sender, to, _EXECUTING)
        self._begun[slot] = time.time()
        self._shown[slot] = ""
        self._dirty.add(slot)
        if not self._stirred:
            self.stir()
        return slot

    def enter(self, slot: int, phase: Phase) -> None:
        """The message goes into a phase; written at once when it may be the message that kills us there."""
        status = phase.text
        self._lines[slot].status = status
        if status in LOCAL_STATUS and self._shown[slot] not in LOCAL_STATUS:
            self._write_slot(slot)
        else:
            self._dirty.add(slot)
        if not self._stirred:
            self.stir()

    def show(self, slot: int, server: str, percent: int) -> None:
        """Where the message is sent to, and how much of it is."""
        line = self._lines[slot]
        line.server = server
        line.percent = percent
        self._dirty.add(slot)
        if not self._stirred:
            self.stir()

    def end(self, slot: int) -> None:
        """The message is out of our hands; the slot may be used again at once."""
        self._lines[slot].id = ""
        self._dirty.add(slot)
        self._free.append(slot)
        if not self._stirred:
            self.stir()

    def flush(self) -> None:
        """Writes what changed, and once a second the process line. To be called ten times a second while there is mail
        in hand, and now and then while there is none."""
        now = time.monotonic()
        if now - self._beaten >= BEAT:
            self._beat(now)
        dirty, self._dirty = self._dirty, set()
        for slot in dirty:
            self._write_slot(slot)
        if self._stirred:
            self.stirred_at = now
            self._ring()

    def stir(self) -> None:
        """Something has changed that others look at, here or elsewhere: the next `flush` rings (spool/bell)."""
        self._stirred = True
        self.on_change()

    def close(self) -> None:
        """A process that ends in order leaves no status file; its lock file stays, free."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
            with contextlib.suppress(OSError):  # gone already, or the disk no longer answers: nobody waits for this
                status_path(self._folder, self._name).unlink()
        if self._lock:
            self._lock.release()
            self._lock = None

    def _open(self, wait: float) -> None:
        if self._lock is None:
            self._folder.mkdir(mode=0o750, parents=True, exist_ok=True)
            self._lock = Lock(lock_path(self._folder, self._name), wait)
            set_aside(self._folder, self._name)
        self._lock.sign()
        path = status_path(self._folder, self._name)
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o640)
        self._dirty.update(range(len(self._lines)))
        self._filled.update(self._dirty)
        self._stirred = True

    def _beat(self, now: float) -> None:
        if self._fd < 0 and self._beaten:
            try:
                self._open(wait=0)
            except (OSError, SpoolLocked):
                pass  # _write counts it
        self._beaten = now
        process = self._process
        process.beat = as_text(time.time())
        process.clock = now
        process.lost = self.lost
        process.counters = self.counters
        self._write(_padded(process), 0)
        if self.counters != self._told:
            self._told = dict(self.counters)
            self._stirred = True

    def _ring(self) -> None:
        self._stirred = False
        if self._fd >= 0:
            with contextlib.suppress(OSError):  # whoever watches sees it with the next change
                os.utime(self._fd)

    def _new_slot(self) -> int:
        """Its line is there, and blank: a hole in the file would be damage to a reader."""
        slot = len(self._lines)
        self._lines.append(InHand())
        self._begun.append(0.0)
        self._shown.append("")
        self._filled.add(slot)
        self._write_slot(slot)
        return slot

    def _write_slot(self, slot: int) -> None:
        line = self._lines[slot]
        self._dirty.discard(slot)
        if line.id:
            line.since = line.since or as_text(self._begun[slot])
            self._filled.add(slot)
            if self._write(_padded(line), LINE * (slot + 1)):
                self._shown[slot] = line.status
        elif slot in self._filled and self._write(BLANK, LINE * (slot + 1)):
            self._filled.discard(slot)

    def _write(self, line: bytes, at: int) -> bool:
        try:
            if os.pwrite(self._fd, line, at) == LINE:
                return True
        except OSError:
            pass
        self.lost += 1
        return False


def status_path(folder: Path, name: str) -> Path:
    """The status file of `worker-1`."""
    return folder / f"{name}.status"


def lock_path(folder: Path, name: str) -> Path:
    """The lock beside it."""
    return folder / f"{name}.lock"


def set_aside(folder: Path, name: str) -> Path | None:
    """Keeps the file that a dead process left, as `<name>.<time of its last word>.dead`; the oldest beyond ten go.

    Only for who holds the lock of the name; None when there is nothing.
    """
    left = status_path(folder, name)
    try:
        spoken = left.stat().st_mtime
    except FileNotFoundError:
        return None
    kept = folder / f"{name}.{as_text(spoken).replace(':', '')}.dead"
    left.rename(kept)
    for oldest in sorted(folder.glob(f"{name}.*.dead"))[:-KEPT_DEAD]:
        oldest.unlink(missing_ok=True)
    return kept


def _padded(line: InHand | Process) -> bytes:
    """The 512 bytes of a line; what is too long is cut."""
    text = seal(_encode(line))
    if len(text) >= LINE:
        text = seal(_encode(_shortened(line)))
    return text[: LINE - 1].ljust(LINE - 1) + b"\n"


def _shortened(line: InHand | Process) -> InHand | Process:
    """A copy that fits: addresses cut at a character, counters beyond the room left out."""
    if isinstance(line, InHand):
        return msgspec.structs.replace(
            line, sender=cut(line.sender, 100), to=cut(line.to, 130), server=cut(line.server, 70)
        )
    counters = dict(line.counters)
    while counters and len(_encode(line)) + _SEAL >= LINE:
        counters.popitem()
        line = msgspec.structs.replace(line, counters=counters)
    return line


def cut(text: str, room: int) -> str:
    """Text whose JSON has at most `room` bytes, cut at a character with `...`."""
    if len(_encode(text)) <= room:
        return text
    while len(_encode(text)) > room - 3:
        text = text[: -1 - len(text) // 8]
    return text + "..."
