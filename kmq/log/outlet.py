"""Where lines go: a descriptor that we were given, a file of our own, or syslog. Nobody is waited for.

Promise:  whole lines, so many at a time that none is torn by another process; after a line that a full disk tore, the
          next one begins on a line of its own. `write` takes what goes without waiting; OSError says that nothing more
          is to be expected of this text.
On crash: what was written is with the reader, or the kernel.
Callers:  kmq.log.
"""

import errno
import fcntl
import os
import socket
import stat
import time
from typing import Protocol

from kmq.model.moment import as_text

INFO, WARNING, ERROR = 20, 30, 40

#: sd-daemon(3): journald takes the time itself and the priority from the line; its default is info.
_PRIORITY = {INFO: "", WARNING: "<4>", ERROR: "<3>"}

#: syslog(3): facility mail (2 << 3) with the severities of ours.
_MAIL = {INFO: 22, WARNING: 20, ERROR: 19}

_PIPE_BUF = 4096  #: a write of so much into a pipe is never torn by another process's
_FILE_PIECE = 1 << 16

#: Seconds for which a syslog daemon may be away before its lines are given up.
_AWAY = 5.0


class Outlet(Protocol):
    """A way out for lines."""

    def front(self, level: int) -> str:
        """What stands ahead of a process's name: the time, or what the reader makes the time of."""

    def write(self, text: bytes) -> int:
        """Writes whole lines; returns how much of `text`. OSError: there is no hope for it."""

    def dropped(self) -> None:
        """What was left of the last text will not come any more."""

    def reopen(self) -> None:
        """The name may stand for another file now."""

    def close(self) -> None:
        """Nothing more will be written."""

    def anew(self) -> list[int]:
        """In a forked process: nothing of its parent's is used, but for the descriptors that are returned."""


class _Stream:
    """Lines one after the other into something that may take a part of them."""

    piece = _FILE_PIECE
    torn = False  #: the last that was written is not the end of a line
    _begin = b""  #: owed: ends a line that was torn for good

    def write(self, text: bytes) -> int:
        if self._begin:
            self._put(self._begin)
            self._begin = b""
        at = 0
        while at < len(text):
            end = text.rfind(b"\n", at, at + self.piece) + 1 or len(text)
            try:
                at += self._put(text[at:end])
            except BlockingIOError:
                break
            except OSError:
                if not at:
                    raise
                break  # the next call hears of it, about what is left
        if at:
            self.torn = text[at - 1] != ord("\n")
        return at

    def dropped(self) -> None:
        if self.torn:
            self._begin, self.torn = b"\n", False

    def reopen(self) -> None:
        pass

    def close(self) -> None:
        pass

    def anew(self) -> list[int]:
        self.torn, self._begin = False, b""
        self.close()
        return []

    def _put(self, piece: bytes) -> int:
        raise NotImplementedError


class Descriptor(_Stream):
    """One that we were given, standard error as a rule.

    A pipe is opened anew, since O_NONBLOCK on the one we were given would hold for its other users too. A file never
    makes a writer wait; and whoever stops a terminal wants to.
    """

    def __init__(self, fd: int = 2) -> None:
        self._fd = fd
        self._stream: socket.socket | None = None
        self._journald = under_journald(fd)
        try:
            mode = os.fstat(fd).st_mode
            if stat.S_ISFIFO(mode):
                self._fd = os.open(f"/proc/self/fd/{fd}", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
                self.piece = _PIPE_BUF
            elif stat.S_ISSOCK(mode):
                self._stream = socket.socket(fileno=fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 3))
                self.piece = _PIPE_BUF
        except OSError:
            pass  # closed: each write says so

    def anew(self) -> list[int]:
        return [self._fd if self._stream is None else self._stream.fileno()]

    def front(self, level: int) -> str:
        return _PRIORITY[level] if self._journald else f"{as_text(time.time())} "

    def _put(self, piece: bytes) -> int:
        if self._stream is not None:
            return self._stream.send(piece, socket.MSG_DONTWAIT)
        return os.write(self._fd, piece)


def under_journald(fd: int) -> bool:
    """True when the other end of `fd` is journald (systemd.exec(5), JOURNAL_STREAM)."""
    try:
        found = os.fstat(fd)
    except OSError:
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{found.st_dev}:{found.st_ino}"


class LogFile(_Stream):
    """A file of our own, which all processes append to. It is opened when the first line comes, and again after
    `reopen`: by then a rotation has given its name to a new one."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._fd = -1

    def front(self, level: int) -> str:
        return f"{as_text(time.time())} "

    def reopen(self) -> None:
        self.close()
        self.torn, self._begin = False, b""

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _put(self, piece: bytes) -> int:
        if self._fd < 0:
            self._fd = opened(self.path)
        return os.write(self._fd, piece)


def opened(path: str) -> int:
    """Never through a link that somebody laid there, and never a device or pipe that could make us wait."""
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
    fd = os.open(path, flags, 0o640)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise OSError(errno.EINVAL, "not a regular file", path)
    return fd


class Syslog:
    """The mail facility of the machine's syslog, a datagram for each line.

    A daemon that is started anew is found again, and its lines are kept for a few seconds meanwhile.
    """

    def __init__(self, path: str = "/dev/log") -> None:
        self.path = path
        self._socket: socket.socket | None = None
        self._away: float | None = None
        self._second = -1
        self._stamp = ""

    def front(self, level: int) -> str:
        """RFC 3164, with local time, as syslog(3) writes it."""
        now = int(time.time())
        if now != self._second:
            self._second, local = now, time.localtime(now)
            self._stamp = f"{_MONTHS[local.tm_mon - 1]} {local.tm_mday:2} {time.strftime('%H:%M:%S', local)} kmq/"
        return f"<{_MAIL[level]}>{self._stamp}"

    def write(self, text: bytes) -> int:
        at = 0
        try:
            while at < len(text):
                end = text.find(b"\n", at) + 1 or len(text)
                self._send(text[at:end].rstrip(b"\n"))
                at = end
        except BlockingIOError:
            pass
        except OSError:
            self._away = self._away or time.monotonic()
            if time.monotonic() - self._away > _AWAY:
                raise
            return at
        self._away = None
        return at

    def dropped(self) -> None:
        pass

    def reopen(self) -> None:
        self.close()

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def anew(self) -> list[int]:
        self.close()
        return []

    def _send(self, line: bytes) -> None:
        """A socket whose daemon was started anew is refused once, and made anew."""
        try:
            self._connected().send(line, socket.MSG_DONTWAIT)
        except BlockingIOError:
            raise
        except OSError as error:
            if error.errno == errno.EMSGSIZE:
                return self._send(line[: len(line) // 2])
            self.close()
            self._connected().send(line, socket.MSG_DONTWAIT)

    def _connected(self) -> socket.socket:
        if self._socket is None:
            made = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
            try:
                made.connect(self.path)
            except OSError:
                made.close()
                raise
            self._socket = made
        return self._socket


_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
