"""`kmq mailq --at TIME`: the queue as it stood.

Promise:  looks only, and needs no kmqd. What cannot be known is said. A filter knows the properties that are known of
          the past; an option that has no meaning here is refused, not passed over.
Callers:  kmq.cli.mailq.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from itertools import islice

from kmq.admin import hindsight, tracked
from kmq.admin.filter_match import matcher
from kmq.admin.filter_names import MESSAGE, Table
from kmq.admin.filter_tree import parse
from kmq.admin.hindsight import View
from kmq.admin.listing import Listed, Share, is_meant, listed, properties
from kmq.cli.call import DONE, USAGE, Call
from kmq.cli.times import unix_time
from kmq.errors import KmqError
from kmq.log.tracking import Entry, folder_of
from kmq.spool.look import walk
from kmq.view.mailq import Tally, mailq
from kmq.view.words import counted, local_time

#: Options of `kmq mailq` that are about the present.
_PRESENT = ("watch", "sort", "bookmark", "include", "exclude")

#: What is known of a message in a queue of the past.
_NAMES = (
    *("Id", "Identity", "Queue", "NextHopDomain", "NextHopConnector", "DeliveryType", "FromAddress", "Recipients"),
    *("RecipientCount", "Status", "Created", "DateReceived", "NextRetryTime", "Size", "LastError", "RetryCount"),
    *("MessageSourceName", "SourceIP"),
)
_PAST = Table("a message of the past", [one for one in MESSAGE.properties if one.name in _NAMES])

Matches = Callable[[Mapping[str, object]], bool]


def run(call: Call) -> int:
    """The verb."""
    idle = [f"--{name}" for name in _PRESENT if getattr(call.arguments, name)]
    if idle:
        call.warn(f"--at goes with --queue, --filter, --limit and --ids, not with {', '.join(idle)}")
        return USAGE
    at = unix_time(call.arguments.at)
    matches = matcher(parse(call.arguments.filter, _PAST, at))
    if at > time.time():
        call.warn("that time is still to come")
        return USAGE
    settings = call.settings
    view = hindsight.view(walk(settings.kmq.spool), _log(call, at), at, settings.kmq.hostname)
    if call.arguments.ids:
        call.tell(entry.id for entry in _limited(call, _entries(call, view, matches)))
    elif call.json:
        call.tell_objects(
            properties(one, share, view.around)
            for one in _limited(call, _entries(call, view, matches))
            for share in one.shares
        )
    else:
        call.tell(_report(call, view, matches))
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


def _entries(call: Call, view: View, matches: Matches) -> Iterator[Listed]:
    """What is asked for, of each message the queues that are."""
    wanted = call.arguments.queue
    for one in view.found:
        entry = listed(one, view.around)
        entry.shares = [
            share
            for share in entry.shares
            if (not wanted or is_meant(share.hop, wanted)) and matches(_known(entry, share, view))
        ]
        if entry.shares:
            yield entry


def _limited(call: Call, entries: Iterator[Listed]) -> Iterator[Listed]:
    """As many as are to be shown."""
    return islice(entries, call.arguments.limit or None)


def _known(entry: Listed, share: Share, view: View) -> Mapping[str, object]:
    more = {
        "Id": entry.id,
        "Created": entry.created,
        "NextHopDomain": share.hop.domain,
        "RecipientCount": len(share.to),
    }
    return {**properties(entry, share, view.around), **more}


def _nothing(call: Call, view: View, when: str) -> str:
    if view.found and (call.arguments.queue or call.arguments.filter):
        return f"No message matches at {when}."
    return f"The queue was empty at {when}, as far as is known."


def _report(call: Call, view: View, matches: Matches) -> Iterator[str]:
    tally, shown = Tally(), Tally()
    every = tally.of(_entries(call, view, matches))
    yield from mailq(shown.of(_limited(call, every)), call.page)
    for _ in every:
        pass  # the totals count all of them
    when = local_time(view.around.now)
    part = f" ({shown.messages:,} shown)" if shown.messages < tally.messages else ""
    yield f"-- {tally.line} at {when}{part}" if tally.messages else _nothing(call, view, when)
    if view.unknown:
        yield f"{counted(view.unknown, 'message')} came before, and how they ended is not in the tracking log."
