"""The digest of queues for people: one line per group, its queues below.

Callers:  kmq.cli.digest.
"""

from collections.abc import Iterator, Sequence

from kmq.admin.digest import Group, Level, Row
from kmq.view.table import Column, Page, table
from kmq.view.table import Row as Line


def digest(groups: Sequence[Group], by: str, level: Level, page: Page) -> Iterator[str]:
    """The table's lines; none when there are no groups."""
    columns = [Column(by, elastic=True), Column("Messages", right=True), Column("Deferred", right=True)]
    if any(group.stale for group in groups):
        columns.append(Column("Stale", right=True))
    if level is not Level.NONE:
        columns.append(Column("Queues", elastic=True))
    return table(columns, (_line(group, len(columns), level) for group in groups), page)


def _line(group: Group, columns: int, level: Level) -> Line:
    cells = [group.value or "-", str(group.count), str(group.deferred)]
    if columns - (level is not Level.NONE) > len(cells):
        cells.append(str(group.stale))
    if level is not Level.NONE:
        cells.append(", ".join(_told(one, level) for one in group.details))
    return Line(cells)


def _told(row: Row, level: Level) -> str:
    text = f"{row['QueueIdentity']} {row['MessageCount']} {row.get('Status') or ''}".rstrip()
    error = row.get("LastError") if level is Level.VERBOSE else None
    return f"{text} ({error})" if error else text
