"""The spool's disk: what it is, how it is mounted, how fast a sync is; and who may do what in the spool.

Promise:  writes one file without a name, and syncs it; nothing of it is left, whatever happens.
Callers:  admin.doctor.
"""

import os
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from pwd import getpwuid
from typing import NamedTuple

from kmq.admin.verdict import Grade, Verdict
from kmq.config import Settings
from kmq.run import listeners
from kmq.spool.layout import FOLDERS

#: Options of a mount with which a sync promises less than kmq needs.
_LOOSE = frozenset({"nobarrier", "barrier=0", "data=writeback", "norecovery", "nolog"})
#: Seconds of a sync above which each message is felt.
_SLOW = 0.1
_SYNCS = 5


def examine(settings: Settings) -> Iterator[Verdict]:
    """The disk, then permissions."""
    root = settings.kmq.spool
    if not root.is_dir():
        return  # kmq check has said so
    yield from _mount(root)
    yield from _sync(root)
    yield from permissions(settings)


class Mount(NamedTuple):
    """A line of proc_pid_mountinfo(5)."""

    point: str
    kind: str
    options: tuple[str, ...]


def mount_of(path: Path, text: str) -> Mount | None:
    """The mount that a path lies on, by the text of mountinfo; None when it does not say."""
    wanted = os.stat(path).st_dev
    device = f"{os.major(wanted)}:{os.minor(wanted)}"
    found = None
    for line in text.splitlines():
        fields, _, rest = line.partition(" - ")
        columns, source = fields.split(" "), rest.split(" ")
        if len(columns) >= 6 and len(source) >= 3 and columns[2] == device:
            point = columns[4].encode().decode("unicode_escape")
            inside = path == Path(point) or Path(point) in path.parents
            if found is None or (inside and len(point) > len(found.point)):
                found = Mount(point, source[0], (*columns[5].split(","), *source[2].split(",")))
    return found


def _mount(root: Path) -> Iterator[Verdict]:
    try:
        found = mount_of(root.resolve(), Path("/proc/self/mountinfo").read_text("utf-8", "replace"))
    except OSError as error:
        found = None
        yield Verdict(Grade.NOTE, f"how {root} is mounted cannot be seen: {error.strerror}")
    if found is None:
        return
    loose = sorted(_LOOSE & set(found.options))
    shown = ",".join(dict.fromkeys(found.options))
    if loose:
        remedy = f"mount it without {', '.join(loose)}: a power cut may lose mail that was acknowledged"
        yield Verdict(Grade.WRONG, f"spool on {found.kind}, mounted at {found.point} with {shown}", remedy)
    elif "ro" in found.options:
        yield Verdict(Grade.WRONG, f"spool on {found.kind}, mounted at {found.point} read-only", "mount it rw")
    else:
        yield Verdict(Grade.GOOD, f"spool on {found.kind}, mounted at {found.point} ({shown})")


def _sync(root: Path) -> Iterator[Verdict]:
    try:
        took = sync_time(root)
    except OSError as error:
        yield Verdict(Grade.NOTE, f"how long a sync takes cannot be seen: {error.strerror}", "ask as kmqd's user")
        return
    text = f"a sync of the spool's disk takes {took * 1000:.1f} ms"
    if took > _SLOW:
        remedy = "each 250 waits for one: use an SSD, or a controller with a battery; see whether the disk is well"
        yield Verdict(Grade.NOTE, text, remedy)
    else:
        yield Verdict(Grade.GOOD, text)


def sync_time(root: Path) -> float:
    """Seconds that a small write and its sync take: the median of a few."""
    fd = os.open(root, os.O_TMPFILE | os.O_WRONLY | os.O_CLOEXEC, 0o600)
    try:
        took = []
        for _ in range(_SYNCS):
            began = time.monotonic()
            os.pwrite(fd, os.urandom(4096), 0)
            os.fdatasync(fd)
            took.append(time.monotonic() - began)
    finally:
        os.close(fd)
    return sorted(took)[_SYNCS // 2]


# --- who may do what --------------------------------------------------------------------------------------------------


def permissions(settings: Settings) -> Iterator[Verdict]:
    """Folders and sockets that more may be done with than kmq-spool(5) says, or that are not the owner's."""
    root, run = settings.kmq.spool, settings.kmq.run_directory
    owner = os.stat(root).st_uid
    wrong = [verdict for name, most in FOLDERS.items() for verdict in _permission(root / name, most, owner)]
    wrong += [verdict for name, most in _sockets(settings) for verdict in _permission(run / name, most, owner)]
    yield from wrong
    if not wrong:
        yield Verdict(Grade.GOOD, f"permissions of folders and sockets; all are {_name(owner)}'s")


def _sockets(settings: Settings) -> Iterator[tuple[str, int]]:
    """Sockets of the run directory, and what their modes may be at most."""
    modes = listeners.modes(settings)
    for name, key in (("queue", listeners.QUEUE), ("control", listeners.CONTROL), ("submit", listeners.SUBMIT)):
        yield f"{name}.sock", modes[key]


def _permission(path: Path, most: int, owner: int) -> Iterator[Verdict]:
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return  # not made yet
    except OSError as error:
        yield Verdict(Grade.NOTE, f"{path}: {error.strerror}", "ask as root or as kmqd's user")
        return
    mode = stat.S_IMODE(found.st_mode)
    if mode & 0o777 & ~most:
        yield Verdict(Grade.WRONG, f"{path} has mode {mode:04o}: more than {most:04o}", f"chmod {most:04o} {path}")
    if found.st_uid != owner:
        whose = f"{path} is {_name(found.st_uid)}'s, the spool {_name(owner)}'s"
        yield Verdict(Grade.WRONG, whose, f"chown {_name(owner)} {path}")


def _name(uid: int) -> str:
    try:
        return getpwuid(uid).pw_name
    except (KeyError, OverflowError):
        return f"uid {uid}"
