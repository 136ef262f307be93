"""`kmq fsck`: is every file of the spool as it should be? `--repair` mends what can be mended.

Promise:  without --repair nothing is changed, and kmqd may run. Exit status 0 when nothing is damaged (what kmqd's next
          start does by itself is no damage), 1 when something is, 75 when --repair meets a kmqd that lives.
Callers:  kmq.cli.kmq.
"""

from collections.abc import Iterator
from pathlib import Path

from kmq.cli.alone import SYNCFS_NOTE, alone, as_owner, make_run_directory
from kmq.cli.call import DONE, REFUSED, Call
from kmq.errors import SpoolError
from kmq.spool.fsck import examine
from kmq.spool.inspection import Finding
from kmq.spool.lock import spool_held
from kmq.spool.mending import repair
from kmq.view.words import harmless

_HINT = "Stop kmqd first; while it runs, kmq fsck without --repair tells what it finds"


def run(call: Call) -> int:
    """The verb. SpoolError when this user may not look."""
    spool = call.settings.kmq.spool
    try:
        if not spool.is_dir():
            raise SpoolError(f"{spool} is not there: kmqd makes what is in it when it starts")
        if call.arguments.repair:
            _repair(call)
        return _examine(call, spool)
    except PermissionError as error:
        where = spool / str(error.filename or "")
        raise SpoolError(f"{where}: this user may not read it; ask as root or as the user that kmqd runs as") from None


def _examine(call: Call, spool: Path) -> int:
    live = spool_held(spool) is True
    damaged = number = 0
    for finding in examine(spool, live, deep=not call.arguments.quick):
        number += 1
        damaged += finding.damage
        if call.json:
            call.tell_objects([_object(finding)])
        else:
            call.tell(_lines(finding))
    if not call.json:
        call.tell([_verdict(number, damaged, live)])
    return REFUSED if damaged else DONE


# --- mending ----------------------------------------------------------------------------------------------------------


def _repair(call: Call) -> None:
    """Under every lock that a kmqd takes, as the user to whom the spool belongs: SpoolLocked, SpoolError."""
    section = call.settings.kmq
    segment_size = call.settings.queue.queue_database_logging_file_size
    make_run_directory(section.run_directory, section.spool.stat())
    with as_owner(section.spool), alone(section.spool, section.run_directory, _HINT):
        try:
            for sentence in repair(section.spool, segment_size, str(section.run_directory / SYNCFS_NOTE)):
                if call.json:
                    call.tell_objects([{"Repaired": sentence}])
                else:
                    call.tell([harmless(sentence)])
        except OSError as error:
            raise SpoolError(f"{section.spool}: {error.filename or 'a file'} cannot be mended: {error}") from error


# --- words ------------------------------------------------------------------------------------------------------------


def _object(finding: Finding) -> dict[str, object]:
    return {
        "State": finding.state,
        "Path": finding.path,
        "Damage": finding.damage,
        "Meaning": finding.meaning,
        "Detail": finding.detail or None,
        "MendedBy": finding.mended_by,
    }


def _lines(finding: Finding) -> Iterator[str]:
    detail = f" ({finding.detail})" if finding.detail else ""
    yield harmless(f"{finding.state}  {finding.path}: {finding.meaning}{detail}")
    yield harmless(f"    mended by {finding.mended_by}")


def _verdict(number: int, damaged: int, live: bool) -> str:
    if not number:
        return "All files are in order" + (", kmqd runs" if live else "")
    rest = number - damaged
    parts = [f"{damaged} damaged"] if damaged else []
    parts += [f"{rest} to be done by kmqd's next start"] if rest else []
    return "-- " + ", ".join(parts)
