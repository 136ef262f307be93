"""One page of what a selection finds, as most tests want it."""

from dataclasses import dataclass, field
from typing import Unpack

from kmq.admin.circumstances import Circumstances
from kmq.admin.selection import PAGE, Row, Selection, Wish
from kmq.config import Settings


@dataclass(slots=True)
class Page:
    """rows: of this page; total: rows that are asked for, on all pages; as_of: Unix time of which this view is.

    bookmark: where the next page begins, "" when there is none.
    """

    rows: list[Row] = field(default_factory=list)
    total: int = 0
    as_of: float = 0.0
    bookmark: str = ""


def select(settings: Settings, around: Circumstances, **wish: Unpack[Wish]) -> Page:
    """One page."""
    with Selection(settings, around, wish) as found:
        page = Page(total=found.totals.rows, as_of=found.as_of)
        page.rows, page.bookmark = found.page(wish.get("limit", PAGE), wish.get("bookmark", ""))
        return page
