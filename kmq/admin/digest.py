"""Queues of one or several servers, summed up by what they have in common (Exchange's Get-QueueDigest).

Does:     groups queues of `DIGEST` messages and more by a property; groups come with the most messages first.
Promise:  pure. Servers are asked by others; here their rows are put together, each server with the age of what it said.
Callers:  kmq.cli.digest.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import NamedTuple

from kmq.admin.filter_match import matcher
from kmq.admin.filter_names import QUEUE
from kmq.admin.filter_tree import parse
from kmq.errors import FilterError

#: A queue of fewer messages is left out, where no filter asks for it.
THRESHOLD = 10
#: Groups that are shown.
RESULT_SIZE = 100

Row = Mapping[str, object]


class ServerRows(NamedTuple):
    """What one server says of its queues. as_of: Unix time; rows: as Get-Queue names their properties."""

    server: str
    as_of: float
    rows: Sequence[Row]


class Level(Enum):
    """How much is told of the queues of a group."""

    NONE = "None"
    NORMAL = "Normal"
    VERBOSE = "Verbose"


#: GroupBy -> what the queues of a group have in common.
GROUPS: Mapping[str, Callable[[str, Row], object]] = {
    "NextHopDomain": lambda server, row: row.get("NextHopDomain"),
    "NextHopCategory": lambda server, row: row.get("NextHopCategory"),
    "NextHopKey": lambda server, row: row.get("NextHop"),
    "DeliveryType": lambda server, row: row.get("DeliveryType"),
    "Status": lambda server, row: row.get("Status"),
    "LastError": lambda server, row: row.get("LastError"),
    "ServerName": lambda server, row: server,
}

#: What is told of each queue of a group, by level; Verbose tells all that is known.
_DETAILS = ("QueueIdentity", "ServerIdentity", "MessageCount", "NextHopDomain", "Status")


@dataclass(slots=True)
class Group:
    """One line of the digest. stale: messages of servers whose word is older than was asked for."""

    value: str
    count: int = 0
    deferred: int = 0
    locked: int = 0
    stale: int = 0
    details: list[Row] = field(default_factory=list)


@dataclass(slots=True)
class Question:
    """by: of GROUPS; filter: of queues ("" for those of THRESHOLD messages and more); fresh: seconds for which a
    server's word is fresh; size: most groups.
    """

    by: str = "NextHopDomain"
    filter: str = ""
    level: Level = Level.NORMAL
    fresh: float = 120.0
    size: int = RESULT_SIZE


def group_name(text: str) -> str:
    """The name of a grouping as it is written; FilterError with those that exist."""
    found = next((name for name in GROUPS if name.lower() == text.lower()), "")
    if not found:
        raise FilterError(f"{text[:60]!r} is nothing to group by; there are {', '.join(GROUPS)}")
    return found


def digest(servers: Iterable[ServerRows], question: Question, now: float) -> list[Group]:
    """The groups; FilterError for a filter that cannot be understood."""
    tree = parse(question.filter, QUEUE, now)
    asked = matcher(tree) if tree is not None else _large
    value_of = GROUPS[question.by]
    groups: dict[str, Group] = {}
    for server in servers:
        stale = now - server.as_of > question.fresh
        for row in server.rows:
            if not asked(row):
                continue
            value = value_of(server.server, row)
            text = "" if value is None else str(value)
            _add(groups.setdefault(text, Group(text)), server, row, stale, question.level)
    ordered = sorted(groups.values(), key=lambda one: (-one.count, one.value))
    return ordered[: question.size]


def _large(row: Row) -> bool:
    return _number(row, "MessageCount") >= THRESHOLD


def _add(group: Group, server: ServerRows, row: Row, stale: bool, level: Level) -> None:
    count = _number(row, "MessageCount")
    group.count += count
    group.deferred += _number(row, "DeferredMessageCount")
    group.locked += _number(row, "LockedMessageCount")
    group.stale += count if stale else 0
    if level is Level.NONE:
        return
    whole = {"QueueIdentity": row.get("Identity"), "ServerIdentity": server.server, **row}
    group.details.append(whole if level is Level.VERBOSE else {name: whole.get(name) for name in _DETAILS})


def _number(row: Row, name: str) -> int:
    found = row.get(name)
    return found if isinstance(found, int) else 0


def properties(group: Group) -> dict[str, object]:
    """A group as one object, as Get-QueueDigest names it."""
    return {
        "GroupByValue": group.value,
        "MessageCount": group.count,
        "DeferredMessageCount": group.deferred,
        "LockedMessageCount": group.locked,
        "StaleMessageCount": group.stale,
        "Details": group.details,
    }
