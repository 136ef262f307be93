"""Which messages, and which queues: what an operator asks for, one page at a time.

Shapes:   a row of messages is (message, queue): the share; its properties bear Exchange's names (Get-Message). A row of
          queues is one queue (Get-Queue). A filter is a text of the filter language (admin/filter_tree); an order is
          `+Size,-DateReceived`; ties are broken by identity, so that pages follow each other without gap or repeat.
Promise:  looks only: no lock, no change, and it works while kmqd is stopped. FilterError (exit status 2) for a mistake
          in filter, order or bookmark, with its place and the names that exist.
On crash: nothing is held, nothing is written.
Callers:  kmq.cli, kmq.admin (the verbs act on what is selected here).
"""

import json
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypedDict, Unpack

from kmq.admin import circumstances, selection_source, selection_view
from kmq.admin.circumstances import Circumstances
from kmq.admin.filter_names import MESSAGE
from kmq.admin.filter_sql import condition
from kmq.admin.filter_tree import Node, parse
from kmq.admin.filter_values import Kind
from kmq.admin.listing import utc
from kmq.admin.selection_order import Key, bookmark, keys, place
from kmq.config import Settings
from kmq.model import queue_id
from kmq.model.hop import DeliveryType

#: Rows of a page when nobody says how many (Exchange's result size), and the most that one page has.
PAGE = 1000
MOST = 250_000

#: Messages that several workers may have in hand: who has which of their queues is asked of kmqd.
_ASKED = 1000


@dataclass(slots=True)
class Row:
    """id: of the message; hop: the text of the next hop of the queue; properties: by Exchange's names.

    to: addresses that wait there; next_try: Unix time, 0.0 for as soon as possible, None for not before somebody does
    something; queue_status: of the whole queue, "" when nobody knows.
    """

    id: str
    hop: str
    properties: Mapping[str, object]
    to: list[str] = field(default_factory=list)
    next_try: float | None = 0.0
    queue_status: str = ""


@dataclass(slots=True)
class Page:
    """rows: of this page; total: rows that are asked for, on all pages; as_of: Unix time of which this view is.

    messages, volume: how many messages these rows are of, and their bytes together.
    bookmark: where the next page begins, "" when there is none.
    """

    rows: list[Row] = field(default_factory=list)
    total: int = 0
    as_of: float = 0.0
    bookmark: str = ""
    messages: int = 0
    volume: int = 0


class Wish(TypedDict, total=False):
    """What of it is asked for.

    filter: in the filter language; queue: its name, or the text of its next hop; sort: `+Size,-DateReceived`; limit:
    rows of the page, 0 for all; bookmark: of the page before this one. What is left out asks for nothing special.
    """

    filter: str
    queue: str
    sort: str
    limit: int
    bookmark: str


def select(settings: Settings, around: Circumstances, **wish: Unpack[Wish]) -> Page:
    """Messages in queues."""
    node = parse(wish.get("filter", ""), MESSAGE, around.now)
    sort = wish.get("sort", "").replace(" ", "").lower()
    order = keys(sort, MESSAGE)
    after = place(wish["bookmark"], sort, len(order) + 2) if wish.get("bookmark") else []
    source = selection_source.opened(settings.kmq.spool, around)
    try:
        ask_who_has_what(source.connection, settings, around)
        selection_view.spread(source.connection, settings, around)
        chosen = _Choice(source.connection, node, wish.get("queue", ""), order)
        page = Page(as_of=source.as_of)
        page.total, page.messages, page.volume = chosen.totals()
        limit = wish.get("limit", PAGE) or MOST
        found = chosen.after(after, limit)
        page.rows = [_row(one[len(order) :]) for one in found[:limit]]
        if len(found) > limit:
            last = page.rows[-1]
            page.bookmark = bookmark([*found[limit - 1][: len(order)], queue_id.parse(last.id), last.hop], sort)
        return page
    finally:
        source.connection.close()


def ask_who_has_what(connection: sqlite3.Connection, settings: Settings, around: Circumstances) -> None:
    """The status files say which messages are in hand, not for which of their queues: kmqd knows that."""
    ids = [name for name in around.in_hand if queue_id.PATTERN.fullmatch(name)][:_ASKED]
    several = [
        name
        for name in ids
        if connection.execute("SELECT count(*) FROM share WHERE mid = ?", (queue_id.parse(name),)).fetchone()[0] > 1
    ]
    if several:
        circumstances.inquire(around, settings.kmq.run_directory, several)


class _Column(NamedTuple):
    """A column of `hit`, and whether it falls."""

    name: str
    falling: bool = False

    @property
    def order(self) -> str:
        return f"{self.name} COLLATE NOCASE{' DESC' * self.falling}"


_TIES = (_Column("mid"), _Column("hop"))


class _Choice:
    """What is asked for, in one connection with the view."""

    def __init__(self, connection: sqlite3.Connection, node: Node | None, queue: str, order: Sequence[Key]) -> None:
        self._connection = connection
        self._order = order
        self._plain = node is None and not queue
        where = condition(connection, node)
        if queue:
            numbers = selection_view.named(connection, queue)
            where = f"queue_n IN ({', '.join(map(str, numbers))}) AND {where}"
        columns = "".join(f"{key.column} AS key_{at}, " for at, key in enumerate(order))
        made = "VIEW" if self._plain and not order else "TABLE"
        connection.execute(f"CREATE TEMP {made} hit AS SELECT {columns}mid, NextHop AS hop FROM messages WHERE {where}")

    def totals(self) -> tuple[int, int, int]:
        """Rows, messages, bytes."""
        if self._plain:
            rows = self._connection.execute("SELECT count(*) FROM share").fetchone()[0]
            messages, volume = self._connection.execute("SELECT count(*), sum(size) FROM message").fetchone()
        else:
            rows = self._connection.execute("SELECT count(*) FROM hit").fetchone()[0]
            messages, volume = self._connection.execute(
                "SELECT count(*), sum(size) FROM message WHERE mid IN (SELECT mid FROM hit)"
            ).fetchone()
        return rows, messages, volume or 0

    def after(self, behind: list[float | str], limit: int) -> list[tuple[Any, ...]]:
        """Keys and columns of the rows behind a place, in order, one more than the limit."""
        names = [_Column(f"key_{at}", key.falling) for at, key in enumerate(self._order)]
        every = [*names, *_TIES]
        where, told = _behind(every, behind) if behind else ("1", [])
        order = ", ".join(one.order for one in every)
        chosen = f"SELECT * FROM hit WHERE {where} ORDER BY {order} LIMIT {limit + 1}"
        columns = ", ".join([*(one.name for one in names), *_ROW])
        joined = f"({chosen}) CROSS JOIN messages USING (mid) WHERE NextHop = hop"
        return self._connection.execute(f"SELECT {columns} FROM {joined} ORDER BY {order}", told).fetchall()


def _behind(columns: Sequence[_Column], behind: Sequence[float | str]) -> tuple[str, list[float | str]]:
    """The condition for what comes later than a place: later by the first key, or the same there and later by the next
    one, and so on."""
    ways: list[str] = []
    told: list[float | str] = []
    for at, column in enumerate(columns):
        same = [f"{one.name} = ? COLLATE NOCASE" for one in columns[:at]]
        later = f"{column.name} {'<' if column.falling else '>'} ? COLLATE NOCASE"
        ways.append(" AND ".join([*same, later]))
        told += [*behind[:at], behind[at]]
    return f"({' OR '.join(ways)})", told


# --- rows ------------------------------------------------------------------------------------------------------------

_ROW = ("mid", "NextHop", "QueueStatus", "RecipientList", *(one.name for one in MESSAGE.properties))
_TIMES = frozenset(one.name for one in MESSAGE.properties if one.kind is Kind.TIME)
#: Texts for which "" is a value, not none.
_MAY_BE_EMPTY = frozenset({"FromAddress", "OriginalFromAddress"})
_NOT_BY_ITSELF = frozenset({"Suspended", "PendingSuspend", "PendingRemove", "Damaged"})


def _row(columns: Sequence[Any]) -> Row:
    """Of the columns _ROW."""
    number, hop, queue_status, recipients = columns[:4]
    told = dict(zip(_ROW[4:], columns[4:], strict=True))
    status = told["Status"]
    to = told["Recipients"].split("\n") if told["Recipients"] else []
    waits = status in _NOT_BY_ITSELF or (
        status == "Ready" and (queue_status == "Suspended" or told["DeliveryType"] == DeliveryType.UNREACHABLE.value)
    )
    next_try = None if waits else told["NextRetryTime"] or 0.0
    properties = {name: _shown(name, one) for name, one in told.items()}
    properties["MessageLatency"] = latency(told["MessageLatency"])
    properties["Recipients"] = [
        {"Address": address, "Status": own or _of_recipient(status), "LastError": error or None, "NextHop": hop}
        for address, own, error in json.loads(recipients)
    ]
    return Row(queue_id.text(number), hop, properties, to, next_try, queue_status)


def _shown(name: str, one: Any) -> object:
    if name in _TIMES:
        return utc(one or 0.0)
    return None if one == "" and name not in _MAY_BE_EMPTY else one


def _of_recipient(status: str) -> str:
    """A recipient is Complete, Ready, Retry or Suspended, whatever happens to the message just now."""
    return status if status in ("Retry", "Suspended") else "Ready"


def latency(seconds: float) -> str:
    """A span as Exchange writes it: `hh:mm:ss.ff`, with days before it when there are any."""
    whole, hundredths = divmod(round(seconds * 100), 100)
    days, rest = divmod(whole, 86400)
    return f"{f'{days}.' * (days > 0)}{rest // 3600:02d}:{rest // 60 % 60:02d}:{rest % 60:02d}.{hundredths:02d}"
