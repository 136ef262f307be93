"""`kmq queues`: the queues with their states.

Promise:  from kmqd when it runs; else counted in the index or the envelopes, without states, and it says so.
Callers:  kmq.cli.kmq.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from kmq.admin.selection_queues import QueuePage, select_queues
from kmq.cli.call import DONE, Call
from kmq.view.queues import queues
from kmq.view.table import Page

if TYPE_CHECKING:
    from kmq.admin.circumstances import Circumstances

_COUNTED = "The messages were counted in the spool; the states of queues are not known."


def run(call: Call) -> int:
    """The verb."""
    if call.json:
        found, around = _found(call)
        call.tell_objects(row.properties for row in found.rows)
        for word in filter(None, (around.silence, *around.news.splitlines())):
            call.warn(word)
        if found.bookmark:
            call.warn(f"there are more: --bookmark {found.bookmark}")
    elif call.arguments.watch:
        from kmq.view.watch import watch

        watch(lambda page: _report(call, page), call.out, call.settings.kmq.spool / "status")
    else:
        call.tell(_report(call, call.page))
    return DONE


def _found(call: Call) -> "tuple[QueuePage, Circumstances]":
    around = call.around()
    one = call.arguments
    limit = one.limit if one.limit is not None else 0
    wish = {"filter": one.filter, "include": one.include, "exclude": one.exclude, "sort": one.sort}
    return select_queues(call.settings, around, limit=limit, bookmark=one.bookmark, **wish), around


def _report(call: Call, page: Page) -> Iterator[str]:
    found, around = _found(call)
    yield from queues([row.properties for row in found.rows], page)
    if not found.total:
        yield "No queue matches."
    if len(found.rows) < found.total:
        yield f"-- {found.total:,} queues ({len(found.rows):,} shown)"
    if found.bookmark and not call.arguments.watch:
        yield f"The next page: --bookmark {found.bookmark}"
    yield from around.news.splitlines()
    if around.silence:
        yield around.silence
        yield _COUNTED
