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
    forbidden, owned = "may not ask" in silence, spool_held(spool)
    if hidden(spool):
        return Kmqd(silence, owned, forbidden, None)
    found = [one for one in read_all(spool / "status", dead=False) if one.role == "worker" and one.condition in _LIVES]
    still = [one.silence if one.condition is Condition.SILENT else 0.0 for one in found]
    return Kmqd(silence, owned, forbidden, len(found), min(still, default=0.0))


def _free(spool: Path) -> int | None:
    try:
        disk = os.statvfs(spool)
    except OSError:
        return None
    return disk.f_bavail * disk.f_frsize
