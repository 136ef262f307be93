"""`make bench`: kmq and Debian's Postfix by turns on this machine, the same disk, the same load, one table.

Promise: nothing of the system is changed; all that is made lies in a folder below build/ that is removed at the end.
         The numbers of each run stay in bench/results/<time>.json. Exit status 1 when a goal is missed.
"""

import argparse
import asyncio
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from bench import idle, report, steady
from bench.kmq import Kmq
from bench.mta import Mta, stopping
from bench.postfix import Postfix
from bench.report import Idle
from bench.steady import Steady
from tests.postfix import Postfix as Programs
from tests.postfix import find
from tests.waiting import free_port

TREE = Path(__file__).resolve().parents[1]

#: Load of the machine above which somebody else is at work.
BUSY = 0.5


class Bench:
    """What all runs share: Postfix's programs and a folder on the disk that is measured."""

    def __init__(self, programs: Programs, folder: Path) -> None:
        self._programs = programs
        self._folder = folder

    def steady(self, name: str, seconds: float) -> Steady:
        """One run under load."""
        with self._place() as folder:
            make = self._maker(name, folder)
            return steady.measure(make, self._programs, free_port(), free_port(), seconds)

    def idle(self, name: str, messages: int) -> Idle:
        """One run of single messages."""
        with self._place() as folder:
            hop_port = free_port()
            with stopping(self._maker(name, folder)(free_port(), hop_port)) as mta:
                mta.start()
                waits = asyncio.run(idle.measure(mta.port, hop_port, messages))
            return Idle(mta.name, [1000 * wait for wait in waits])

    def _maker(self, name: str, folder: Path) -> Callable[[int, int], Mta]:
        if name == "kmq":
            return lambda port, hop_port: Kmq(folder, port, hop_port)
        return lambda port, hop_port: Postfix(self._programs, folder, port, hop_port)

    @contextmanager
    def _place(self) -> Iterator[Path]:
        """A fresh folder; the disk is quiet before and after. It stays when the run fails: its log may say why."""
        folder = Path(tempfile.mkdtemp(prefix="bench.", dir=self._folder))
        folder.chmod(0o755)  # Postfix's own user has to come through
        os.sync()
        try:
            yield folder
        except BaseException:
            print(f"this run failed; what it left lies in {folder}", file=sys.stderr)
            raise
        shutil.rmtree(folder)
        os.sync()


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench", description="kmq and Debian's Postfix side by side.")
    parser.add_argument("--seconds", type=float, default=60, help="load of each run (60)")
    parser.add_argument("--pairs", type=int, default=3, help="runs of each, by turns (3)")
    parser.add_argument("--idle", type=int, default=50, help="single messages while idle (50; 0 for none)")
    parser.add_argument("--only", choices=("kmq", "postfix"), help="one of the two, without a table")
    parser.add_argument("--folder", type=Path, default=TREE / "build", help="on the disk to be measured (build/)")
    return parser.parse_args()


def machine(folder: Path) -> dict[str, object]:
    """What the numbers hold for."""
    kind = subprocess.run(["stat", "-f", "-c", "%T", folder], capture_output=True, text=True).stdout.strip()
    commit = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=TREE, capture_output=True, text=True)
    return {
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "kernel": platform.release(),
        "processors": os.cpu_count(),
        "python": platform.python_version(),
        "filesystem": kind,
        "commit": commit.stdout.strip(),
        "load before": os.getloadavg()[0],
    }


def alone(bench: Bench, name: str, options: argparse.Namespace) -> int:
    """Runs of one of the two, each told in a line."""
    for _ in range(options.pairs):
        tell(bench.steady(name, options.seconds))
    if options.idle:
        print("one message while idle, dot to sink, ms:", report.spread(bench.idle(name, options.idle).waits, 1))
    return 0


def side_by_side(bench: Bench, options: argparse.Namespace) -> int:
    """The pairs, the table, the goals, the file."""
    facts = machine(options.folder)
    if os.getloadavg()[0] > BUSY:
        print(f"Others work on this machine (load {os.getloadavg()[0]:.1f}): figures will be off, of both", flush=True)
    ours: list[Steady] = []
    theirs: list[Steady] = []
    for pair in range(options.pairs):
        order = ("postfix", "kmq") if pair % 2 == 0 else ("kmq", "postfix")
        for name in order:
            run = bench.steady(name, options.seconds)
            tell(run)
            (ours if name == "kmq" else theirs).append(run)
    single = (bench.idle("kmq", options.idle), bench.idle("postfix", options.idle)) if options.idle else None
    print(f"\n{report.table(ours, theirs, single)}\n")
    goals = report.goals(ours, theirs, single)
    for goal in goals:
        print(f"{'reached' if goal.met else 'MISSED '}  {goal.wish}: {goal.found}")
    keep(facts, {"runs": [asdict(run) for run in (*ours, *theirs)], "idle": [asdict(one) for one in single or ()]})
    return 0 if all(goal.met for goal in goals) else 1


def tell(run: Steady) -> None:
    print(report.line(run), flush=True)


def keep(facts: dict[str, object], found: dict[str, object], kind: str = "") -> None:
    """The whole of it, for later comparisons. kind: of benchmark, for the name of the file."""
    results = TREE / "bench/results"
    results.mkdir(exist_ok=True)
    path = results / f"{str(facts['time']).replace(':', '')}{kind}.json"
    path.write_text(json.dumps({"machine": facts, **found}, indent=1) + "\n")
    print(f"\nAll numbers: {path.relative_to(TREE)}")


def main() -> int:
    options = arguments()
    programs = find()
    if programs is None:
        print("Postfix's programs are not here: `make postfix` fetches them", file=sys.stderr)
        return 2
    if os.geteuid() != 0:
        print("Postfix starts as root only: sudo make bench", file=sys.stderr)
        return 2
    options.folder.mkdir(exist_ok=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that all is stopped on the way out
    bench = Bench(programs, options.folder.resolve())
    return alone(bench, options.only, options) if options.only else side_by_side(bench, options)


if __name__ == "__main__":
    sys.exit(main())
