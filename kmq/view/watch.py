"""A screen that is drawn again and again, until the reader has seen enough (Ctrl-C).

Promise:  plain terminal codes, no library; on a pipe the pictures follow each other with an empty line between.
Callers:  kmq.cli.
"""

import contextlib
import time
from collections.abc import Callable, Iterable
from itertools import islice
from typing import TextIO

from kmq.view.table import Page, page_of

#: Seconds between two pictures.
EVERY = 1.0

_HOME, _CLEAR, _REST_OF_LINE, _REST_OF_SCREEN = "\x1b[H", "\x1b[2J", "\x1b[K", "\x1b[J"


def pause() -> None:
    """Waits for the next picture."""
    time.sleep(EVERY)


def watch(picture: Callable[[Page], Iterable[str]], out: TextIO, wait: Callable[[], None] = pause) -> None:
    """Draws `picture` until KeyboardInterrupt; no more lines than the terminal has."""
    with contextlib.suppress(KeyboardInterrupt):
        if page_of(out).lines:
            out.write(_CLEAR)
        while True:
            page = page_of(out)
            _draw(picture(page), page, out)
            out.flush()
            wait()


def _draw(lines: Iterable[str], page: Page, out: TextIO) -> None:
    if not page.lines:
        out.writelines(f"{line}\n" for line in [*lines, ""])
        return
    seen = islice(lines, max(1, page.lines - 1))
    out.write(_HOME + "".join(f"{line}{_REST_OF_LINE}\n" for line in seen) + _REST_OF_SCREEN)
