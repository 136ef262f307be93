"""The table of the crowded queue, and its goals."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import NamedTuple

from bench import fresh
from bench.crowd import Call
from bench.fresh import Fresh
from bench.report import Goal, percentile

#: Goals of a queue of 100,000.
BYTES = 400
PER_SECOND = 5000
FILTERED, PAGED, SMALL = 1.0, 0.25, 0.2
SLOWED = 0.9


@dataclass(frozen=True, slots=True)
class Beside:
    """A flow without and with something beside it: milliseconds from the dot to the sink, negative for none.

    rate: messages per second that were sent; count: how often the thing was done meanwhile.
    """

    name: str
    rate: float
    without: list[float]
    with_it: list[float]
    count: int

    @property
    def rate_ratio(self) -> float:
        """Messages that came within the time that nearly all needed without it, for each that did without it.

        All that is sent comes in the end; what counts is how many come as soon as they would have.
        """
        return _in_time(self.with_it) / max(1, _in_time(self.without))

    @property
    def wait_ratio(self) -> float:
        """The median wait with it, in those without it."""
        return median(_arrived(self.with_it)) / median(_arrived(self.without))

    @property
    def lost(self) -> int:
        return sum(wait < 0 for wait in self.with_it)


def _spread(waits: list[float]) -> dict[str, float]:
    arrived = _arrived(waits)
    return {
        "messages": len(waits),
        "in time": _in_time(waits),
        "median": median(arrived),
        "p99": percentile(arrived, 0.99),
    }


def _arrived(waits: list[float]) -> list[float]:
    return [wait for wait in waits if wait >= 0] or [float("nan")]


#: Milliseconds within which a message counts as delivered with the flow, not after a stall.
IN_TIME = 1000.0


def _in_time(waits: list[float]) -> int:
    return sum(0 <= wait <= IN_TIME for wait in waits)


class Verb(NamedTuple):
    """rate: messages per second, from the start of kmq to its end; client, scheduler: microseconds of processor that
    each message cost them."""

    rate: float
    client: float
    scheduler: float


@dataclass(frozen=True, slots=True)
class Run:
    """One crowd. bare, full, most: bytes of the scheduler process with an empty queue, with the crowd, after all verbs.

    empty, crowd: fresh mail to a healthy domain. loading: seconds from the start of kmqd until it knows all. listings:
    of a cold client.
    """

    messages: int
    domains: int
    empty: Fresh
    crowd: Fresh
    bare: int
    full: int
    most: int
    loading: float
    listings: dict[str, Call]
    verbs: dict[str, Verb]
    beside: list[Beside] = field(default_factory=list)

    @property
    def bytes_each(self) -> float:
        """Of the scheduler process's memory, for each message."""
        return (self.full - self.bare) / self.messages

    def figures(self) -> dict[str, object]:
        """All of it, for the file of results; of a flow's thousands of waits what tells them."""
        told = asdict(self)
        told["beside"] = [
            {
                "name": one.name,
                "rate": one.rate,
                "count": one.count,
                "without": _spread(one.without),
                "with": _spread(one.with_it),
            }
            for one in self.beside
        ]
        return told


def table(runs: list[Run], small: Call) -> str:
    """One column for each run, the goals at the right."""
    rows = [("", *(f"{run.messages:,} over {run.domains:,}" for run in runs), "goal")]
    for lines in zip(*(list(_lines(run)) for run in runs), strict=True):
        rows.append((lines[0][0], *(line[1] for line in lines), lines[0][2]))
    rows.append(("kmq mailq on 1,000, s: wall, processor", _told(small), *[""] * (len(runs) - 1), f"{SMALL}"))
    widths = [max(len(row[at]) for row in rows) for at in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def _lines(run: Run) -> Iterator[tuple[str, str, str]]:
    """(what, figure, goal)"""
    yield from fresh.lines(run.empty, run.crowd, "crowded")
    yield "scheduler, bytes a message", f"{run.bytes_each:.0f}", f"{BYTES}"
    yield (
        "scheduler, MB: empty, crowded, at last",
        ", ".join(f"{n / 1e6:.0f}" for n in (run.bare, run.full, run.most)),
        "",
    )
    yield "start until all is known, s", f"{run.loading:.1f}", ""
    for name, call in run.listings.items():
        yield f"kmq mailq, {name}, s: wall, processor", _told(call), f"{_listing_goal(name)}"
    for name, verb in run.verbs.items():
        figures = f"{verb.rate:,.0f}; {verb.client:.0f}, {verb.scheduler:.0f}"
        yield f"kmq {name} --all, messages/s; µs of kmq, of the scheduler", figures, f"{PER_SECOND:,}"
    for one in run.beside:
        figures = f"{100 * one.rate_ratio:.0f} %, {one.wait_ratio:.2f}"
        yield f"{one.rate:.0f}/s beside {one.name}: in time, median wait", figures, f"{100 * SLOWED:.0f} %"


def _listing_goal(name: str) -> float:
    return PAGED if name.startswith("page") else FILTERED


def _told(call: Call) -> str:
    return f"{call.seconds:.2f}, {call.processor:.2f}"


def goals(runs: list[Run], small: Call) -> list[Goal]:
    """Each run is held against each goal."""
    found = [goal for run in runs for goal in _goals(run)]
    return [*found, Goal(f"kmq mailq on 1,000 messages in {SMALL} s", f"{small.seconds:.2f} s", small.seconds <= SMALL)]


def _goals(run: Run) -> Iterator[Goal]:
    over = f"over {run.domains:,}"
    yield from fresh.goals(run.empty, run.crowd, f", {over}")
    yield Goal(f"scheduler, {over}: at most {BYTES} bytes a message", f"{run.bytes_each:.0f}", run.bytes_each <= BYTES)
    for name, (seconds, _) in run.listings.items():
        most = _listing_goal(name)
        yield Goal(f"kmq mailq, {name}, {over}: at most {most} s", f"{seconds:.2f} s", seconds <= most)
    for name, (rate, _, _) in run.verbs.items():
        yield Goal(f"kmq {name} --all, {over}: {PER_SECOND:,} messages/s", f"{rate:,.0f}/s", rate >= PER_SECOND)
    for one in run.beside:
        found = f"{100 * one.rate_ratio:.0f} %" + (f", {one.lost} did not come" if one.lost else "")
        met = one.rate_ratio >= SLOWED and not one.lost
        yield Goal(f"{one.rate:.0f}/s beside {one.name}, {over}: {100 * SLOWED:.0f} % of the deliveries", found, met)
