"""`kmq fsck --repair`: what kmqd does at its start, and then what it does not dare without being asked.

Promise:  recovery brings about what the journal says; after it every message is at rest, in the queue or in poison/.
          No byte that may be mail is deleted: what is damaged, or stands in another's place, is set aside.
On crash: run it again; stopped anywhere it ends in the same files.
Callers:  `kmq fsck --repair`, who holds the spool's lock and has made sure that no process of kmqd lives.
"""

import stat
from collections.abc import Iterator
from pathlib import Path

from kmq.model import queue_id
from kmq.model.envelope import read_event
from kmq.model.event import Moved
from kmq.spool import incoming, kept, layout
from kmq.spool.aside import explain, keep, set_aside
from kmq.spool.checkpoint import Note
from kmq.spool.disk import Disk
from kmq.spool.fsck import Look
from kmq.spool.inspection import Finding, Inspection, read_log
from kmq.spool.recovery import Recovery
from kmq.spool.states import Part

QUEUE, POISON = layout.HOMES

#: What is set aside, or, where it lies in poison/ already, explained.
_ASIDE = frozenset({"D1", "D2", "D3", "D4", "D5"})


def repair(spool: Path, segment_size: int, note: str) -> Iterator[str]:
    """Mends everything; a sentence for each thing that was done."""
    disk = Disk(spool)
    try:
        layout.prepare(disk)
        recovered, log = Recovery(disk, Note(note), segment_size, incoming.lives).recover()
        log.close()
        yield from recovered.journal
        yield from (f"set aside {sentence}" for sentence in recovered.set_aside)
        if recovered.repaired:
            yield f"made {recovered.repaired} messages whole from the journal"
        for finding in _found(disk, frozenset({"D6"})):
            _settle(disk, finding.id)
            yield f"{queue_id.text(finding.id)} lies in one home now; what differed is set aside"
        yield from kept.mend(disk)
        for finding in _found(disk, _ASIDE):
            yield _put_aside(disk, finding)
    finally:
        disk.close()


def _found(disk: Disk, states: frozenset[str]) -> list[Finding]:
    return [one for one in Look(disk).everything() if one.state in states]


def _put_aside(disk: Disk, finding: Finding) -> str:
    reason = f"{finding.meaning}: {finding.detail}" if finding.detail else finding.meaning
    if finding.path.startswith(f"{POISON}/"):
        explain(disk, finding.id, reason)
        disk.sync_folder(POISON)
    else:
        set_aside(disk, finding.id, reason)
    return f"set aside {queue_id.text(finding.id)} in poison/: {reason}"


def _settle(disk: Disk, number: int) -> None:
    """Files in both homes, and no word of a move (D6): one home gets the envelope that knows more and a whole body.

    What is replaced or goes, and is not the same bytes as what stays, keeps a name in poison/.
    """
    found = Inspection(disk, read_log(disk), number)
    best = _best_envelope(found)
    if not best:
        set_aside(disk, number, "files in both homes, and no whole envelope")
        return
    home = _home(found, best)
    other = POISON if home == QUEUE else QUEUE
    for name, source in ((layout.body, _best_body(found, home)), (layout.envelope, best)):
        if source != home:
            _replace(disk, number, name(number, source), name(number, home))
    for name in (layout.envelope, layout.body):
        _leave(disk, number, name(number, other), name(number, home))
    disk.sync_folder(layout.folder(number, other))


def _best_envelope(found: Inspection) -> str:
    """The home whose envelope counts: the one with more lines, the queue's of two that are alike; "" without any."""
    whole = [home for home in layout.HOMES if found.copies[home].part is Part.WHOLE]
    return max(whole, key=lambda home: len(found.copies[home].good), default="")


def _home(found: Inspection, best: str) -> str:
    """Where the message is to lie: where its last move says, without one where its envelope lies."""
    moves = [event for line in found.copies[best].good if isinstance(event := read_event(line), Moved)]
    return max(moves, key=lambda move: move.seq).home if moves else best


def _best_body(found: Inspection, home: str) -> str:
    """The home whose body is the message's: rather where it is to lie; without a whole one there is none to choose."""
    whole = [place for place, flaw in found.flaws.items() if not flaw]
    return home if home in whole or not whole else whole[0]


def _replace(disk: Disk, number: int, source: str, target: str) -> None:
    """What lies at target keeps a name in poison/, unless it is the same; then target is source's file."""
    if _same(disk, source, target):
        return
    if disk.status(target):
        keep(disk, number, target, f"in its place lies what was {source}, and knew more")
    disk.link(source, f"{target}.new")
    disk.rename(f"{target}.new", target)
    disk.sync_folder(target.rpartition("/")[0])


def _leave(disk: Disk, number: int, name: str, stays: str) -> None:
    """The name goes; what lies there keeps another, unless it is the same as what stays."""
    if disk.status(name) and (
        _same(disk, name, stays) or keep(disk, number, name, f"it lay in {name.rpartition('/')[0]} beside {stays}")
    ):
        disk.unlink(name)


def _same(disk: Disk, one: str, other: str) -> bool:
    """Whether two names lead to the same bytes."""
    first, second = disk.status(one), disk.status(other)
    if first is None or second is None or not (stat.S_ISREG(first.st_mode) and stat.S_ISREG(second.st_mode)):
        return False
    alike = first.st_size == second.st_size
    return alike and all(a == b for a, b in zip(disk.pieces(one), disk.pieces(other), strict=False))
