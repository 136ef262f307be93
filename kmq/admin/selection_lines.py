"""What a selection finds, as the lines of `kmq mailq`: one for each message, with all of its queues.

Promise:  says of a message what admin/listing says of it. Rows are taken as they come, so a million are no burden.
Callers:  kmq.cli.
"""

from collections.abc import Iterable, Iterator
from itertools import groupby
from operator import attrgetter
from typing import Final

from kmq.admin.circumstances import HOURS, Circumstances
from kmq.admin.listing import REMOVED, Listed, Share, Status, gravest_first, next_hop, person, shut, suspended
from kmq.admin.selection import Selection
from kmq.admin.selection_rows import Line
from kmq.model import hop

_POISON: Final = str(hop.POISON)

_mid = attrgetter("mid")

#: By its text.
_STATUS: Final = {one.value: one for one in Status}


def entries(lines: Iterable[Line], around: Circumstances) -> Iterator[Listed]:
    """One for each message; lines of one message that follow each other are one."""
    for _, group in groupby(lines, key=_mid):
        yield _entry(list(group), around)


def page(found: Selection, limit: int, bookmark: str) -> tuple[list[Line], str]:
    """The lines of `limit` messages, so that one in several queues is not torn, and the bookmark of the next line."""
    lines: list[Line] = []
    while True:
        more, following = found.page_of_lines(limit + 1, bookmark)
        before: list[int | None] = [None, *(line.mid for line in lines[-1:] + more)][-len(more) - 1 :]
        begins = [at for at, line in enumerate(more) if line.mid != before[at]]
        if len(begins) > limit:
            if begins[limit] == 0:
                return lines, bookmark
            whole = more[: begins[limit]]
            return lines + whole, found.bookmark_behind(whole[-1])
        lines += more
        limit -= len(begins)
        if not following:
            return lines, ""
        bookmark = following


def _entry(lines: list[Line], around: Circumstances) -> Listed:
    first = lines[0]
    name = first.id
    return Listed(
        id=name,
        created=first.created,
        size=first.size,
        sender=first.sender,
        shares=gravest_first([_share(line, around) for line in lines]),
        source=first.source,
        source_ip=first.source_ip,
        hand=around.in_hand.get(name),
    )


def _share(line: Line, around: Circumstances) -> Share:
    status = _STATUS[line.status]
    trouble = _trouble(line, status, around)
    share = Share(next_hop(line.hop), line.to, status, line.next_try, line.last_error, line.retry_count, trouble)
    if status is Status.RETRY and line.queue_status == "Retry":
        share.queue = around.queues.get(line.hop)
    return share


def _trouble(line: Line, status: Status, around: Circumstances) -> str:
    if status is Status.RETRY:
        return line.last_error
    if status is Status.PENDING_REMOVE:
        return REMOVED
    if line.hop == _POISON and status is Status.SUSPENDED:
        return f"poison, {line.last_error}"
    if status in (Status.SUSPENDED, Status.PENDING_SUSPEND):
        by, colon, reason = line.held_by.partition(": ")
        return person(by) + colon + reason
    queue = around.queues.get(line.hop)
    if status is Status.READY and line.queue_status == "Suspended":
        return suspended(line.queue, queue)
    if status is Status.READY and queue is not None and queue.waits_for in HOURS:
        return shut(queue)
    return line.last_error
