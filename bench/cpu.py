"""What a tree of processes has used of the processor.

Promise: nothing is counted twice and nothing is lost while the root lives: a living process has its own time and that
         of the children that it has waited for; the living are summed up.
Limit:   what the kernel's own threads do on a process's behalf (write-back, the loopback's other end) is nobody's.
"""

import os
from dataclasses import dataclass
from pathlib import Path

TICK = 1 / os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Process:
    """One line of /proc: seconds are its own and its waited children's."""

    pid: int
    parent: int
    name: str
    seconds: float
    resident: int


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
    ticks = sum(map(int, fields[11:15]))
    return Process(int(folder.name), int(fields[1]), name, ticks * TICK, int(fields[21]) * os.sysconf("SC_PAGE_SIZE"))


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


def seconds(root: int) -> float:
    """Processor seconds that the tree has used so far."""
    return sum(process.seconds for process in tree(root))
