"""A terminal of a given size, as a program sees one."""

import fcntl
import os
import struct
import termios
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO


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
