"""What lies on a disk of memory: files and folders as programs see them, and what of that is on the platter.

What:     `Kernel` is what survives a killed process; `after_cut` is what a power cut leaves of it.
Promise:  at a power cut every change of a name since the last sync of its folder, and every 512-byte sector written
          since the last sync of its file, is on its own kept or lost (a sector also turned to zeros); a rename is two
          changes, the new name and the old one. Seeds decide: the same seed leaves the same.
Callers:  tests.spool.ghost, which is the way in.
"""

from dataclasses import dataclass, field
from random import Random

SECTOR = 512
ROOT = 1


@dataclass(slots=True)
class Chunk:
    """A piece of a write, within one sector. lost: a sync that failed has forgotten it."""

    offset: int
    text: bytes
    lost: bool = False


@dataclass(slots=True)
class Change:
    """A name that was set to a node, or taken away (None)."""

    name: str
    node: int | None
    folder: bool = False
    lost: bool = False


@dataclass(slots=True)
class File:
    """kept: on the platter; seen: what programs read; pending: chunks between the two, in order."""

    device: int
    mtime: int
    kept: bytes = b""
    seen: bytearray = field(default_factory=bytearray)
    pending: list[Chunk] = field(default_factory=list)
    links: int = 0
    failures: int = 0  # syncs that lost something of it

    def copy(self) -> "File":
        chunks = [Chunk(one.offset, one.text, one.lost) for one in self.pending]
        return File(self.device, self.mtime, self.kept, bytearray(self.seen), chunks, self.links)

    def forget(self) -> None:
        self.failures += bool(self.pending)
        for one in self.pending:
            one.lost = True

    def write(self, text: bytes, offset: int) -> None:
        if offset > len(self.seen):
            self.seen.extend(bytes(offset - len(self.seen)))
        self.seen[offset : offset + len(text)] = text
        at = 0
        while at < len(text):
            step = SECTOR - (offset + at) % SECTOR
            self.pending.append(Chunk(offset + at, text[at : at + step]))
            at += step

    def sync(self) -> None:
        if not self.pending:
            return
        if not any(one.lost for one in self.pending):
            self.kept = bytes(self.seen)
            self.pending.clear()
            return
        text, left = bytearray(self.kept), []
        for place, one in enumerate(self.pending):
            if not one.lost:
                _lay(text, one.offset, one.text)
            elif not any(_covers(later, one) for later in self.pending[place + 1 :]):
                left.append(one)
        self.kept, self.pending = bytes(text), left

    def survive(self, chance: "Chance") -> bytes:
        if not self.pending:
            return self.kept
        text = bytearray(self.kept)
        for one in self.pending:
            fate = chance.of_sector()
            if fate:
                _lay(text, one.offset, one.text if fate == KEPT else bytes(len(one.text)))
        return bytes(text)


def _lay(text: bytearray, offset: int, piece: bytes) -> None:
    if offset > len(text):
        text.extend(bytes(offset - len(text)))
    text[offset : offset + len(piece)] = piece


def _covers(later: Chunk, one: Chunk) -> bool:
    whole = later.offset <= one.offset and one.offset + len(one.text) <= later.offset + len(later.text)
    return not later.lost and whole


@dataclass(slots=True)
class Folder:
    """kept and seen: name -> node; pending: changes between the two, in order."""

    device: int
    mtime: int
    kept: dict[str, int] = field(default_factory=dict)
    seen: dict[str, int] = field(default_factory=dict)
    pending: list[Change] = field(default_factory=list)
    links: int = 0

    def copy(self) -> "Folder":
        changes = [Change(one.name, one.node, one.folder, one.lost) for one in self.pending]
        return Folder(self.device, self.mtime, dict(self.kept), dict(self.seen), changes, self.links)

    def forget(self) -> None:
        for one in self.pending:
            one.lost = not one.folder

    def change(self, name: str, node: int | None, folder: bool = False) -> None:
        _set(self.seen, name, node)
        self.pending.append(Change(name, node, folder))

    def sync(self) -> None:
        left = []
        for place, one in enumerate(self.pending):
            if not one.lost:
                _set(self.kept, one.name, one.node)
            elif not any(later.name == one.name and not later.lost for later in self.pending[place + 1 :]):
                left.append(one)
        self.pending = left

    def survive(self, chance: "Chance") -> dict[str, int]:
        names = dict(self.kept)
        for one in self.pending:
            if chance.of_name():
                _set(names, one.name, one.node)
        return names


def _set(names: dict[str, int], name: str, node: int | None) -> None:
    if node is None:
        names.pop(name, None)
    else:
        names[name] = node


KEPT, ZEROS = 1, 2
_SHARES = (0.0, 0.15, 0.5, 0.85, 1.0)


class Chance:
    """What a power cut leaves: for each change on its own, with shares that differ from cut to cut; None: nothing."""

    def __init__(self, seed: object) -> None:
        rng = Random(repr(seed))
        self._random = rng.random
        self._names, self._sectors = rng.choice(_SHARES), rng.choice(_SHARES)
        self._zeros = rng.choice((0.0, 0.0, 0.5))
        if seed is None:
            self._names = self._sectors = self._zeros = 0.0

    def of_name(self) -> bool:
        return self._random() < self._names

    def of_sector(self) -> int:
        if self._random() < self._sectors:
            return KEPT
        return ZEROS if self._zeros and self._random() < self._zeros else 0


class Kernel:
    """Files, folders and the note about a syncfs (J7), which no kill forgets and every power cut does."""

    def __init__(self) -> None:
        self.nodes: dict[int, File | Folder] = {ROOT: Folder(1, 0)}
        self.last = ROOT
        self.clock = 0
        self.noted = False

    def copy(self) -> "Kernel":
        """The same, for a life that goes on another way: what a killed process leaves."""
        other = Kernel()
        other.nodes = {number: node.copy() for number, node in self.nodes.items()}
        other.last, other.clock, other.noted = self.last, self.clock, self.noted
        return other

    def after_cut(self, seed: object) -> "Kernel":
        """What the machine finds when the power is back; this kernel is left as it is. None: what is durable."""
        chance = Chance(seed)
        other = Kernel()
        other.nodes = {}
        other.last, other.clock = self.last, self.clock
        self._survive(ROOT, other, chance)
        for node in list(other.nodes.values()):
            for number in node.kept.values() if isinstance(node, Folder) else ():
                other.nodes[number].links += 1
        return other

    def _survive(self, number: int, other: "Kernel", chance: Chance) -> None:
        if number in other.nodes:
            return
        node = self.nodes[number]
        if isinstance(node, File):
            text = node.survive(chance)
            other.nodes[number] = File(node.device, node.mtime, text, bytearray(text))
            return
        names = node.survive(chance)
        other.nodes[number] = Folder(node.device, node.mtime, names, dict(names))
        for one in sorted(set(names.values())):
            self._survive(one, other, chance)

    def make(self, kind: type[File] | type[Folder], device: int) -> int:
        self.last += 1
        self.clock += 1
        self.nodes[self.last] = kind(device, self.clock)
        return self.last

    def forget(self) -> None:
        """Drops nodes that nothing names any more, so that long walks stay small. No file may be open."""
        found, todo = set(), [ROOT]
        while todo:
            number = todo.pop()
            if number in found:
                continue
            found.add(number)
            node = self.nodes[number]
            if isinstance(node, Folder):
                todo += [*node.kept.values(), *node.seen.values()]
                todo += [one.node for one in node.pending if one.node is not None]
        self.nodes = {number: node for number, node in self.nodes.items() if number in found}
