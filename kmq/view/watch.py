"""A picture that is drawn again when something changes, until the reader has seen enough (q, or Ctrl-C).

Does:     one poll on all that may be the reason for another picture: the bell of the spool (spool/bell), a key, a new
          size of the terminal, and a reader at the other end of a pipe who has gone.
Promise:  while nothing changes nothing runs: no system call at all. A change is drawn within a second: kmqd rings
          within a quarter, and pictures are half a second apart, further only where drawing took long, so that it
          takes at most a fifth of the time. What moves by itself (`restless`: a time that runs, a rate) is drawn each
          second, and so is everything where the kernel tells nothing; then the picture says so.
          On a pipe the pictures follow each other with an empty line between.
Callers:  kmq.cli.
"""

import contextlib
import io
import select
import time
from collections.abc import Callable, Iterable
from itertools import islice
from pathlib import Path
from typing import TextIO

from kmq.errors import SpoolError
from kmq.spool.bell import Bell
from kmq.view.screen import Screen, is_screen
from kmq.view.table import Page, page_of
from kmq.view.words import elided

#: Seconds between two pictures of what moves by itself.
EVERY = 1.0
#: Seconds from one picture to the next at least, and the part of the time that drawing may take.
LEAST = 0.5
PART = 5

Picture = Callable[[Page], Iterable[str]]

_CHANGES = "drawn again when something changes"
_SECONDS = "drawn again every second"


def still() -> bool:
    """Nothing in the picture moves by itself."""
    return False


def watch(picture: Picture, out: TextIO, folder: Path, restless: Callable[[], bool] = still) -> None:
    """Draws `picture` until the reader has seen enough; no more lines than the terminal has.

    folder: the spool's status folder; restless: asked after each picture, whether it moves by itself.
    """
    with contextlib.suppress(KeyboardInterrupt), Screen(out) as screen:
        watcher = _Watch(picture, out, screen, folder)
        try:
            while watcher.turn(restless):
                pass
        finally:
            watcher.close()


class _Watch:
    def __init__(self, picture: Picture, out: TextIO, screen: Screen, folder: Path) -> None:
        self._picture = picture
        self._out = out
        self._screen = screen
        self._folder = folder
        self._bell: Bell | None = None
        self._deaf = ""
        self._not_before = 0.0
        self._poll = select.poll()
        self._poll.register(screen.woken, select.POLLIN)
        self._listener = _descriptor(out)
        if screen.keys >= 0:
            self._poll.register(screen.keys, select.POLLIN)
        if self._listener >= 0:
            self._poll.register(self._listener, 0)  # told all the same: that nobody reads any more

    def close(self) -> None:
        if self._bell is not None:
            self._bell.close()
            self._bell = None

    def turn(self, restless: Callable[[], bool]) -> bool:
        """One picture and the wait for the next; False when the reader has seen enough."""
        self._listen()
        begun = time.monotonic()
        self._draw()
        ended = time.monotonic()
        self._not_before = ended + max(LEAST, (PART - 1) * (ended - begun))
        by_itself = restless() or self._bell is None
        return self._wait(max(self._not_before, begun + EVERY) if by_itself else None)

    # --- drawing -------------------------------------------------------------------------------------------------

    def _draw(self) -> None:
        page = page_of(self._out)
        if not (page.lines and is_screen(self._out)):
            said = f"{_SECONDS}: {self._deaf}" if self._deaf else ""
            self._out.writelines(f"{line}\n" for line in [*self._picture(page), *filter(None, (said,)), ""])
        else:
            room = max(1, page.lines - 1)
            seen = list(islice(self._picture(page._replace(lines=room)), room))
            blank = [""] * (room - len(seen))
            self._screen.draw([*seen, *blank, elided(self._foot(), page.columns)])
        self._out.flush()

    def _foot(self) -> str:
        now = time.strftime("%H:%M:%S")
        if self._deaf:
            return f"{now}  {_SECONDS}; q ends  ({self._deaf})"
        return f"{now}  {_CHANGES}; q ends"

    # --- waiting -------------------------------------------------------------------------------------------------

    def _listen(self) -> None:
        """A bell, also where there was none before: the folder comes with the first start of kmqd."""
        if self._bell is None:
            try:
                self._bell = Bell(self._folder)
            except SpoolError as deaf:
                self._deaf = str(deaf)
            else:
                self._deaf = ""
                self._poll.register(self._bell, select.POLLIN)

    def _wait(self, deadline: float | None) -> bool:
        """Until there is something to draw, at `deadline` at the latest; False when the reader has seen enough."""
        while deadline is None or time.monotonic() < deadline:
            pause = None if deadline is None else 1000 * (deadline - time.monotonic()) + 1
            for descriptor, _ in self._poll.poll(pause):
                if descriptor == self._listener:
                    return False
                if descriptor == self._screen.keys:
                    pressed = self._screen.pressed()
                    if not pressed or pressed in (b"q", b"Q"):
                        return False
                    deadline = 0.0
                elif descriptor == self._screen.woken:
                    self._screen.heed()
                    deadline = 0.0
                elif self._rang():
                    deadline = self._not_before if deadline is None else min(deadline, self._not_before)
        return True

    def _rang(self) -> bool:
        """Whether the bell rang; one that is lost is a change."""
        assert self._bell is not None
        try:
            return self._bell.rang()
        except SpoolError:
            self._poll.unregister(self._bell)
            self.close()
            return True


def _descriptor(out: TextIO) -> int:
    """Of where pictures go; -1 when it has none."""
    try:
        return out.fileno()
    except (OSError, io.UnsupportedOperation):
        return -1
