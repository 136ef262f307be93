"""`kmq show`: messages in full.

Callers:  kmq.cli.kmq, kmq.cli.history.
"""

from collections.abc import Iterator

from kmq.admin.circumstances import inquire
from kmq.admin.listing import listed
from kmq.cli.call import DONE, REFUSED, Call
from kmq.model import queue_id
from kmq.spool.look import Damaged, Found, find
from kmq.view.message import damaged, message, message_properties


def run(call: Call) -> int:
    """The verb."""
    around = call.around()
    inquire(around, call.settings.kmq.run_directory, [one.id for one in call.arguments.id])
    status, first = DONE, True
    for found in wanted(call):
        if found is None:
            status = REFUSED
            continue
        if not (first or call.json):
            call.tell([""])
        first = False
        if isinstance(found, Damaged):
            status = REFUSED
            _tell_damaged(call, found)
        elif call.json:
            call.tell_objects([message_properties(found, listed(found, around), around)])
        else:
            call.tell(message(found, listed(found, around), call.page))
    return status


def wanted(call: Call) -> Iterator[Found | Damaged | None]:
    """The messages that were named; None, after a word about it, for each that is not there."""
    for one in call.arguments.id:
        found = find(call.settings.kmq.spool, queue_id.parse(one.id))
        if found is None:
            call.warn(f"{one.id} is not in the queue: delivered, removed, or never here; kmq history knows more")
        yield found


def _tell_damaged(call: Call, found: Damaged) -> None:
    if call.json:
        call.tell_objects(
            [{"ID": found.id, "Status": "Damaged", "LastError": found.reason, "Files": [str(found.path)]}]
        )
    else:
        call.tell(damaged(found, call.page))
