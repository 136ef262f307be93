"""From an alias to the addresses that it stands for in the end.

Promise:  each address is visited once, so that aliases that name each other cost what their text costs; depth and
          number are bounded. An alias that comes back to itself ends at the mailbox of that name, if there is one. A
          trouble that passes (a list that cannot be read, a target that is none) defers the whole alias: nobody is left
          out. Who is nobody stays among the addresses, and fails as such; only when all are nobody does the alias fail,
          with the way that led there.
Owner:    members of an alias `list` for which there is an alias `owner-list` are written to in the owner's name
          (aliases(5)); a notice (null sender) stays from nobody.
Callers:  routing.table.
"""

from typing import NamedTuple

from kmq.model.address import Address, split
from kmq.model.mailbox import DELIMITER
from kmq.model.reply import Reply
from kmq.routing.alias_text import Entry, Meaning, Target
from kmq.routing.local import Local
from kmq.routing.mailboxes import UNKNOWN, Mailboxes

DEPTH = 20  #: aliases that lead from one to the next
LIMIT = 50_000  #: addresses of one alias
_CHAIN = 200  #: characters of a way in a reply


class Final(NamedTuple):
    """An address that an alias stands for. owner: who its mail is from now, "" for whom it was from."""

    address: str
    owner: str = ""


class Step(NamedTuple):
    """One alias on the way, for people. targets: as written, "" in place of a mailbox that ends the way."""

    address: str
    place: str
    targets: str


class Expansion(NamedTuple):
    """What an alias stands for. rule: the place and name of the first alias."""

    rule: str
    finals: tuple[Final, ...]
    steps: tuple[Step, ...]


def expand(address: str, entry: Entry, boxes: Mailboxes, local: Local) -> Expansion | Reply:
    """What an alias stands for, or why it can not be said now, or never. entry: what `local` found at the address."""
    way = _Way(local)
    name = split(address).local.lower()
    try:
        way.through(entry, address, boxes, (f"{name}@{boxes.domain}",), "")
    except _Trouble as trouble:
        return Reply(451, trouble.enhanced, str(trouble))
    if not way.known:
        return way.nowhere(address)
    return Expansion(f"{entry.place} {entry.key}", tuple(way.finals), tuple(way.steps))


class _Trouble(Exception):
    """The whole alias waits."""

    def __init__(self, text: str, enhanced: str = "4.3.5") -> None:
        super().__init__(text)
        self.enhanced = enhanced


class _Way:
    """One expansion under way. known: some address is not certainly nobody's; dead: ways that led to nobody."""

    def __init__(self, local: Local) -> None:
        self.local = local
        self.finals: dict[Final, None] = {}
        self.steps: list[Step] = []
        self.known = False
        self.dead: list[tuple[str, ...]] = []
        self.loops: list[tuple[str, ...]] = []
        self._visited: set[tuple[str, str]] = set()

    def nowhere(self, address: str) -> Reply:
        if self.dead:
            return Reply(550, "5.1.1", f"No such user here: {_written(self.dead[0])}")
        way = self.loops[0] if self.loops else (address,)
        return Reply(550, "5.4.6", f"The alias leads back to itself: {_written(way)}")

    def through(self, entry: Entry, address: str, boxes: Mailboxes, chain: tuple[str, ...], owner: str) -> None:
        """All targets of one alias."""
        if entry.trouble:
            raise _Trouble(entry.trouble)
        if len(chain) > DEPTH:
            raise _Trouble(f"more than {DEPTH} aliases lead from one to the next: {_written(chain)}")
        self.steps.append(Step(address, f"{entry.place} {entry.key}", ", ".join(map(str, entry.targets))))
        self._targets(entry.targets, address, boxes, chain, self._owner(entry, boxes) or owner)

    def _targets(
        self, targets: tuple[Target, ...], address: str, boxes: Mailboxes, chain: tuple[str, ...], owner: str
    ) -> None:
        for target in targets:
            match target.meaning:
                case Meaning.INCLUDED:
                    self._include(target.text, address, boxes, chain, owner)
                case Meaning.DOMAIN:
                    self._visit(f"{address.rpartition('@')[0]}@{target.text}", chain, owner)
                case Meaning.FINAL:
                    self._mailbox(_whole(target.text, boxes), chain, owner)
                case _:
                    self._visit(_whole(target.text, boxes), chain, owner)

    def _include(self, path: str, address: str, boxes: Mailboxes, chain: tuple[str, ...], owner: str) -> None:
        if path in chain:
            return self.loops.append((*chain, path))
        if len(chain) > DEPTH:
            raise _Trouble(f"more than {DEPTH} aliases lead from one to the next: {_written(chain)}")
        found = self.local.aliases.included.read(path)
        if found.trouble:
            raise _Trouble(found.trouble, "4.3.0")
        return self._targets(found.targets, address, boxes, (*chain, path), owner)

    def _visit(self, address: str, chain: tuple[str, ...], owner: str) -> None:
        """An address on the way: an alias again, or an end."""
        local_part, domain = split(address)
        boxes = self.local.at(domain)
        if boxes is None:
            return self._end(address, owner)
        key = f"{local_part.lower()}@{boxes.domain}"
        if key in chain:
            return self._back(address, key, chain, owner)
        if (key, owner) in self._visited:
            return None
        self._visited.add((key, owner))
        meaning = self.local.meaning(local_part, boxes)
        if isinstance(meaning, Entry):
            return self.through(meaning, address, boxes, (*chain, key), owner)
        return self._judged(address, meaning, chain, owner)

    def _back(self, address: str, key: str, chain: tuple[str, ...], owner: str) -> None:
        """An alias that names itself means its mailbox; so does one that comes back to itself, if it has one."""
        local_part, domain = split(address)
        boxes = self.local.at(domain)
        refusal = UNKNOWN if boxes is None else boxes.refusal(local_part)
        if refusal is not None and refusal.permanent:
            self.loops.append((*chain, key))
        else:
            self._judged(address, refusal, chain, owner)

    def _mailbox(self, address: str, chain: tuple[str, ...], owner: str) -> None:
        """`\\name`: no alias is looked up."""
        local_part, domain = split(address)
        boxes = self.local.at(domain)
        if boxes is None:
            self._end(address, owner)
        else:
            self._judged(address, boxes.refusal(local_part), chain, owner)

    def _judged(self, address: str, refusal: Reply | None, chain: tuple[str, ...], owner: str) -> None:
        if refusal is None:
            self._end(address, owner)
        elif refusal.permanent:
            self.dead.append((*chain, address))
            self._take(Final(address, owner))
        else:
            raise _Trouble(f"{address}: {refusal.text}", refusal.enhanced)

    def _end(self, address: str, owner: str) -> None:
        self.known = True
        self._take(Final(address, owner))

    def _take(self, final: Final) -> None:
        self.finals[final] = None
        if len(self.finals) > LIMIT:
            raise _Trouble(f"the alias stands for more than {LIMIT:,} addresses")

    def _owner(self, entry: Entry, boxes: Mailboxes) -> str:
        name = entry.key.rpartition("@")[0] if "@" in entry.key else entry.key
        if not name or name.startswith("owner-"):
            return ""
        owner = f"owner-{name.partition(DELIMITER)[0]}"
        return str(Address(owner, boxes.domain)) if self.local.aliases.find(owner, boxes.domain) else ""


def _whole(text: str, boxes: Mailboxes) -> str:
    """A bare name is one of the domain that is being written to."""
    return text if "@" in text and text[-1:] != '"' else f"{text}@{boxes.domain}"


def _written(chain: tuple[str, ...]) -> str:
    text = " -> ".join(chain)
    return text if len(text) <= _CHAIN else f"{text[:_CHAIN]}..."
