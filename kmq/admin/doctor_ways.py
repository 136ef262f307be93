"""Whether gateways take their files. (Whether programs and folders can be used at all, `check` says.)

Promise:  only looks, at a bounded number of files.
Callers:  admin.doctor.
"""

import os
import time
from collections.abc import Iterator

from kmq.admin.verdict import Grade, Verdict
from kmq.config import Settings
from kmq.config.way_out import drop_directory

_LONG = 3600.0  #: seconds after which a gateway that takes nothing is told of
_MOST = 10_000  #: files that are looked at


def gateways(settings: Settings) -> Iterator[Verdict]:
    """How long the oldest file waits in each folder, where that is long."""
    for section in settings.connectors:
        if section.type == "foreign":
            yield from _waiting(section.name, drop_directory(section, settings.kmq.spool))


def _waiting(name: str, path: str) -> Iterator[Verdict]:
    count, oldest = 0, 0.0
    try:
        with os.scandir(path) as entries:
            for entry in entries:
                if entry.name.startswith(".") or not entry.is_file(follow_symlinks=False):
                    continue
                count += 1
                oldest = max(oldest, time.time() - entry.stat(follow_symlinks=False).st_mtime)
                if count == _MOST:
                    break
    except OSError:
        return  # told above
    if oldest > _LONG:
        text = f"[{name}] {count:,} files wait for the gateway in {path}, the oldest for {oldest / 3600:.0f} h"
        yield Verdict(Grade.NOTE, text, "see whether the gateway runs")
