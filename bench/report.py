"""The table that `make bench` prints, and the goals that it is held against."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from math import ceil
from statistics import median

from bench.steady import Steady

#: Checkpoints that a run must hold for its steady state to be one.
CHECKPOINTS = 5


@dataclass(frozen=True, slots=True)
class Idle:
    """Milliseconds from the dot to the next hop, each message, while nothing else was to be done."""

    mta: str
    waits: list[float]


@dataclass(frozen=True, slots=True)
class Goal:
    """What kmq is to reach, what it reached, and whether that is it."""

    wish: str
    found: str
    met: bool


def percentile(values: list[float], share: float) -> float:
    """The smallest value that at least `share` of them do not exceed; NaN of none."""
    ordered = sorted(values)
    return ordered[max(0, ceil(share * len(ordered)) - 1)] if ordered else float("nan")


def spread(values: Iterable[float], digits: int = 0) -> str:
    """`median [min..max]`, or the one value."""
    found = sorted(values)
    middle = f"{median(found):,.{digits}f}"
    return middle if len(found) == 1 else f"{middle} [{found[0]:,.{digits}f}..{found[-1]:,.{digits}f}]"


#: (row, what of a run, digits behind the point)
ROWS: tuple[tuple[str, Callable[[Steady], float], int], ...] = (
    ("messages/s, end to end", lambda run: run.rate, 0),
    ("messages/s at the sink under load", lambda run: run.rate_loaded, 0),
    ("processor ms per message", lambda run: run.cost, 2),
    ("dot to 250 under load, median ms", lambda run: percentile(run.waits, 0.5), 1),
    ("dot to 250 under load, p99 ms", lambda run: percentile(run.waits, 0.99), 1),
    ("dot to 250 under load, worst ms", lambda run: max(run.waits, default=float("nan")), 1),
    ("probes without 250", lambda run: run.unanswered, 0),
)


def table(ours: list[Steady], theirs: list[Steady], idle: tuple[Idle, Idle] | None) -> str:
    """One line per measure: kmq, Postfix, and the ratio pair by pair."""
    lines = [("", "kmq", "Postfix", "kmq / Postfix, pair by pair")]
    for row, of, digits in ROWS:
        mine, yours = [of(run) for run in ours], [of(run) for run in theirs]
        ratios = [a / b for a, b in zip(mine, yours, strict=True) if b]
        lines.append((row, spread(mine, digits), spread(yours, digits), spread(ratios, 2) if ratios else ""))
    met = [wait for run in ours for wait in run.during_checkpoint]
    lines.append((f"dot to 250 in a checkpoint, p99 ms of {len(met)}", f"{percentile(met, 0.99):.1f}", "", ""))
    lines.append(("checkpoints under load", spread(run.checkpoints for run in ours), "", ""))
    if idle:
        mine, yours = idle[0].waits, idle[1].waits
        ratio = f"{median(mine) / median(yours):.2f}"
        lines.append(("one message while idle, dot to sink, ms", spread(mine, 1), spread(yours, 1), ratio))
    widths = [max(len(line[column]) for line in lines) for column in range(4)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )


def line(run: Steady) -> str:
    """What one run showed, while the next one goes on."""
    parts = sorted(run.cpu.items(), key=lambda part: -part[1])
    costly = ", ".join(f"{name} {cost:.2f}" for name, cost in parts if cost >= 0.02 * run.cost)
    waits = f"dot to 250 p99 {percentile(run.waits, 0.99):.0f} ms, {run.checkpoints} checkpoints"
    return f"{run.mta:8}{run.rate:6,.0f}/s of {run.messages}; ms of processor each: {run.cost:.2f} ({costly}); {waits}"


def goals(ours: list[Steady], theirs: list[Steady], idle: tuple[Idle, Idle] | None) -> list[Goal]:
    """The goals, with the median of the pairs against each."""
    faster = median(a.rate / b.rate for a, b in zip(ours, theirs, strict=True))
    cheaper = median(b.cost / a.cost for a, b in zip(ours, theirs, strict=True))
    met = [wait for run in ours for wait in run.during_checkpoint]
    worst = percentile(met, 0.99)
    least = min(run.checkpoints for run in ours)
    found = [
        Goal("2.5 times Postfix's messages/s", f"{faster:.2f} times", faster >= 2.5),
        Goal("a third of Postfix's processor time per message", f"1/{cheaper:.2f}", cheaper >= 3),
        Goal("p99 of dot to 250 in a checkpoint at most 100 ms", f"{worst:.0f} ms of {len(met)} probes", worst <= 100),
        Goal(f"at least {CHECKPOINTS} checkpoints in every run", f"{least}", least >= CHECKPOINTS),
    ]
    if idle:
        mine, yours = median(idle[0].waits), median(idle[1].waits)
        found.append(
            Goal("one idle message within twice Postfix's time", f"{mine / yours:.2f} times", mine <= 2 * yours)
        )
    return found
