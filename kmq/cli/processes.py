"""`kmq processes`: what each process has in hand, and what the dead died on. It asks nobody.

Callers:  kmq.cli.kmq.
"""

from collections.abc import Iterator

from kmq.admin.circumstances import hidden
from kmq.cli.call import DONE, Call
from kmq.errors import SpoolError
from kmq.spool.processes import Condition, ProcessStatus, read_all
from kmq.view.processes import Since, processes, properties
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

        moving = Moving(call)
        watch(moving.picture, call.out, folder, moving.restless)
    else:
        call.tell(_report(_statuses(call), call.page))
    return DONE


class Moving:
    """The picture of `--watch`: times of what lives stand still, so that it is drawn only when something happens; but
    how long a message has been in hand runs on.
    """

    def __init__(self, call: Call) -> None:
        self._call = call
        self._working = False

    def picture(self, page: Page) -> Iterator[str]:
        """The processes as they are now."""
        statuses = _statuses(self._call)
        self._working = any(one.in_hand for one in statuses if one.condition is not Condition.DEAD)
        return _report(statuses, page, Since.MOMENT)

    def restless(self) -> bool:
        """Whether some time in the last picture runs."""
        return self._working


def _statuses(call: Call) -> list[ProcessStatus]:
    """Who lives by name, then the dead, the latest first."""
    statuses = read_all(call.settings.kmq.spool / "status")
    dead = [status for status in statuses if status.condition is Condition.DEAD]
    rest = [status for status in statuses if status.condition is not Condition.DEAD]
    return rest + sorted(dead, key=lambda status: -status.beat)


def _report(statuses: list[ProcessStatus], page: Page, since: Since = Since.DURATION) -> Iterator[str]:
    yield from processes(statuses, page, since)
    if all(status.condition is Condition.DEAD for status in statuses):
        yield from ["", NOBODY] if statuses else [NOBODY]
