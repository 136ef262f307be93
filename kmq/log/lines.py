"""The lines of one process on their way to an outlet: gathered, written together, counted when they are lost.

Promise:  a call costs about two microseconds, never raises and never waits for the reader. Lines are written 50 ms
          later at most; warnings and errors at once. Lines that cannot be written are counted and mail goes on; when
          writing works again, the log says how many are missing.
On crash: the last 50 ms of a killed process are not in the log; who gathers before he says a line adds his own time.
Callers:  kmq.log; from any thread.
"""

import asyncio
import os
from collections.abc import Callable, Mapping
from threading import Lock, get_ident

from kmq.log.outlet import ERROR, INFO, WARNING, Descriptor, Outlet
from kmq.log.text import escaped, shown

LEVELS = {"debug": 10, "info": INFO, "warning": WARNING, "error": ERROR}
_WORD = {INFO: "", WARNING: "warning: ", ERROR: "error: "}

_GATHER = 0.050
_AT_ONCE = 1 << 16  #: characters after which gathered lines are written without waiting for more
KEEP = 1 << 20  #: bytes kept for a reader who is slow; later lines are lost
_ROOM = KEEP // 4  #: bytes that wait, above which whoever has many lines to say holds back

Value = str | int | float | None


class Log:
    """The lines of one process on their way to `outlet`. `lost` counts those that could not be written.

    on_trouble: told of the error when lines are lost because writing failed, once until it works again.
    """

    def __init__(self, outlet: Outlet | None = None, name: str = "kmq", level: str = "info") -> None:
        self.outlet: Outlet = outlet or Descriptor()
        self.on_trouble: Callable[[OSError], None] | None = None
        self.call(name, level)
        self._writing = Lock()
        self._begin()

    def _begin(self) -> None:
        self.lost = 0
        self._told = 0
        self._failing = False
        self._lines: list[str] = []
        self._volume = 0
        self._rest = b""
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ended: Callable[[], bool] = lambda: True
        self._thread = 0  # of the loop; no thread bears this number
        self._due = False

    def anew(self) -> list[int]:
        """In a forked process: its parent writes what was gathered, and counts what it lost.

        -> the descriptors that lines go on to.
        """
        self._begin()
        return self.outlet.anew()

    def call(self, name: str, level: str) -> None:
        """The process has another name from now on, and says so much."""
        self._name = f"{name}: "
        self._least = LEVELS.get(level, INFO)

    def gather(self, loop: asyncio.AbstractEventLoop) -> None:
        """From now on lines of this thread, which is the loop's, wait for others up to 50 ms."""
        self._loop = loop
        self._ended = loop.is_closed
        self._thread = get_ident()

    @property
    def roomy(self) -> bool:
        """The reader keeps up: whoever has many lines may say some more of them."""
        return len(self._rest) <= _ROOM

    def says(self, level: int) -> bool:
        """Whether lines of this level are written at all."""
        return level >= self._least

    def event(self, what: str, queue_id: str, keys: Mapping[str, Value]) -> None:
        """Something happened to the mail, or to kmq itself."""
        if not self.says(INFO):
            return
        text = f"{what} {queue_id}" if queue_id else what
        for key, value in keys.items():
            if type(value) is int:
                text += f" {key}={value}"
            elif value is not None:
                text += f" {key}={shown(value)}"
        self.add(INFO, text)

    def trouble(self, level: int, text: str, keys: Mapping[str, Value]) -> None:
        """A warning or an error: a sentence for the operator, then values; written at once."""
        if not self.says(level):
            return
        text = _WORD[level] + escaped(text)
        for key, value in keys.items():
            if value is not None:
                text += f" {key}={shown(value)}"
        self.add(level, text)
        self.flush()

    def add(self, level: int, text: str) -> None:
        """One line, which is safe already, if such are written."""
        if level < self._least:
            return
        self._lines.append(self._line(level, text))
        self._volume += len(text)
        if self._volume > _AT_ONCE or get_ident() != self._thread or self._ended():
            self.flush()
        elif not self._due:
            self._soon()

    def flush(self) -> None:
        """Writes what is gathered, as far as that goes without waiting."""
        with self._writing:
            lines = self._lines[:]
            taken = len(lines)
            telling = self._told
            if len(self._rest) > KEEP:
                self.lost += taken
            else:
                if self.lost > telling:
                    telling = self.lost
                    lines.append(self._line(WARNING, self._missing(telling)))
                self._rest += "".join(lines).encode("utf-8", "backslashreplace")
            del self._lines[:taken]  # another thread may have added one meanwhile
            self._volume = 0
            failed = self._write(telling) if self._rest else None
        if failed is not None and self.on_trouble is not None:
            self.on_trouble(failed)
        if self._rest:
            self._soon()

    def reopen(self) -> None:
        """What was gathered so far goes where it would have gone; then the outlet looks for its file again."""
        self.flush()
        with self._writing:
            self.outlet.reopen()

    def close(self) -> None:
        """The last of this log."""
        self.flush()
        with self._writing:
            self.outlet.close()

    def _write(self, telling: int) -> OSError | None:
        """Writes what it can; the rest waits for a slow reader, or is counted when there is no hope for it.

        The error, when it is the first one since writing worked.
        """
        try:
            done = self.outlet.write(self._rest)
        except OSError as error:
            self.lost += self._rest.count(b"\n") - (telling > self._told)
            self._rest = b""
            self.outlet.dropped()
            first, self._failing = not self._failing, True
            return error if first else None
        self._rest = self._rest[done:]
        self._told = telling
        if done:
            self._failing = False
        return None

    def _soon(self) -> None:
        """Writes (again) in 50 ms; without a loop whoever logs next does it."""
        if not self._due and self._loop is not None and get_ident() == self._thread and not self._ended():
            self._due = True
            self._loop.call_later(_GATHER, self._gathered)

    def _gathered(self) -> None:
        self._due = False
        self.flush()

    def _missing(self, count: int) -> str:
        return f"{_WORD[WARNING]}{count} lines of this log could not be written so far"

    def _line(self, level: int, text: str) -> str:
        return f"{self.outlet.front(level)}{self._name}{text}\n"


def named(name: str) -> str:
    """The name of this process as its lines have it."""
    return f"{name}[{os.getpid()}]"
