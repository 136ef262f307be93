"""`--ids-from FILE`: messages by a list, one a line, as kmq prints them.

Shape:    a line is an ID, an Identity (`Server\\Queue\\ID`), or a JSON object that `kmq --json` printed: of a listing,
          of `--what-if`, or of what a verb did. Empty lines and those that begin with # say nothing.
Promise:  nothing is done before every line has been understood: the first that is none is told with its number.
Callers:  kmq.cli.act.
"""

import json
import sys
from argparse import ArgumentTypeError
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TextIO

from kmq.admin.choice import Named
from kmq.cli.parser import identity
from kmq.errors import UsageError

#: Characters of a line; the longest is an object with a thousand recipients.
_LONGEST = 1 << 20


def read(path: str) -> list[Named]:
    """The names in a file, or on standard input (`-`). UsageError."""
    shown = "standard input" if path == "-" else path
    try:
        with _opened(path) as file:
            return list(_names(file, shown))
    except OSError as error:
        raise UsageError(f"{shown} cannot be read: {error.strerror}") from None


@contextmanager
def _opened(path: str) -> Iterator[TextIO]:
    if path == "-":
        sys.stdin.reconfigure(errors="replace")  # type: ignore[union-attr]
        yield sys.stdin
        return
    with open(path, encoding="utf-8", errors="replace") as file:
        yield file


def _names(lines: Iterable[str], shown: str) -> Iterator[Named]:
    for number, line in enumerate(lines, 1):
        text = line.strip()
        if not text or text[0] == "#":
            continue
        try:
            yield Named(*(_of_object(text) if text[0] == "{" else identity(text)[:2]))
        except (ArgumentTypeError, ValueError) as wrong:
            raise UsageError(f"{shown}:{number}: {wrong}") from None


def _of_object(text: str) -> tuple[str, str]:
    """A listing names queue and message by Identity, and the queue beyond doubt by NextHop; an answer has an ID."""
    if len(text) > _LONGEST:
        raise ValueError("this line is longer than any of kmq's")
    try:
        found = json.loads(text)
    except RecursionError:
        raise ValueError("this is no object that kmq printed") from None
    name = found.get("Identity") or found.get("ID")
    if not isinstance(name, str):
        raise ValueError("this object has neither an Identity nor an ID: kmq --json mailq prints such")
    queue, one, _ = identity(name)
    hop = found.get("NextHop")
    return (hop if isinstance(hop, str) else queue), one
