"""Who lives, what everybody does, and what the dead died on: the reading of status files.

Promise:  reading asks nobody and disturbs nobody. A file that is torn, stale, cut off, garbage or gone is a reading
          too: it says "unknown" and why; no exception comes of what a file holds.
On crash: read-only.
Callers:  kmq.admin and kmq.view; the scheduler process, when a worker is dead (`last_words`).
"""

import os
import re
import time
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

import msgspec

from kmq.model import moment
from kmq.model.envelope import unseal
from kmq.spool.lock import held
from kmq.spool.status import LINE, InHand, Process, boot_id, lock_path, status_path

#: A process that lives and has not beaten for so many seconds stands still: two beats of one at rest, and some more.
SILENT_AFTER = 12.0

#: No process has more messages in hand; what is longer is no status file of ours.
_LINES = 4096

_ATTEMPTS = 5

_NAME = re.compile(r"([a-z]+)-([0-9]{1,6})\.(?:status|([0-9TZ.-]+)\.dead)")

_decode_process = msgspec.json.Decoder(Process).decode
_decode_in_hand = msgspec.json.Decoder(InHand).decode


class Condition(Enum):
    """How a process is."""

    RUNNING = "running"  #: lives and beats
    SILENT = "silent"  #: lives, but its loop stands still
    DEAD = "dead"  #: left this file behind
    UNKNOWN = "unknown"  #: the file does not say


@dataclass(slots=True)
class ProcessStatus:
    """One status file, read.

    name:       `worker-1`.
    trouble:    why the condition is unknown, or which lines could not be read; "" when all is well.
    started, beat: Unix time, 0 when unknown; silence: seconds since the last beat (of a dead process: until now).
    same_boot:  the machine has not been started anew since.
    in_hand:    the messages it has, or had when it died.
    lost:       how many writes of this file failed.
    """

    name: str
    path: Path
    condition: Condition
    trouble: str = ""
    role: str = ""
    n: int = 0
    pid: int = 0
    started: float = 0.0
    beat: float = 0.0
    silence: float = 0.0
    same_boot: bool = False
    lost: int = 0
    counters: dict[str, int] = field(default_factory=dict)
    in_hand: list[InHand] = field(default_factory=list)


def read(path: Path) -> ProcessStatus:
    """What one status file (or `.dead` file) says. Never an exception."""
    name = path.name.split(".", 1)[0]
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        return ProcessStatus(name, path, Condition.UNKNOWN, f"cannot be read: {error.strerror}")
    try:
        return _read(fd, name, path)
    except OSError as error:
        return ProcessStatus(name, path, Condition.UNKNOWN, f"cannot be read: {error.strerror}")
    finally:
        os.close(fd)


def read_all(folder: Path, dead: bool = True) -> list[ProcessStatus]:
    """All status files of a spool's status/ folder, by role and number; with those of dead processes set aside."""
    try:
        names = os.listdir(folder)
    except OSError:
        return []
    found = []
    for name in names:
        match = _NAME.fullmatch(name)
        if match and (dead or not match[3]):
            found.append((match[1], int(match[2]), match[3] or "", name))
    return [read(folder / name) for _, _, _, name in sorted(found)]


def last_words(folder: Path, role: str, n: int, pid: int) -> ProcessStatus | None:
    """The status file of the process that was `pid`, whether or not its successor has set it aside already."""
    name = f"{role}-{n}"
    dead = sorted(folder.glob(f"{name}.*.dead"), reverse=True)
    for path in [status_path(folder, name), *dead]:
        status = read(path)
        if status.pid == pid:
            return status
    return None


def _read(fd: int, name: str, path: Path) -> ProcessStatus:
    lines = os.pread(fd, LINE * _LINES, 0)
    first = _line(fd, lines, 0)
    process = _process(first)
    if process is None:
        return ProcessStatus(name, path, Condition.UNKNOWN, "the file is empty, cut off or damaged")
    status = _of(process, name, path)
    unread = 0
    for at in range(LINE, len(lines), LINE):
        text = _line(fd, lines, at)
        hand = _in_hand(text)
        if hand is not None:
            status.in_hand.append(hand)
        elif text is None or text:
            unread += 1
    if unread:
        status.trouble = f"{unread} lines are damaged: what it had in hand is not all known"
    return status


def _of(process: Process, name: str, path: Path) -> ProcessStatus:
    status = ProcessStatus(name, path, Condition.UNKNOWN, role=process.role, n=process.n, pid=process.pid)
    status.started, status.beat = _unix(process.started), _unix(process.beat)
    status.counters, status.lost = process.counters, process.lost
    status.same_boot = process.boot == boot_id()
    since = time.monotonic() - process.clock if status.same_boot else time.time() - status.beat
    status.silence = max(0.0, since)
    status.condition = _condition(status)
    if status.condition is Condition.UNKNOWN:
        status.trouble = "its lock cannot be read, so nobody can say whether it lives"
    return status


def _condition(status: ProcessStatus) -> Condition:
    if status.path.suffix == ".dead":
        return Condition.DEAD
    lives = held(lock_path(status.path.parent, status.name))
    if lives is None:
        return Condition.UNKNOWN
    if not lives:
        return Condition.DEAD
    return Condition.RUNNING if status.silence < SILENT_AFTER else Condition.SILENT


def _line(fd: int, lines: bytes, at: int) -> bytes | None:
    """The JSON of the line at `at`, b"" for a free slot, None when it is damaged.

    A line that is being written while we read it looks damaged: it is read again.
    """
    line = lines[at : at + LINE]
    for _ in range(_ATTEMPTS):
        bare = line.strip(b" \n\0")
        if not bare:
            return b""
        text = unseal(bare)
        if text is not None:
            return text
        time.sleep(0.001)
        line = os.pread(fd, LINE, at)
    return None


def _process(text: bytes | None) -> Process | None:
    try:
        return _decode_process(text) if text else None
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None


def _in_hand(text: bytes | None) -> InHand | None:
    try:
        return _decode_in_hand(text) if text else None
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None


def _unix(text: str) -> float:
    try:
        return moment.from_text(text)
    except ValueError:
        return 0.0
