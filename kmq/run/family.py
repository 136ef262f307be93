"""Who belongs to a kmqd that lives: one supervisor at a time, and no child without one.

What:     locks in the run directory, which the kernel frees whatever a process dies of, and a pipe that ends with the
          supervisor.
Promise:  of any number of kmqd that start, one wins; the others end with 75. It begins only when no child of an earlier
          kmqd lives: a worker that still delivers would deliver a second time what is handed out anew. When the
          supervisor dies, its children stop in order: receivers and workers at once, and the scheduler process after
          them, since it makes their last results durable.
On crash: nothing to clean; the lock files stay for ever.
Callers:  the supervisor (`lock_kmqd`, `outlive_orphans`), cli.child (`belong`, `follow`).
"""

import os
import select
import signal
import threading
import time
from pathlib import Path

from kmq import log
from kmq.errors import SpoolLocked
from kmq.spool.lock import Lock
from kmq.spool.membership import Membership

#: Orphans end within their own grace; after that a person must look.
PATIENCE = 60.0
#: Seconds that an orphaned scheduler process waits for workers and receivers that do not end.
LAST_RESULTS = 45.0

_PAUSE = 0.05

#: Below the run directory: who supervises.
LOCK = "kmqd.lock"


def lock_kmqd(run_directory: Path) -> Lock:
    """Makes this process the one supervisor; SpoolLocked, with its pid, when there is one."""
    lock = Lock(run_directory / LOCK, wait=0.2)
    lock.sign()
    return lock


def outlive_orphans(run_directory: Path, patience: float = PATIENCE) -> None:
    """Returns when no child of an earlier supervisor lives any more; SpoolLocked when they do not end.

    The scheduler process is waited for first: it waits for the others itself, by the same lock.
    """
    deadline = time.monotonic() + patience
    told = False
    for role in ("scheduler", "worker"):
        group = _group(run_directory, role)
        try:
            while group.anybody():
                if time.monotonic() > deadline:
                    raise SpoolLocked(f"{run_directory}: processes of an earlier kmqd still run: {group.members()}")
                if not told:
                    log.event("waiting", why="processes of an earlier kmqd are ending", pids=group.members())
                    told = True
                time.sleep(_PAUSE)
        finally:
            group.close()


def belong(run_directory: Path, role: str) -> Membership:
    """Makes this process known as a child of kmqd until it ends; the membership is to be kept so long."""
    group = _group(run_directory, role)
    group.join()
    return group


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
    group = _group(run_directory, "worker")
    while group.anybody() and time.monotonic() < deadline:
        time.sleep(_PAUSE)
    group.close()


def _group(run_directory: Path, role: str) -> Membership:
    """Workers and receivers are one group; the scheduler process ends after it."""
    return Membership(run_directory / ("scheduler.lock" if role == "scheduler" else "children.lock"))
