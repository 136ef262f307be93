"""`kmq retry | remove | suspend | resume`: an operator acts on messages, or on a queue.

Promise:  nothing is done before all that was named has been understood. `remove` asks when it is more than ten messages
          and takes no answer for no. What kmqd answered was durable before.
Callers:  kmq.cli.kmq.
"""

import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from kmq.admin import client
from kmq.admin.circumstances import Circumstances, text_of
from kmq.admin.client import Response
from kmq.admin.listing import Listed, is_named, listed, next_hop
from kmq.admin.verbs import VERBS, Argument
from kmq.cli.call import DONE, REFUSED, USAGE, Call
from kmq.cli.parser import Identity
from kmq.model import queue_id
from kmq.model.hop import POISON
from kmq.spool.look import Damaged, Found, find, walk
from kmq.view.mailq import Tally, mailq
from kmq.view.words import counted, harmless

#: More messages than this are not removed without a question.
UNASKED = 10

#: Messages of which a line each is shown; the rest is counted.
SHOWN = 100


def run(call: Call) -> int:
    """The verb."""
    arguments = call.arguments
    ways = [bool(arguments.id), arguments.queue is not None, arguments.all]
    if sum(ways) != 1:
        call.warn(f"{arguments.verb} needs IDs, --queue Q, or --all: exactly one of them")
        return USAGE
    if arguments.what_if:
        return _what_if(call)
    if arguments.verb == "remove" and not _sure(call):
        return REFUSED
    named: dict[str, Argument] = {}
    if VERBS[arguments.verb].reason and arguments.reason:
        named["reason"] = arguments.reason
    run_directory = call.settings.kmq.run_directory
    if arguments.all:
        return tell(call, client.ask(run_directory, arguments.verb, {**named, "all": True}))
    if arguments.queue is not None and not is_named(POISON, arguments.queue):
        return _on_queue(call, named)
    ids, refused = _whole(call)
    if refused:
        return REFUSED
    return tell(call, client.ask_in_parts(run_directory, arguments.verb, ids, named))


def tell(call: Call, response: Response) -> int:
    """Prints what kmqd answered; its status is ours."""
    if call.json:
        call.tell_objects(response.lines)
    else:
        call.tell(harmless(_sentence(line)) for line in response.lines[:SHOWN])
        if len(response.lines) > SHOWN:
            call.tell([f"... and {len(response.lines) - SHOWN:,} more"])
    if response.status == DONE and not call.json:
        call.tell(response.text.splitlines())
    elif response.text:
        call.warn(harmless(response.text))
    return response.status


def _sentence(line: dict[str, object]) -> str:
    """A line of an answer: `69212ad0-0000a1f3 removed`."""
    return " ".join(str(value) for value in line.values() if value is not None)


def _on_queue(call: Call, named: dict[str, Argument]) -> int:
    """The verb for one queue, which kmqd must have; it is named to kmqd by the whole text of its next hop."""
    verb, wanted = call.arguments.verb, call.arguments.queue
    run_directory = call.settings.kmq.run_directory
    hops = [text_of(line, "NextHop") for line in client.ask(run_directory, "queues").lines]
    meant = [hop for hop in hops if is_named(next_hop(hop), wanted)]
    if len(meant) == 1:
        return tell(call, client.ask(run_directory, verb, {**named, "queue": meant[0]}))
    if meant:
        call.warn(f"{len(meant)} queues are called {wanted}: say which one, {' or '.join(meant)}")
    else:
        there = ", ".join(next_hop(hop).name for hop in hops) or "none"
        call.warn(harmless(f"no queue is called {wanted}; there are: {there}"))
    return REFUSED


def _whole(call: Call) -> tuple[list[str], bool]:
    """The IDs (those in poison/, when that is the queue), and whether something was named that is not to be touched.

    Verbs act on whole messages; who names a queue with the ID means that part, so it must be all there is.
    """
    ids: dict[str, None] = {}
    refused = False
    if call.arguments.queue is not None:
        ids = {entry.id: None for entry in _affected(call, Circumstances(0.0, ""))}
        refused = not ids
        if refused:
            call.warn("poison/ is empty")
    for one in call.arguments.id:
        ids[one.id] = None
        if one.queue and not _only_there(call, one):
            refused = True
            call.warn(harmless(f"{one.id} does not wait in {one.queue} alone: give the ID without a queue"))
    return list(ids), refused


def _only_there(call: Call, one: Identity) -> bool:
    found = find(call.settings.kmq.spool, queue_id.parse(one.id))
    if found is None:
        return True  # kmqd says so
    shares = listed(found, Circumstances(0.0, "")).shares
    return all(is_named(share.hop, one.queue) for share in shares)


def _affected(call: Call, around: Circumstances) -> Iterator[Listed]:
    """The messages that the arguments name, as they are on disk now."""
    arguments, spool = call.arguments, call.settings.kmq.spool
    for message in _named(arguments.id, spool) if arguments.id else walk(spool):
        entry = listed(message, around)
        if arguments.queue is not None and not any(is_named(share.hop, arguments.queue) for share in entry.shares):
            continue
        if arguments.all and message.home == "poison":
            continue  # out of circulation: touched only by who names it
        yield entry


def _named(identities: list[Identity], spool: Path) -> Iterator[Found | Damaged]:
    for name in dict.fromkeys(one.id for one in identities):
        found = find(spool, queue_id.parse(name))
        if found is not None:
            yield found


def _what_if(call: Call) -> int:
    """Shows the messages; does nothing."""
    tally = Tally()
    entries = tally.of(_affected(call, call.around()))
    call.tell(mailq(islice(entries, SHOWN), call.page))
    for _ in entries:
        pass
    if not tally.messages:
        call.warn("nothing matches")
        return REFUSED
    call.tell([f"-- {tally.line}. Nothing was done (--what-if)."])
    return DONE


def _sure(call: Call) -> bool:
    """Whether that many may be removed: few are, for many somebody is asked."""
    if call.arguments.yes or (call.arguments.id and len(call.arguments.id) <= UNASKED):
        return True
    section = call.settings.kmq
    number = sum(1 for _ in _affected(call, Circumstances(0.0, section.hostname)))
    if number <= UNASKED:
        return True
    if not sys.stdin.isatty():
        call.warn(f"{counted(number, 'message')} would be removed: say --yes if that is meant")
        return False
    print(f"Remove {counted(number, 'message')}? Nobody will be told. [y/N] ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip().lower() in ("y", "yes"):
        return True
    call.warn("nothing was removed")
    return False
