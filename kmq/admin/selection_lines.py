"""Rows of a selection as the lines of `kmq mailq`: one for each message, with all of its queues.

Promise:  says of a message what admin/listing says of it. Rows are taken as they come, so a million are no burden.
Callers:  kmq.cli.
"""

from collections.abc import Iterable, Iterator
from itertools import groupby

from kmq.admin.circumstances import HOURS, Circumstances
from kmq.admin.listing import REMOVED, Listed, Share, Status, gravest_first, next_hop, person, shut, suspended
from kmq.admin.selection import Selection
from kmq.admin.selection_rows import Row
from kmq.model import hop


def entries(rows: Iterable[Row], around: Circumstances) -> Iterator[Listed]:
    """A line for each message; rows of one message that follow each other are one line."""
    for name, group in groupby(rows, key=lambda row: row.id):
        yield _entry(name, list(group), around)


def page(found: Selection, limit: int, bookmark: str) -> tuple[list[Row], str]:
    """The rows of `limit` lines, so that a message in several queues is not torn, and the bookmark of the next line."""
    rows: list[Row] = []
    while True:
        more, following = found.page(limit + 1, bookmark)
        before = ["", *(row.id for row in rows[-1:] + more)][-len(more) - 1 :]
        begins = [at for at, row in enumerate(more) if row.id != before[at]]
        if len(begins) > limit:
            if begins[limit] == 0:
                return rows, bookmark
            whole, following = found.page(begins[limit], bookmark)
            return rows + whole, following
        rows += more
        limit -= len(begins)
        if not following:
            return rows, ""
        bookmark = following


def _entry(name: str, rows: list[Row], around: Circumstances) -> Listed:
    told = rows[0].plain
    found = [_of_row(row, around) for row in rows]
    return Listed(
        id=name,
        created=told["Created"],
        size=told["Size"],
        sender=told["FromAddress"],
        shares=gravest_first(found),
        source=told["MessageSourceName"],
        source_ip=told["SourceIP"],
        hand=around.in_hand.get(name),
    )


def _of_row(row: Row, around: Circumstances) -> Share:
    told = row.plain
    status, error = Status(told["Status"]), told["LastError"]
    trouble = _trouble(row, status, around)
    share = Share(next_hop(row.hop), row.to, status, row.next_try, error, told["RetryCount"], trouble)
    if status is Status.RETRY and row.queue_status == "Retry":
        share.queue = around.queues.get(row.hop)
    return share


def _trouble(row: Row, status: Status, around: Circumstances) -> str:
    told = row.plain
    if status is Status.PENDING_REMOVE:
        return REMOVED
    if row.hop == str(hop.POISON) and status is Status.SUSPENDED:
        return f"poison, {told['LastError']}"
    if status in (Status.SUSPENDED, Status.PENDING_SUSPEND):
        by, colon, reason = str(told["HeldBy"]).partition(": ")
        return person(by) + colon + reason
    if status is Status.READY and row.queue_status == "Suspended":
        return suspended(told["NextHopDomain"], around.queues.get(row.hop))
    queue = around.queues.get(row.hop)
    if status is Status.READY and queue is not None and queue.waits_for in HOURS:
        return shut(queue)
    error: str = told["LastError"]
    return error
