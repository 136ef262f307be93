"""Values of several rows, each of which says something by itself: the conditions and actions of rules.

Promise:  each mistake is told with the line of its own row. `${name}` of a placeholder, which is filled in for each
          message, is left as it is where references to other options are filled in, and so is a $ alone: it is
          the end of a text in regular expressions.
Callers:  `rule`, which declares options with it; `reading` and `printed`, which know such values by their kind.
"""

import re
from collections.abc import Callable, Iterable
from typing import TypeVar

from kmq.config.kinds import Kind

T = TypeVar("T")

#: Rows of one value.
MOST = 100

_DOLLAR = re.compile(r"\$\$|\$\{([^}:]*)\}|\$(?!\{)")


class Misread(ValueError):
    """Mistakes of some rows. rows: (row, counted from 0; what is wrong)."""

    def __init__(self, rows: list[tuple[int, str]]) -> None:
        super().__init__("; ".join(text for _, text in rows))
        self.rows = rows


class Rows(Kind[tuple[T, ...]]):
    """placeholders: names that stand for something of each message."""

    __slots__ = ("placeholders",)

    def __init__(self, shape: str, one: Callable[[str], T], placeholders: Iterable[str] = ()) -> None:
        super().__init__(shape, lambda text: _each(text, one))
        self.placeholders = frozenset(placeholders)

    def kept(self, text: str) -> str:
        """The same text, so written that filling in leaves the placeholders."""

        def dollar(found: re.Match[str]) -> str:
            return f"${found[0]}" if found[0] == "$" or found[1] in self.placeholders else found[0]

        return _DOLLAR.sub(dollar, text)


def _each(text: str, one: Callable[[str], T]) -> tuple[T, ...]:
    rows = text.split("\n") if text else []
    if len(rows) > MOST:
        raise ValueError(f"{len(rows)} lines are too many: at most {MOST}")
    found: list[T] = []
    wrong: list[tuple[int, str]] = []
    for place, row in enumerate(rows):
        try:
            found.append(one(row.strip()))
        except ValueError as mistake:
            wrong.append((place, str(mistake)))
    if wrong:
        raise Misread(wrong)
    return tuple(found)
