"""A file of the administrator's (aliases, users), read again when it has changed.

Promise:  asked as often as one likes it costs a look at the clock; at most once a second the file is looked at (stat),
          and only one that has changed is read. What was good stays good: a file that disappears, cannot be read, is no
          regular file, is too large or has a mistake leaves the content as it was, with one line in the log. `whole`
          is false when there never was a good one: then nobody may conclude from what is missing.
          A file that has changed within the last second is left to its writer, so that half of one is not taken.
On crash: nothing is kept; the next process reads the file as it is.
Callers:  routing.aliases, routing.mailboxes.
"""

import os
import stat
import time
from collections.abc import Callable
from typing import Generic, NamedTuple, TypeVar

from kmq import log

T = TypeVar("T")

#: Larger files are a mistake, and would hold the loop.
SIZE_LIMIT = 8 << 20
LOOKS = 1.0  #: seconds between two looks
SETTLED = 1.0  #: seconds without a change after which a file is taken

_OPEN = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC


class Content(NamedTuple, Generic[T]):
    """What a file says. broken: why it is not what it should be ("" when it is); value: what can be understood."""

    value: T
    broken: str = ""


class Watched(Generic[T]):
    """One file. understand: text -> Content, pure; empty: what counts while there is nothing.

    changes: grows with each content that is taken.
    """

    __slots__ = ("_next", "_signature", "_told", "_understand", "changes", "path", "value", "whole")

    def __init__(self, path: str, understand: Callable[[str], Content[T]], empty: T) -> None:
        self.path = path
        self.value = empty
        self.whole = False
        self.changes = 0
        self._understand = understand
        self._next = 0.0
        self._signature: tuple[int, ...] = ()
        self._told = ""

    def current(self) -> T:
        """What the file says, or said when it was last good."""
        now = time.monotonic()
        if now >= self._next:
            self._next = now + LOOKS
            self._look()
        return self.value

    def _look(self) -> None:
        try:
            found = os.stat(self.path)
            signature = (found.st_mtime_ns, found.st_size, found.st_ino, found.st_dev)
            if signature == self._signature:
                return
            if self.changes and 0 <= time.time() - found.st_mtime < SETTLED:
                return  # somebody writes
            content = self._understand(read_text(self.path))
        except (OSError, UnreadableFile) as error:
            why = error.strerror if isinstance(error, OSError) else str(error)
            self._signature = ()
            self._tell(f"cannot be read: {why}")
            return
        self._signature = signature
        self._take(content)

    def _take(self, content: Content[T]) -> None:
        self._tell(content.broken)
        if content.broken and self.whole:
            return
        self.value = content.value
        self.whole = not content.broken
        self.changes += 1

    def _tell(self, trouble: str) -> None:
        """Once for each trouble, and once when it is over."""
        if trouble == self._told:
            return
        self._told = trouble
        if not trouble:
            log.event("file-good-again", file=self.path)
        elif self.whole:
            log.warning("a file is not as it should be, what it said before counts on", file=self.path, why=trouble)
        else:
            log.warning("a file is not as it should be", file=self.path, why=trouble)


class UnreadableFile(ValueError):
    """It is no text file of a reasonable size; the text says why."""


def read_text(path: str, more: int = 0) -> str:
    """The text of a regular file, OSError or UnreadableFile. more: flags, such as O_NOFOLLOW. A FIFO does not block."""
    fd = os.open(path, _OPEN | more)
    with open(fd, "rb") as file:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise UnreadableFile("it is no regular file")
        text = file.read(SIZE_LIMIT + 1)
    if len(text) > SIZE_LIMIT:
        raise UnreadableFile(f"it has more than {SIZE_LIMIT >> 20} MiB")
    try:
        return text.decode()
    except UnicodeDecodeError as wrong:
        line = text.count(b"\n", 0, wrong.start) + 1
        raise UnreadableFile(f"line {line}: byte {text[wrong.start]:#x} is not UTF-8") from None
