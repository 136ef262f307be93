"""The queues as a table.

Callers:  kmq.cli.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping

from kmq.admin.circumstances import queue_state, text_of
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

#: A terminal with fewer columns has no room for errors beside the rest: each stands on a line of its own.
NARROW = 130

_TONES = {"Retry": YELLOW, "Suspended": RED}


def queues(lines: Iterable[Mapping[str, object]], page: Page) -> Iterator[str]:
    """The table of the objects that the verb `queues` gives."""
    if not 0 < page.columns < NARROW:
        return table(COLUMNS, (_row(line, local_time) for line in lines), page)
    columns = (*COLUMNS[:-2], Column(f"Retry {offset()}"))
    return table(columns, map(_folded, lines), page)


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
        f"throttled: {limit}" if limit else "-" if over else state.last_error or "-",
    )
    return Row(cells, _TONES.get(state.status, ""))
