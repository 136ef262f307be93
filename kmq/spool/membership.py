"""A lock that any number of processes hold together, so that somebody can wait until the last of them is gone.

Promise:  the kernel frees a member's share when it dies, whatever it dies of. A program that a member starts is no
          member. The file is never unlinked, so there are never two.
On crash: nothing to clean.
Callers:  run.family.
"""

import fcntl
import os
from pathlib import Path


class Membership:
    """One process's view of a group of processes that share the lock on `path`; OSError when it cannot be opened."""

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)

    def join(self) -> None:
        """This process belongs to the group until it ends."""
        fcntl.flock(self._fd, fcntl.LOCK_SH)

    def anybody(self) -> bool:
        """Whether the group has a member; not for who joined it."""
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        fcntl.flock(self._fd, fcntl.LOCK_UN)
        return False

    def members(self) -> str:
        """Who they are, for people: the pids that the kernel lists (proc(5), /proc/locks)."""
        found = os.fstat(self._fd)
        place = f"{os.major(found.st_dev):02x}:{os.minor(found.st_dev):02x}:{found.st_ino}"
        try:
            lines = Path("/proc/locks").read_text("ascii", "replace").splitlines()
        except OSError:
            return "pid unknown"
        pids = [fields[4] for line in lines if len(fields := line.split()) > 5 and fields[5] == place]
        return ", ".join(f"pid {pid}" for pid in pids) or "pid unknown"

    def close(self) -> None:
        """Stops looking; a member leaves."""
        os.close(self._fd)
