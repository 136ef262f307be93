"""The machine: its clock, what the kernel allows, the programs that kmq is made of; and how kmqd itself does.

Promise:  looks only.
Callers:  admin.doctor.
"""

import ctypes
import os
import platform
import resource
import ssl
import sys
from collections.abc import Iterator, Mapping
from importlib import metadata
from pathlib import Path

from kmq import __version__
from kmq.admin.circumstances import hidden
from kmq.admin.verdict import Grade, Verdict
from kmq.config import Settings
from kmq.model import queue_id
from kmq.spool.processes import Condition, read_all

#: adjtimex(2): the clock is not synchronized.
_TIME_ERROR = 5
_LIBRARIES = ("aiosmtpd", "aiosmtplib", "dnspython", "filelock", "msgspec", "uvloop", "watchdog")
#: Descriptors that a process needs beside its connections.
_OTHER_FILES = 200
_WATCHES, _INSTANCES = 16, 4


def examine(settings: Settings) -> Iterator[Verdict]:
    """The clock, limits, versions."""
    yield clock()
    yield from files(settings)
    yield from inotify()
    yield versions()


def clock() -> Verdict:
    """Whether something keeps the clock right: times of mail, retries, certificates and IDs depend on it."""
    state = _adjtimex()
    if state is None:
        return Verdict(Grade.NOTE, "whether the clock is synchronized, this system does not say")
    if state == _TIME_ERROR:
        return Verdict(Grade.NOTE, "nothing keeps the clock right", "run chrony, ntpd or systemd-timesyncd")
    return Verdict(Grade.GOOD, "the clock is kept right")


def _adjtimex() -> int | None:
    """The state of the clock; None where the kernel or the C library does not tell."""
    call = getattr(ctypes.CDLL(None, use_errno=True), "adjtimex", None)
    if call is None:
        return None
    state: int = call(ctypes.create_string_buffer(512))  # struct timex, modes = 0: only asks
    return state if state >= 0 else None


def files(settings: Settings) -> Iterator[Verdict]:
    """Open files that a process may have: a session is one, and so is a connection out."""
    sessions = sum(receiver.sessions for receiver in settings.receivers)
    needed = max(sessions, settings.queue.per_hop * max(1, len(settings.connectors))) + _OTHER_FILES
    allowed, whose = _file_limit(settings)
    if allowed < needed:
        remedy = f"LimitNOFILE={max(65536, needed)} in kmq.service, or ulimit -n"
        yield Verdict(Grade.NOTE, f"{allowed:,} open files {whose}; the configuration may need {needed:,}", remedy)
    else:
        yield Verdict(Grade.GOOD, f"{allowed:,} open files {whose}, {needed:,} may be needed")


def _file_limit(settings: Settings) -> tuple[int, str]:
    """kmqd's, when it runs and may be looked at; else what a kmqd that is started here could raise it to."""
    for process in read_all(settings.kmq.spool / "status", dead=False):
        if process.condition in (Condition.RUNNING, Condition.SILENT):
            try:
                text = Path(f"/proc/{process.pid}/limits").read_text("ascii")
            except OSError:
                continue
            for line in text.splitlines():
                if line.startswith("Max open files"):
                    soft = line.split()[3]
                    return sys.maxsize if soft == "unlimited" else int(soft), "for the kmqd that runs"
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    return sys.maxsize if hard == resource.RLIM_INFINITY else hard, "for programs of this user"


def inotify() -> Iterator[Verdict]:
    """Whether the kernel tells of dropped files; without it they are found by looking, some seconds later."""
    folder = Path("/proc/sys/fs/inotify")
    try:
        watches = int((folder / "max_user_watches").read_text())
        instances = int((folder / "max_user_instances").read_text())
    except (OSError, ValueError):
        yield Verdict(Grade.NOTE, "no inotify: dropped files are found by looking every few seconds")
        return
    if watches < _WATCHES or instances < _INSTANCES:
        remedy = "sysctl fs.inotify.max_user_instances=128 fs.inotify.max_user_watches=65536"
        text = f"inotify allows {instances} instances and {watches} watches: dropped files may be found seconds later"
        yield Verdict(Grade.NOTE, text, remedy)
    else:
        yield Verdict(Grade.GOOD, f"inotify: {instances:,} instances, {watches:,} watches")


def versions() -> Verdict:
    """What to write into a report about a trouble."""
    libraries = []
    for name in _LIBRARIES:
        try:
            libraries.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            continue  # not needed by this version
    text = f"kmq {__version__}, Python {platform.python_version()}, {ssl.OPENSSL_VERSION}, {', '.join(libraries)}"
    return Verdict(Grade.GOOD, f"{text}; Linux {platform.release()}")


# --- kmqd -------------------------------------------------------------------------------------------------------------


def kmqd(settings: Settings) -> Iterator[Verdict]:
    """How the processes do, and what waits for somebody to look at it."""
    if hidden(settings.kmq.spool):
        yield Verdict(Grade.NOTE, "what kmqd's processes do, this user may not see", "ask as root or as kmqd's user")
        return
    statuses = read_all(settings.kmq.spool / "status")
    for one in statuses:
        if one.condition is Condition.SILENT:
            remedy = "kmqd ends it when it stands still for too long; kmq processes shows what it has in hand"
            yield Verdict(Grade.WRONG, f"{one.name} stands still for {one.silence:.0f} s", remedy)
        lost = one.counters.get("log_lines_lost", 0)
        if lost and one.condition is not Condition.DEAD:
            text = f"{one.name} could not write {lost:,} lines of its log"
            yield Verdict(Grade.NOTE, text, "see whether the log's disk is full, or its reader too slow")
    dead = [one for one in statuses if one.condition is Condition.DEAD and one.path.suffix == ".dead"]
    if dead:
        names = ", ".join(sorted({one.name for one in dead}))
        text = f"{len(dead)} processes died and were begun again: {names}"
        yield Verdict(Grade.NOTE, text, "kmq processes shows what they had in hand, the log what they died of")
    for one in statuses:
        if one.role == "scheduler" and one.condition is Condition.RUNNING:
            yield from held_back(one.counters)
    yield from _poison(settings.kmq.spool / "poison")


def held_back(counters: Mapping[str, int]) -> Iterator[Verdict]:
    """What kmqd does not do by itself any more, or not as it would; counters: of its scheduler process."""
    level = counters.get("back_pressure", 0)
    if level:
        grade, word = (Grade.WRONG, "high") if level > 1 else (Grade.NOTE, "medium")
        text = f"back pressure is {word}: kmqd runs short of something, and takes in less mail or none"
        yield Verdict(grade, text, "kmq pressure shows what it lacks")
    holds = counters.get("grace_holds", 0)
    if holds:
        queues = "a queue is held (grace hold): its" if holds == 1 else f"{holds:,} queues are held (grace hold): their"
        text = f"{queues} mail fails for good for a cause that is likely our own fault"
        yield Verdict(Grade.WRONG, text, "kmq queues names the cause; mend it, then kmq resume --queue Q")
    if counters.get("expiry_stopped", 0):
        text = "expiry is stopped: too many messages would have been given up at once"
        yield Verdict(Grade.WRONG, text, "kmq expire --what-if counts them, kmq expire lets them be given up")


def _poison(folder: Path) -> Iterator[Verdict]:
    try:
        names = {name.partition(".")[0] for name in os.listdir(folder)}
    except OSError:
        return
    count = sum(queue_id.PATTERN.fullmatch(name) is not None for name in names)
    if count:
        remedy = "kmq poison list shows why, kmq poison test runs a phase again, kmq resume tries them once more"
        yield Verdict(Grade.NOTE, f"{count:,} set aside in poison/", remedy)
