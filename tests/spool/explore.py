"""A story led once, and ended at every step in every way: by a power cut, by a kill, by both, and in recovery too.

What:     before each change that the story makes to the disk, the world is forked: the power is cut (each seed leaves
          something else on the platter), or the process is killed. Then recovery runs, is itself cut or killed at its
          own steps and run again, and the ledger judges every outcome.
Callers:  test_interleaving, test_mutants, walks.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from random import Random

from kmq.errors import StorageFailed
from kmq.model.envelope import fold, lines_of, unseal
from kmq.spool import strays
from kmq.spool.layout import HOMES
from tests.spool.ghost import GhostDisk, GhostNote, Kernel
from tests.spool.ledger import Ledger
from tests.spool.life import Life, recover

#: What recovery must leave the same however often it is stopped. (What others bring is theirs until a put takes it.)
FOLDERS = ("queue", "poison", "sent", "backup")


@dataclass(slots=True)
class Explorer:
    """seeds: power cuts at each step; depth: how often, on average, recovery is stopped again at each step of its own.

    once: the first broken promise will do. fresh: the story begins in an empty folder, and its start is a part of it.
    """

    story: Callable[[Life], None]
    kind: str = "journal"
    seeds: int = 3
    depth: float = 0.1
    once: bool = False
    fresh: bool = False
    seed: int = 1
    broken: list[str] = field(default_factory=list)
    steps: int = 0
    starts: int = 0

    def run(self) -> list[str]:
        """The broken promises, each with the way that led to it."""
        try:
            self._lead(Kernel() if self.fresh else empty_spool(), Ledger(atomic=self.kind == "journal"))
        except _Enough:
            pass
        return self.broken

    def _lead(self, kernel: Kernel, ledger: Ledger) -> None:
        def fork(kind: str, name: str) -> None:
            self._fork(kernel, ledger, f"{kind} {name}")

        life = Life(kernel, ledger, self.kind, fork if self.fresh else None)
        life.disk.watch = life.outside.watch = fork
        life.disk.halves = life.outside.halves = True
        try:
            self.story(life)
        except StorageFailed:
            self._fork(kernel, ledger, "a failed sync")
            return
        self._fork(kernel, ledger, "the end")
        if not life.store.pending and not all(one.told for one in ledger.records):
            self._say("the end", ["a record was neither told nor refused"])

    def _fork(self, kernel: Kernel, ledger: Ledger, before: str) -> None:
        self.steps += 1
        self._say(f"{self.steps}: before {before}", half_visible(GhostDisk(kernel)))
        dead = ledger.after_cut()
        for seed in range(self.seeds):
            way = f"{self.steps}: power cut {seed} before {before}"
            self.start(kernel.after_cut((self.seed, self.steps, seed)), dead, way, cut=True)
        self.start(kernel.copy(), ledger, f"{self.steps}: kill before {before}", cut=False)

    def start(self, kernel: Kernel, ledger: Ledger, way: str, cut: bool) -> None:
        """One recovery, with the ends that it may come to itself."""
        rng = Random(f"{self.seed} {way}")
        trees: list[tuple[str, dict[str, bytes]]] = []

        def stop(kind: str, name: str) -> None:
            for time in range(int(self.depth + rng.random())):
                stopped = f"{way}; recovery before {kind} {name} ({time})"
                trees.extend(self._again(kernel, ledger, stopped, cut, rng.random()))

        tree = self._recover(kernel, ledger, way, stop)
        for other, found in trees:
            if tree is not None and found != tree:
                self._say(other, [f"recovery is not idempotent: {_difference(tree, found)}"])

    def _again(
        self, kernel: Kernel, ledger: Ledger, way: str, comparable: bool, chance: float
    ) -> list[tuple[str, dict[str, bytes]]]:
        """Recovery, stopped here and run again. What a kill left unsynced may go with the power: then files differ."""
        if chance < 0.6:
            other, way, ledger = kernel.after_cut((self.seed, way)), f"{way}: power cut", ledger.after_cut()
        else:
            other, way, comparable = kernel.copy(), f"{way}: kill", True
        tree = self._recover(other, ledger, way, None)
        return [(way, tree)] if comparable and tree is not None else []

    def _recover(
        self, kernel: Kernel, ledger: Ledger, way: str, watch: Callable[[str, str], None] | None
    ) -> dict[str, bytes] | None:
        """-> what lies there then, all of it durable; None when recovery does not come to its end."""
        tree = self._recover_once(kernel, ledger, way, watch)
        if tree is not None:
            way = f"{way}; then a power cut"
            later = self._recover_once(kernel.after_cut(None), ledger.after_cut(), way, None)
            if later is not None and later != tree:
                self._say(way, [f"recovery ended before all was durable: {_difference(tree, later)}"])
        return tree

    def _recover_once(
        self, kernel: Kernel, ledger: Ledger, way: str, watch: Callable[[str, str], None] | None
    ) -> dict[str, bytes] | None:
        self.starts += 1
        disk = GhostDisk(kernel, watch)
        try:
            recovered, _ = recover(disk, GhostNote(kernel), ledger)
        except Exception as error:
            self._say(way, [f"recovery fails: {type(error).__name__} {error}"])
            return None
        wrong = ledger.judge(disk, recovered)
        if ledger.atomic and "; " not in way:
            wrong += ledger.judge_tokens(recovered, disk)
        self._say(way, wrong)
        return {name: _content(name, text) for name, text in disk.tree(*FOLDERS).items()}

    def _say(self, way: str, sentences: Iterable[str]) -> None:
        self.broken += [f"{way}: {sentence}" for sentence in sentences]
        if self.broken and self.once:
            raise _Enough


class _Enough(Exception):
    """The first broken promise is found."""


def half_visible(disk: GhostDisk) -> list[str]:
    """J1, at any moment: where there is an envelope, its body is there too."""
    found = {(ending, number): path for home in HOMES for number, ending, path in strays.names(disk, home)}
    return [
        f"{path}: an envelope without its body"
        for (ending, number), path in found.items()
        if ending == "env" and fold(disk.read(path)) and not disk.status(path[:-4] + ".eml")
    ]


def empty_spool() -> Kernel:
    """A spool as it lies there when nothing has come yet, all of it durable."""
    kernel = Kernel()
    disk = GhostDisk(kernel)
    recover(disk, GhostNote(kernel), Ledger())
    disk.sync_all()
    return kernel


def _content(name: str, text: bytes) -> bytes:
    """Of an envelope the lines that happened: torn ones may stay or go."""
    return b"\n".join(filter(unseal, lines_of(text))) if name.endswith(".env") else text


def _difference(one: dict[str, bytes], other: dict[str, bytes]) -> str:
    names = sorted(name for name in one.keys() | other.keys() if one.get(name) != other.get(name))
    return ", ".join(f"{name} ({'differs' if name in one and name in other else 'only in one'})" for name in names[:4])
