"""Whether strace has come to a process."""

from pathlib import Path


def traced(pid: int) -> bool:
    """Every thread of it that lives has a tracer; one that died of its tracer at once has no such thread."""
    try:
        return not any(_alone((task / "status").read_text()) for task in Path(f"/proc/{pid}/task").iterdir())
    except (FileNotFoundError, ProcessLookupError):  # a thread has ended meanwhile, or all have
        return not Path(f"/proc/{pid}").exists()


def _alone(status: str) -> bool:
    return "TracerPid:\t0\n" in status and "State:\tZ" not in status and "State:\tX" not in status
