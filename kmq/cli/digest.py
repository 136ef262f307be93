"""`kmq digest`: the queues summed up, the largest group first (Exchange's Get-QueueDigest).

Promise:  looks only. Of this server; the sums are made for any number of them (kmq.admin.digest).
Callers:  kmq.cli.kmq.
"""

import time

from kmq.admin.digest import RESULT_SIZE, THRESHOLD, Level, Question, ServerRows, digest, group_name, properties
from kmq.admin.selection_queues import select_queues
from kmq.cli.call import DONE, REFUSED, Call
from kmq.view.digest import digest as table

_NONE = f"no queue has {THRESHOLD} messages; with --filter 'MessageCount -ge 1' smaller ones count, too"


def run(call: Call) -> int:
    """The verb."""
    arguments = call.arguments
    question = Question(
        group_name(arguments.group_by or "NextHopDomain"),
        arguments.filter,
        Level[arguments.details.upper()],
        size=arguments.limit or RESULT_SIZE,
    )
    groups = digest([_here(call)], question, time.time())
    if call.json:
        call.tell_objects(map(properties, groups))
    elif groups:
        call.tell(table(groups, question.by, question.level, call.page))
    if groups:
        return DONE
    call.warn("no queue matches" if arguments.filter else _NONE)
    return REFUSED


def _here(call: Call) -> ServerRows:
    """This server's queues, as they are now."""
    found = select_queues(call.settings, call.around(), limit=0)
    return ServerRows(call.settings.kmq.hostname, found.as_of, [row.properties for row in found.rows])
