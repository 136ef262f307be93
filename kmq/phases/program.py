"""A command that is run with a message as its standard input. This blocks; it is run in threads.

Does:     begins it in a session of its own, without a shell, and waits for its end. At the time limit, or when kmq
          stops, all processes of its group are ended, first by SIGTERM. Whatever it prints is read, and the beginning
          of that is kept; what it leaves running in the background is not waited for.
Input:    an open file with the whole message: a command never sees half of one, also when we die meanwhile, and one
          that reads nothing gets no SIGPIPE and gives none.
On crash: the command goes on alone; the message is given to it once more.
Callers:  phases.pipe.
"""

import os
import select
import signal
import subprocess
from collections.abc import Mapping, Sequence
from threading import Lock
from time import monotonic
from typing import NamedTuple

KEPT = 4096  #: bytes of its output
FAREWELL = 2.0  #: seconds between SIGTERM and SIGKILL


class Ended(NamedTuple):
    """status: of its exit, or minus the signal that ended it. why: we ended it because of this, "" when we did not."""

    status: int
    output: bytes
    why: str = ""


class Running:
    """One run. `stop` may be called by any thread, at any time."""

    def __init__(self, words: Sequence[str], environment: Mapping[str, str], directory: str, source: int) -> None:
        """Begins it. source: the file that it reads. OSError and ValueError when it cannot be run."""
        self._lock = Lock()
        self._wake, self._woken = os.pipe2(os.O_CLOEXEC)
        try:
            self._process = subprocess.Popen(
                words,
                stdin=source,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env=environment,
                cwd=directory,
                start_new_session=True,
                umask=0o077,
            )
        except BaseException:
            os.close(self._wake)
            os.close(self._woken)
            raise
        self._output = b""

    def stop(self) -> None:
        """Has `wait` end it."""
        with self._lock:
            if self._woken >= 0:
                os.write(self._woken, b".")

    def wait(self, limit: float) -> Ended:
        """Until it has ended, for at most so many seconds."""
        try:
            ended = os.pidfd_open(self._process.pid)
            try:
                why = self._follow(ended, monotonic() + limit)
                if why:
                    self._end(ended)
            finally:
                os.close(ended)
            return Ended(self._process.wait(), self._output, why)
        finally:
            if self._process.stdout is not None:
                self._process.stdout.close()
            with self._lock:
                os.close(self._wake)
                os.close(self._woken)
                self._woken = -1

    def _follow(self, ended: int, until: float) -> str:
        """Reads what it prints until it has ended; -> why it has to be ended, "" when it did so by itself."""
        assert self._process.stdout is not None, "it was begun with one"
        output = self._process.stdout.fileno()
        os.set_blocking(output, False)
        poll = select.poll()
        for fd in (output, ended, self._wake):
            poll.register(fd, select.POLLIN)
        while True:
            left = until - monotonic()
            if left <= 0:
                return "it took longer than time_limit"
            ready = {fd for fd, _ in poll.poll(left * 1000)}
            if output in ready and self._read(output) == b"":
                poll.unregister(output)
            if self._wake in ready:
                return "kmq is stopping"
            if ended in ready:
                while len(self._output) < KEPT and self._read(output):
                    pass
                return ""

    def _read(self, output: int) -> bytes | None:
        """One piece; b"" when there will be none any more, None when there is none now."""
        try:
            piece = os.read(output, 65536)
        except BlockingIOError:
            return None
        self._output += piece[: KEPT - len(self._output)]
        return piece

    def _end(self, ended: int) -> None:
        """All processes of its group."""
        poll = select.poll()
        poll.register(ended, select.POLLIN)
        self._signal(signal.SIGTERM)
        poll.poll(FAREWELL * 1000)
        self._signal(signal.SIGKILL)  # those of the group, too, that its first process did not wait for

    def _signal(self, number: signal.Signals) -> None:
        try:
            os.killpg(self._process.pid, number)
        except ProcessLookupError:
            pass
