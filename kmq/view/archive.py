"""Archived mail, as a table.

Callers:  kmq.cli.archive.
"""

from collections.abc import Iterable, Iterator

from kmq.admin.archived import Row as Message
from kmq.spool.index_rows import unix
from kmq.view.table import Column, Page, Row, table
from kmq.view.words import local_time, volume

COLUMNS = (
    Column("ID"),
    Column("Created"),
    Column("Size", right=True),
    Column("From", elastic=True),
    Column("To", elastic=True),
    Column("Subject", elastic=True),
    Column("In"),
)

#: Recipients that are named in a line.
_NAMED = 3


def archived(rows: Iterable[Message], page: Page) -> Iterator[str]:
    """The table's lines."""
    return table(COLUMNS, map(_row, rows), page)


def _row(one: Message) -> Row:
    head = one.found.head
    to = [recipient.address for recipient in head.recipients]
    more = len(to) - _NAMED
    named = ", ".join(to[:_NAMED]) + (f" and {more} more" if more > 0 else "")
    subject = str(one.plain["Subject"] or "")
    return Row(
        (head.id, local_time(unix(head.created)), volume(head.size), head.sender or "<>", named, subject, one.place)
    )
