"""What an operator means: the messages, or the parts of messages in one queue, that a verb is to act on.

What:     names as people write them, a queue, a filter, or everything, become targets: exactly these are shown, asked
          about, and handed to kmqd, whatever moves meanwhile.
Shapes:   a target is (ID, text of a next hop); without a hop it is the whole message. What is in poison/ has no parts.
Promise:  looks only. A message that is named and not there is kmqd's to tell; a part that is not there is told here.
On crash: nothing is held.
Callers:  kmq.cli.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from operator import itemgetter
from typing import NamedTuple

from kmq.admin.circumstances import Circumstances
from kmq.admin.listing import Listed, is_meant, is_named, listed, next_hop
from kmq.admin.selection import Row, Selection, Wish
from kmq.admin.selection_queues import select_queues
from kmq.admin.verbs import QUEUE_LIMIT
from kmq.config import Settings
from kmq.model import queue_id
from kmq.model.hop import POISON, UNREACHABLE, parse
from kmq.model.outcome import GONE
from kmq.spool.look import find

_POISON = str(POISON)
#: Queues that are not shown while they are empty.
_HIDDEN = (str(UNREACHABLE), _POISON)
#: Queues that who made a mistake is told of; `kmq queues` has all.
_SHOWN = 30


class Target(NamedTuple):
    """A message, or its recipients that wait for one next hop."""

    id: str
    hop: str = ""

    @property
    def name(self) -> str:
        """As kmqd wants it."""
        return f"{self.hop}\\{self.id}" if self.hop else self.id


@dataclass(slots=True)
class Choice:
    """targets: each once, in order; absent: lines (as of an answer) about parts that are not there."""

    targets: list[Target] = field(default_factory=list)
    absent: list[dict[str, object]] = field(default_factory=list)

    @property
    def messages(self) -> int:
        """How many messages they are."""
        return len({target.id for target in self.targets})


class Named(NamedTuple):
    """As a person or a list names a message. queue: of its name, or the text of its next hop; "" for all."""

    queue: str
    id: str


def of_names(names: Iterable[Named], settings: Settings, around: Circumstances | None) -> Choice:
    """Messages by name. around: needed when one is named with a queue."""
    choice = Choice()
    seen: dict[Target, None] = {}
    for one in names:
        found = [Target(one.id)] if not one.queue or around is None else _parts(one, settings, around)
        if not found:
            why = f"it does not wait in {one.queue}"
            choice.absent.append({"ID": f"{one.queue}\\{one.id}", "Result": GONE, "Why": why})
        seen.update(dict.fromkeys(found))
    choice.targets = list(seen)
    return choice


def _parts(one: Named, settings: Settings, around: Circumstances) -> list[Target]:
    """The parts of a message in the queues of a name; where that means one queue, nobody looks at the message."""
    if is_named(POISON, one.queue):
        return [Target(one.id)]
    if _is_hop(one.queue):
        return [Target(one.id, one.queue)]
    known = queues_named(one.queue, around.queues)
    if len(known) == 1:
        return [Target(one.id, known[0])]
    found = find(settings.kmq.spool, queue_id.parse(one.id))
    shares = listed(found, around).shares if found else []
    return [Target(one.id, str(share.hop)) for share in shares if is_named(share.hop, one.queue)]


def _is_hop(text: str) -> bool:
    """Whether it is the whole text of a next hop."""
    if not text.isprintable() or len(text) > QUEUE_LIMIT:
        return False
    try:
        parse(text)
    except ValueError:
        return False
    return True


def queues_named(name: str, hops: Iterable[str]) -> list[str]:
    """The next hops whose queues a name means; `*` and `?` in it stand for anything."""
    return [hop for hop in hops if is_meant(next_hop(hop), name)]


def no_such_queue(name: str, settings: Settings, around: Circumstances) -> str:
    """What somebody hears who names a queue that is not there; "" when there is one. Those that are shown only while
    they hold something are there."""
    there = [row.hop for row in select_queues(settings, around, limit=0).rows]
    if queues_named(name, (*there, *_HIDDEN)):
        return ""
    names = list(dict.fromkeys(next_hop(hop).name for hop in there))
    return f"no queue is called {name}; there are: {', '.join(names[:_SHOWN])}{', ..' * (len(names) > _SHOWN)}"


class Wanted(NamedTuple):
    """What is asked for where nobody is named: a queue's name, which may have `*` and `?`, and a filter; or all."""

    queue: str = ""
    filter: str = ""
    all: bool = False

    def has(self, hop: str) -> bool:
        """Whether what waits for a next hop is meant, as far as the selection leaves it open. What is out of
        circulation is touched only by who names it."""
        return not self.all or hop != _POISON

    @property
    def wish(self) -> Wish:
        return {"queue": self.queue, "filter": self.filter}


def of_wanted(wanted: Wanted, settings: Settings, around: Circumstances, by_queue: bool = False) -> Choice:
    """What a selection finds: each part that matches, or with all each message. by_queue: what waits in one queue
    stands together, for a verb that has hops tried: a hop is tried once for all that is asked for in one go."""
    with Selection(settings, around, wanted.wish) as found:
        parts = [(name, hop) for name, hop in found.names() if wanted.has(hop)]
        if by_queue:
            parts.sort(key=itemgetter(1))
        targets = (Target(name, "" if wanted.all or hop == _POISON else hop) for name, hop in parts)
        return Choice(list(dict.fromkeys(targets)))


def rows_of(wanted: Wanted, settings: Settings, around: Circumstances) -> Iterator[Row]:
    """The same as rows with their properties."""
    with Selection(settings, around, wanted.wish) as found:
        for row in found.rows():
            if wanted.has(row.hop):
                yield row


def entries(targets: Iterable[Target], settings: Settings, around: Circumstances) -> Iterator[Listed]:
    """What is there of the targets, as lines of a listing, one for each message; of a part, with that queue alone."""
    hops: dict[str, set[str]] = {}
    for target in targets:
        hops.setdefault(target.id, set()).add(target.hop)
    for one, wanted in hops.items():
        found = find(settings.kmq.spool, queue_id.parse(one))
        if found is None:
            continue
        entry = listed(found, around)
        entry.shares = [share for share in entry.shares if "" in wanted or str(share.hop) in wanted]
        if entry.shares:
            yield entry
