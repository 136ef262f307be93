"""A terminal that a program has for itself for a while: its size, its keys, its signals.

What:     the screen behind the one that the person works on, so that what stood there is back afterwards; keys come
          without Enter; a new size, and the return from Ctrl-Z, wake who polls.
Promise:  the terminal is as it was when the block is left, also by an exception, SIGTERM or SIGHUP. A pipe, a file and
          a terminal that is none (TERM=dumb) are left alone. Plain codes of ECMA-48 and xterm, no library.
On crash: SIGKILL leaves the terminal without echo: `reset` mends it.
Callers:  kmq.view.watch.
"""

import contextlib
import errno
import os
import signal
import sys
import termios
import tty
from collections.abc import Callable
from types import FrameType
from typing import Final, TextIO

Handler = Callable[[int, FrameType | None], object] | int | None

#: Behind the usual screen, no cursor, lines end at the right edge; and back.
_ENTER: Final = "\x1b[?1049h\x1b[?25l\x1b[?7l\x1b[2J"
_LEAVE: Final = "\x1b[?7h\x1b[?25h\x1b[?1049l"
_HOME, _REST_OF_LINE, _REST_OF_SCREEN = "\x1b[H", "\x1b[K", "\x1b[J"

_ENDING: Final = (signal.SIGTERM, signal.SIGHUP)
_WAKING: Final = (signal.SIGWINCH, signal.SIGCONT)


def is_screen(out: TextIO) -> bool:
    """Whether pictures can be drawn over each other on it."""
    return out.isatty() and os.environ.get("TERM") != "dumb"


class Screen:
    """As a context: a terminal taken over. keys: the descriptor that keys come from, -1 for none; woken: one that is
    readable when a signal came.
    """

    def __init__(self, out: TextIO) -> None:
        self.keys = -1
        self.woken, self._wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._out = out
        self._drawn_on = is_screen(out)
        self._before: list[int | list[bytes | int]] | None = None
        self._handlers: dict[int, Handler] = {}
        self._wakeup = -1

    def __enter__(self) -> "Screen":
        self._wakeup = signal.set_wakeup_fd(self._wake, warn_on_full_buffer=False)
        for number in _WAKING:
            self._handle(number, lambda *_: None)
        for number in _ENDING:
            self._handle(number, _end)
        if self._drawn_on:
            self._handle(signal.SIGTSTP, self._step_aside)
            self._take()
        return self

    def __exit__(self, *_: object) -> None:
        if self._drawn_on:
            self._give_back()
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._wakeup)
        os.close(self.woken)
        os.close(self._wake)

    def draw(self, lines: list[str]) -> None:
        """One picture in one write, over the last one."""
        body = f"{_REST_OF_LINE}\r\n".join(lines)
        self._out.write(f"{_HOME}{body}{_REST_OF_LINE}{_REST_OF_SCREEN}")

    def pressed(self) -> bytes:
        """The keys that were pressed; b"" when the terminal is gone."""
        try:
            return os.read(self.keys, 64)
        except OSError:
            return b""

    def heed(self) -> None:
        """Forgets the signals that came."""
        with contextlib.suppress(BlockingIOError):
            while os.read(self.woken, 64):
                pass

    def _handle(self, number: int, handler: Callable[[int, FrameType | None], object]) -> None:
        self._handlers[number] = signal.signal(number, handler)

    def _take(self) -> None:
        """The screen is ours, and the keys when we stand in the foreground."""
        if self._foreground():
            self.keys = sys.stdin.fileno()
            self._before = termios.tcgetattr(self.keys)
            tty.setcbreak(self.keys)
        self._out.write(_ENTER)
        self._out.flush()

    def _give_back(self) -> None:
        with contextlib.suppress(OSError, termios.error):  # a terminal that is gone
            self._out.write(_LEAVE)
            self._out.flush()
            if self._before is not None:
                termios.tcsetattr(self.keys, termios.TCSADRAIN, self._before)

    def _step_aside(self, *_: object) -> None:
        """Ctrl-Z: the person gets the terminal, and we stop until `fg`."""
        self._give_back()
        os.kill(os.getpid(), signal.SIGSTOP)
        self._take()

    @staticmethod
    def _foreground() -> bool:
        """Whether keys come to us: somebody in the background who takes them is stopped."""
        try:
            return sys.stdin.isatty() and os.tcgetpgrp(sys.stdin.fileno()) == os.getpgrp()
        except OSError as error:
            return error.errno == errno.ENOTTY  # not the terminal of our session: it has no background for us
        except ValueError:  # closed, or no file
            return False


def _end(number: int, _: FrameType | None) -> None:
    """Ends the program as a shell counts it, through every `finally` on the way."""
    sys.exit(128 + number)
