"""`kmq explain`: why a message, or a queue, is still here.

Promise:  looks only; works while kmqd is stopped, and says so. Exit status 0, or 1 when what was named is nowhere.
Callers:  kmq.cli.kmq.
"""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from shlex import quote

from kmq.admin import tracked
from kmq.admin.explain_facts import facts_about
from kmq.admin.explain_finding import Facts, Finding, properties
from kmq.admin.explain_gone import explain_gone, explain_kept
from kmq.admin.explain_queue import explain_queue
from kmq.admin.explain_story import of_queue, story
from kmq.admin.listing import domains, is_named
from kmq.admin.selection import Selection, Wish
from kmq.admin.selection_queues import select_queues
from kmq.admin.selection_rows import Line
from kmq.cli.call import DONE, REFUSED, Call
from kmq.cli.parser import identity
from kmq.errors import KmqError
from kmq.log.tracking import Entry, folder_of
from kmq.model import hop as hops
from kmq.model import queue_id
from kmq.model.hop import NextHop
from kmq.spool import net_look
from kmq.spool.index_rows import next_hop, unix
from kmq.spool.look import Damaged, Found, find
from kmq.view.explain import causes, ended, message, message_properties
from kmq.view.words import counted, harmless

#: Messages of a queue whose domains are looked at.
_LOOKED_AT = 100
#: Attempts to reach a next hop that are told.
_ATTEMPTS = 5
_DAY = 86400.0
#: Messages that are tried at a time of their own.
_LATER = "NextRetryTime -ne $null"
_DOMAIN = re.compile(r"[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+", re.ASCII)


def run(call: Call) -> int:
    """The verb."""
    status, first = DONE, True
    for name in call.arguments.what:
        if not first and not call.json:
            call.tell([""])
        first = False
        last = name.rpartition("\\")[2]
        known = queue_id.PATTERN.fullmatch(last)
        status = max(status, _message(call, identity(name).id) if known else _queue(call, name))
    return status


# --- a message --------------------------------------------------------------------------------------------------------


def _message(call: Call, name: str) -> int:
    found = find(call.settings.kmq.spool, queue_id.parse(name))
    if found is None:
        return _gone(call, name)
    facts = facts_about(call.settings, [name])
    told = story(found, facts, _tried(call, found, facts))
    if not isinstance(found, Found):
        _tell_damaged(call, name, told.common, facts)
    elif call.json:
        call.tell_objects([message_properties(found, told)])
    else:
        call.tell(message(found, told, facts.now))
    return DONE


def _tried(call: Call, found: Found | Damaged, facts: Facts) -> dict[str, list[str]]:
    """Attempts to reach the next hops that it waits for, since it came or of a day, as the tracking log has them."""
    where = folder_of(call.settings.kmq)
    if where is None or isinstance(found, Damaged):
        return {}
    out = {}
    since = min(unix(found.head.created), facts.now - _DAY)
    for hop in {found.state.hop[index] for index in found.state.open}:
        state = facts.around.queues.get(hop)
        if facts.around.silence or (state is not None and state.failures):
            wanted = f"Source -eq QUEUE -and EventId -eq DEFER -and NextHop -eq {_quoted(hop)} -and ID -eq $null"
            out[hop] = of_queue(_newest(where, tracked.Question(wanted, since=since)))
    return out


def _quoted(text: str) -> str:
    """A text in a filter."""
    return "'" + text.replace("'", "''") + "'"


def _newest(where: Path, question: tracked.Question) -> list[Entry]:
    """Nothing where the log cannot be read: it is a help, not the answer."""
    try:
        return tracked.newest(where, question, _ATTEMPTS)
    except KmqError:
        return []


def _tell_damaged(call: Call, name: str, findings: list[Finding], facts: Facts) -> None:
    if call.json:
        call.tell_objects([{"ID": name, "Causes": [properties(one) for one in findings]}])
    else:
        call.tell([name, *causes(findings, facts.now)])


def _gone(call: Call, name: str) -> int:
    """A message that is not in the queue (any more)."""
    where = folder_of(call.settings.kmq)
    entries = tracked.about(where, name) if where is not None else []
    kept = net_look.find(call.settings.kmq.spool, queue_id.parse(name)) if not entries else None
    findings = explain_kept(kept) if isinstance(kept, Found) else explain_gone(name, entries)
    if call.json:
        call.tell_objects([{"ID": name, "Causes": [properties(one) for one in findings]}])
    else:
        call.tell([name])
        for finding in findings:
            call.tell(ended(finding))
    return REFUSED if findings[0].code == "unknown" else DONE


# --- a queue ----------------------------------------------------------------------------------------------------------


def _queue(call: Call, name: str) -> int:
    facts = facts_about(call.settings, [])
    known = {next_hop(row.hop): row.properties for row in select_queues(call.settings, facts.around, limit=0).rows}
    meant = [hop for hop in {*known, hops.SUBMISSION, hops.UNREACHABLE, hops.POISON} if is_named(hop, name)]
    if len(meant) != 1:
        call.warn(harmless(_which(name, meant, known)))
        return REFUSED
    (hop,) = meant
    with Selection(call.settings, facts.around, {"queue": str(hop)}) as found:
        waiting, _ = found.page_of_lines(_LOOKED_AT)
        total = found.totals.rows
    addresses = [address for line in waiting for address in line.to]
    state = facts.around.queues.get(str(hop))
    count = max(total, state.messages if state is not None else 0)
    findings = explain_queue(hop, count, domains(addresses), facts, _next_try(call, hop, facts, waiting))
    if call.json:
        call.tell_objects([{"Queue": hop.name, "NextHop": str(hop), "Causes": [properties(one) for one in findings]}])
    else:
        call.tell([harmless(f"{hop.name}: {counted(count, 'message')}")])
        call.tell(causes(findings, facts.now))
    return DONE


def _next_try(call: Call, hop: NextHop, facts: Facts, waiting: Sequence[Line]) -> float | None:
    """When a queue's first message is tried: 0.0 for as soon as possible, None for not by itself. waiting: some."""
    wish: Wish = {"queue": str(hop), "filter": _LATER, "sort": "NextRetryTime"}
    with Selection(call.settings, facts.around, wish) as found:
        later, _ = found.page_of_lines(1)
    if later:
        return later[0].next_try
    return None if waiting and all(line.next_try is None for line in waiting) else 0.0


def _which(name: str, meant: list[NextHop], known: Iterable[NextHop]) -> str:
    if meant:
        texts = sorted(quote(str(hop)) for hop in meant)
        return f"{len(meant)} queues are called {name}: say which one, {' or '.join(texts)}"
    there = ", ".join(sorted({hop.name for hop in known}))
    mail = f"; mail for a domain: kmq mailq --filter 'Recipients -like *@{name}'" if _DOMAIN.fullmatch(name) else ""
    return f"no message and no queue is called {name}; queues are: {there}{mail}"
