"""Which messages an operator asks for: by filter, by queue, in an order, a page at a time or all.

Shapes:   a row is (message, queue): the share; its properties bear Exchange's names (Get-Message). A filter is a text
          of the filter language (admin/filter_tree); an order is `+Size,-DateReceived`; ties are broken by identity,
          so that pages follow each other without gap or repeat.
Promise:  looks only: no lock, no change, and it works while kmqd is stopped. FilterError (exit status 2) for a mistake
          in filter, order or bookmark, with its place and the names that exist.
On crash: nothing is held, nothing is written.
Callers:  kmq.cli, kmq.admin (the verbs act on what is selected here); selection_queues for queues.
"""

import sqlite3
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, TypedDict

from kmq.admin import circumstances, selection_source, selection_view
from kmq.admin.circumstances import Circumstances
from kmq.admin.filter_names import MESSAGE
from kmq.admin.selection_hits import Hits, Totals
from kmq.admin.selection_order import bookmark as bookmarked
from kmq.admin.selection_order import keys, place
from kmq.admin.selection_rows import LINE, ROW, Line, One, Row, Shape
from kmq.admin.selection_source import Source
from kmq.config import Settings
from kmq.model import queue_id
from kmq.spool.index_rows import mid_of

if TYPE_CHECKING:
    from kmq.admin.filter_tree import Node

__all__ = ["MOST", "PAGE", "Row", "Selection", "Wish"]

#: Rows of a page when nobody says how many (Exchange's result size), and the most that one page has.
PAGE = 1000
MOST = 250_000

#: Messages in hand of which kmqd is asked for which of their queues.
_ASKED = 1000


class Wish(TypedDict, total=False):
    """What is asked for.

    filter: in the filter language; queue: its name, or the text of its next hop; include, exclude: kinds of queues
    (filter_shorthand); sort: `+Size,-DateReceived`; limit: rows of the page, 0 for as many as a page can have;
    bookmark: of the page before this one. What is left out asks for nothing special.
    """

    filter: str
    queue: str
    include: Sequence[str]
    exclude: Sequence[str]
    sort: str
    limit: int
    bookmark: str


class Selection:
    """What is asked for, as of one moment, until it is closed. around: also learns who has what in hand; late: as
    selection_source has it."""

    def __init__(self, settings: Settings, around: Circumstances, wish: Wish, late: bool = False) -> None:
        node = _tree(wish, around.now)
        self._order = keys(wish.get("sort", ""), MESSAGE)
        self._sort = wish.get("sort", "").replace(" ", "").lower()
        self._behind = self._place(wish.get("bookmark", ""))
        self._settings, self._around = settings, around
        try:
            self._begin(selection_source.opened(settings.kmq.spool, around, late), node, wish.get("queue", ""))
        except sqlite3.DatabaseError:  # the index is damaged, and kmqd has not noticed yet
            self._connection.close()
            self._begin(selection_source.from_files(settings.kmq.spool), node, wish.get("queue", ""))

    def _begin(self, source: Source, node: "Node | None", queue: str) -> None:
        self._connection, self.as_of = source
        _ask_who_has_what(self._connection, self._settings, self._around)
        with selection_source.stoppable(self._connection):
            selection_view.spread(self._connection, self._settings, self._around)
            self._hits = Hits(self._connection, node, queue, self._order)
            self.totals: Totals = self._hits.totals()

    def __enter__(self) -> "Selection":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._connection.close()

    def _place(self, bookmark: str) -> list[float | str]:
        return place(bookmark, self._sort, len(self._order) + 2) if bookmark else []

    def page(self, limit: int = PAGE, bookmark: str = "") -> tuple[list[Row], str]:
        """Rows, and the bookmark of what follows, "" when nothing does."""
        return self._page(limit, bookmark, ROW)

    def page_of_lines(self, limit: int, bookmark: str = "") -> tuple[list[Line], str]:
        """The same with what a list shows: half of the work."""
        return self._page(limit, bookmark, LINE)

    def bookmark_behind(self, last: Line) -> str:
        """That of what follows this line of the last page."""
        return bookmarked(self._hits.place_of(last.mid, last.hop), self._sort)

    def _page(self, limit: int, bookmark: str, shape: Shape[One]) -> tuple[list[One], str]:
        found, last = self._hits.page(self._place(bookmark), min(limit or MOST, MOST), shape)
        return found, bookmarked(last, self._sort) if last else ""

    def rows(self) -> Iterator[Row]:
        """All of them, in order."""
        return self._hits.rows(ROW)

    def lines(self) -> Iterator[Line]:
        """The same with what a list shows."""
        return self._hits.rows(LINE)

    def names(self) -> Iterator[tuple[str, str]]:
        """(ID, text of the next hop) of all, in order: a tenth of the work."""
        return self._hits.names()

    def by_queue(self) -> Iterator[tuple[str, int, float | None]]:
        """(text of the next hop, messages, Unix time of the next attempt of any) of each queue."""
        return self._hits.by_queue()

    def unserved(self) -> tuple[int, list[str]]:
        """How many messages wait for a connector, and some of their addresses."""
        return self._hits.unserved()


def _tree(wish: Wish, now: float) -> "Node | None":
    if not any(wish.get(name) for name in ("filter", "include", "exclude")):
        return None
    from kmq.admin.filter_shorthand import narrowed  # 10 ms that a plain list need not cost
    from kmq.admin.filter_tree import parse

    node = parse(wish.get("filter", ""), MESSAGE, now)
    return narrowed(node, wish.get("include", ()), wish.get("exclude", ()), MESSAGE)


def _ask_who_has_what(connection: sqlite3.Connection, settings: Settings, around: Circumstances) -> None:
    """The status files say which messages are in hand, not for which of their queues: kmqd knows that."""
    count = "SELECT count(*) FROM share WHERE mid = ?"
    several = [
        name
        for name in list(around.in_hand)[:_ASKED]
        if queue_id.PATTERN.fullmatch(name)
        and connection.execute(count, (mid_of(queue_id.parse(name)),)).fetchone()[0] > 1
    ]
    if several:
        circumstances.inquire(around, settings.kmq.run_directory, several)
