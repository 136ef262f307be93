"""`kmq queues`: the queues with their states.

Promise:  from kmqd when it runs; else counted from the envelopes, without states, and it says so.
Callers:  kmq.cli.kmq.
"""

from collections.abc import Iterator
from typing import NamedTuple

from kmq.admin import client
from kmq.admin.circumstances import Circumstances, text_of
from kmq.admin.listing import listed, utc
from kmq.cli.call import DONE, Call
from kmq.errors import Unreachable
from kmq.spool.look import walk
from kmq.view.queues import queues
from kmq.view.table import Page


def run(call: Call) -> int:
    """The verb."""
    if call.json:
        told = _told(call)
        call.tell_objects(told.lines)
        for word in filter(None, (told.silence, *told.news.splitlines())):
            call.warn(word)
    elif call.arguments.watch:
        from kmq.view.watch import watch

        watch(lambda page: _report(call, page), call.out, call.settings.kmq.spool / "status")
    else:
        call.tell(_report(call, call.page))
    return DONE


def _report(call: Call, page: Page) -> Iterator[str]:
    told = _told(call)
    yield from queues(told.lines, page) if told.lines else ["No queue has messages"]
    yield from told.news.splitlines()
    if told.silence:
        yield told.silence
        yield "The messages were counted in the spool; the states of queues are not known."


class _Told(NamedTuple):
    """The queues; why kmqd did not tell them, "" when it did; what else it had to say."""

    lines: list[dict[str, object]]
    silence: str = ""
    news: str = ""


def _told(call: Call) -> _Told:
    """The queues as kmqd has them, else as the spool has."""
    section = call.settings.kmq
    try:
        response = client.ask(section.run_directory, "queues")
    except Unreachable as unreachable:
        return _Told(_counted(call), str(unreachable))
    for line in response.lines:
        line["Identity"] = f"{section.hostname}\\{text_of(line, 'NextHopDomain')}"
    if response.status == DONE:
        return _Told(response.lines, news=response.text)
    return _Told(response.lines, response.text)


def _counted(call: Call) -> list[dict[str, object]]:
    """The queues as the envelopes have them."""
    section = call.settings.kmq
    around = Circumstances(0.0, section.hostname)
    found: dict[str, dict[str, object]] = {}
    soonest: dict[str, float] = {}
    counts: dict[str, int] = {}
    for message in walk(section.spool):
        for share in listed(message, around).shares:
            name = str(share.hop)
            counts[name] = counts.get(name, 0) + 1
            if share.next_try:
                soonest[name] = min(share.next_try, soonest.get(name, share.next_try))
            found.setdefault(
                name,
                {
                    "Identity": f"{section.hostname}\\{share.hop.name}",
                    "NextHopDomain": share.hop.domain,
                    "NextHopConnector": share.hop.connector or None,
                    "NextHop": name,
                    "DeliveryType": share.hop.delivery_type.value,
                    "Status": None,
                },
            )
    for name, line in found.items():
        line["MessageCount"] = counts[name]
        line["NextRetryTime"] = utc(soonest.get(name, 0.0))
        line["LastError"] = None
    return list(found.values())
