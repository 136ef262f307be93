"""What a selection has found, in its connection: counted, in order, and from any place on.

What:     the view `messages` is gone through once; what is asked for is noted in a temporary table with its keys of the
          order, and all else is read for the rows that somebody wants to see.
Callers:  selection.
"""

import sqlite3
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from kmq.admin import selection_view
from kmq.admin.selection_order import Key
from kmq.admin.selection_rows import One, Shape
from kmq.model import hop, queue_id
from kmq.spool.index_rows import number_of

if TYPE_CHECKING:
    from kmq.admin.filter_tree import Node

#: Rows that are read at once where all are.
_CHUNK = 2000

#: Addresses whose domains are told, of what no connector serves.
_SAMPLE = 500


class _Column(NamedTuple):
    """A column of `hit`; falling: the greatest comes first; collation: how texts of people are compared."""

    name: str
    falling: bool = False
    collation: str = ""

    @property
    def order(self) -> str:
        return f"{self.name}{self.collation}{' DESC' * self.falling}"


#: Everything, in the order in which it lies there: nothing is gone through, and nothing sorted.
_ALL = "CREATE TEMP VIEW hit AS SELECT s.mid, q.hop FROM share s CROSS JOIN temp.queue q ON q.n = s.hop"

_TIES = (_Column("mid"), _Column("hop"))


class Totals(NamedTuple):
    """rows: (message, queue); messages; volume: bytes of these messages."""

    rows: int
    messages: int
    volume: int


class Hits:
    """Rows that match, in one connection with the view. queue: as an operator names one, "" for all."""

    def __init__(self, connection: sqlite3.Connection, node: "Node | None", queue: str, order: Sequence[Key]) -> None:
        self._connection = connection
        self._plain = node is None and not queue
        self._keys = [_Column(f"key_{at}", key.falling, key.collation) for at, key in enumerate(order)]
        where = "1"
        if node is not None:
            from kmq.admin.filter_sql import condition

            where = condition(connection, node)
        if queue:
            numbers = selection_view.named(connection, queue)
            where = f"queue_n IN ({', '.join(map(str, numbers))}) AND {where}"
        columns = "".join(f"{key.column} AS key_{at}, " for at, key in enumerate(order))
        if self._plain and not order:
            connection.execute(_ALL)
        else:
            found = f"SELECT {columns}mid, NextHop AS hop FROM messages WHERE {where}"
            connection.execute(f"CREATE TEMP TABLE hit AS {found}")

    @property
    def _order(self) -> str:
        return ", ".join(one.order for one in (*self._keys, *_TIES))

    def totals(self) -> Totals:
        """How much it is."""
        rows, messages = ("share", "message") if self._plain else ("hit", "message WHERE mid IN (SELECT mid FROM hit)")
        (count,) = self._connection.execute(f"SELECT count(*) FROM {rows}").fetchone()
        return Totals(
            count, *self._connection.execute(f"SELECT count(*), ifnull(sum(size), 0) FROM {messages}").fetchone()
        )

    def names(self) -> Iterator[tuple[str, str]]:
        """(ID, text of the next hop) of all, in order."""
        found = self._connection.execute(f"SELECT mid, hop FROM hit ORDER BY {self._order}")
        return ((queue_id.text(number_of(mid)), text) for mid, text in found)

    def page(self, behind: Sequence[float | str], limit: int, shape: Shape[One]) -> tuple[list[One], list[float | str]]:
        """Rows behind a place, in order; the place of the last one, empty when none come after it."""
        where, told = _behind([*self._keys, *_TIES], behind) if behind else ("1", [])
        self._connection.execute("DROP TABLE IF EXISTS temp.chosen")
        self._connection.execute(
            f"CREATE TEMP TABLE chosen AS SELECT * FROM hit WHERE {where} ORDER BY {self._order} LIMIT {limit + 1}",
            told,
        )
        rows = self._joined("chosen", 0, limit, shape)
        more = self._connection.execute("SELECT 1 FROM chosen WHERE rowid > ?", (limit,)).fetchone()
        last = self._place("rowid = ?", limit) if more else []
        self._let_go()
        return rows, last

    def place_of(self, mid: int, hop: str) -> list[float | str]:
        """The place of a row of the last page."""
        return self._place("mid = ? AND hop = ?", mid, hop)

    def _place(self, where: str, *told: float | str) -> list[float | str]:
        columns = ", ".join(one.name for one in (*self._keys, *_TIES))
        return list(self._connection.execute(f"SELECT {columns} FROM chosen WHERE {where}", told).fetchone() or ())

    def _joined(self, table: str, behind: int, limit: int, shape: Shape[One]) -> list[One]:
        """Rows of the view for those of a table, by their places in it; what has left meanwhile has none."""
        columns = ", ".join(f'"{name}"' for name in shape.columns)
        places = f"{table}.rowid > {behind} AND {table}.rowid <= {behind + limit}"
        found = self._connection.execute(
            f"SELECT {columns} FROM {table} CROSS JOIN messages USING (mid)"
            f" WHERE NextHop = {table}.hop AND {places} ORDER BY {table}.rowid"
        )
        return [shape.made(one) for one in found]

    def _let_go(self) -> None:
        """Who reads a page or a list takes his time; meanwhile the index must not grow for his sake."""
        if self._connection.in_transaction:
            self._connection.execute("COMMIT")

    def rows(self, shape: Shape[One]) -> Iterator[One]:
        """All of them, in order, some at a time."""
        self._connection.execute(
            f"CREATE TEMP TABLE IF NOT EXISTS ordered AS SELECT mid, hop FROM hit ORDER BY {self._order}"
        )
        (last,) = self._connection.execute("SELECT ifnull(max(rowid), 0) FROM ordered").fetchone()
        self._let_go()
        for at in range(0, last, _CHUNK):
            yield from self._joined("ordered", at, _CHUNK, shape)

    def by_queue(self) -> Iterator[tuple[str, int, float | None]]:
        """(text of the next hop, messages, Unix time of the next attempt of any) of each queue."""
        return self._connection.execute("SELECT NextHop, count(*), min(NextRetryTime) FROM messages GROUP BY NextHop")

    def unserved(self) -> tuple[int, list[str]]:
        """How many messages wait for a connector, and addresses of the first of them."""
        waits = (str(hop.UNREACHABLE),)
        (count,) = self._connection.execute("SELECT count(DISTINCT mid) FROM hit WHERE hop = ?", waits).fetchone()
        if not count:
            return 0, []
        found = self._connection.execute(
            "SELECT addresses FROM (SELECT mid FROM hit WHERE hop = ? ORDER BY mid LIMIT ?)"
            " CROSS JOIN share USING (mid) WHERE hop = (SELECT n FROM temp.queue WHERE hop = ?)",
            (*waits, _SAMPLE, *waits),
        )
        return count, [address for (text,) in found for address in text.split("\n")]


def _behind(columns: Sequence[_Column], behind: Sequence[float | str]) -> tuple[str, list[float | str]]:
    """The condition for what comes later than a place: later by the first key, or the same there and later by the next
    one, and so on."""
    ways: list[str] = []
    told: list[float | str] = []
    for at, column in enumerate(columns):
        same = [f"{one.name} = ?{one.collation}" for one in columns[:at]]
        later = f"{column.name} {'<' if column.falling else '>'} ?{column.collation}"
        ways.append(" AND ".join([*same, later]))
        told += behind[: at + 1]
    return f"({' OR '.join(ways)})", told
