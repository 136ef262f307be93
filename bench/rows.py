"""The rows of `make bench`: each a load or a state of the queue, what of it counts, and what kmq is to reach."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, Generic, TypeVar

from bench import draining, idle, slow_disk, steady
from bench.draining import Drain
from bench.ground import Ground
from bench.idle import Idle
from bench.load import Load
from bench.mta import Ways, stopping
from bench.report import Goal, Measure, Wish, part, percentile, spread, times
from bench.steady import Steady
from tests.waiting import free_port

R = TypeVar("R")

#: Checkpoints that a run must hold for its steady state to be one.
CHECKPOINTS = 5
#: Milliseconds that a client may wait for 250 while a checkpoint runs.
CHECKPOINT_WAIT = 50.0


@dataclass(frozen=True, slots=True)
class Row(Generic[R]):
    """measure: one run of the MTA of that name; tell: it in a line; peers: all MTAs are measured, not Postfix alone;
    load: what is poured in while the next hop listens."""

    title: str
    measure: Callable[[Ground, str], R]
    tell: Callable[[R], str]
    measures: Sequence[Measure[R]]
    wishes: Sequence[Wish[R]]
    peers: bool = False
    load: Load | None = None


# --- under load -------------------------------------------------------------------------------------------------------


def _loaded(load: Load) -> Callable[[Ground, str], Steady]:
    def run(ground: Ground, name: str) -> Steady:
        with ground.place() as folder:
            sync = steady.sync_time(folder)
            return steady.measure(ground.maker(name, folder), ground.programs, ground.length.seconds, load, sync)

    return run


def _accepting(ground: Ground, name: str) -> Steady:
    with ground.place() as folder:
        sync = steady.sync_time(folder)
        return steady.accepting(ground.maker(name, folder), ground.programs, ground.length.seconds, sync=sync)


def _on_slow_disk(load: Load) -> Callable[[Ground, str], Steady]:
    def run(ground: Ground, name: str) -> Steady:
        with ground.place() as folder, slow_disk.mounted(folder) as disk:
            sync = steady.sync_time(disk)
            return steady.measure(ground.maker(name, disk), ground.programs, ground.length.seconds, load, sync)

    return run


def _rate(run: Steady) -> float:
    return run.rate


def _cost(run: Steady) -> float:
    return run.cost


UNDER_LOAD: tuple[Measure[Steady], ...] = (
    Measure("messages/s", _rate),
    Measure("messages/s at the sink under load", lambda run: run.rate_loaded),
    Measure("processor ms per message", _cost, 2),
    Measure("dot to 250, median ms", lambda run: percentile(run.waits, 0.5), 1),
    Measure("dot to 250, p99 ms", lambda run: percentile(run.waits, 0.99), 1),
    Measure("dot to 250, worst ms", lambda run: percentile(run.waits, 1), 1),
    Measure("dot to sink, median ms", lambda run: percentile(run.sink_waits, 0.5), 1),
    Measure("dot to sink, p99 ms", lambda run: percentile(run.sink_waits, 0.99), 1),
    Measure("dot to sink, worst ms", lambda run: percentile(run.sink_waits, 1), 1),
    Measure("probes without 250", lambda run: run.unanswered or float("nan")),
    Measure("probes that went astray", lambda run: run.astray or float("nan")),
    Measure("dot to 250 in a checkpoint, p99 ms", lambda run: percentile(run.during_checkpoint, 0.99), 1),
    Measure("checkpoints under load", lambda run: run.checkpoints or float("nan")),
    Measure("memory of all processes (PSS), MB", lambda run: run.memory / 1e6),
    Measure("a sync of the disk at rest, ms", lambda run: run.sync, 2),
)

ACCEPTING = tuple(one for one in UNDER_LOAD if "sink" not in one.title and "astray" not in one.title)


def _told_load(run: Steady) -> str:
    parts = sorted(run.cpu.items(), key=lambda part: -part[1])
    costly = ", ".join(f"{name} {cost:.2f}" for name, cost in parts if cost >= 0.02 * run.cost)
    waits = f"dot to 250 p99 {percentile(run.waits, 0.99):.0f} ms, {run.checkpoints} checkpoints"
    return f"{run.mta:10}{run.rate:6,.0f}/s of {run.messages}; ms of processor each: {run.cost:.2f} ({costly}); {waits}"


def steadily(ours: Sequence[Steady], theirs: Sequence[Steady]) -> Goal:
    """Rates count when they hold all that kmq does from time to time."""
    least = min(run.checkpoints for run in ours)
    return Goal(f"at least {CHECKPOINTS} checkpoints in every run", f"{least}", least >= CHECKPOINTS)


def unhurt_by_checkpoints(ours: Sequence[Steady], theirs: Sequence[Steady]) -> Goal:
    """Of all runs' probes together: one run has a few dozen that meet a checkpoint."""
    met = [wait for run in ours for wait in run.during_checkpoint]
    worst = percentile(met, 0.99)
    wish = f"dot to 250 in a checkpoint, p99: at most {CHECKPOINT_WAIT:.0f} ms"
    return Goal(wish, f"{worst:.0f} ms of {len(met)} probes", worst <= CHECKPOINT_WAIT)


def as_syncs_allow(load: Load) -> Wish[Steady]:
    """A message waits for half a sync and a whole one of its own; 0.8 of what that allows the connections."""

    def judged(ours: Sequence[Steady], theirs: Sequence[Steady]) -> Goal:
        bound = median(0.8 * load.connections / (1.5 * run.sync / 1000) for run in ours)
        found = median(run.rate for run in ours)
        wish = f"messages/s with {load.connections} connections: at least 0.8 of what syncs allow ({bound:,.0f}/s)"
        return Goal(wish, f"{found:,.0f}/s", found >= bound)

    return judged


# --- alone ------------------------------------------------------------------------------------------------------------


def _idle(ground: Ground, name: str) -> Idle:
    with ground.place() as folder:
        ways = Ways(free_port(), free_port(), free_port())
        with stopping(ground.maker(name, folder)(ways)) as mta:
            mta.start()
            waits = asyncio.run(idle.measure(mta.port, ways.hop, idle.WARM_UP + ground.length.single))
        return Idle(mta.name, [1000 * wait for wait in waits[idle.WARM_UP :]])


def _middle(run: Idle) -> float:
    return median(run.waits)


ALONE: tuple[Measure[Idle], ...] = (
    Measure("dot to sink, median ms", _middle, 2),
    Measure("dot to sink, p99 ms", lambda run: percentile(run.waits, 0.99), 2),
    Measure("dot to sink, worst ms", lambda run: max(run.waits), 2),
)


# --- a queue that waits -----------------------------------------------------------------------------------------------


def _drained(ground: Ground, name: str) -> Drain:
    with ground.place() as folder:
        return draining.measure(ground.maker(name, folder), ground.programs, ground.length.deferred)


def _listing(run: Drain) -> float:
    return median(run.listings)


def _drain_rate(run: Drain) -> float:
    return run.rate


DRAINING: tuple[Measure[Drain], ...] = (
    Measure("messages/s once the next hop is back", _drain_rate),
    Measure("processor ms per message", lambda run: run.cost, 2),
    Measure("listing all of it, s", _listing, 2),
)


# --- the table --------------------------------------------------------------------------------------------------------

MANY, FEW = Load(connections=200), Load(connections=20)


def _load_row(title: str, load: Load, least: float, *more: Wish[Steady]) -> Row[Steady]:
    wishes = (times(least, "messages/s", _rate), *more, steadily)
    return Row(title, _loaded(load), _told_load, UNDER_LOAD, wishes, peers=True, load=load)


ROWS: dict[str, Row[Any]] = {
    "one": _load_row(
        "4 KiB, one message per connection", Load(), 5, part(6, "processor ms", _cost), unhurt_by_checkpoints
    ),
    "kept": _load_row("4 KiB, connections kept", Load(kept=True), 6),
    "idle": Row(
        "one message while idle",
        _idle,
        lambda run: f"{run.mta:10}one message while idle, dot to sink, ms: {spread(run.waits, 1)}",
        ALONE,
        (part(1, "one message while idle, median", _middle),),
        peers=True,
    ),
    "large": _load_row("50 KiB, one message per connection", Load(size=50 << 10), 3),
    "recipients": _load_row("4 KiB, 50 recipients", Load(recipients=50), 2),
    "accept": Row("4 KiB, accepted only: the next hop is down", _accepting, _told_load, ACCEPTING, (steadily,)),
    "drain": Row(
        "a deferred queue",
        _drained,
        lambda run: (
            f"{run.mta:10}{run.rate:6,.0f}/s of {run.messages} deferred, {run.cost:.2f} ms of processor each; "
            f"listed in {spread(run.listings, 2)} s"
        ),
        DRAINING,
        (times(3, "drain, messages/s", _drain_rate), part(1, "listing", _listing)),
    ),
    "slow200": Row(
        f"4 KiB, 200 connections, a disk with {1000 * slow_disk.SECONDS:.0f} ms sync",
        _on_slow_disk(MANY),
        _told_load,
        UNDER_LOAD,
        (times(3, "messages/s", _rate),),
        load=MANY,
    ),
    "slow20": Row(
        f"4 KiB, 20 connections, a disk with {1000 * slow_disk.SECONDS:.0f} ms sync",
        _on_slow_disk(FEW),
        _told_load,
        UNDER_LOAD,
        (as_syncs_allow(FEW),),
        load=FEW,
    ),
}

#: What `make bench` measures when nobody says more: the rows that say most.
FIRST = ("one", "kept", "idle")
