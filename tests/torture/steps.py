"""The scheduler process dies at each single step: strace kills it at the k-th call of a kind.

Two ways: from the first step of its recovery on (the trap of tests/torture/within), and from some moment of its daily
work on. The call at which it dies is not carried out. strace counts for each thread by itself, so the number k stands
for the k-th call of whichever thread comes to it first.
"""

import asyncio
import itertools
import os
import re
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import NamedTuple

from tests.torture.kmqd import Kmqd
from tests.torture.ledger import Death, Ledger
from tests.torture.senders import Senders
from tests.torture.traced import traced
from tests.waiting import until

#: What changes files, and what opens them.
CALLS = ("fdatasync", "pwritev2", "renameat", "linkat", "unlinkat", "openat", "fsync", "write", "syncfs", "mkdirat")
DAILY = ("fdatasync", "pwritev2", "renameat", "linkat", "unlinkat", "openat", "fsync", "write")
LETTERS = 40  #: that flow while a step is waited for
PATIENCE = 2.5  #: seconds until a step that does not come is given up


class Step(NamedTuple):
    """Where it dies."""

    call: str
    number: int
    recovering: bool

    def __str__(self) -> str:
        return f"{self.call} {self.number} {'from recovery on' if self.recovering else 'of daily work'}"


def every(most: int) -> list[Step]:
    """The first `most` calls of each kind, both ways."""
    numbers = range(1, most + 1)
    return [
        *(Step(call, number, True) for call, number in itertools.product(CALLS, numbers)),
        *(Step(call, number, False) for call, number in itertools.product(DAILY, numbers)),
    ]


def some(count: int, chance: Random) -> list[Step]:
    """A few of them."""
    return chance.sample(every(12), count)


async def walk(steps: Sequence[Step], kmqd: Kmqd, ledger: Ledger, senders: Senders, trap: Path) -> Counter[str]:
    """One step after the other, mail flowing; how many it died at, and how many never came. kmqd knows the trap."""
    found: Counter[str] = Counter()
    for step in steps:
        if step.recovering:
            died = await _from_recovery(step, kmqd, ledger, senders, trap)
        else:
            died = await _daily(step, kmqd, ledger, senders)
        found["died" if died else "not reached"] += 1
        await asyncio.to_thread(kmqd.ready)
    return found


async def _from_recovery(step: Step, kmqd: Kmqd, ledger: Ledger, senders: Senders, trap: Path) -> bool:
    trap.write_text(f"{step.call} {step.number}")
    senders.go(LETTERS)
    at = time.time()
    kmqd.kill("scheduler-1")
    while trap.exists():
        await asyncio.sleep(0.01)
    victim = kmqd.children().get("scheduler-1", 0)
    died = await _dies(kmqd, victim)
    if not died:
        kmqd.kill("scheduler-1")  # strace goes with it
        await _dies(kmqd, victim)
    await asyncio.to_thread(kmqd.ready)
    ledger.deaths.append(Death("scheduler-1", at, time.time()))
    return died


async def _daily(step: Step, kmqd: Kmqd, ledger: Ledger, senders: Senders) -> bool:
    victim = kmqd.children()["scheduler-1"]
    tracer = _attach(victim, step)
    try:
        await asyncio.to_thread(until, lambda: traced(victim), "strace is there")
        at = time.time()
        senders.go(LETTERS)
        died = await _dies(kmqd, victim)
    finally:
        tracer.send_signal(signal.SIGINT)  # it lets go of whoever lives
        await asyncio.to_thread(tracer.wait)
    await asyncio.to_thread(kmqd.ready)
    if died:
        ledger.deaths.append(Death("scheduler-1", at, time.time()))
    return died


def _attach(pid: int, step: Step) -> "subprocess.Popen[bytes]":
    inject = f"inject={step.call}:signal=SIGKILL:when={step.number}"
    command = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", f"trace={step.call}", "-e", inject, "-p", str(pid)]
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


async def _dies(kmqd: Kmqd, pid: int) -> bool:
    """Whether this scheduler process dies; what has not come in its daily work by then does not come."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        if kmqd.children().get("scheduler-1") != pid:
            _let_go(pid)
            return True
        await asyncio.sleep(0.01)
    return False


def _let_go(pid: int) -> None:
    """strace may wait for ever for a thread that was killed while it stood still, and nobody else can reap it."""
    try:
        tracer = int(re.search(r"TracerPid:\t(\d+)", Path(f"/proc/{pid}/status").read_text())[1])
    except (OSError, TypeError):
        return
    if tracer:
        os.kill(tracer, signal.SIGKILL)
