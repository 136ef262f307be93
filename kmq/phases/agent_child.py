"""A child process with pipes to its three standard files, in the loop.

Promise:  it is exec'd in a session of its own, with no descriptor of ours but its pipes, and reaped once. What it is
          told is kept until it reads; what it says is read piece by piece, and told with the number of its file; b"" is
          the end of one. Its exit is told once.
On crash: of this process: its input ends.
Callers:  phases.agent_program. (uvloop's own leaves the child further copies of its pipes, so that their ends are not
          seen.)
"""

import asyncio
import os
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence

PIECE = 64 << 10  #: bytes that are read at a time


class Child:
    """pid: its number, and that of its process group; status: how it exited, None while it lives."""

    def __init__(
        self,
        command: Sequence[str],
        folder: str,
        environment: Mapping[str, str],
        heard: Callable[[int, bytes], None],
        exited: Callable[[], None],
    ) -> None:
        """Begins it; OSError when that cannot be. heard: (1 or 2, piece); (0, b"") when it reads no more."""
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(
            command,
            stdin=pipe,
            stdout=pipe,
            stderr=pipe,
            cwd=folder,
            env=environment,
            bufsize=0,
            start_new_session=True,
        )
        self.pid = self._process.pid
        self.status: int | None = None
        self._heard = heard
        self._exited = exited
        self._loop = asyncio.get_running_loop()
        self._unread = b""
        self._pipes = {
            number: os.dup(file.fileno())
            for number, file in enumerate((self._process.stdin, self._process.stdout, self._process.stderr))
            if file is not None
        }
        for file in (self._process.stdin, self._process.stdout, self._process.stderr):
            if file is not None:
                file.close()
        for number, fd in self._pipes.items():
            os.set_blocking(fd, False)
            if number:
                self._loop.add_reader(fd, self._read, number)
        self._pidfd = os.pidfd_open(self.pid)
        self._loop.add_reader(self._pidfd, self._reap)

    def open(self, number: int) -> bool:
        """Whether this pipe is still there."""
        return number in self._pipes

    # --- its input ----------------------------------------------------------------------------------------------------

    def tell(self, text: bytes) -> None:
        """Writes to its input, as soon as it reads."""
        fd = self._pipes.get(0)
        if fd is None:
            return
        if not self._unread:
            self._loop.add_writer(fd, self._write)
        self._unread += text

    def _write(self) -> None:
        fd = self._pipes[0]
        try:
            done = os.write(fd, self._unread)
        except BlockingIOError:
            return None
        except OSError:  # it reads no more
            self.shut(0)
            return self._heard(0, b"")
        self._unread = self._unread[done:]
        if not self._unread:
            self._loop.remove_writer(fd)
        return None

    def shut(self, number: int) -> None:
        """Closes a pipe; what it was told and has not read is lost with it."""
        fd = self._pipes.pop(number, -1)
        if fd >= 0:
            self._loop.remove_reader(fd)
            self._loop.remove_writer(fd)
            os.close(fd)

    # --- what it says -------------------------------------------------------------------------------------------------

    def _read(self, number: int) -> None:
        try:
            piece = os.read(self._pipes[number], PIECE)
        except BlockingIOError:
            return
        except OSError:
            piece = b""
        if not piece:
            self.shut(number)
        self._heard(number, piece)

    # --- its end ------------------------------------------------------------------------------------------------------

    def signal(self, number: signal.Signals) -> None:
        """To all of its process group. When it has been reaped, the group is there as long as it has members: then its
        number is no other's; but nobody knows, so it is told only to who still keeps our pipe."""
        if self.status is None or self.open(1):
            try:
                os.killpg(self.pid, number)
            except (ProcessLookupError, PermissionError):
                pass

    def _reap(self) -> None:
        self.status = self._process.poll()
        if self.status is not None:
            self._loop.remove_reader(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = -1
            self._exited()

    def close(self) -> None:
        """Lets go of it."""
        for number in [*self._pipes]:
            self.shut(number)
        if self._pidfd >= 0:
            self._loop.remove_reader(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = -1
