"""`kmq history`: what happened to messages, one line per event.

Callers:  kmq.cli.kmq.
"""

from kmq.cli.call import DONE, REFUSED, Call
from kmq.cli.show import wanted
from kmq.spool.look import Found
from kmq.view.history import history
from kmq.view.message import event_properties


def run(call: Call) -> int:
    """The verb."""
    status = DONE
    for found in wanted(call):
        if not isinstance(found, Found):
            status = REFUSED
            if found is not None:
                call.warn(f"{found.id} is damaged: {found.reason}")
        elif call.json:
            call.tell_objects(event_properties(found))
        else:
            call.tell(history(found))
    return status
