"""Which messages, and which queues: what an operator asks for, one page at a time.

Shapes:   a row of messages is (message, queue): the share; its properties bear Exchange's names (Get-Message). A row of
          queues is one queue (Get-Queue). A filter is a text of the filter language (admin/filter_tree); an order is
          `+Size,-DateReceived`; ties are broken by identity, so that pages follow each other without gap or repeat.
Promise:  looks only: no lock, no change, and it works while kmqd is stopped. FilterError (exit status 2) for a mistake
          in filter, order or bookmark, with its place and the names that exist.
On crash: nothing is held, nothing is written.
Callers:  kmq.cli, kmq.admin (the verbs act on what is selected here).
"""

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TypedDict, Unpack

from kmq.admin.circumstances import Circumstances
from kmq.admin.listing import is_named, listed, properties
from kmq.config import Settings
from kmq.errors import FilterError
from kmq.spool.look import walk

#: Rows of a page when nobody says how many (Exchange's result size), and the most that one page has.
PAGE = 1000
MOST = 250_000


@dataclass(slots=True)
class Row:
    """id: of the message; hop: the text of the next hop of the queue; properties: by Exchange's names."""

    id: str
    hop: str
    properties: Mapping[str, object]


@dataclass(slots=True)
class Page:
    """rows: of this page; total: rows that the filter matches, on all pages; as_of: Unix time of which this view is.

    bookmark: where the next page begins, "" when there is none.
    """

    rows: list[Row] = field(default_factory=list)
    total: int = 0
    as_of: float = 0.0
    bookmark: str = ""


class Wish(TypedDict, total=False):
    """What of it is asked for.

    filter: in the filter language; queue: its name, or the text of its next hop; sort: `+Size,-DateReceived`; limit: rows
    of the page, 0 for all; bookmark: of the page before this one. What is left out asks for nothing special.
    """

    filter: str
    queue: str
    sort: str
    limit: int
    bookmark: str


def select(settings: Settings, around: Circumstances, **wish: Unpack[Wish]) -> Page:
    """Messages in queues."""
    for name in ("filter", "sort", "bookmark"):
        if wish.get(name):
            raise FilterError(f"{name} is not known yet")
    limit = wish.get("limit", PAGE)
    rows = list(_rows(settings, around, wish.get("queue", "")))
    return Page(rows[:limit] if limit else rows, len(rows), time.time())


def _rows(settings: Settings, around: Circumstances, queue: str) -> Iterator[Row]:
    for found in walk(settings.kmq.spool):
        entry = listed(found, around)
        for share in entry.shares:
            if not queue or is_named(share.hop, queue):
                yield Row(entry.id, str(share.hop), properties(entry, share, around))
