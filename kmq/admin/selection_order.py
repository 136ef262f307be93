"""In which order rows come, and where the next page begins.

Shape:    `+FromAddress,-Size`: names with + or nothing for rising, - for falling. Identity is always the last key, so
          that each row has one place. A bookmark is the place of the last row of a page: its keys, for the same order.
Promise:  mail that comes and goes between two pages makes no row of the rest come twice or not at all.
Callers:  selection.
"""

import base64
import json
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from kmq.admin.filter_names import Property, Table
from kmq.admin.filter_values import Kind, amount
from kmq.admin.filter_words import existing
from kmq.errors import FilterError

#: Keys of one order.
_KEYS = 8

#: What none counts as: less than any figure.
_NONE = -9e15

#: Figures are less: an ID, or nanoseconds.
_MOST = 1 << 63

_FIGURES = frozenset({Kind.NUMBER, Kind.SIZE, Kind.TIME, Kind.SPAN})


class Key(NamedTuple):
    """One property, and whether the greatest comes first."""

    by: Property
    falling: bool

    @property
    def column(self) -> str:
        """As SQL compares it."""
        none = _NONE if self.by.kind in _FIGURES else "''"
        return f'ifnull("{self.by.name}", {none})'

    @property
    def collation(self) -> str:
        """How SQL compares it."""
        return "" if self.by.kind in _FIGURES else " COLLATE NOCASE"

    def of(self, properties: Mapping[str, object]) -> float | str:
        """The same of properties by name."""
        told = properties.get(self.by.name)
        if self.by.kind in _FIGURES:
            figure = amount(told)
            return _NONE if figure is None else figure
        return "" if told is None else str(told).casefold()


def keys(text: str, table: Table) -> list[Key]:
    """The keys of an order; FilterError for a name that does not exist."""
    found: list[Key] = []
    for part in text.split(",") if text.strip() else []:
        name = part.strip()
        falling = name.startswith("-")
        known = table.get(name.lstrip("+-"))
        if known is None or name[:2] in ("++", "--", "+-", "-+"):
            near = table.like(name.lstrip("+-"))
            meant = f"; {near}?" if near else ""
            what = f"{name[:40]!r} in the order {text[:60]!r} is no property of {table.subject}{meant}"
            raise FilterError("\n".join([what, "an order is like +FromAddress,-Size;", *existing(table.names)]))
        found.append(Key(known, falling))
    if len(found) > _KEYS:
        raise FilterError(f"an order has at most {_KEYS} properties")
    return found


def bookmark(place: Sequence[object], sort: str) -> str:
    """A place as a text without blanks."""
    text = json.dumps([sort, *place], separators=(",", ":"))
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def place(text: str, sort: str, length: int) -> list[float | str]:
    """The place of a bookmark; FilterError when it is none, or one of another order."""
    try:
        found = json.loads(base64.urlsafe_b64decode(text.encode("ascii") + b"=" * (-len(text) % 4)))
    except (ValueError, RecursionError):
        raise FilterError(f"{text[:40]!r} is no bookmark (the end of a page tells it)") from None
    good = isinstance(found, list) and len(found) == length + 1
    if not good or not all(map(_is_key, found)):
        raise FilterError(f"{text[:40]!r} is no bookmark of this order (the end of a page tells it)")
    if found[0] != sort:
        raise FilterError("the bookmark belongs to another order: give the same --sort as for the page before")
    return list(found[1:])


def _is_key(one: object) -> bool:
    """Whether this can be in a bookmark: a text, or a figure that a database has."""
    if isinstance(one, str):
        return one.isascii() or not any("\ud800" <= sign <= "\udfff" for sign in one)
    return isinstance(one, int | float) and not isinstance(one, bool) and abs(one) < _MOST
