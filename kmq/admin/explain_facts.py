"""What `kmq explain` has to know, gathered without disturbing anybody.

Promise:  whatever cannot be found out is left unknown; nothing is changed, no lock is held.
On crash: read-only.
Callers:  kmq.cli.explain.
"""

import os
from collections.abc import Sequence
from pathlib import Path

from kmq.admin.circumstances import gather, hidden, inquire
from kmq.admin.explain_finding import Facts, Kmqd
from kmq.config import Settings
from kmq.run.overdue import STOPPED
from kmq.spool.lock import spool_held
from kmq.spool.processes import Condition, read_all

_LIVES = (Condition.RUNNING, Condition.SILENT)


def facts_about(settings: Settings, ids: Sequence[str]) -> Facts:
    """Everything as it is now, and what kmqd says of these messages."""
    section = settings.kmq
    around = gather(section.hostname, section.spool, section.run_directory)
    if ids:
        inquire(around, section.run_directory, ids)
    return Facts(
        now=around.now,
        settings=settings,
        around=around,
        kmqd=_kmqd(section.spool, around.silence),
        free=_free(section.spool),
        told=bool(ids) and not around.silence,
        expiry_stopped=STOPPED in around.news,
    )


def _kmqd(spool: Path, silence: str) -> Kmqd:
    workers = None
    if not hidden(spool):
        statuses = read_all(spool / "status", dead=False)
        workers = sum(one.role == "worker" and one.condition in _LIVES for one in statuses)
    return Kmqd(silence, spool_held(spool), "may not ask" in silence, workers)


def _free(spool: Path) -> int | None:
    try:
        disk = os.statvfs(spool)
    except OSError:
        return None
    return disk.f_bavail * disk.f_frsize
