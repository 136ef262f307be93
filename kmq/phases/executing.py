"""Executing: the first phase. Every recipient gets its next hop, or is found to be an alias, or nobody.

Promise:  pure; each recipient is in exactly one event or expansion, recipients with the same fate are in one event.
On crash: run again with the same answer, or a newer one when the configuration or an alias changed.
Callers:  run.walk.
"""

from collections.abc import Callable, Hashable, Sequence
from functools import lru_cache
from typing import NamedTuple

from kmq.model import recipients
from kmq.model.envelope import Head, Recipient
from kmq.model.event import Event, Routed
from kmq.model.hop import NextHop
from kmq.model.reply import Reply
from kmq.phases.work import result
from kmq.routing.expanding import Expansion
from kmq.routing.table import Decision, Route

#: Of a next hop: mail for a few of them comes again and again.
_text: Callable[[NextHop], str] = lru_cache(1024)(str)


class Categorized(NamedTuple):
    """What Executing found.

    events:     Routed, Failed, Deferred, in the order of the first recipient of each.
    expansions: recipients that are aliases, by index; other messages are to be made of them.
    only:       that of all recipients, when all go to one next hop and by one rule; else None.
    """

    events: list[Event]
    expansions: list[tuple[int, Expansion]]
    only: Routed | None = None


def categorize(
    head: Head, rcpt: Sequence[int], decide: Callable[[Recipient], Decision], attempt: int = 1
) -> Categorized:
    """What is to become of these recipients (indices into head.recipients) in their `attempt`th try."""
    if len(rcpt) == 1:
        found = decide(head.recipients[rcpt[0]])
        if type(found) is Route:
            only = Routed(rcpt=str(rcpt[0]), hop=_text(found.hop), rule=found.rule)
            return Categorized([only], [], only)
    groups: dict[Hashable, tuple[Route | Reply, list[int]]] = {}
    expansions: list[tuple[int, Expansion]] = []
    for index in rcpt:
        found = decide(head.recipients[index])
        if isinstance(found, Expansion):
            expansions.append((index, found))
        else:
            groups.setdefault(found, (found, []))[1].append(index)
    events = [_event(fate, indices, attempt) for fate, indices in groups.values()]
    first = events[0] if len(events) == 1 and not expansions else None
    return Categorized(events, expansions, first if isinstance(first, Routed) else None)


def _event(fate: Route | Reply, indices: list[int], attempt: int) -> Event:
    rcpt = recipients.as_text(indices)
    if isinstance(fate, Route):
        return Routed(rcpt=rcpt, hop=_text(fate.hop), rule=fate.rule)
    return result(rcpt, attempt, fate, "")
