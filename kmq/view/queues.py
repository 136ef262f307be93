"""The queues as a table.

Callers:  kmq.cli.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping

from kmq.admin.circumstances import HOURS, QueueState, queue_state, text_of
from kmq.admin.listing import shut
from kmq.view.table import RED, YELLOW, Column, Page, Row, table
from kmq.view.words import local_time, offset, short_time

COLUMNS = (
    Column("Queue", elastic=True),
    Column("DeliveryType"),
    Column("Status"),
    Column("MessageCount", right=True),
    Column("NextRetryTime"),
    Column("LastError", elastic=True),
)

#: Beside the name, where the name does not say which queue it is.
CONNECTOR = Column("Connector", elastic=True)

#: A terminal with fewer columns has no room for errors beside the rest: each stands on a line of its own.
NARROW = 130

_TONES = {"Retry": YELLOW, "Suspended": RED}


def queues(lines: Iterable[Mapping[str, object]], page: Page) -> Iterator[str]:
    """The table of the objects that the verb `queues` gives; with their connectors where two have one name."""
    found = list(lines)
    narrow = 0 < page.columns < NARROW
    columns = (*COLUMNS[:-2], Column(f"Retry {offset()}")) if narrow else COLUMNS
    rows = [_folded(line) if narrow else _row(line, local_time) for line in found]
    if len({row.cells[0] for row in rows}) < len(rows):
        columns = (columns[0], CONNECTOR, *columns[1:])
        rows = [_with_connector(row, line) for row, line in zip(rows, found, strict=True)]
    return table(columns, rows, page)


def _with_connector(row: Row, line: Mapping[str, object]) -> Row:
    name, *others = row.cells
    return row._replace(cells=(name, text_of(line, "NextHop").rpartition(";")[2] or "-", *others))


def _folded(line: Mapping[str, object]) -> Row:
    row = _row(line, short_time)
    error = row.cells[-1]
    return Row(row.cells[:-1], row.tone, below="" if error == "-" else error)


def _row(line: Mapping[str, object], time: Callable[[float], str]) -> Row:
    state = queue_state(line)
    over = state.status == "Ready" and line.get("MessageCount") == 0  # the trouble was that of mail which has gone
    limit = text_of(line, "Throttled")
    cells = (
        text_of(line, "NextHopDomain"),
        text_of(line, "DeliveryType"),
        state.status or "-",
        text_of(line, "MessageCount"),
        time(state.next_retry) if state.next_retry else "-",
        f"throttled: {limit}" if limit else "-" if over else state.last_error or _hours(state),
    )
    return Row(cells, _TONES.get(state.status, ""))


def _hours(state: QueueState) -> str:
    return shut(state) if state.waits_for in HOURS and state.messages else "-"
