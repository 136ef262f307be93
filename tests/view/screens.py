"""A terminal of a given size, as a program sees one."""

import fcntl
import os
import signal
import struct
import sys
import termios
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

from tests.waiting import until


@contextmanager
def terminal(columns: int, lines: int = 24) -> Iterator[TextIO]:
    """The program's side of a pseudo terminal."""
    outer, inner = os.openpty()
    fcntl.ioctl(inner, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
    try:
        with os.fdopen(inner, "w") as out:
            yield out
    finally:
        os.close(outer)


class Viewer:
    """A program in the foreground of a terminal. text: all that it wrote."""

    def __init__(self, command: list[str], columns: int, lines: int) -> None:
        self.pid, self._outer = os.forkpty()
        if not self.pid:
            fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
            os.environ["TERM"] = "xterm"
            os.execv(sys.executable, [sys.executable, *command])
        self.text = ""
        self._status: int | None = None
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        while True:
            try:
                read = os.read(self._outer, 1 << 16)
            except OSError:
                return
            if not read:
                return
            self.text += read.decode()

    @property
    def echoes(self) -> bool:
        """Whether the terminal shows what is typed, as it does for a shell."""
        return bool(termios.tcgetattr(self._outer)[3] & termios.ECHO)

    @property
    def stopped(self) -> bool:
        return os.WIFSTOPPED(os.waitpid(self.pid, os.WNOHANG | os.WUNTRACED)[1])

    def press(self, keys: bytes) -> None:
        os.write(self._outer, keys)

    def resize(self, columns: int, lines: int) -> None:
        fcntl.ioctl(self._outer, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def ended(self) -> int:
        """Its exit status, when it has ended by itself."""
        if self._status is None:
            until(lambda: os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT), "the viewer ends")
            self._reader.join(1)
            self._status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return self._status


@contextmanager
def viewer(command: list[str], columns: int = 80, lines: int = 24) -> Iterator[Viewer]:
    """python with this command line, on a terminal of this size."""
    seen = Viewer(command, columns, lines)
    try:
        yield seen
    finally:
        if seen._status is None:
            os.kill(seen.pid, signal.SIGKILL)
            os.waitpid(seen.pid, 0)
        os.close(seen._outer)
        seen._reader.join(5)
