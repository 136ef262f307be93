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
from fnmatch import fnmatchcase
from typing import NamedTuple

from kmq.admin import selection
from kmq.admin.circumstances import Circumstances
from kmq.admin.listing import Listed, is_named, listed, next_hop
from kmq.admin.selection import Row, select
from kmq.admin.verbs import GONE, QUEUE_LIMIT
from kmq.config import Settings
from kmq.model import queue_id
from kmq.model.hop import POISON, parse
from kmq.spool.look import find


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
    """targets: each once, in order; rows: what was selected, where that is how they were chosen.

    absent: lines (as of an answer) about parts that are not there.
    """

    targets: list[Target] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
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
    if "*" not in name and "?" not in name:
        return [hop for hop in hops if is_named(next_hop(hop), name)]
    pattern = name.rpartition("\\")[2].casefold().replace("[", "[[]")
    return [hop for hop in hops if fnmatchcase(next_hop(hop).name.casefold(), pattern)]


def of_rows(rows: list[Row]) -> Choice:
    """What was selected: each part of a message that matched."""
    return Choice(list(dict.fromkeys(Target(row.id, "" if row.hop == _POISON else row.hop) for row in rows)), rows)


def of_all(rows: list[Row]) -> Choice:
    """Every message in the queue. What is out of circulation is touched only by who names it."""
    rows = [row for row in rows if row.hop != _POISON]
    return Choice(list(dict.fromkeys(Target(row.id) for row in rows)), rows)


_POISON = str(POISON)


def selected(settings: Settings, around: Circumstances, queue: str = "", filter: str = "") -> list[Row]:
    """All rows that a filter and a queue's name match."""
    rows: list[Row] = []
    bookmark = ""
    while True:
        page = select(settings, around, filter=filter, queue=queue, limit=selection.MOST, bookmark=bookmark)
        rows += page.rows
        bookmark = page.bookmark
        if not bookmark:
            return rows


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
