"""One run under load: how much arrives, what it costs, and how long a client waits meanwhile.

A message counts when it has arrived at the sink, whole. The load goes on for the given seconds; the time that the MTA
needs afterwards to deliver what it has accepted counts too, so that a backlog is no advantage, and so does the
processor time until nothing is left to be done for it (for kmq: until the checkpoint after the last delivery).
"""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

from bench import cpu
from bench.load import Hop, source
from bench.mta import Mta, Span, stopping
from tests.postfix import Postfix as Programs
from tests.waiting import until

PROBES_PER_SECOND = 20.0
WARM_UP_MESSAGES = 200


@dataclass(frozen=True, slots=True)
class Steady:
    """What one run showed.

    rate:        messages/s at the sink, from the first second to the last delivery; rate_loaded: while the load ran.
    cpu:         processor milliseconds per message, by name of process, over the MTA's whole tree.
    waits:       milliseconds from the dot to the 250, each probe; during_checkpoint: of probes that met a checkpoint.
    unanswered:  probes that heard no 250.
    checkpoints: that ended while the load ran.
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

    @property
    def cost(self) -> float:
        """Processor milliseconds per message in all."""
        return sum(self.cpu.values())


def measure(make: Callable[[int, int], Mta], programs: Programs, hop_port: int, port: int, seconds: float) -> Steady:
    """Starts what `make(port, hop_port)` gives, loads it, drains it, stops it."""
    with stopping(Hop(programs, hop_port)) as hop, stopping(make(port, hop_port)) as mta:
        mta.start()
        _warm_up(mta, programs, hop)
        return _run(mta, programs, hop, seconds)


def _warm_up(mta: Mta, programs: Programs, hop: Hop) -> None:
    with source(programs, mta.port, WARM_UP_MESSAGES) as load:
        load.wait(60)
    until(lambda: hop.arrived >= WARM_UP_MESSAGES, f"the first {WARM_UP_MESSAGES} messages through {mta.name}", 60)


def _run(mta: Mta, programs: Programs, hop: Hop, seconds: float) -> Steady:
    spent, before, begin = cpu.seconds(mta.pid), hop.arrived, time.monotonic()
    probes = subprocess.Popen(
        [sys.executable, "-m", "bench.probe", str(mta.port), str(PROBES_PER_SECOND)], stdout=subprocess.PIPE, text=True
    )
    with source(programs, mta.port) as load:
        time.sleep(seconds)
        loaded, end = hop.arrived - before, time.monotonic()
        if load.poll() is not None:
            raise RuntimeError(f"smtp-source gave up: {mta.name} did not take its mail")
    probes.send_signal(signal.SIGTERM)
    answers = json.loads(probes.communicate()[0])
    _drain(mta, hop)
    messages, last = hop.arrived - before, hop.last
    mta.settle()
    spans = [span for span in mta.checkpoints() if begin <= span.end <= end]
    waits = [(at, 1000 * wait) for at, wait in answers if wait >= 0]
    return Steady(
        mta=mta.name,
        seconds=seconds,
        messages=messages,
        rate=messages / (last - begin),
        rate_loaded=loaded / (end - begin),
        cpu={name: 1000 * (used - spent.get(name, 0)) / messages for name, used in cpu.seconds(mta.pid).items()},
        waits=[wait for _, wait in waits],
        during_checkpoint=[wait for at, wait in waits if _met(spans, Span(at, at + wait / 1000))],
        unanswered=len(answers) - len(waits),
        checkpoints=len(spans),
    )


def _drain(mta: Mta, hop: Hop) -> None:
    """Returns when the queue is empty and the sink has heard nothing for a second."""
    until(lambda: time.monotonic() - hop.last > 1 and mta.waiting() == 0, f"{mta.name}'s queue drains", 300)


def _met(spans: list[Span], wait: Span) -> bool:
    return any(span.begin <= wait.end and wait.begin <= span.end for span in spans)
