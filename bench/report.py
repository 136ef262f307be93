"""The table that `make bench` prints, and the goals that it is held against.

A row of the benchmark says what of a run counts (measures) and what kmq is to reach (wishes); nothing here knows more
of a run than that.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from math import ceil, isnan
from statistics import median
from typing import Generic, TypeVar

R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Goal:
    """What kmq is to reach, what it reached, and whether that is it."""

    wish: str
    found: str
    met: bool


def verdict(goals: Iterable[Goal]) -> int:
    """Tells of each whether it is reached; the exit status of the program."""
    status = 0
    for goal in goals:
        print(f"{'reached' if goal.met else 'MISSED '}  {goal.wish}: {goal.found}")
        status = status if goal.met else 1
    return status


@dataclass(frozen=True, slots=True)
class Measure(Generic[R]):
    """One line of a row. of: NaN where a run has no such figure; digits: behind the point."""

    title: str
    of: Callable[[R], float]
    digits: int = 0


#: (kmq's runs, Postfix's) -> the goal and what was found.
Wish = Callable[[Sequence[R], Sequence[R]], Goal]


def times(least: float, what: str, of: Callable[[R], float]) -> Wish[R]:
    """kmq has at least so many times Postfix's, by the median of the pairs."""

    def judged(ours: Sequence[R], theirs: Sequence[R]) -> Goal:
        found = _middle(ratios(ours, theirs, of))
        return Goal(f"{what}: at least {least:g} times Postfix's", f"{found:.2f} times", found >= least)

    return judged


def part(whole: float, what: str, of: Callable[[R], float]) -> Wish[R]:
    """kmq needs at most 1/whole of Postfix's, by the median of the pairs."""

    def judged(ours: Sequence[R], theirs: Sequence[R]) -> Goal:
        found = _middle(ratios(theirs, ours, of))
        wish = "less than Postfix's" if whole == 1 else f"at most 1/{whole:g} of Postfix's"
        met = found > whole if whole == 1 else found >= whole
        return Goal(f"{what}: {wish}", f"1/{found:.2f}", met)

    return judged


def ratios(ones: Sequence[R], others: Sequence[R], of: Callable[[R], float]) -> list[float]:
    """Pair by pair, where both have the figure."""
    pairs = ((of(one), of(other)) for one, other in zip(ones, others, strict=True))
    return [one / other for one, other in pairs if other and not isnan(one) and not isnan(other)]


def _middle(values: list[float]) -> float:
    return median(values) if values else float("nan")


def percentile(values: Iterable[float], share: float) -> float:
    """The smallest value that at least `share` of them do not exceed; NaN of none."""
    ordered = sorted(values)
    return ordered[max(0, ceil(share * len(ordered)) - 1)] if ordered else float("nan")


def spread(values: Iterable[float], digits: int = 0) -> str:
    """`median [min..max]`, or the one value; nothing of none."""
    found = sorted(value for value in values if not isnan(value))
    if not found:
        return ""
    middle = f"{median(found):,.{digits}f}"
    return middle if len(found) == 1 else f"{middle} [{found[0]:,.{digits}f}..{found[-1]:,.{digits}f}]"


def lines(measures: Sequence[Measure[R]], runs: dict[str, list[R]]) -> Iterator[tuple[str, ...]]:
    """A line for each measure: what, kmq's, and for each other its own and the ratio. runs: of kmq first."""
    ours, *others = runs.values()
    for measure in measures:
        cells = [spread(map(measure.of, ours), measure.digits)]
        for theirs in others:
            found = ratios(ours, theirs, measure.of)
            cells += [spread(map(measure.of, theirs), measure.digits), spread(found, 2)]
        if any(cells):
            yield (f"  {measure.title}", *cells)


def table(names: Sequence[str], rows: Iterable[tuple[str, ...]]) -> str:
    """names: of the MTAs, kmq first; rows: those of `lines`, with a heading of one cell before each group."""
    heads = ("", names[0], *(cell for name in names[1:] for cell in (name, f"{names[0]} / {name}")))
    found = [heads, *rows]
    widths = [max(len(row[at]) for row in found if len(row) == len(heads)) for at in range(len(heads))]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in found)
