"""Looking at what the safety net keeps, read-only, while kmqd runs or not.

Promise:  as of `look`. What the net lets go of meanwhile is left out.
On crash: nothing is held, nothing is written.
Callers:  kmq.admin, kmq.cli; run.replays reads with `day_of`.
"""

import os
from collections.abc import Iterator
from pathlib import Path

from kmq.errors import SpoolError
from kmq.model import queue_id
from kmq.spool import layout, look
from kmq.spool.disk import Disk
from kmq.spool.look import Damaged, Found
from kmq.spool.strays import DAY

HOME = layout.SENT


def days(spool: Path) -> list[str]:
    """The days of which something is kept, oldest first. SpoolError when this user may not read them."""
    try:
        return sorted(name for name in os.listdir(spool / HOME) if DAY.fullmatch(name))
    except FileNotFoundError:
        return []
    except PermissionError:
        raise SpoolError(f"{spool / HOME}: this user may not read it; ask as root or as kmqd's user") from None


def walk(spool: Path, since: str = "", until: str = "9999") -> Iterator[Found | Damaged]:
    """All messages that are kept, day by day; since, until: UTC days, both included."""
    for day in days(spool):
        if since <= day <= until:
            yield from look.of_folder(spool / HOME / day, HOME, look.ENVELOPE)


def find(spool: Path, number: int) -> Found | Damaged | None:
    """One message by its ID, with its whole history; None when it is not kept (any more)."""
    for day in reversed(days(spool)):
        found = look.in_folder(spool / HOME / day, HOME, queue_id.text(number))
        if found is not None:
            return found
    return None


def day_of(disk: Disk, number: int) -> str:
    """The day under which a message is kept, "" when it is not."""
    for day in reversed([name for name in disk.names(HOME) if DAY.fullmatch(name)]):
        if disk.status(layout.envelope(number, layout.kept_on(day))) is not None:
            return day
    return ""
