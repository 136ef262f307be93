"""Executing: the first phase. Every recipient gets its next hop.

Promise:  pure; each recipient is in exactly one event, recipients with the same hop by the same rule are in one.
On crash: run again with the same answer, or a newer one when the configuration changed.
Callers:  run.worker.
"""

from collections.abc import Callable, Sequence
from typing import Protocol

from kmq.model import recipients
from kmq.model.envelope import Head
from kmq.model.event import Routed
from kmq.model.hop import NextHop


class Route(Protocol):
    """What routing says about an address. rule: the line of the configuration that decided."""

    @property
    def hop(self) -> NextHop: ...

    @property
    def rule(self) -> str: ...


def categorize(head: Head, rcpt: Sequence[int], route: Callable[[str], Route]) -> list[Routed]:
    """The events for these recipients (indices into head.recipients), in the order of the first of each group."""
    if len(rcpt) == 1:
        found = route(head.recipients[rcpt[0]].address)
        return [Routed(rcpt=recipients.as_text(rcpt), hop=str(found.hop), rule=found.rule)]
    groups: dict[tuple[NextHop, str], list[int]] = {}
    for index in rcpt:
        found = route(head.recipients[index].address)
        groups.setdefault((found.hop, found.rule), []).append(index)
    return [
        Routed(rcpt=recipients.as_text(indices), hop=str(hop), rule=rule) for (hop, rule), indices in groups.items()
    ]
