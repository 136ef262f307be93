"""A machine with users of its own, for kmq-deliver: in a mount namespace, with the rights and limits of its unit."""

import ctypes
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kmq.phases.own_hands import Words
from tests.waiting import until

TREE = Path(__file__).resolve().parents[2]

#: Name -> uid and gid. `boss` is in root's group.
USERS = {"alice": 3001, "bob": 3002, "boss": 3003}
ASKING = 3100
MAIL = 3200  #: the group of the folder of mboxes

#: Replaces itself by kmq-deliver: users of its own, no capability but two, and the unit's filter of system calls.
_BEGINNING = """
import ctypes, os, subprocess, sys
tests, unit, passwd, group, *program = sys.argv[1:]
sys.path.insert(0, tests)
import jail
libc = ctypes.CDLL(None, use_errno=True)
assert libc.unshare(0x20000) == 0
assert libc.mount(None, b"/", None, 0x44000, None) == 0
for mine, theirs in ((passwd, b"/etc/passwd"), (group, b"/etc/group")):
    assert libc.mount(mine.encode(), theirs, None, 0x1000, None) == 0, theirs
calls = jail.allowed(jail.settings(jail.Path(unit))["SystemCallFilter"])
jail_it = "import sys; sys.path.insert(0, sys.argv[1]); import jail; jail.confine(set(sys.argv[2].split(',')), " \\
    "['AF_UNIX']); import os; os.execv(sys.argv[3], sys.argv[3:])"
limited = ["setpriv", "--bounding-set=-all,+setuid,+setgid", "--inh-caps=-all"]
os.execvp("setpriv", [*limited, sys.executable, "-c", jail_it, tests, ",".join(sorted(calls)), *program])
"""


class Machine:
    """folder: of homes and all else, which everybody may pass through. path: of the socket."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / "deliver.sock"
        self.spool = folder / "mail"
        self.commands = folder / "deliver.conf"
        self.process: subprocess.Popen[bytes] | None = None
        self.spool.mkdir()
        os.chown(self.spool, 0, MAIL)
        self.spool.chmod(0o2775)
        for name, uid in USERS.items():
            self.home(name).mkdir(mode=0o700)
            os.chown(self.home(name), uid, uid)
        self._people()
        self.commands.write_text("# of the tests\n")
        shutil.copytree(TREE / "kmq", folder / "kmq", ignore=shutil.ignore_patterns("__pycache__"))

    def home(self, name: str) -> Path:
        return self.folder / f"home-{name}"

    def _people(self) -> None:
        people = "".join(f"{name}:x:{uid}:{uid}::{self.home(name)}:/bin/sh\n" for name, uid in USERS.items())
        system = "root:x:0:0::/root:/bin/sh\ndaemon:x:1:1::/:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\n"
        (self.folder / "passwd").write_text(f"{system}asking:x:{ASKING}:{ASKING}::/:/bin/sh\n{people}")
        groups = "".join(f"{name}:x:{uid}:\n" for name, uid in USERS.items())
        (self.folder / "group").write_text(f"root:x:0:boss\nmail:x:{MAIL}:\ncrew:x:3300:alice\n{groups}")

    def command(self, name: str, script: str) -> None:
        """One more that root has named: a script for /bin/sh."""
        path = self.folder / f"{name}.sh"
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        with self.commands.open("a") as file:
            file.write(f"{name} = {path} {{extension}} from={{sender}}\n")

    def start(self, *more: str) -> None:
        options = ["--from", "asking", "--socket", str(self.path), "--mail", str(self.spool)]
        program = [sys.executable, "-m", "kmq.cli.deliver", *options, "--commands", str(self.commands), *more]
        own = (str(self.folder / name) for name in ("passwd", "group"))
        unit = str(TREE / "systemd" / "kmq-deliver.service")
        self.path.unlink(missing_ok=True)
        self.process = subprocess.Popen(
            [sys.executable, "-c", _BEGINNING, str(TREE / "tests"), unit, *own, *program],
            cwd=self.folder,
            env={**os.environ, "PYTHONPATH": str(self.folder), "PYTHONDONTWRITEBYTECODE": "1"},
            stderr=subprocess.PIPE,
        )
        process = self.process
        until(lambda: self._answers() or process.poll() is not None, "kmq-deliver listens")
        if process.poll() is not None:
            raise AssertionError(process.communicate()[1].decode())

    def _answers(self) -> bool:
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as one:
                one.connect(str(self.path))
        except OSError:
            return False
        return True

    def stop(self) -> int:
        """In order; its exit status."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)

    def close(self) -> None:
        """Ends it, and whatever it has begun, in whatever state."""
        if self.process is not None:
            for pid in [*_descendants(self.process.pid), self.process.pid]:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
            self.process.wait()
            assert self.process.stderr is not None
            self.process.stderr.close()

    # --- asking -------------------------------------------------------------------------------------------------------

    def ask(
        self, user: str, kind: str, text: bytes = b"Subject: x\n\nhello\n", seconds: int = 30, **more: object
    ) -> str:
        with self.asked(user, kind, text, seconds, **more) as connection:
            return answer(connection)

    @contextmanager
    def asked(
        self, user: str, kind: str, text: bytes = b"Subject: x\n\nhello\n", seconds: int = 30, **more: object
    ) -> Iterator[socket.socket]:
        """A connection over which this has been asked."""
        said = {"name": "6b031110-00000001.0.mx", "created": int(time.time()), "host": "mx", "seconds": float(seconds)}
        words = Words(**{**said, "sender": "s@x.test", "recipient": f"{user}@here.test", "id": "6b031110-1", **more})  # type: ignore[arg-type]
        with opened(text) as body, self.connected() as connection:
            socket.send_fds(connection, [f"1 {user} {kind} {seconds}\n".encode() + words.as_bytes()], [body])
            yield connection

    @contextmanager
    def connected(self) -> Iterator[socket.socket]:
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
            connection.settimeout(60)
            connection.connect(str(self.path))
            yield connection


def _descendants(pid: int) -> list[int]:
    try:
        children = [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []
    return [*children, *(one for child in children for one in _descendants(child))]


@contextmanager
def opened(text: bytes, flags: int = os.O_RDONLY) -> Iterator[int]:
    """A file with this text that has no name."""
    with tempfile.TemporaryFile(buffering=0) as file:
        file.write(text)
        fd = os.open(f"/proc/self/fd/{file.fileno()}", flags)
        try:
            yield fd
        finally:
            os.close(fd)


def answer(connection: socket.socket) -> str:
    """The line that comes; "" when none does."""
    return connection.recv(4096).decode()


def has_libseccomp() -> bool:
    try:
        ctypes.CDLL("libseccomp.so.2")
    except OSError:
        return False
    return True


@contextmanager
def machine(*options: str) -> Iterator[Machine]:
    """One whose kmq-deliver runs, in a folder that everybody may look into."""
    folder = Path(tempfile.mkdtemp(prefix="kmq-deliver-"))
    folder.chmod(0o755)
    one = Machine(folder)
    try:
        one.start(*options)
        yield one
    finally:
        one.close()
        shutil.rmtree(folder)
