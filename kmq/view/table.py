"""Tables for people: aligned columns, cut to the terminal's width, never when the output goes into a pipe or a file.

What:     rows come one by one and may be a million: the first ones are looked at to find the widths, then rows are
          written as they come. A later cell that is wider than its column pushes its row to the right when piped.
Promise:  every cell is harmless text. On a terminal no line is longer than it is wide. Colours only there, and not when
          NO_COLOR is set (no-color.org) or TERM is dumb.
Callers:  kmq.view, kmq.cli.
"""

import os
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice
from typing import NamedTuple, TextIO

from kmq.view.words import elided, harmless, width

#: Rows that are looked at for the widths of columns.
SAMPLE = 500

#: A column that may shrink keeps so many columns at least.
_LEAST = 8

_GAP = "  "
_INDENT = "    "
BOLD, RED, YELLOW, PLAIN = "\x1b[1m", "\x1b[31m", "\x1b[33m", "\x1b[0m"


class Column(NamedTuple):
    """A title; right: figures stand right; elastic: may be cut when the terminal is too narrow."""

    title: str
    right: bool = False
    elastic: bool = False


class Row(NamedTuple):
    """Cells in the order of the columns. below: a line of its own under them; tone: the colour of what stands last."""

    cells: Sequence[str]
    tone: str = ""
    below: str = ""


class Page(NamedTuple):
    """Where a table goes. columns, lines: of the terminal, 0 when there is none (nothing is cut)."""

    columns: int = 0
    lines: int = 0
    colours: bool = False


def page_of(out: TextIO) -> Page:
    """The page that `out` is: a terminal's size and whether colours are welcome, or an endless plain page."""
    if not out.isatty():
        return Page()
    try:
        size = os.get_terminal_size(out.fileno())
    except OSError:
        return Page()
    colours = not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    return Page(size.columns, size.lines, colours)


def table(columns: Sequence[Column], rows: Iterable[Row], page: Page) -> Iterator[str]:
    """The lines of a table with its titles; nothing at all when there are no rows."""
    coming = map(_harmless, rows)
    sample = list(islice(coming, SAMPLE))
    if not sample:
        return
    widths = _widths(columns, sample, page)
    titles = _line(columns, [column.title for column in columns], widths, page)
    yield f"{BOLD}{titles}{PLAIN}" if page.colours else titles
    form = "" if page.columns or page.colours else _form(columns, widths)
    for row in chain(sample, coming):
        if form and "".join(row.cells).isascii():
            yield form.format(*row.cells).rstrip()
        else:
            yield _line(columns, row.cells, widths, page, "" if row.below else row.tone)
        if row.below:
            yield _below(row, page)


def _harmless(row: Row) -> Row:
    """The same row as one that may be shown; nearly all may."""
    if "".join(row.cells).isprintable() and row.below.isprintable():
        return row
    return Row([harmless(cell) for cell in row.cells], row.tone, harmless(row.below))


def _form(columns: Sequence[Column], widths: list[int]) -> str:
    """What `_line` does where nothing is cut or coloured and each character takes one column, in one go: a list that
    goes into a pipe may have a million lines."""
    return _GAP.join(f"{{:{'>' if column.right else '<'}{room}}}" for column, room in zip(columns, widths, strict=True))


def _widths(columns: Sequence[Column], sample: list[Row], page: Page) -> list[int]:
    widths = [
        max(width(column.title), max(width(row.cells[at]) for row in sample)) for at, column in enumerate(columns)
    ]
    excess = sum(widths) + len(_GAP) * (len(widths) - 1) - page.columns
    if page.columns and excess > 0:
        _shrink(widths, [at for at, column in enumerate(columns) if column.elastic], excess)
    return widths


def _shrink(widths: list[int], elastic: list[int], excess: int) -> None:
    """Takes columns away, one by one, from the widest of those that may shrink."""
    while excess > 0 and elastic:
        widest = max(elastic, key=lambda at: widths[at])
        if widths[widest] <= _LEAST:
            return
        widths[widest] -= 1
        excess -= 1


def _below(row: Row, page: Page) -> str:
    text = elided(row.below, page.columns - len(_INDENT)) if page.columns else row.below
    return f"{_INDENT}{row.tone}{text}{PLAIN}" if row.tone and page.colours else f"{_INDENT}{text}"


def _line(columns: Sequence[Column], cells: Sequence[str], widths: list[int], page: Page, tone: str = "") -> str:
    parts = []
    for column, cell, room in zip(columns, cells, widths, strict=True):
        text = elided(cell, room) if page.columns and column.elastic else cell
        space = " " * (room - width(text))
        parts.append(space + text if column.right else text + space)
    parts[-1] = parts[-1].rstrip()
    line = _GAP.join(parts).rstrip()
    if page.columns and width(line) > page.columns:
        return elided(line, page.columns)
    if tone and page.colours:
        return f"{_GAP.join(parts[:-1])}{_GAP}{tone}{parts[-1]}{PLAIN}"
    return line
