"""An MTA of Debian's that wants to be installed, and is only unpacked: what all such have in common.

What:     its package is downloaded and unpacked below build/; it runs in mounts of its own, in which the places that
          are built into it (/etc/passwd, /var/lib, /var/spool, /run) are folders of the benchmark's. Nothing of the
          system changes. Libraries are the system's; where it lacks some, that is said. Names are asked of nobody, at
          once: one that looks up a client's name is not to wait for a server far away.
On crash: the mounts end with its last process; `stop` ends the whole session that `start` began.
"""

import contextlib
import ctypes
import os
import shutil
import signal
import subprocess
from pathlib import Path

from bench.mta import Span, Ways
from tests.postfix import KEPT, Postfix, unpack
from tests.waiting import listening, until

PR_SET_CHILD_SUBREAPER = 36

#: Numbers of users that Debian does not give away.
FIRST_USER = 64_800

#: What an MTA sees in the place of the system's: files, and folders that are empty at first.
FILES, FOLDERS = ("passwd", "group", "resolv.conf"), ("var/lib", "var/spool", "run")
MOUNTS = (
    *(f"mount --bind {{0}}/{name} /etc/{name}" for name in FILES),
    *(f"mount --bind {{0}}/{name} /{name}" for name in FOLDERS),
)


def unpacked(package: str) -> None:
    """Downloads it, once, into a folder beside Postfix's."""
    into = KEPT.with_name(package)
    if not into.exists():
        fresh = into.with_name(f"{package}.new")
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(parents=True)
        fresh.chmod(0o755)
        unpack(package, fresh)
        fresh.rename(into)


def _take_orphans() -> None:
    """Children of children that ended are the daemon's own, so that their processor time is in the tree's."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


class Guest:
    """One such MTA below `folder`. users: that it wants to exist; command: its daemon, in the foreground."""

    name: str
    package: str
    program: str
    users: tuple[str, ...]

    def __init__(self, folder: Path, ways: Ways) -> None:
        self.port = ways.port
        self._ways = ways
        self._folder = folder
        self._daemon: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._daemon is not None
        return self._daemon.pid

    def expect(self, connections: int) -> None:
        """Its configuration allows as many as any row has."""

    @property
    def root(self) -> Path:
        """Its package, unpacked."""
        return KEPT.with_name(self.package)

    def start(self) -> None:
        unpacked(self.package)
        if missing := Postfix(self.root).missing_libraries(self.program):
            raise RuntimeError(f"{self.name} wants libraries that are not installed here: {', '.join(missing)}")
        self.lay_out()
        with (self._folder / "log").open("wb") as log:
            self._daemon = subprocess.Popen(
                ["unshare", "--mount", "sh", "-c", self.script(), "-", *self.command()],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=_take_orphans,
            )
        until(lambda: listening(self.port) or self._ended(), f"{self.name} listens; its log: {self._folder / 'log'}")
        if self._ended():
            raise RuntimeError(f"{self.name} ended at once: {(self._folder / 'log').read_text()}")

    def lay_out(self) -> None:
        """The places of the system as it will see them, and what it finds there."""
        for name in FOLDERS:
            (self._folder / name).mkdir(parents=True)
        for file, line in (("passwd", "{0}:x:{1}:{1}::/nonexistent:/usr/sbin/nologin"), ("group", "{0}:x:{1}:")):
            lines = [line.format(user, FIRST_USER + at) for at, user in enumerate(self.users)]
            (self._folder / file).write_text("\n".join([Path("/etc", file).read_text().rstrip("\n"), *lines, ""]))
        (self._folder / "resolv.conf").write_text("nameserver 127.0.0.1\n")
        self.furnish()

    def script(self) -> str:
        """Mounts what it is to see, then becomes its daemon."""
        return "\n".join(["set -e", *(line.format(self._folder) for line in MOUNTS), 'exec "$@"'])

    def _ended(self) -> bool:
        return self._daemon is None or self._daemon.poll() is not None

    def stop(self) -> None:
        if self._daemon is None:
            return
        self._daemon.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._daemon.wait(20)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._daemon.pid, signal.SIGKILL)
        self._daemon.wait()

    def furnish(self) -> None:
        """Its configuration and its folders."""
        raise NotImplementedError

    def command(self) -> list[str]:
        """Its daemon, in the foreground."""
        raise NotImplementedError

    def owned(self, path: str, user: str, mode: int) -> Path:
        """A folder of one of its users below the benchmark's own."""
        folder = self._folder / path
        folder.mkdir(parents=True, exist_ok=True)
        number = FIRST_USER + self.users.index(user) if user in self.users else 0
        os.chown(folder, number, number)
        folder.chmod(mode)
        return folder

    def settle(self) -> None:
        """It leaves no work behind once its queue is empty."""

    def checkpoints(self) -> list[Span]:
        """It has none."""
        return []

    def listing(self) -> list[str]:
        raise NotImplementedError(f"no row lists the queue of {self.name}")

    def flush(self) -> list[str]:
        raise NotImplementedError(f"no row drains the queue of {self.name}")

    def environment(self) -> dict[str, str]:
        return dict(os.environ)
