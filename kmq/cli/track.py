"""`kmq track`: what happened to mail, from the tracking log.

Promise:  looks only, and needs no kmqd. Exit status 0, or 1 when nothing matches.
Callers:  kmq.cli.kmq.
"""

from pathlib import Path

from kmq.admin import tracked
from kmq.admin.tracked_to import addressed
from kmq.cli.call import DONE, REFUSED, Call
from kmq.cli.times import unix_time
from kmq.errors import KmqError
from kmq.log.tracking import folder_of
from kmq.view.track import properties, track

#: Entries that are shown, when nobody says how many.
LIMIT = 1000


def run(call: Call) -> int:
    """The verb."""
    arguments = call.arguments
    question = tracked.Question(
        arguments.filter,
        unix_time(arguments.since) if arguments.since else 0.0,
        unix_time(arguments.until) if arguments.until else float("inf"),
        [one.id for one in arguments.id],
    )
    found = tracked.newest(folder(call), question, arguments.limit or LIMIT)
    if call.json:
        call.tell_objects(map(properties, found))
    else:
        call.tell(track(addressed(folder(call), found), call.page))
    if not found:
        call.warn("the tracking log has nothing of the kind")
        return REFUSED
    if len(found) == LIMIT and not arguments.limit:
        call.warn(f"these are the last {LIMIT:,}: there are more, perhaps; --limit N shows so many")
    return DONE


def folder(call: Call) -> Path:
    """Where the tracking log is; KmqError when none is kept."""
    where = folder_of(call.settings.kmq)
    if where is None:
        raise KmqError("no tracking log is kept: [kmq] tracking_log = off")
    return where
