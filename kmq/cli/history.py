"""`kmq history`: what happened to messages, one line per event; of one that has left, what is kept of it.

Source:   the envelope; then that of the safety net; then the tracking log, which knows no routing of earlier attempts.
Callers:  kmq.cli.kmq.
"""

from kmq.admin import tracked
from kmq.admin.tracked_to import addressed
from kmq.cli.call import DONE, REFUSED, Call
from kmq.log.tracking import folder_of
from kmq.model import queue_id
from kmq.spool import net_look
from kmq.spool.look import Damaged, Found, find
from kmq.view.history import history
from kmq.view.message import event_properties
from kmq.view.track import properties, story


def run(call: Call) -> int:
    """The verb."""
    return max([_told(call, one.id) for one in call.arguments.id], default=DONE)


def _told(call: Call, name: str) -> int:
    spool, number = call.settings.kmq.spool, queue_id.parse(name)
    found = find(spool, number) or net_look.find(spool, number)
    if found is None:
        return _of_the_log(call, name)
    if isinstance(found, Damaged):
        call.warn(f"{found.id} is damaged: {found.reason}")
        return REFUSED
    _tell(call, found)
    return DONE


def _tell(call: Call, found: Found) -> None:
    if call.json:
        call.tell_objects(event_properties(found))
    else:
        call.tell(history(found))


def _of_the_log(call: Call, name: str) -> int:
    """A message that is not in the queue (any more)."""
    where = folder_of(call.settings.kmq)
    found = tracked.about(where, name) if where is not None else []
    if where is None or not any(entry.internal_message_id == name for entry in found):
        call.warn(f"{name} is not in the queue, and the tracking log has nothing of it: too long ago, or never here")
        return REFUSED
    if call.json:
        call.tell_objects(map(properties, found))
    else:
        call.tell(story(name, addressed(where, found)))
    return DONE
