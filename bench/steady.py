"""One run under load: how much arrives, what it costs, and how long a client and its mail wait meanwhile.

A message counts when it has arrived at the sink, whole. The load goes on for the given seconds; the time that the MTA
needs afterwards to deliver what it has accepted counts too, so that a backlog is no advantage, and so does the
processor time until nothing is left to be done for it (for kmq: until the checkpoint after the last delivery). Where
the next hop is down a message counts when it is in the queue, and the processor time goes on until the MTA is at rest.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from bench import cpu, memory
from bench.load import ORDINARY, Hop, Load, source
from bench.mta import Mta, Span, Ways, stopping
from bench.probe import READY, REFUSED, Probe
from tests.postfix import Postfix as Programs
from tests.waiting import free_port, until

PROBES_PER_SECOND = 20.0
WARM_UP_MESSAGES = 200

#: An MTA is at rest when it used no more than this part of a processor in a second.
AT_REST, LATEST_REST = 0.05, 300.0
#: Syncs of one block by which a disk is judged.
SYNCS = 30


@dataclass(frozen=True, slots=True)
class Steady:
    """What one run showed; times in milliseconds.

    rate:         messages/s, from the first second to the last delivery; rate_loaded: that arrived while the load ran.
    cpu:          processor time per message, by name of process, over the MTA's whole tree.
    waits:        from the dot to the 250, each probe; during_checkpoint: of probes that met a checkpoint.
    sink_waits:   from the dot to the sink, each probe that arrived.
    unanswered:   probes that heard no 250; astray: that heard one and did not arrive within half a minute.
    checkpoints:  that ended while the load ran.
    memory:       bytes of the whole tree (PSS) at the end of the load.
    sync:         what a sync of one block takes on this disk while nothing else is done.
    """

    mta: str
    seconds: float
    messages: int
    rate: float
    rate_loaded: float
    cpu: dict[str, float]
    waits: list[float]
    during_checkpoint: list[float]
    unanswered: int
    checkpoints: int
    sink_waits: list[float]
    astray: int
    memory: int
    sync: float

    @property
    def cost(self) -> float:
        """Processor milliseconds per message in all."""
        return sum(self.cpu.values())


def measure(
    make: Callable[[Ways], Mta], programs: Programs, seconds: float, load: Load = ORDINARY, sync: float = 0.0
) -> Steady:
    """Starts what `make` gives, loads it, drains it, stops it."""
    ways = Ways(free_port(), free_port(), free_port())
    with stopping(Hop(programs, ways.hop)) as hop, stopping(make(ways)) as mta:
        mta.expect(load.connections)
        mta.start()
        copies = _warm_up(mta, programs, hop, load)
        spent, before = cpu.seconds(mta.pid), hop.arrived
        with _pouring(mta, ways, programs, load) as pour:
            time.sleep(seconds)
            pour.end(hop.arrived)
        until(lambda: time.monotonic() - hop.last > 1 and mta.waiting() == 0, f"{mta.name}'s queue drains", 600)
        mta.settle()
        arrived = (hop.arrived - before) // copies + sum(probe.arrived >= 0 for probe in pour.probes)
        rates = arrived / (hop.last - pour.begun), (pour.count - before) / copies / (pour.ended - pour.begun)
        return pour.told(arrived, rates, spent, sync)


def accepting(
    make: Callable[[Ways], Mta], programs: Programs, seconds: float, load: Load = ORDINARY, sync: float = 0.0
) -> Steady:
    """The same while nobody listens at the next hop: what is accepted stays in the queue, and that is counted."""
    ways = Ways(free_port(), free_port(), 0)
    with stopping(make(ways._replace(probes=ways.hop))) as mta:
        mta.expect(load.connections)
        mta.start()
        pour_in(mta, programs, WARM_UP_MESSAGES, load)
        rest(mta)
        spent, before = cpu.seconds(mta.pid), mta.waiting()
        with _pouring(mta, ways, programs, load) as pour:
            time.sleep(seconds)
            pour.end(0)
        rest(mta)
        mta.settle()
        taken = mta.waiting() - before
        rate = taken / (pour.ended - pour.begun)
        return pour.told(taken, (rate, rate), spent, sync)


def pour_in(mta: Mta, programs: Programs, messages: int, load: Load = ORDINARY) -> None:
    """So many messages, each of them accepted. RuntimeError when not."""
    with source(programs, mta.port, messages, load) as process:
        if process.wait(600):
            raise RuntimeError(f"{mta.name} did not take its mail")


def rest(mta: Mta) -> None:
    """Returns when the MTA has nothing to do any more, for now."""
    spent, deadline = sum(cpu.seconds(mta.pid).values()), time.monotonic() + LATEST_REST
    while time.monotonic() < deadline:
        time.sleep(1)
        now = sum(cpu.seconds(mta.pid).values())
        if now - spent < AT_REST:
            return
        spent = now
    raise RuntimeError(f"{mta.name} is busy {LATEST_REST:.0f} s after its last message")


def sync_time(folder: Path) -> float:
    """Milliseconds of a sync of one block that has its place on the disk already: the median of some."""
    with tempfile.TemporaryFile(dir=folder, buffering=0) as file:
        taken = []
        for number in range(SYNCS + 1):
            os.pwrite(file.fileno(), bytes([number]) * 4096, 0)
            begun = time.monotonic()
            os.fdatasync(file.fileno())
            taken.append(1000 * (time.monotonic() - begun))
        return median(taken[1:])  # the first one gives the block its place


def _warm_up(mta: Mta, programs: Programs, hop: Hop, load: Load) -> int:
    """How often each message arrives: an MTA may split one of many recipients."""
    pour_in(mta, programs, WARM_UP_MESSAGES, load)
    until(lambda: hop.arrived >= WARM_UP_MESSAGES, f"the first {WARM_UP_MESSAGES} messages through {mta.name}", 60)
    until(lambda: time.monotonic() - hop.last > 1 and mta.waiting() == 0, f"{mta.name} has delivered them", 60)
    copies, broken = divmod(hop.arrived, WARM_UP_MESSAGES)
    if broken:
        raise RuntimeError(f"{mta.name} made {hop.arrived} messages of {WARM_UP_MESSAGES}")
    return copies


class _Pour:
    """A load that runs, and the probes beside it."""

    def __init__(self, mta: Mta, process: subprocess.Popen[bytes], probes: subprocess.Popen[str]) -> None:
        self._mta = mta
        self._source = process
        self._probes = probes
        self.begun = self.ended = time.monotonic()
        self.count = self._memory = 0
        self.probes: list[Probe] = []

    def end(self, count: int) -> None:
        """The time is up; count: what has arrived by now."""
        self.ended, self.count = time.monotonic(), count
        self._memory = memory.pss(self._mta.pid)
        if self._source.poll() is not None:
            raise RuntimeError(f"smtp-source gave up: {self._mta.name} did not take its mail")

    def hear(self) -> None:
        """The probes' answers, when the load is over."""
        self._probes.send_signal(signal.SIGTERM)
        self.probes = [Probe(*probe) for probe in json.loads(self._probes.communicate()[0])]

    def told(self, messages: int, rates: tuple[float, float], spent: dict[str, float], sync: float) -> Steady:
        """The whole run. rates: messages/s until the last delivery, and under load; spent: processor time before."""
        spans = [span for span in self._mta.checkpoints() if self.begun <= span.end <= self.ended]
        answered = [probe for probe in self.probes if probe.answered >= 0]
        met = [one for one in answered if _met(spans, Span(one.dot, one.dot + one.answered))]
        used = cpu.seconds(self._mta.pid)
        return Steady(
            mta=self._mta.name,
            seconds=self.ended - self.begun,
            messages=messages,
            rate=rates[0],
            rate_loaded=rates[1],
            cpu={name: 1000 * (seconds - spent.get(name, 0)) / messages for name, seconds in used.items()},
            waits=[1000 * probe.answered for probe in answered],
            during_checkpoint=[1000 * probe.answered for probe in met],
            unanswered=len(self.probes) - len(answered),
            checkpoints=len(spans),
            sink_waits=[1000 * probe.arrived for probe in answered if probe.arrived != REFUSED],
            astray=sum(probe.arrived == REFUSED for probe in answered),
            memory=self._memory,
            sync=sync,
        )


@contextmanager
def _pouring(mta: Mta, ways: Ways, programs: Programs, load: Load) -> Iterator[_Pour]:
    """Load and probes while the block runs."""
    command = [sys.executable, "-m", "bench.probe", str(mta.port), str(ways.probes), str(PROBES_PER_SECOND)]
    probes = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert probes.stdout is not None
        if probes.stdout.readline().strip() != READY:
            raise RuntimeError("the probes did not begin")
        with source(programs, mta.port, load=load) as process:
            pour = _Pour(mta, process, probes)
            yield pour
        pour.hear()
    finally:
        probes.kill()
        probes.wait()


def _met(spans: list[Span], wait: Span) -> bool:
    return any(span.begin <= wait.end and wait.begin <= span.end for span in spans)
