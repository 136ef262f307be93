"""`kmq fsck`: is every file of the spool as it should be? `--repair` mends what can be mended.

Promise:  without --repair nothing is changed, and kmqd may run. Exit status 0 when nothing is damaged (what kmqd's next
          start does by itself is no damage), else 1.
Callers:  kmq.cli.kmq.
"""

from collections.abc import Iterator

from kmq.cli.call import DONE, REFUSED, Call
from kmq.errors import SpoolError
from kmq.spool.fsck import Finding, examine, repair
from kmq.spool.lock import SpoolLock, spool_held
from kmq.view.words import counted, harmless

#: The scheduler process's note about a syncfs under way (J7), in the run directory.
SYNCFS_NOTE = "syncfs"


def run(call: Call) -> int:
    """The verb."""
    spool = call.settings.kmq.spool
    if not spool.is_dir():
        raise SpoolError(f"{spool} is not there: kmqd makes the spool when it starts")
    if call.arguments.repair:
        _repair(call)
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


def _repair(call: Call) -> None:
    """Recovery and setting aside, under the spool's lock: SpoolLocked while kmqd runs."""
    section = call.settings.kmq
    segment_size = call.settings.queue.queue_database_logging_file_size
    lock = SpoolLock(section.spool)
    try:
        section.run_directory.mkdir(mode=0o755, parents=True, exist_ok=True)
        done = repair(section.spool, segment_size, str(section.run_directory / SYNCFS_NOTE))
    finally:
        lock.release()
    if call.json:
        call.tell_objects({"Repaired": sentence} for sentence in done)
    else:
        call.tell(harmless(sentence) for sentence in done)


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
    parts = [f"{counted(damaged, 'damage')}"] if damaged else []
    parts += [f"{counted(rest, 'thing')} that kmqd's next start does"] if rest else []
    return "-- " + ", ".join(parts)
