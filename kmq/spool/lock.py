"""Locks that say who lives: one owner of the spool, one process behind each status file.

What:     a lock is held by a process on a file that is never unlinked. The kernel frees it when the process dies,
          however that happens; the pid inside is only information.
Promise:  of any number of scheduler processes that start on one spool exactly one wins, also when somebody deletes the
          lock file meanwhile: the spool folder itself is locked too.
On crash: nothing to clean. No lock is inherited by a program that the holder starts.
Callers:  the scheduler process (`SpoolLock`), each process's status file (`Lock`), readers (`held`).
"""

import fcntl
import os
import time
from pathlib import Path

from kmq.errors import SpoolError, SpoolLocked

#: Below the spool folder, since the run directory may lie elsewhere and two configurations may share one spool.
SPOOL_LOCK = "lock"

#: A reader's look (`held`) takes the lock for microseconds; whoever starts just then tries again for so long.
_PATIENCE = 2.0


class Lock:
    """A lock on one file, taken when made; SpoolLocked when another process has it, OSError when it cannot be made."""

    def __init__(self, path: Path, wait: float = _PATIENCE) -> None:
        import filelock  # 40 ms: readers, who run a thousand times a day, do without

        self.path = path
        self._lock = filelock.FileLock(str(path), mode=0o640, thread_local=False)
        try:
            self._lock.acquire(timeout=wait, poll_interval=0.005)
        except filelock.Timeout:
            raise SpoolLocked(f"{path}: already running ({_holder(path)})") from None

    def sign(self) -> None:
        """Writes this process's pid into the file, for people and error messages."""
        self.path.write_bytes(b"%d\n" % os.getpid())

    def release(self) -> None:
        """Gives the lock back; the file stays (an unlinked lock file would let two in)."""
        self._lock.release(force=True)


class SpoolLock:
    """The ownership of a spool: a lock file for people to see, and the folder itself, which nobody can replace."""

    def __init__(self, spool: Path) -> None:
        """SpoolLocked when another process owns the spool; SpoolError when it cannot be locked at all."""
        try:
            self._file = Lock(spool / SPOOL_LOCK, wait=0.1)
            self._folder = os.open(spool, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise SpoolError(f"{spool}: cannot be locked: {error.strerror}") from error
        try:
            _lock_folder(self._folder, spool)
        except BaseException:
            self.release()
            raise
        self._file.sign()

    def release(self) -> None:
        """Lets the next one in."""
        os.close(self._folder)
        self._file.release()


def held(path: Path) -> bool | None:
    """Whether a living process holds the lock on `path`; None when that cannot be said (no such file, no permission).

    To ask is to take a shared lock for a moment; a process that starts just then waits for it.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return None
    finally:
        os.close(fd)
    return False


def holder(path: Path) -> int | None:
    """The process that holds a lock, as it signed; None when nobody does, or that cannot be said."""
    try:
        return int(path.read_text("ascii")) if held(path) else None
    except (OSError, ValueError):
        return None


def spool_held(spool: Path) -> bool | None:
    """Whether a scheduler process owns this spool now; None when that cannot be said."""
    return held(spool)


def _lock_folder(fd: int, spool: Path) -> None:
    deadline = time.monotonic() + 0.1
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise SpoolLocked(f"{spool}: already running ({_holder(spool / SPOOL_LOCK)})") from None
            time.sleep(0.005)
        except OSError as error:
            raise SpoolError(f"{spool}: this file system has no locks (flock): {error.strerror}") from error


def _holder(path: Path) -> str:
    """Who holds the lock, in words. The winner of a race signs a moment after it has won: wait for its name."""
    deadline = time.monotonic() + 0.5
    while True:
        try:
            text = path.read_text("ascii", "replace").strip()
        except OSError:
            text = ""
        if text.isdigit() and os.path.exists(f"/proc/{text}"):
            return f"pid {text}"
        if time.monotonic() > deadline:
            return "pid unknown"
        time.sleep(0.01)
