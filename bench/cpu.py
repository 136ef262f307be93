"""What a tree of processes has used of the processor.

Promise: nothing is counted twice and nothing is lost while the root lives: a living process has its own time and that
         of the children that it has waited for; the living are summed up.
Limit:   what the kernel's own threads do on a process's behalf (write-back, the loopback's other end) is nobody's.
"""

import os
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

TICK = 1 / os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Process:
    """What /proc says of one. name: its program, or for a child of kmqd its role; seconds, reaped: its own and its dead
    children's time."""

    pid: int
    parent: int
    name: str
    seconds: float
    reaped: float


def processes() -> dict[int, Process]:
    """Every process of this machine, by pid."""
    found = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and (process := _read(folder)):
            found[process.pid] = process
    return found


def _read(folder: Path) -> Process | None:
    try:
        text = (folder / "stat").read_text()
    except OSError:
        return None  # it ended while we looked
    name, _, rest = text.partition("(")[2].rpartition(")")
    fields = rest.split()
    user, system, dead_user, dead_system = (int(field) * TICK for field in fields[11:15])
    return Process(int(folder.name), int(fields[1]), name.removeprefix("kmqd-"), user + system, dead_user + dead_system)


def tree(root: int) -> list[Process]:
    """`root` and all that descends from it."""
    living = processes()
    members = {root}
    grown = True
    while grown:
        children = {process.pid for process in living.values() if process.parent in members}
        grown = not children <= members
        members |= children
    return [living[pid] for pid in members if pid in living]


def seconds(root: int) -> dict[str, float]:
    """Processor seconds that the tree has used so far, by name of process; of those that are gone, together."""
    found: dict[str, float] = defaultdict(float)
    for process in tree(root):
        found[process.name] += process.seconds
        found["gone"] += process.reaped
    return found
