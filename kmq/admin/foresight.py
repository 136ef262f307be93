"""What another configuration would do to the queue as it is: which messages go elsewhere, and which have less time.

Does:     asks what a reload asks, of the same tables: whether a next hop stands (routing/standing), where what has to
          be routed anew goes (phases/executing), which connectors are the same under another name (run/identities),
          and the schedules. Options that count only after a restart are left as they are, as a reload leaves them.
Promise:  looks only. The DNS is not asked: a queue of a domain is one whatever its MX records say; and whether a
          mailbox is there is left to the delivery. What is in somebody's hands is foreseen as if it came back first.
On crash: nothing is held.
Callers:  kmq.cli.config_diff.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from itertools import groupby
from typing import NamedTuple

from kmq.config import Settings
from kmq.model import hop as hops
from kmq.model import priority, queue_id, recipients
from kmq.model.event import Failed, Routed
from kmq.model.hop import UNREACHABLE
from kmq.phases.executing import categorize
from kmq.routing.standing import stands
from kmq.routing.table import Routes
from kmq.run.identities import Identities
from kmq.run.reloading import applied
from kmq.run.schedule import schedules_of
from kmq.spool.disk import Disk
from kmq.spool.index_rows import next_hop
from kmq.spool.look import Found, forbidden

_SUBMISSION, _UNREACHABLE = str(hops.SUBMISSION), str(UNREACHABLE)


class Change(Enum):
    """What becomes of recipients; the value is what people see."""

    MOVES = "goes elsewhere"
    RENAMED = "the same way under another name"
    UNREACHABLE = "becomes unreachable"
    REACHABLE = "reachable again"
    FAILS = "fails: its sender is told"
    WAITS = "cannot be routed now, is tried again"
    EXPANDS = "is an alias: goes on as other messages"
    STAYS = "stays"


@dataclass(slots=True, frozen=True)
class Foreseen:
    """Recipients of one message with the same fate.

    before, after: texts of next hops; after is "" for what goes on as other messages, or fails. why: the rule or reply.
    elsewhere: the next hop that fresh mail for them would have, where it is another than theirs because of the change.
    ends, ended: Unix time after which a failed attempt is the last, by the other configuration and by this one.
    expires: that is over by now, and was not; warns: the same of the time when the sender is told that it takes longer.
    """

    id: str
    to: list[str]
    before: str
    after: str
    change: Change
    why: str
    elsewhere: str
    ended: float
    ends: float
    expires: bool
    warns: bool

    @property
    def nothing(self) -> bool:
        """Whether nothing changes."""
        return self.change is Change.STAYS and not self.elsewhere and self.ended == self.ends and not self.warns


@dataclass(slots=True)
class Tally:
    """Of all messages that were looked at: hops with recipients before and after; how many expire, and change."""

    messages: int = 0
    changed: int = 0
    expiring: int = 0
    before: set[str] = field(default_factory=set)
    after: set[str] = field(default_factory=set)

    @property
    def vanishing(self) -> list[str]:
        return sorted(self.before - self.after - {_SUBMISSION})

    @property
    def appearing(self) -> list[str]:
        return sorted(self.after - self.before - {_SUBMISSION, ""})


class Foresight:
    """Of one change. now: Unix time; held: texts of the next hops whose queues an operator holds."""

    def __init__(self, old: Settings, new: Settings, now: float, held: Collection[str] = ()) -> None:
        self.old = old
        self.new = applied(old, new)
        self.tally = Tally()
        self._now = now
        self._held = frozenset(held)
        self._routes = Routes(old), Routes(self.new)
        self._schedules = schedules_of(old), schedules_of(self.new)
        self._renamed, self._former = _names(self.new)
        self._standing: dict[str, bool] = {}

    def of(self, messages: Iterable[Found]) -> Iterator[Foreseen]:
        """What changes for messages of the queue, in their order; `tally` counts all of them."""
        for found in messages:
            if not found.state.open or found.home != "queue":
                continue
            fates = list(self._message(found))
            self.tally.messages += 1
            self.tally.before.update(fate.before for fate in fates)
            self.tally.after.update(fate.after for fate in fates)
            changing = [fate for fate in fates if not fate.nothing]
            self.tally.changed += bool(changing)
            self.tally.expiring += any(fate.expires for fate in fates)
            yield from changing

    def _message(self, found: Found) -> Iterator[Foreseen]:
        state = found.state

        def place(index: int) -> tuple[str, str, bool]:
            forced = state.forced.get(index, "")
            return self._named(state.hop[index]), self._former.get(forced, forced), index in state.held

        for (before, forced, held), group in groupby(sorted(state.open, key=place), key=place):
            yield from self._share(found, before, forced, held, tuple(group))

    def _named(self, text: str) -> str:
        """The next hop as kmqd knows it: under the name that its connector bears by now."""
        target = next_hop(text)
        name = self._former.get(target.connector)
        return str(target.under(name)) if name else text or _SUBMISSION

    # --- recipients that wait together -------------------------------------------------------------------------------

    def _share(self, found: Found, before: str, forced: str, held: bool, rcpt: tuple[int, ...]) -> Iterator[Foreseen]:
        """Suspended messages and queues are not routed anew by a new configuration."""
        renamed = self._under_another_name(before)
        if renamed:
            yield self._fate(found, rcpt, _Way(before, renamed, Change.RENAMED))
        elif held or before in self._held or (before not in (_SUBMISSION, _UNREACHABLE) and self._stands(before)):
            elsewhere = self._elsewhere(found, before, rcpt)
            yield self._fate(found, rcpt, _Way(before, before, Change.STAYS, elsewhere=elsewhere))
        elif before == _SUBMISSION and not forced:
            yield from self._not_yet_routed(found, rcpt)
        else:
            yield from self._routed_anew(found, before, forced, rcpt)

    def _not_yet_routed(self, found: Found, rcpt: tuple[int, ...]) -> Iterator[Foreseen]:
        """Of what has no way yet those go elsewhere who would not go there by this configuration."""
        same = tuple(one for one in rcpt if self._outlook(0, found, one) == self._outlook(1, found, one))
        other = tuple(one for one in rcpt if one not in same)
        if same:
            yield self._fate(found, same, _Way(_SUBMISSION, _SUBMISSION, Change.STAYS))
        if other:
            yield from self._routed_anew(found, _SUBMISSION, "", other)

    def _outlook(self, which: int, found: Found, index: int) -> tuple[str, ...]:
        """What categorizing would make of a recipient, by one of the two configurations: hop or reply, aliases."""
        routes = self._routes[which]
        made = categorize(found.head, (index,), routes.of(found.head).decide)
        ways = [one.hop if isinstance(one, Routed) else one.reply for one in made.events]  # type: ignore[attr-defined]
        return (*ways, *("alias" for _ in made.expansions))

    def _under_another_name(self, before: str) -> str:
        target = next_hop(before)
        name = self._renamed.get(target.connector)
        return str(target.under(name)) if name else ""

    def _stands(self, text: str) -> bool:
        known = self._standing.get(text)
        if known is None:
            known = self._standing[text] = stands(next_hop(text), self.new)
        return known

    def _routed_anew(self, found: Found, before: str, forced: str, rcpt: tuple[int, ...]) -> Iterator[Foreseen]:
        ways = self._routes[1].of(found.head)
        connector = self._renamed.get(forced, forced)
        decide = self._routes[1].forced(connector, ways.decide) if connector else ways.decide
        made = categorize(found.head, rcpt, decide)
        for event in made.events:
            part = recipients.from_text(event.rcpt)  # type: ignore[attr-defined]
            if isinstance(event, Routed):
                yield self._fate(found, part, _Way(before, event.hop, _change(before, event.hop), event.rule))
            else:
                failed = isinstance(event, Failed)
                after, change = ("", Change.FAILS) if failed else (_SUBMISSION, Change.WAITS)
                yield self._fate(found, part, _Way(before, after, change, event.reply))  # type: ignore[attr-defined]
        for index, expansion in made.expansions:
            yield self._fate(found, (index,), _Way(before, "", Change.EXPANDS, expansion.rule))

    def _elsewhere(self, found: Found, before: str, rcpt: tuple[int, ...]) -> str:
        """Where fresh mail for the first of them would go, if that is not where they are and the change is why."""
        was, will = (self._fresh(routes, found, rcpt[0]) for routes in self._routes)
        return will if will not in (before, was) else ""

    def _fresh(self, routes: Routes, found: Found, index: int) -> str:
        made = categorize(found.head, (index,), routes.of(found.head).decide)
        return made.only.hop if made.only is not None else ""

    # --- times -------------------------------------------------------------------------------------------------------

    def _fate(self, found: Found, rcpt: Sequence[int], way: "_Way") -> Foreseen:
        head, state = found.head, found.state
        created = queue_id.created(queue_id.parse(head.id))
        urgency = priority.of(head.priority)
        was = self._schedules[0].of(next_hop(way.before).connector, urgency)
        will = self._schedules[1].of(next_hop(way.after or way.before).connector, urgency)
        age = self._now - created
        tries = max(state.results[index] for index in rcpt)
        over_was = age > was.lifetime or 0 < was.attempts <= tries
        over_will = age > will.lifetime or 0 < will.attempts <= tries
        late_was = 0 < was.warn_after < age
        late_will = 0 < will.warn_after < age and any(index not in state.warned for index in rcpt)
        addresses = [head.recipients[index].address for index in rcpt]
        times = created + was.lifetime, created + will.lifetime
        expires = over_will and not over_was and way.change not in (Change.FAILS, Change.EXPANDS)
        return Foreseen(
            *(head.id, addresses, *way),
            *(*times, expires, late_will and not late_was and not over_will),
        )


class _Way(NamedTuple):
    """Where recipients are and where they go; as in `Foreseen`."""

    before: str
    after: str
    change: Change
    why: str = ""
    elsewhere: str = ""


def _change(before: str, after: str) -> Change:
    if after == before:
        return Change.STAYS
    if after == _UNREACHABLE:
        return Change.UNREACHABLE
    return Change.REACHABLE if before == _UNREACHABLE else Change.MOVES


def _names(new: Settings) -> tuple[Mapping[str, str], Mapping[str, str]]:
    """(old name -> new name of connectors that are renamed by this configuration, former name -> name of now)."""
    disk = Disk(new.kmq.spool)
    try:
        identities = Identities(disk)
        former = identities.former
        renamed, _ = identities.take(new.connectors)
        return renamed, former
    except PermissionError:
        raise forbidden(new.kmq.spool) from None
    finally:
        disk.close()
