"""`make bench-idle`: what a kmqd costs that has nothing to do.

Promise: it has had mail before, so that what is loaded with the first message is there, its checkpoint is over, and
         nothing has happened for so long that it is at rest (kmq/spool/rhythm). The kernel counts in nanoseconds what
         each thread used; memory is PSS, in which what several share is counted once.
         The numbers stay in bench/results/<time>-idle.json. Exit status 1 when a goal is missed.
Limit:   where other programs run beside it, caches are cold at each beat, and it costs more.
"""

import argparse
import asyncio
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from bench import cpu, idle, memory
from bench.kmq import Kmq
from bench.machine import TREE, keep, machine, mention_others, told, workplace
from bench.mta import stopping
from bench.report import Goal, verdict
from kmq.spool.rhythm import QUIET, REST
from tests.waiting import free_port

#: Goals: part of a processor, and bytes of the whole tree.
PROCESSOR, BYTES = 0.001, 120e6

MESSAGES = 20

_SWITCHES = re.compile(r"^voluntary_ctxt_switches:\s+(\d+)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Cost:
    """Of one process over some time. processor: part of one; wakes: times a second that it woke up; pss: bytes."""

    name: str
    processor: float
    wakes: float
    pss: int


def costs(root: int, seconds: float) -> list[Cost]:
    """What each process of the tree costs during that time."""
    before = {one.pid: (one.name, *_used(one.pid)) for one in cpu.tree(root)}
    time.sleep(seconds)
    found = []
    for pid, (name, nanoseconds, wakes) in before.items():
        now, again = _used(pid)
        found.append(Cost(name, (now - nanoseconds) / seconds / 1e9, (again - wakes) / seconds, memory.pss_of(pid)))
    return sorted(found, key=lambda cost: cost.name)


def _used(pid: int) -> tuple[int, int]:
    """Nanoseconds that the threads of a process have run, and how often they began to."""
    nanoseconds = wakes = 0
    for thread in Path(f"/proc/{pid}/task").iterdir():
        nanoseconds += int((thread / "schedstat").read_text().split()[0])
        switched = _SWITCHES.search((thread / "status").read_text())
        wakes += int(switched[1]) if switched else 0
    return nanoseconds, wakes


def table(found: list[Cost]) -> str:
    """A line for each process, and one for all."""
    whole = Cost("all", sum(c.processor for c in found), sum(c.wakes for c in found), sum(c.pss for c in found))
    lines = [f"{'':12}{'% of a processor':>18}{'wakes/s':>10}{'PSS, MB':>10}"]
    lines += [f"{c.name:12}{100 * c.processor:18.3f}{c.wakes:10.1f}{c.pss / 1e6:10.1f}" for c in [*found, whole]]
    return "\n".join(lines)


def goals(found: list[Cost]) -> Iterator[Goal]:
    """Of all processes together."""
    processor, pss = sum(cost.processor for cost in found), sum(cost.pss for cost in found)
    wish = f"at most {100 * PROCESSOR} % of a processor while idle"
    yield Goal(wish, f"{100 * processor:.3f} %", processor <= PROCESSOR)
    yield Goal(f"at most {BYTES / 1e6:.0f} MB of memory (PSS)", f"{pss / 1e6:.0f} MB", pss <= BYTES)


def measured(options: argparse.Namespace) -> list[Cost]:
    """One kmqd in a folder of its own."""
    folder = Path(tempfile.mkdtemp(prefix="idle.", dir=options.folder))
    with stopping(Kmq(folder, free_port(), free_port())) as kmqd:
        kmqd.start()
        asyncio.run(idle.measure(kmqd.port, kmqd.hop_port, MESSAGES))
        kmqd.settle()
        time.sleep(QUIET + REST)
        found = costs(kmqd.pid, options.seconds)
    shutil.rmtree(folder)
    return found


def main() -> int:
    parser = argparse.ArgumentParser(prog="make bench-idle", description="A kmqd that has nothing to do.")
    parser.add_argument("--seconds", type=float, default=30, help="that are looked at (30)")
    parser.add_argument("--folder", type=Path, default=TREE / "build", help="for the spool (build/)")
    options = parser.parse_args()
    options.folder = workplace(options.folder)
    facts = machine(options.folder)
    mention_others("it will cost more")
    found = measured(options)
    print(f"\n{told(facts)}\n\n{table(found)}\n")
    status = verdict(goals(found))
    keep(facts, {"costs": [asdict(cost) for cost in found]}, "-idle")
    return status


if __name__ == "__main__":
    sys.exit(main())
