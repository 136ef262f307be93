"""`kmq sql`: the expert's view of the queue: SQL over the index, of which nothing can be changed.

Tables:   messages, a row per message and queue, with the columns of `kmq mailq --json`; queue, of which they wait; and
          what the index itself is made of (message, share, hop). Times are Unix times: datetime(Created, 'unixepoch').
Promise:  reads only, whatever the statement says: it looks and calls functions, and makes nothing, not even for itself.
          A statement that runs for ever ends with Ctrl-C and disturbs nobody; no value takes more than 64 MiB.
Callers:  kmq.cli.kmq.
"""

import sqlite3
from collections.abc import Iterator, Sequence
from math import isinf

from kmq.admin import selection_source, selection_view
from kmq.cli.call import DONE, USAGE, Call
from kmq.view.table import Column, Row, table


def run(call: Call) -> int:
    """The verb."""
    try:
        call.arguments.statement.encode()
    except UnicodeEncodeError:
        call.warn("the statement is no UTF-8 text")
        return USAGE
    source = selection_source.opened(call.settings.kmq.spool, around := call.around())
    try:
        with selection_source.stoppable(source.connection):
            selection_view.spread(source.connection, call.settings, around)
            _confine(source.connection)
            _tell(call, source.connection.execute(call.arguments.statement))
    except (sqlite3.Error, sqlite3.Warning) as error:
        call.warn(f"{error}; the tables are {', '.join(_TABLES)}: kmq sql 'SELECT * FROM messages LIMIT 1'")
        return USAGE
    finally:
        source.connection.close()
    if around.silence:
        call.warn(around.silence)
    return DONE


#: Bytes of a value.
_LONGEST = 64 << 20

_TABLES = ("messages", "queue", "message", "share", "hop")

#: What a statement may do: look, call functions, and recurse.
_LOOKS = frozenset({sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION, sqlite3.SQLITE_RECURSIVE})


def _confine(connection: sqlite3.Connection) -> None:
    connection.execute("PRAGMA query_only = ON")
    connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _LONGEST)
    connection.text_factory = _text
    connection.set_authorizer(_may)


def _may(action: int, *_: object) -> int:
    return sqlite3.SQLITE_OK if action in _LOOKS else sqlite3.SQLITE_DENY


def _text(found: bytes) -> str:
    """SQL makes texts of any bytes."""
    return found.decode("utf-8", "backslashreplace")


def _tell(call: Call, found: sqlite3.Cursor) -> None:
    names = [column[0] for column in found.description or ()]
    if call.json:
        call.tell_objects(dict(zip(names, map(_value, row), strict=True)) for row in found)
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
    return "-" if one is None else str(_value(one))


def _value(one: object) -> object:
    """What JSON has no word for, as SQL writes it."""
    if isinstance(one, bytes):
        return f"x'{one.hex()}'"
    return str(one) if isinstance(one, float) and isinf(one) else one
