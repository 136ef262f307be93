"""Fresh mail beside a long queue: what single messages take, and how much longer than on an empty queue they may."""

from collections.abc import Iterator
from dataclasses import dataclass
from statistics import median

from bench.report import Goal, percentile

#: Times as long as on an empty queue that counts as the same.
MEDIAN, P99 = 1.2, 2.0


@dataclass(frozen=True, slots=True)
class Fresh:
    """Milliseconds from the dot to the sink, of single messages."""

    waits: list[float]

    @property
    def median(self) -> float:
        return median(self.waits)

    @property
    def p99(self) -> float:
        return percentile(self.waits, 0.99)


def lines(empty: Fresh, long: Fresh, called: str) -> Iterator[tuple[str, str, str]]:
    """(what, figure, goal). called: the long queue."""
    for name, fresh in (("empty queue", empty), (called, long)):
        yield f"fresh mail, {name}, ms: median, p99", f"{fresh.median:.1f}, {fresh.p99:.1f}", ""
    yield "  times as long", "{:.2f}, {:.2f}".format(*_ratios(empty, long)), f"{MEDIAN}, {P99:.0f}"


def goals(empty: Fresh, long: Fresh, over: str = "") -> Iterator[Goal]:
    """over: `, over 1,000`, where there are several long queues."""
    middle, late = _ratios(empty, long)
    yield Goal(f"fresh mail, median{over}: at most {MEDIAN} times", f"{middle:.2f}", middle <= MEDIAN)
    yield Goal(f"fresh mail, p99{over}: at most {P99:.0f} times", f"{late:.2f}", late <= P99)


def _ratios(empty: Fresh, long: Fresh) -> tuple[float, float]:
    return long.median / empty.median, long.p99 / empty.p99
