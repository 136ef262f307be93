"""What the safety net keeps, as a table.

Callers:  kmq.cli.replay.
"""

from collections.abc import Iterable, Iterator

from kmq.admin.kept import Kept
from kmq.spool.index_rows import next_hop
from kmq.view.table import Column, Page, Row, table
from kmq.view.words import local_time, volume

COLUMNS = (
    Column("ID"),
    Column("Delivered"),
    Column("Size", right=True),
    Column("From", elastic=True),
    Column("To", elastic=True),
    Column("By", elastic=True),
    Column("Replayed as"),
)

#: Recipients that are named in a line.
_NAMED = 3


def kept(rows: Iterable[Kept], page: Page) -> Iterator[str]:
    """The table's lines; none when nothing is kept."""
    return table(COLUMNS, map(_row, rows), page)


def _row(one: Kept) -> Row:
    to = ", ".join(one.to[:_NAMED])
    more = len(one.to) - _NAMED
    replayed = one.replayed or (f"is that of {one.copy}" if one.copy else "")
    cells = (
        *(one.id, local_time(one.delivered), volume(one.size), one.sender or "<>"),
        *(f"{to} and {more} more" if more > 0 else to, next_hop(one.hop).name, replayed),
    )
    return Row(cells)
