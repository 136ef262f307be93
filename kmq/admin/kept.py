"""What the safety net keeps, as an operator asks for it: a row per message and next hop that took it.

What:     the filter language of the queue's messages over the same properties, as far as what was delivered has them,
          and DateDelivered, Host, Reply, Replayed.
Promise:  looks only; works while kmqd is stopped. FilterError (exit status 2) for a mistake in a filter. Bodies are
          read only where a filter or a listing asks for what stands in the header.
On crash: nothing is held.
Callers:  kmq.cli.replay.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from kmq.admin.bygone import properties_of
from kmq.admin.choice import Target
from kmq.admin.filter_match import matcher
from kmq.admin.filter_names import MESSAGE, Property, Table
from kmq.admin.filter_tree import Both, Comparison, Either, Node, Not, parse
from kmq.admin.filter_values import Kind
from kmq.admin.listing import utc
from kmq.model import recipients
from kmq.model.event import Delivered, Replayed
from kmq.run.keeping import day_of
from kmq.spool import net_look
from kmq.spool.index_rows import header_row, next_hop, unix
from kmq.spool.look import Damaged, Found, header_of

#: Of a message's properties those that one has that is not in the queue any more.
_SAME = (
    *("Created", "DeliveryType", "Directionality", "EnvelopeId", "FromAddress", "Helo", "Id", "Identity"),
    *("InternetMessageId", "MessageSourceName", "NextHopConnector", "NextHopDomain", "OriginalFromAddress", "Priority"),
    *("Queue", "RecipientCount", "Recipients", "RetryCount", "SCL", "Size", "SourceIP", "Subject", "User"),
)
_IN_HEADER = frozenset({"Subject", "InternetMessageId", "SCL"})
_TIMES = ("Created", "DateDelivered")

KEPT = Table(
    "a kept message",
    [
        *(one for one in MESSAGE.properties if one.name in _SAME),
        Property("DateDelivered", Kind.TIME, "when the next hop took it"),
        Property("Host", Kind.TEXT, "who took it"),
        Property("Replayed", Kind.TEXT, "the ID of the message by which it went once more"),
        Property("Reply", Kind.TEXT, "what was said then"),
    ],
)


class Wanted(NamedTuple):
    """filter: in the filter language; since, until: Unix times of delivery, 0.0 and infinite for all."""

    filter: str = ""
    since: float = 0.0
    until: float = float("inf")


@dataclass(slots=True, frozen=True)
class Kept:
    """A message, for the recipients for whom one next hop took it. replayed: the ID of a later copy, "" when some of
    them had none; copy: the ID of the message that this one brought once more.

    parts: how many next hops took the message; plain: as properties are compared, times in Unix time.
    """

    id: str
    hop: str
    to: list[str]
    size: int
    sender: str
    delivered: float
    replayed: str
    copy: str
    parts: int
    plain: Mapping[str, object]

    @property
    def properties(self) -> Mapping[str, object]:
        """By Exchange's names; times in RFC 3339."""
        shown = {name: utc(self.plain[name]) for name in _TIMES}  # type: ignore[arg-type]
        told = {name: None if one == "" else one for name, one in self.plain.items()}
        return {**told, "FromAddress": self.sender, **shown, "NextHop": self.hop}


def rows(spool: Path, server: str, wanted: Wanted, now: float, header: bool = False) -> Iterator[Kept]:
    """What matches, in the order of days and IDs. header: rows tell what stands in the header, too."""
    node = parse(wanted.filter, KEPT, now)
    matches: Callable[[Mapping[str, object]], bool] = matcher(node)
    header = header or not _IN_HEADER.isdisjoint(_names(node))
    for found in net_look.walk(spool, day_of(wanted.since) if wanted.since else ""):
        if isinstance(found, Damaged):
            continue
        for row in _Message(found, server, header).rows():
            if wanted.since <= row.delivered <= wanted.until and matches(row.plain):
                yield row


def damaged(spool: Path) -> Iterator[Damaged]:
    """What is kept and cannot be read."""
    return (found for found in net_look.walk(spool) if isinstance(found, Damaged))


def _names(node: Node | None) -> set[str]:
    """The properties that a filter asks for."""
    match node:
        case Comparison():
            return {node.property.name}
        case Not():
            return _names(node.part)
        case Both() | Either():
            return {name for one in node.parts for name in _names(one)}
    return set()


class _Message:
    """One message of the net."""

    def __init__(self, found: Found, server: str, header: bool) -> None:
        self.found = found
        self.server = server
        self._header = header

    def rows(self) -> Iterator[Kept]:
        """One for each next hop that took it."""
        taken: dict[str, list[int]] = {}
        for index, end in sorted(self.found.state.done.items()):
            if isinstance(end, Delivered):
                taken.setdefault(self.found.state.hop[index], []).append(index)
        for hop, rcpt in taken.items():
            yield self._row(hop, rcpt, len(taken))

    @cached_property
    def _replays(self) -> dict[int, str]:
        events = (one for one in self.found.events if isinstance(one, Replayed))
        return {index: one.child for one in events for index in recipients.from_text(one.rcpt)}

    @cached_property
    def _shared(self) -> dict[str, object]:
        """What all rows of the message have."""
        return properties_of(self.found, header_row(header_of(self.found.body)) if self._header else None)

    def _row(self, text: str, rcpt: list[int], parts: int) -> Kept:
        head, state, where = self.found.head, self.found.state, next_hop(text)
        ends = [end for index in rcpt if isinstance(end := state.done[index], Delivered)]
        last = max(ends, key=lambda end: end.seq)
        to = [head.recipients[index].address for index in rcpt]
        later = [self._replays.get(index, "") for index in rcpt]
        replayed = later[-1] if all(later) else ""
        queue = f"{self.server}\\{where.name}"
        plain = self._shared | {
            "Identity": f"{queue}\\{head.id}",
            "Queue": queue,
            "DeliveryType": where.delivery_type.value,
            "NextHopDomain": where.domain,
            "NextHopConnector": where.connector,
            "Recipients": to,
            "RecipientCount": len(to),
            "RetryCount": max(end.attempt for end in ends),
            "DateDelivered": unix(last.at),
            "Host": last.host,
            "Reply": last.reply,
            "Replayed": replayed,
        }
        return Kept(head.id, text, to, head.size, head.sender, unix(last.at), replayed, head.replayed, parts, plain)


def targets(found: Iterable[Kept]) -> list[Target]:
    """What kmqd is asked for: a message where all of it is meant, else its parts."""
    messages: dict[str, list[Kept]] = {}
    for row in found:
        messages.setdefault(row.id, []).append(row)
    out: list[Target] = []
    for name, parts in messages.items():
        whole = len(parts) == parts[0].parts
        out += [Target(name)] if whole else [Target(name, row.hop) for row in parts]
    return out
