"""`kmq mailq`, and the classic `mailq`: what waits, since when, and why.

Promise:  works while kmqd is stopped, and says so. Reads the index, so a hundred thousand messages are no burden to
          kmqd; a million go by some at a time.
Callers:  kmq.cli.kmq; the program kmq-mailq.
"""

import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from kmq.cli.call import DONE, Call
from kmq.spool.lock import spool_held
from kmq.spool.look import anybody
from kmq.view.table import Page
from kmq.view.words import harmless

if TYPE_CHECKING:
    from kmq.admin.circumstances import Circumstances
    from kmq.admin.selection import Row, Selection, Wish
    from kmq.admin.selection_rows import Line
    from kmq.view.mailq import Tally

EMPTY = "Mail queue is empty"
STOPPED = "kmqd does not run: nothing is accepted or delivered."

#: Lines of the screen that `--watch` leaves for the totals and advice.
_FOOT = 10

#: Rows that a person sees when he does not say how many (Exchange's result size).
_PAGE = 1000

#: Seconds that a view may be old without a word about it.
_OLD = 1.0


def main() -> int:
    """The program kmq-mailq: `kmq mailq` with the same options."""
    from kmq.cli.kmq import main as kmq

    return kmq(["mailq", *sys.argv[1:]])


def run(call: Call) -> int:
    """The verb."""
    if call.arguments.at:
        from kmq.cli.mailq_at import run as as_it_stood

        return as_it_stood(call)
    if call.json or call.arguments.ids:
        _plain(call)
    elif call.arguments.watch:
        from kmq.view.watch import watch

        watch(lambda page: _picture(call, page), call.out, call.settings.kmq.spool / "status")
    else:
        call.tell(_report(call, call.page, _limit(call)))
    return DONE


def _limit(call: Call) -> int:
    """Rows, 0 for all: a person at a terminal gets a page, a program that reads everything gets everything."""
    given: int | None = call.arguments.limit
    if given is not None:
        return given
    return _PAGE if call.out.isatty() else 0


def _picture(call: Call, page: Page) -> Iterator[str]:
    from kmq.view.mailq import lines_each

    room = max(1, (page.lines - _FOOT) // lines_each(page)) if page.lines else 0
    return _report(call, page, min(filter(None, (room, _limit(call))), default=0))


def _wish(call: Call) -> "Wish":
    one = call.arguments
    return {
        "filter": one.filter,
        "queue": one.queue or "",
        "include": one.include,
        "exclude": one.exclude,
        "sort": one.sort,
        "bookmark": one.bookmark,
    }


def _narrow(call: Call) -> bool:
    """Something is asked for, so that a mistake in it is told whatever the queue holds."""
    return any(_wish(call).values())


def _rows(call: Call, found: "Selection", limit: int) -> "tuple[Iterator[Row], str]":
    """Rows, and the bookmark of the next page."""
    if not limit and not call.arguments.bookmark:
        return found.rows(), ""
    rows, bookmark = found.page(limit, call.arguments.bookmark)
    return iter(rows), bookmark


def _plain(call: Call) -> None:
    """One object, or one ID, per line."""
    from kmq.admin.selection import Selection

    around = call.around()
    with Selection(call.settings, around, _wish(call)) as found:
        if call.arguments.queue and not found.totals.messages and (strange := _strange(call, around)):
            call.warn(strange)
        limit = call.arguments.limit or 0
        if call.arguments.ids and not limit and not call.arguments.bookmark:
            call.tell(dict.fromkeys(name for name, _ in found.names()))
            return
        rows, bookmark = _rows(call, found, limit)
        if call.arguments.ids:
            call.tell(dict.fromkeys(row.id for row in rows))
        else:
            call.tell_objects(row.properties for row in rows)
        if bookmark:
            call.warn(f"there are more: --bookmark {bookmark}")


def _report(call: Call, page: Page, limit: int) -> Iterator[str]:
    """Table, totals, and what somebody should know. An empty queue is told without a look at anything else."""
    if not _narrow(call) and not anybody(call.settings.kmq.spool):
        yield EMPTY
        if spool_held(call.settings.kmq.spool) is False:
            yield STOPPED
        return
    from kmq.admin.selection import MOST, Selection
    from kmq.admin.selection_lines import entries
    from kmq.admin.selection_lines import page as page_of_lines
    from kmq.view.mailq import mailq

    around = call.around()
    with Selection(call.settings, around, _wish(call), late=True) as found:
        lines, bookmark = found.lines(), ""
        if limit or call.arguments.bookmark:
            some, bookmark = page_of_lines(found, limit or MOST, call.arguments.bookmark)
            lines = iter(some)
        shown = _Counted(lines)
        yield from mailq(entries(shown, around), page)
        yield from _foot(call, found, shown.count, around)
        if bookmark and not call.arguments.watch:
            yield f"The next page: --bookmark {bookmark}"


class _Counted:
    """The same lines, counted as they go by. count: of messages that follow each other."""

    def __init__(self, lines: "Iterator[Line]") -> None:
        self._lines = lines
        self.count = 0

    def __iter__(self) -> "Iterator[Line]":
        last: int | None = None
        for line in self._lines:
            self.count += line.mid != last
            last = line.mid
            yield line


def _foot(call: Call, found: "Selection", shown: int, around: "Circumstances") -> Iterator[str]:
    from kmq.admin.listing import domains
    from kmq.view.mailq import Tally, advice

    unserved, addresses = found.unserved()
    tally = Tally(found.totals.messages, found.totals.volume, domains(addresses)[:20], unserved)
    if tally.messages:
        yield f"-- {tally.line}" + (f" ({shown:,} shown)" if shown < tally.messages else "")
    else:
        yield _nothing(call)
        if strange := _strange(call, around):
            yield f"{strange[0].upper()}{strange[1:]}"
    old = time.time() - found.as_of
    if old > _OLD:
        yield f"This is as it was {old:.1f} s ago."
    if around.silence:
        yield around.silence
        yield "What only kmqd knows (suspended queues, hosts that cannot be reached) is not shown."
    yield from advice(tally, call.configuration, *_idle(call, tally))


def _nothing(call: Call) -> str:
    wish = _wish(call)
    if wish["queue"] and not any(one for name, one in wish.items() if name != "queue"):
        return f"No message waits in the queue {harmless(wish['queue'])}."
    return "No message matches." if _narrow(call) else EMPTY


def _strange(call: Call, around: "Circumstances") -> str:
    """A word about a queue that is not there, which may be a slip of the pen."""
    from kmq.admin.choice import no_such_queue

    queue = call.arguments.queue
    return harmless(no_such_queue(queue, call.settings, around)) if queue else ""


def _idle(call: Call, tally: "Tally") -> tuple[str, str]:
    """The heading of a connector that would serve the domains without one, and what it lacks for that."""
    from kmq.config.checks import covers

    for connector in call.settings.connectors:
        lack = "" if connector.enabled else "enabled = yes"
        lack = lack or ("hosts" if connector.type == "smarthost" and not connector.hosts else "")
        if lack and any(covers(connector.address_spaces, domain) for domain in tally.unserved):
            return f"{connector.name} : connector", lack
    return "", ""
