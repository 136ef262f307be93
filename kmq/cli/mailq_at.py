"""`kmq mailq --at TIME`: the queue as it stood.

Promise:  looks only, and needs no kmqd. What cannot be known is said.
Callers:  kmq.cli.mailq.
"""

import time
from collections.abc import Iterator

from kmq.admin import hindsight, tracked
from kmq.admin.hindsight import View
from kmq.admin.listing import Listed, is_named, listed, properties
from kmq.cli.call import DONE, USAGE, Call
from kmq.cli.times import unix_time
from kmq.errors import KmqError
from kmq.log.tracking import Entry, folder_of
from kmq.spool.look import walk
from kmq.view.mailq import Tally, mailq
from kmq.view.words import counted, local_time


def run(call: Call) -> int:
    """The verb."""
    at = unix_time(call.arguments.at)
    if at > time.time():
        call.warn("that time is still to come")
        return USAGE
    settings = call.settings
    view = hindsight.view(walk(settings.kmq.spool), _log(call, at), at, settings.kmq.hostname)
    if call.arguments.ids:
        call.tell(entry.id for entry in _entries(call, view))
    elif call.json:
        call.tell_objects(properties(one, share, view.around) for one in _entries(call, view) for share in one.shares)
    else:
        call.tell(_report(call, view))
    return DONE


def _log(call: Call, at: float) -> Iterator[Entry]:
    """The tracking log, as far back as it matters; nothing where none is kept."""
    folder = folder_of(call.settings.kmq)
    if folder is None:
        call.warn("no tracking log is kept: what has left since is not shown")
        return
    try:
        yield from tracked.entries(folder, tracked.Question(since=hindsight.since(call.settings, at)))
    except KmqError as error:
        call.warn(f"what has left since is not shown: {error}")


def _entries(call: Call, view: View) -> Iterator[Listed]:
    wanted = call.arguments.queue
    limit = call.arguments.limit or len(view.found)
    for one in view.found:
        entry = listed(one, view.around)
        if wanted:
            entry.shares = [share for share in entry.shares if is_named(share.hop, wanted)]
        if entry.shares and limit:
            limit -= 1
            yield entry


def _report(call: Call, view: View) -> Iterator[str]:
    tally = Tally()
    yield from mailq(tally.of(_entries(call, view)), call.page)
    when = local_time(view.around.now)
    yield f"-- {tally.line} at {when}" if tally.messages else f"The queue was empty at {when}, as far as is known."
    if view.unknown:
        yield f"{counted(view.unknown, 'message')} came before, and how they ended is not in the tracking log."
