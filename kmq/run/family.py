"""Who belongs to a kmqd that lives: one supervisor at a time, and no child without one.

What:     locks in the run directory, which the kernel frees whatever a process dies of, and a pipe that ends with the
          supervisor.
Promise:  of any number of kmqd that start, one wins; the others end with 75. It begins only when no child of an earlier
          kmqd lives: a worker that still delivers would deliver a second time what is handed out anew. When the
          supervisor dies, its children stop in order: receivers and workers at once, and the scheduler process after
          them, since it makes their last results durable.
On crash: nothing to clean; the lock files stay for ever.
Callers:  the supervisor (`Kmqd`), cli.kmqd in a child (`belong`, `follow`).
"""

import fcntl
import os
import select
import signal
import threading
import time
from pathlib import Path

from kmq import log
from kmq.errors import SpoolLocked
from kmq.spool.lock import Lock

#: Orphans end within their own grace; after that a person must look.
PATIENCE = 60.0
#: Seconds that an orphaned scheduler process waits for workers and receivers that do not end.
LAST_RESULTS = 45.0

_PAUSE = 0.05


def lock_kmqd(run_directory: Path) -> Lock:
    """Makes this process the one supervisor; SpoolLocked, with its pid, when there is one."""
    lock = Lock(run_directory / "kmqd.lock", wait=0.2)
    lock.sign()
    return lock


def outlive_orphans(run_directory: Path, patience: float = PATIENCE) -> None:
    """Returns when no child of an earlier supervisor lives any more; SpoolLocked when they do not end.

    The scheduler process is waited for first: it waits for the others itself, by the same lock.
    """
    deadline = time.monotonic() + patience
    told = False
    for name in ("scheduler", "children"):
        fd = _open(run_directory, name)
        try:
            while not _try(fd, fcntl.LOCK_EX):
                if time.monotonic() > deadline:
                    raise SpoolLocked(f"{run_directory}: processes of an earlier kmqd still run: {_holders(fd)}")
                if not told:
                    log.event("waiting", why="processes of an earlier kmqd are ending", pids=_holders(fd))
                    told = True
                time.sleep(_PAUSE)
        finally:
            os.close(fd)


def belong(run_directory: Path, role: str) -> int:
    """Makes this process known as a child of kmqd, until it ends; the descriptor is not to be closed."""
    fd = _open(run_directory, _lock_of(role))
    fcntl.flock(fd, fcntl.LOCK_SH)
    return fd


def follow(life: int, run_directory: Path, role: str) -> bool:
    """From now on this process gets SIGTERM when the supervisor dies. False: it is dead, so nothing is to be begun."""
    watch = select.poll()
    watch.register(life, select.POLLIN)
    if watch.poll(0):
        return False
    threading.Thread(target=_follow, args=(life, run_directory, role), name="follow", daemon=True).start()
    return True


def _follow(life: int, run_directory: Path, role: str) -> None:
    os.read(life, 1)  # nobody writes: this is the end of the supervisor
    if role == "scheduler":
        _wait_for_children(run_directory)
    log.warning("kmqd is gone, so this process stops")
    os.kill(os.getpid(), signal.SIGTERM)


def _wait_for_children(run_directory: Path) -> None:
    deadline = time.monotonic() + LAST_RESULTS
    fd = _open(run_directory, "children")
    while not _try(fd, fcntl.LOCK_EX) and time.monotonic() < deadline:
        time.sleep(_PAUSE)
    os.close(fd)


def _lock_of(role: str) -> str:
    return "scheduler" if role == "scheduler" else "children"


def _open(run_directory: Path, name: str) -> int:
    return os.open(run_directory / f"{name}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)


def _try(fd: int, kind: int) -> bool:
    try:
        fcntl.flock(fd, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _holders(fd: int) -> str:
    """The pids that hold the lock, as the kernel lists them (proc(5), /proc/locks)."""
    found = os.fstat(fd)
    place = f"{os.major(found.st_dev):02x}:{os.minor(found.st_dev):02x}:{found.st_ino}"
    try:
        lines = Path("/proc/locks").read_text("ascii", "replace").splitlines()
    except OSError:
        return "pid unknown"
    pids = [fields[4] for line in lines if len(fields := line.split()) > 5 and fields[5] == place]
    return ", ".join(f"pid {pid}" for pid in pids) or "pid unknown"
