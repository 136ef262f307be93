"""The log: one line per event, written by each process about the mail that it has in hand.

Shape:    `2026-11-22T05:50:11.123Z receiver-1[4242]: accepted 69212ad0-0000a1f3 sender=a@example.org size=4301`
          Values stand in the order in which they are given. What is foreign cannot forge a line: control characters
          are \\xNN, and a value with blanks, quotes or nothing in it stands in quotes.
Promise:  a call costs about two microseconds, never raises and never waits for the reader of the log. Lines are
          gathered and written together, 50 ms later at most; warnings and errors at once. Lines that cannot be written
          are counted and mail goes on; when writing works again, the log says how many are missing.
On crash: the last 50 ms of a killed process are not in the log; envelopes hold what happened to each message.
Callers:  everybody above the model, from any thread.
"""

import asyncio
import fcntl
import logging
import os
import socket
import stat
import threading
import time
import traceback
from collections.abc import Mapping

from kmq.model.moment import as_text

LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}
_INFO, _WARNING, _ERROR = 20, 30, 40
#: sd-daemon(3): journald takes the time itself and the priority from the line; its default is info.
_PRIORITY = {_INFO: "", _WARNING: "<4>", _ERROR: "<3>"}
_WORD = {_INFO: "", _WARNING: "warning: ", _ERROR: "error: "}

_GATHER = 0.050
_AT_ONCE = 1 << 16  #: characters after which gathered lines are written without waiting for more
_KEEP = 1 << 20  #: bytes kept for a reader who is slow; later lines are lost
_LONGEST = 400  #: characters of one foreign value
_PIPE_BUF = 4096  #: a write of so much into a pipe is never torn by another process's

Value = str | int | float | None


class Log:
    """The lines of one process on their way to `fd`. `lost` counts those that could not be written."""

    def __init__(self, fd: int = 2, name: str = "kmq", level: str = "info") -> None:
        self.lost = 0
        self._told = 0
        self._outlet = Outlet(fd)
        self._journald = under_journald(fd)
        self.call(name, level)
        self._lines: list[str] = []
        self._volume = 0
        self._rest = b""
        self._writing = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = 0
        self._due = False

    def call(self, name: str, level: str) -> None:
        """The process has another name from now on, and says so much."""
        self._name = f"{name}: " if self._journald else f" {name}: "
        self._least = LEVELS.get(level, _INFO)

    def gather(self, loop: asyncio.AbstractEventLoop) -> None:
        """From now on lines of this thread, which is the loop's, wait for others up to 50 ms."""
        self._loop = loop
        self._thread = threading.get_ident()

    def event(self, what: str, queue_id: str, keys: Mapping[str, Value]) -> None:
        """Something happened to the mail, or to kmq itself."""
        if self._least > _INFO:
            return
        text = f"{what} {queue_id}" if queue_id else what
        for key, value in keys.items():
            if type(value) is int:
                text += f" {key}={value}"
            elif value is not None:
                text += f" {key}={shown(value)}"
        self._add(_INFO, text)

    def trouble(self, level: int, text: str, keys: Mapping[str, Value]) -> None:
        """A warning or an error: a sentence for the operator, then values; written at once."""
        if level < self._least:
            return
        text = _escaped(text, "")
        for key, value in keys.items():
            if value is not None:
                text += f" {key}={shown(value)}"
        self._add(level, text)
        self.flush()

    def flush(self) -> None:
        """Writes what is gathered, as far as that goes without waiting."""
        with self._writing:
            lines = self._lines[:]
            taken = len(lines)
            telling = self._told
            if len(self._rest) > _KEEP:
                self.lost += taken
            else:
                if self.lost > telling:
                    telling = self.lost
                    lines.append(self._line(_WARNING, f"{telling} lines of this log could not be written so far"))
                self._rest += "".join(lines).encode("utf-8", "backslashreplace")
            del self._lines[:taken]  # another thread may have added one meanwhile
            self._volume = 0
            if self._rest:
                self._write(telling)
        if self._rest:
            self._soon()

    def _write(self, telling: int) -> None:
        """Writes what it can; the rest waits for a slow reader, or is counted when there is no hope for it."""
        try:
            done = self._outlet.write(self._rest)
        except OSError:
            self.lost += self._rest.count(b"\n") - (telling > self._told)
            self._rest = b""
        else:
            self._rest = self._rest[done:]
            self._told = telling

    def _add(self, level: int, text: str) -> None:
        self._lines.append(self._line(level, text))
        self._volume += len(text)
        if self._loop is None or self._volume > _AT_ONCE or threading.get_ident() != self._thread:
            self.flush()
        elif not self._due:
            self._soon()

    def _soon(self) -> None:
        """Writes (again) in 50 ms; without a loop whoever logs next does it."""
        if self._loop is not None and not self._due and threading.get_ident() == self._thread:
            self._due = True
            self._loop.call_later(_GATHER, self._gathered)

    def _gathered(self) -> None:
        self._due = False
        self.flush()

    def _line(self, level: int, text: str) -> str:
        front = _PRIORITY[level] if self._journald else as_text(time.time())
        return f"{front}{self._name}{_WORD[level]}{text}\n"


# --- writing without waiting ------------------------------------------------------------------------------------------


class Outlet:
    """A descriptor to which as much is written as goes without waiting for its reader.

    A pipe is opened anew, since O_NONBLOCK on the one we were given would hold for its other users too. A file never
    makes a writer wait; and whoever stops a terminal wants to.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._stream: socket.socket | None = None
        self._whole = False
        try:
            mode = os.fstat(fd).st_mode
            if stat.S_ISFIFO(mode):
                self._fd = os.open(f"/proc/self/fd/{fd}", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            elif stat.S_ISSOCK(mode):
                self._stream = socket.socket(fileno=fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 3))
            else:
                self._whole = True
        except OSError:
            self._whole = True

    def write(self, text: bytes) -> int:
        """Writes whole lines, so many at a time that none is torn by another process; returns how much of `text`.

        OSError when the reader is gone or the disk is full: then nothing more is to be expected of this text.
        """
        if self._whole:
            return os.write(self._fd, text)
        at = 0
        while at < len(text):
            end = text.rfind(b"\n", at, at + _PIPE_BUF) + 1 or len(text)
            try:
                at += self._piece(text[at:end])
            except BlockingIOError:
                break
        return at

    def _piece(self, piece: bytes) -> int:
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


# --- foreign text -----------------------------------------------------------------------------------------------------


def shown(value: str | int | float) -> str:
    """A value as it stands behind `key=`: bare when that is safe, else in quotes with everything odd escaped."""
    text = f"{value:.3f}" if type(value) is float else str(value)
    if text.isprintable() and " " not in text and '"' not in text and "\\" not in text and 0 < len(text) <= _LONGEST:
        return text
    text = text if len(text) <= _LONGEST else text[:_LONGEST] + "..."
    return f'"{_escaped(text, _QUOTED)}"'


_QUOTED = '"\\'


def _escaped(text: str, special: str) -> str:
    if text.isprintable() and not any(sign in text for sign in special):
        return text
    return "".join(_sign(one, special) for one in text)


def _sign(one: str, special: str) -> str:
    if one in special:
        return "\\" + one
    if one.isprintable():
        return one
    code = ord(one)
    if 0xDC80 <= code <= 0xDCFF:
        code -= 0xDC00  # a byte that was no UTF-8 (surrogateescape)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def traced(error: BaseException) -> str:
    """An exception on one line: what it says, then where it came from, innermost first."""
    frames = reversed(traceback.extract_tb(error.__traceback__))
    places = " < ".join(f"{os.path.basename(place.filename)}:{place.lineno} {place.name}" for place in frames)
    return f"{type(error).__name__}: {str(error)[:200]} ({places})"


# --- the log of this process ------------------------------------------------------------------------------------------

_log = Log()


def start(name: str, level: str = "info") -> None:
    """This process is called `name` from now on; what libraries say through `logging` and `warnings` comes along."""
    _log.call(f"{name}[{os.getpid()}]", level)
    logging.root.handlers[:] = [_Bridge()]
    logging.root.setLevel(logging.WARNING)
    logging.captureWarnings(True)


def gather(loop: asyncio.AbstractEventLoop) -> None:
    """From now on lines wait for others up to 50 ms of this loop; call it in the loop's thread."""
    _log.gather(loop)


def event(what: str, queue_id: str = "", /, **keys: Value) -> None:
    """`event("accepted", id, sender="a@b", size=4301)`; values that are None are left out."""
    _log.event(what, queue_id, keys)


def warning(text: str, /, **keys: Value) -> None:
    """Something is odd; it was kept or set right, and kmq goes on."""
    _log.trouble(_WARNING, text, keys)


def error(text: str, /, **keys: Value) -> None:
    """Something is broken that an operator should look at."""
    _log.trouble(_ERROR, text, keys)


def flush() -> None:
    """Writes what is gathered; before a process ends."""
    _log.flush()


def lost() -> int:
    """How many lines could not be written (reliability: the log's disk is full, its reader gone)."""
    return _log.lost


class _Bridge(logging.Handler):
    """What libraries log, as lines of ours."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            text = record.getMessage()
        except Exception:
            text = str(record.msg)
        accident = record.exc_info[1] if record.exc_info else None
        level = _ERROR if record.levelno >= logging.ERROR else _WARNING
        _log.trouble(level, text, {"by": record.name, "trace": traced(accident) if accident else None})
