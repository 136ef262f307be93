"""`kmq archive`: what the phase Backup has archived, compressed or not, and copies of it for the Replay directory.

Promise:  looks only, and makes the files that are asked for; what is archived stays as it is. Exit status 1 when
          nothing matches, or something could not be copied.
Callers:  kmq.cli.kmq.
"""

import time
from itertools import islice
from pathlib import Path

from kmq.admin.archived import Row, Wanted, copies, rows
from kmq.admin.exporting import Folder
from kmq.cli.call import DONE, REFUSED, USAGE, Call
from kmq.cli.times import unix_time
from kmq.spool.look import Damaged
from kmq.view.archive import archived
from kmq.view.words import counted


def run(call: Call) -> int:
    """The verb."""
    one = call.arguments
    chosen = bool(one.id) or any(value is not None for value in (one.filter, one.since, one.until))
    if one.what == "export" and (not one.to or not chosen):
        call.warn("export needs --to DIR, and IDs, --filter EXPR, --since TIME or --until TIME")
        return USAGE
    section = call.settings.backup
    if not section.folder:
        call.warn("there is no folder of archived mail: [backup] folder is empty")
        return REFUSED
    return _export(call, Path(section.folder)) if one.what == "export" else _list(call, Path(section.folder))


def _wanted(call: Call, now: float) -> Wanted:
    one = call.arguments
    since = unix_time(one.since, now) if one.since else 0.0
    until = unix_time(one.until, now) if one.until else float("inf")
    return Wanted(one.filter or "", since, until, frozenset(name.id for name in one.id))


def _found(call: Call, root: Path) -> list[Row]:
    now = time.time()
    found: list[Row] = []
    for row in rows(root, _wanted(call, now), now):
        if isinstance(row, Damaged):
            call.warn(f"{row.path if row.id else row.folder} is damaged: {row.reason}")
        else:
            found.append(row)
    return found


def _list(call: Call, root: Path) -> int:
    found = _found(call, root)
    shown = list(islice(found, call.arguments.limit))
    if call.json:
        call.tell_objects(row.properties for row in shown)
    elif found:
        call.tell(archived(shown, call.page))
        left = f", {len(found) - len(shown):,} of them not shown" if len(shown) < len(found) else ""
        call.tell([f"-- {counted(len(found), 'message')} in {root}{left}."])
    if not found:
        off = "" if call.settings.backup.on else ": archiving is off ([backup] local, incoming, outgoing, relayed)"
        call.warn(f"nothing that matches is archived in {root}{off}")
    return DONE if found else REFUSED


def _export(call: Call, root: Path) -> int:
    found = _found(call, root)
    missing = {name.id for name in call.arguments.id} - {row.found.head.id for row in found}
    folder = Folder(call.arguments.to)
    done = failed = 0
    try:
        for name in sorted(missing):
            failed += 1
            _said(call, name, f"it is not archived in {root}")
        for name, why in copies(root, found, folder, call.settings.kmq.spool.stat()):
            done, failed = done + (not why), failed + bool(why)
            _said(call, name, why)
        folder.sync()
    finally:
        folder.close()
    if not call.json:
        call.warn(f"{counted(done, 'message')} copied to {folder.path}; what is archived stays")
    return REFUSED if failed or not done else DONE


def _said(call: Call, name: str, why: str) -> None:
    if call.json:
        call.tell_objects([{"ID": name, "Result": "skipped" if why else "exported", "Why": why or None}])
    elif why:
        call.warn(f"{name}: {why}")
    else:
        call.tell([name])
