"""A queue that a next hop left behind when it went down: how long it takes to list, and to deliver when it is back.

All messages have been tried once and wait for their next attempt. Then the next hop listens again, and an operator says
so (`kmq flush`, `postqueue -f`): from that word to the last delivery counts.
"""

import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass

from bench import cpu, steady
from bench.load import Hop, Load
from bench.mta import Mta, Ways, stopping
from tests.postfix import Postfix as Programs
from tests.waiting import free_port, until

MESSAGES = 20_000
LISTINGS = 3

#: How the queue gets full fastest; the drain is what is measured.
FILLING = Load(kept=True)


@dataclass(frozen=True, slots=True)
class Drain:
    """What one queue showed. rate: messages/s; cost: processor milliseconds per message, over the MTA's whole tree;
    listings: seconds of each call that listed all of it."""

    mta: str
    messages: int
    rate: float
    cost: float
    listings: list[float]


def measure(make: Callable[[Ways], Mta], programs: Programs, messages: int = MESSAGES) -> Drain:
    """Starts what `make` gives, fills its queue, lists it, drains it, stops it."""
    ways = Ways(free_port(), free_port(), free_port())
    with stopping(make(ways)) as mta:
        mta.start()
        steady.pour_in(mta, programs, messages, FILLING)
        steady.rest(mta)
        if mta.waiting() != messages:
            raise RuntimeError(f"{mta.waiting()} messages wait in {mta.name}'s queue, not {messages}")
        listings = [_listed(mta, messages) for _ in range(LISTINGS)]
        steady.rest(mta)
        with stopping(Hop(programs, ways.hop)) as hop:
            hop.listens()
            spent, begun = sum(cpu.seconds(mta.pid).values()), time.monotonic()
            subprocess.run(mta.flush(), env=mta.environment(), stdout=subprocess.DEVNULL, check=True)
            until(lambda: hop.arrived >= messages and mta.waiting() == 0, f"{mta.name} delivers its queue", 600)
            rate = messages / (hop.last - begun)
            mta.settle()
            used = sum(cpu.seconds(mta.pid).values()) - spent
    return Drain(mta.name, messages, rate, 1000 * used / messages, listings)


def _listed(mta: Mta, messages: int) -> float:
    """Seconds that the listing takes, its start included, into a file."""
    with tempfile.TemporaryFile("w+b") as file:
        begun = time.monotonic()
        subprocess.run(mta.listing(), env=mta.environment(), stdout=file, check=True)
        taken = time.monotonic() - begun
        file.seek(0)
        if (lines := sum(1 for _ in file)) < messages:
            raise RuntimeError(f"{mta.name} listed {messages} messages in {lines} lines")
    return taken
