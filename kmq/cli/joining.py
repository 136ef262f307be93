"""kmq-sendmail -bs: standard input and output joined with kmqd's socket, for programs that speak SMTP to a pipe.

Promise:  what kmqd says comes out as it is. A client whose first line ends in LF alone, as a person or a script types
          it, gets CRLF made of every LF; any other is passed on byte for byte. If kmqd does not come, the client hears
          421 and the status is 75.
On crash: the client sees the end of the conversation, and knows by SMTP what was taken.
Callers:  cli.sendmail.
"""

import os
import select
import socket
import time
from collections.abc import Callable, Iterator

from kmq.cli.handover import PATIENCE, Lost, connect

_STDIN, _STDOUT = 0, 1
_PIECE = 64 * 1024
_PAUSE = 0.2

_ABSENT = b"421 4.3.2 kmqd does not run, try again later\r\n"


def join(places: Callable[[], Iterator[str]]) -> int:
    """The whole conversation; -> the exit status."""
    try:
        os.fstat(_STDIN)
    except OSError:
        return os.EX_NOINPUT
    connection = _patiently(places)
    if connection is None:
        _write(_ABSENT)
        return os.EX_TEMPFAIL
    with connection:
        return _Joint(connection).carry()


def _patiently(places: Callable[[], Iterator[str]]) -> socket.socket | None:
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            return connect(places(), deadline)
        except (OSError, Lost):
            if time.monotonic() >= deadline:
                return None
            time.sleep(_PAUSE)


def _write(text: bytes) -> None:
    while text:
        text = text[os.write(_STDOUT, text) :]


class _Joint:
    """Both directions, until kmqd has said its last word."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        connection.settimeout(None)
        self._greeted = False
        self._ended = False  # the client has said its last word
        self._bare: bool | None = None  # its lines end in LF alone; None before the first one
        self._last = b""  # of kmqd's words, the line that came last

    def carry(self) -> int:
        """To the end; 0 when that was the client's wish."""
        kmqd = self._connection.fileno()
        while True:
            # Nothing is said before the greeting: whoever speaks early is no mail client to kmqd.
            wanted = [kmqd, _STDIN] if self._greeted and not self._ended else [kmqd]
            readable, _, _ = select.select(wanted, [], [])
            if kmqd in readable and not self._out():
                return os.EX_OK if self._ended or self._last.startswith(b"221") else os.EX_TEMPFAIL
            if _STDIN in readable:
                self._in()

    def _out(self) -> bool:
        """What kmqd says; False when it has said all."""
        try:
            text = self._connection.recv(_PIECE)
        except OSError:
            return False
        self._greeted = True
        if text:
            self._last = text.rstrip(b"\r\n").rpartition(b"\n")[2]
            _write(text)
        return bool(text)

    def _in(self) -> None:
        """What the client says."""
        text = os.read(_STDIN, _PIECE)
        try:
            if text:
                self._connection.sendall(self._with_line_ends(text))
            else:
                self._ended = True
                self._connection.shutdown(socket.SHUT_WR)
        except OSError:
            self._ended = True  # kmqd hung up; its last word is still to be read

    def _with_line_ends(self, text: bytes) -> bytes:
        if self._bare is None and b"\n" in text:
            self._bare = not text.partition(b"\n")[0].endswith(b"\r")
        return text.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n") if self._bare else text
