"""The table of the very long queue, and its goals."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import NamedTuple

from bench import fresh
from bench.fresh import Fresh
from bench.report import Goal

#: Goals of a queue of 1,000,000.
BYTES, ALL_BYTES = 400, 500e6
STALL = 200.0
GREETED, KNOWN = 2.0, 30.0


class Known(NamedTuple):
    """Messages that were taken in, and how many of them from the index."""

    count: int
    recalled: int


@dataclass(frozen=True, slots=True)
class Start:
    """Seconds from the start of kmqd: greeted: until 220; delivered: until a first fresh message was at its next hop;
    loaded: until all is known; whole: until the index is, too. pss: bytes of all processes when all was known; stalls:
    the longest wait for each loop until then, in ms."""

    name: str
    greeted: float
    delivered: float
    loaded: float
    whole: float
    known: Known
    pss: int
    stalls: dict[str, float]


@dataclass(frozen=True, slots=True)
class Run:
    """bare, full: bytes of the scheduler process with an empty queue and with all of it; pss: of all processes; stalls:
    the longest wait for each loop while fresh mail flowed, in ms."""

    messages: int
    starts: list[Start]
    empty: Fresh
    crowded: Fresh
    bare: int
    full: int
    pss: int
    stalls: dict[str, float]

    @property
    def bytes_each(self) -> float:
        """Of the scheduler process's memory, for each message."""
        return (self.full - self.bare) / self.messages

    @property
    def most(self) -> int:
        """Bytes of all processes, when they had most."""
        return max(self.pss, *(start.pss for start in self.starts))

    def figures(self) -> dict[str, object]:
        """All of it, for the file of results."""
        return asdict(self)


def table(run: Run) -> str:
    """One line for each figure, its goal at the right."""
    rows = list(_lines(run))
    widths = [max(len(row[at]) for row in rows) for at in range(3)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def _lines(run: Run) -> Iterator[tuple[str, str, str]]:
    """(what, figure, goal)"""
    for start in run.starts:
        yield f"{start.name}: 220 after, s", f"{start.greeted:.1f}", f"{GREETED:.0f}"
        yield "  a fresh message delivered after, s", f"{start.delivered:.1f}", ""
        yield f"  all {start.known.count:,} known after, s", f"{start.loaded:.1f}", f"{KNOWN:.0f}, from the index"
        yield "  of them from the index", f"{start.known.recalled:,}", ""
        yield "  index whole after, s", f"{start.whole:.1f}", ""
        yield "  all processes then, MB", f"{start.pss / 1e6:.0f}", f"{ALL_BYTES / 1e6:.0f}"
        yield "  longest stall, ms", _stalls(start.stalls), f"{STALL:.0f}"
    yield "at rest: scheduler, bytes a message", f"{run.bytes_each:.0f}", f"{BYTES}"
    yield "  scheduler, MB: empty, full", f"{run.bare / 1e6:.0f}, {run.full / 1e6:.0f}", ""
    yield "  all processes, MB", f"{run.pss / 1e6:.0f}", f"{ALL_BYTES / 1e6:.0f}"
    yield "  longest stall, ms", _stalls(run.stalls), f"{STALL:.0f}"
    yield from fresh.lines(run.empty, run.crowded, "full")


def _stalls(stalls: dict[str, float]) -> str:
    return ", ".join(f"{name} {longest:.0f}" for name, longest in sorted(stalls.items()))


def goals(run: Run) -> list[Goal]:
    """Each figure that has a goal is held against it. What a first start without an index takes has none."""
    mb = run.most / 1e6
    found = [
        Goal(f"at most {BYTES} bytes a message in the scheduler", f"{run.bytes_each:.0f}", run.bytes_each <= BYTES),
        Goal(f"at most {ALL_BYTES / 1e6:.0f} MB in all processes", f"{mb:.0f} MB", run.most <= ALL_BYTES),
        *fresh.goals(run.empty, run.crowded),
        _steady("at rest", run.stalls),
    ]
    for start in run.starts:
        wish, said = f"{start.name}: SMTP answers within {GREETED:.0f} s", f"{start.greeted:.1f} s"
        found += [Goal(wish, said, start.greeted <= GREETED), _steady(start.name, start.stalls)]
    last = run.starts[-1]
    wish, said = f"{last.name}: all known within {KNOWN:.0f} s", f"{last.loaded:.1f} s of {last.known.count:,}"
    return [*found, Goal(wish, said, last.loaded <= KNOWN and last.known.count >= run.messages)]


def _steady(when: str, stalls: dict[str, float]) -> Goal:
    longest = max(stalls.values())
    return Goal(f"{when}: no stall above {STALL:.0f} ms", _stalls(stalls), longest <= STALL)
