"""How much memory a tree of processes has for itself: PSS, in which what several share is counted once in all."""

from pathlib import Path

from bench import cpu


def pss(root: int) -> int:
    """Bytes of `root` and all that descends from it; what ends while we look is not in it."""
    return sum(pss_of(process.pid) for process in cpu.tree(root))


def pss_of(pid: int) -> int:
    """Bytes of one process, its part of what it shares included."""
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return 0
    _, _, behind = text.partition("\nPss:")
    return 1024 * int(behind.split(maxsplit=1)[0]) if behind else 0


def own(pid: int) -> int:
    """Bytes of one process that are its own: what others share with it is not counted."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return 1024 * sum(int(line.split()[1]) for line in lines if line.startswith("Private_"))
