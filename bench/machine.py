"""What a benchmark's numbers hold for, and where they are kept."""

import json
import os
import platform
import signal
import subprocess
import sys
import time
from pathlib import Path

from bench.kmq import build

TREE = Path(__file__).resolve().parents[1]

#: Load of the machine above which somebody else is at work.
BUSY = 0.5


def workplace(folder: Path) -> Path:
    """The folder that a benchmark works in is there; its whole name. SIGTERM lets it stop all that it began."""
    folder.mkdir(exist_ok=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    return folder.resolve()


def mention_others(what_of_it: str) -> None:
    """Says so when somebody else is at work, and what that does to the figures."""
    if (load := os.getloadavg()[0]) > BUSY:
        print(f"Others work on this machine (load {load:.1f}): {what_of_it}", flush=True)


def machine(folder: Path) -> dict[str, object]:
    """This machine, the disk that `folder` lies on, and the kmqd that is measured."""
    return {
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "kernel": platform.release(),
        "processors": os.cpu_count(),
        "filesystem": " on ".join(_said("df", "--output=fstype,source", str(folder)).splitlines()[-1].split()),
        "commit": _said("git", "describe", "--always", "--dirty"),
        "load before": os.getloadavg()[0],
        **build(),
    }


def _said(*command: str) -> str:
    return subprocess.run(command, cwd=TREE, capture_output=True, text=True).stdout.strip()


def told(facts: dict[str, object]) -> str:
    """The same in two lines."""
    compiled = f"{facts['compiled']} modules compiled" if facts["compiled"] else "interpreted"
    return (
        f"{facts['time']}: Linux {facts['kernel']}, {facts['processors']} processors, {facts['filesystem']}, "
        f"load {facts['load before']:.1f}\n"
        f"kmq {facts['commit']}: {facts['kmqd']}, Python {facts['python']} ({facts['interpreter']}), {compiled}"
    )


def keep(facts: dict[str, object], found: dict[str, object], kind: str = "") -> Path:
    """The whole of it, for later comparisons; where. kind: of benchmark, for the name of the file."""
    results = TREE / "bench/results"
    results.mkdir(exist_ok=True)
    path = results / f"{str(facts['time']).replace(':', '')}{kind}.json"
    path.write_text(json.dumps({"machine": facts, **found}, indent=1) + "\n")
    return path
