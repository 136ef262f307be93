"""`kmq sql`: the expert's view of the queue: SQL over the index, of which nothing can be changed.

Tables:   messages, a row per message and queue, with the columns of `kmq mailq --json`; queue, of which they wait; and
          what the index itself is made of (message, share, hop). Times are Unix times: datetime(Created, 'unixepoch').
Promise:  reads only, whatever the statement says, and in a copy of the connection's own: temporary tables may be made.
          A statement that runs for ever ends with Ctrl-C and disturbs nobody.
Callers:  kmq.cli.kmq.
"""

import sqlite3
from collections.abc import Iterator, Sequence

from kmq.admin import selection_source, selection_view
from kmq.cli.call import DONE, USAGE, Call
from kmq.view.table import Column, Row, table


def run(call: Call) -> int:
    """The verb."""
    source = selection_source.opened(call.settings.kmq.spool, around := call.around())
    try:
        selection_view.spread(source.connection, call.settings, around)
        source.connection.execute("PRAGMA query_only = ON")
        source.connection.set_authorizer(_may)
        found = source.connection.execute(call.arguments.statement)
        _tell(call, found)
    except (sqlite3.Error, sqlite3.Warning) as error:
        call.warn(f"{error}; the tables are {', '.join(_TABLES)}: kmq sql 'SELECT * FROM messages LIMIT 1'")
        return USAGE
    finally:
        source.connection.close()
    if around.silence:
        call.warn(around.silence)
    return DONE


_TABLES = ("messages", "queue", "message", "share", "hop")

#: What a statement may do: look, call functions, and recurse.
_LOOKS = frozenset({sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION, sqlite3.SQLITE_RECURSIVE})


def _may(action: int, *_: object) -> int:
    return sqlite3.SQLITE_OK if action in _LOOKS else sqlite3.SQLITE_DENY


def _tell(call: Call, found: sqlite3.Cursor) -> None:
    names = [column[0] for column in found.description or ()]
    if call.json:
        call.tell_objects(dict(zip(names, row, strict=True)) for row in found)
        return
    first = found.fetchone()
    if first is None:
        call.tell(["No rows."])
        return
    figures = [isinstance(one, int | float) for one in first]
    columns = [Column(name, right=right, elastic=not right) for name, right in zip(names, figures, strict=True)]
    call.tell(table(columns, _rows(first, found), call.page))


def _rows(first: Sequence[object], rest: Iterator[Sequence[object]]) -> Iterator[Row]:
    yield Row([_cell(one) for one in first])
    for row in rest:
        yield Row([_cell(one) for one in row])


def _cell(one: object) -> str:
    return "-" if one is None else str(one)
