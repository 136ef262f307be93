"""The queues as a table.

Callers:  kmq.cli.
"""

from collections.abc import Iterable, Iterator, Mapping

from kmq.admin.circumstances import queue_state, text_of
from kmq.view.table import RED, YELLOW, Column, Page, Row, table
from kmq.view.words import local_time

COLUMNS = (
    Column("Queue", elastic=True),
    Column("DeliveryType"),
    Column("Status"),
    Column("MessageCount", right=True),
    Column("NextRetryTime"),
    Column("LastError", elastic=True),
)

_TONES = {"Retry": YELLOW, "Suspended": RED}


def queues(lines: Iterable[Mapping[str, object]], page: Page) -> Iterator[str]:
    """The table of the objects that the verb `queues` gives."""
    return table(COLUMNS, map(_row, lines), page)


def _row(line: Mapping[str, object]) -> Row:
    state = queue_state(line)
    over = state.status == "Ready" and line.get("MessageCount") == 0  # the trouble was that of mail which has gone
    cells = (
        text_of(line, "NextHopDomain"),
        text_of(line, "DeliveryType"),
        state.status or "-",
        text_of(line, "MessageCount"),
        local_time(state.next_retry) if state.next_retry else "-",
        "-" if over else state.last_error or "-",
    )
    return Row(cells, _TONES.get(state.status, ""))
