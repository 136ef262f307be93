"""`kmq processes`: what each process has in hand, and what the dead died on. It asks nobody.

Callers:  kmq.cli.kmq.
"""

from collections.abc import Iterator

from kmq.admin.circumstances import hidden
from kmq.cli.call import DONE, Call
from kmq.errors import SpoolError
from kmq.spool.processes import Condition, ProcessStatus, read_all
from kmq.view.processes import processes, properties
from kmq.view.table import Page

NOBODY = "kmqd does not run: no process lives"


def run(call: Call) -> int:
    """The verb. SpoolError when this user may not look."""
    folder = call.settings.kmq.spool / "status"
    if hidden(call.settings.kmq.spool):
        raise SpoolError(f"{folder}: this user may not read it; ask as root or as the user that kmqd runs as")
    if call.json:
        call.tell_objects(line for status in _statuses(call) for line in properties(status))
    elif call.arguments.watch:
        from kmq.view.watch import watch

        watch(lambda page: _report(call, page), call.out)
    else:
        call.tell(_report(call, call.page))
    return DONE


def _statuses(call: Call) -> list[ProcessStatus]:
    """Who lives by name, then the dead, the latest first."""
    statuses = read_all(call.settings.kmq.spool / "status")
    dead = [status for status in statuses if status.condition is Condition.DEAD]
    rest = [status for status in statuses if status.condition is not Condition.DEAD]
    return rest + sorted(dead, key=lambda status: -status.beat)


def _report(call: Call, page: Page) -> Iterator[str]:
    statuses = _statuses(call)
    yield from processes(statuses, page)
    if all(status.condition is Condition.DEAD for status in statuses):
        yield from ["", NOBODY] if statuses else [NOBODY]
