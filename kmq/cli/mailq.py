"""`kmq mailq`, and the classic `mailq`: what waits, since when, and why.

Promise:  works while kmqd is stopped, and says so. A million messages go by one at a time.
Callers:  kmq.cli.kmq; the program kmq-mailq.
"""

import sys
from collections.abc import Iterator
from itertools import chain, islice
from typing import TYPE_CHECKING

from kmq.cli.call import DONE, Call
from kmq.spool.lock import spool_held
from kmq.spool.look import Damaged, Found, walk
from kmq.view.table import Page

if TYPE_CHECKING:
    from kmq.admin.circumstances import Circumstances
    from kmq.admin.listing import Listed
    from kmq.view.mailq import Tally

EMPTY = "Mail queue is empty"
STOPPED = "kmqd does not run: nothing is accepted or delivered."

#: Lines of the screen that `--watch` leaves for the totals and advice.
_FOOT = 10


def main() -> int:
    """The program kmq-mailq: `kmq mailq` with the same options."""
    from kmq.cli.kmq import main as kmq

    return kmq(["mailq", *sys.argv[1:]])


def run(call: Call) -> int:
    """The verb."""
    if call.json or call.arguments.ids:
        _plain(call)
    elif call.arguments.watch:
        from kmq.view.watch import watch

        watch(lambda page: _picture(call, page), call.out, call.settings.kmq.spool / "status")
    else:
        call.tell(_report(call, call.page, call.arguments.limit))
    return DONE


def _picture(call: Call, page: Page) -> Iterator[str]:
    from kmq.view.mailq import lines_each

    room = max(1, (page.lines - _FOOT) // lines_each(page)) if page.lines else None
    return _report(call, page, min(filter(None, (room, call.arguments.limit)), default=None))


def _plain(call: Call) -> None:
    """One object, or one ID, per line."""
    from kmq.admin.listing import properties

    around = call.around()
    entries = islice(_entries(call, _messages(call), around), call.arguments.limit)
    if call.arguments.ids:
        call.tell(entry.id for entry in entries)
    else:
        call.tell_objects(properties(entry, share, around) for entry in entries for share in entry.shares)


def _report(call: Call, page: Page, limit: int | None) -> Iterator[str]:
    """Table, totals, and what somebody should know. An empty queue is told without a look at anything else."""
    messages = _messages(call)
    first = next(messages, None)
    if first is None:
        yield EMPTY
        if spool_held(call.settings.kmq.spool) is False:
            yield STOPPED
        return
    from kmq.view.mailq import Tally, mailq

    tally = Tally()
    around = call.around()
    entries = tally.of(_entries(call, chain([first], messages), around))
    yield from mailq(islice(entries, limit), page)
    shown = tally.messages
    for _ in entries:
        pass
    yield from _foot(call, tally, shown, around)


def _foot(call: Call, tally: "Tally", shown: int, around: "Circumstances") -> Iterator[str]:
    from kmq.view.mailq import advice

    if not tally.messages:
        yield f"No message waits in the queue {call.arguments.queue}."
    else:
        yield f"-- {tally.line}" + (f" ({shown:,} shown)" if shown < tally.messages else "")
    if around.silence:
        yield around.silence
        yield "What only kmqd knows (suspended queues, hosts that cannot be reached) is not shown."
    yield from advice(tally, call.configuration, _unfilled(call, tally))


def _messages(call: Call) -> Iterator[Found | Damaged]:
    return walk(call.settings.kmq.spool)


def _entries(call: Call, messages: Iterator[Found | Damaged], around: "Circumstances") -> "Iterator[Listed]":
    """The lines; with --queue only those that wait there, and only what waits there."""
    from kmq.admin.listing import is_named, listed

    wanted = call.arguments.queue
    for found in messages:
        entry = listed(found, around)
        if wanted:
            entry.shares = [share for share in entry.shares if is_named(share.hop, wanted)]
        if entry.shares:
            yield entry


def _unfilled(call: Call, tally: "Tally") -> str:
    """The heading of a connector that would serve the domains without one, had it hosts."""
    from kmq.config.checks import covers

    for connector in call.settings.connectors:
        empty = connector.type == "smarthost" and not connector.hosts
        if empty and any(covers(connector.address_spaces, domain) for domain in tally.unserved):
            return f"{connector.name} : connector"
    return ""
