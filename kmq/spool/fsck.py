"""Is the spool as it should be? The table of legal states of kmq-spool(5), looked up for every message.

Promise:  `examine` only looks, also while kmqd runs; what moves at that moment is no finding. `repair` does what kmqd
          does at its start (recovery), and sets aside in poison/ what is damaged. Nothing is deleted that may be mail.
On crash: run it again.
Callers:  `kmq fsck`.
"""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from kmq.model import queue_id
from kmq.model.envelope import Head, fold, lines_of, read_event
from kmq.spool import checkpoint, journal, layout, loading, recovery
from kmq.spool.aside import set_aside
from kmq.spool.checkpoint import Note
from kmq.spool.disk import Disk
from kmq.spool.recovery import Traced

#: state -> (what it means, what mends it)
STATES = {
    "S1": ("accepted; its files are still to be made", "the next start of kmqd, or kmq fsck --repair"),
    "S2": ("accepted; its envelope is still to be made", "the next start of kmqd, or kmq fsck --repair"),
    "S4": ("on its way between queue/ and poison/", "the next start of kmqd, or kmq fsck --repair"),
    "S6": ("removed; files of it are still to go", "the next start of kmqd, or kmq fsck --repair"),
    "S7": ("a body whose receiver is gone, of a message that was never accepted", "the next start of kmqd"),
    "D1": ("a body without envelope and without record", "kmq fsck --repair sets it aside in poison/"),
    "D2": ("an envelope without body", "kmq fsck --repair sets it aside in poison/"),
    "D3": ("an envelope whose head is damaged", "kmq fsck --repair sets it aside in poison/"),
    "D4": ("a body that is not what was accepted", "kmq fsck --repair: from the journal if it is there, else poison/"),
    "D5": ("an envelope that is another message's", "kmq fsck --repair sets it aside in poison/"),
    "D6": ("files in both homes without a move", "kmq fsck --repair keeps the envelope with more lines"),
    "D7": ("a name that kmq did not make", "move it away; kmq leaves it alone"),
    "D8": ("a damaged line in an envelope; it did not happen", "nothing: the other lines count"),
    "D9": ("the checkpoint is damaged; all segments will be read", "the next start of kmqd writes a new one"),
    "D0": ("FORMAT is missing or damaged", "the next start of kmqd writes it, if the rest is a spool"),
}

#: States that last for moments while kmqd runs, and are not worth a word then.
MOVING = frozenset({"S1", "S2", "S4", "S6", "S7"})


class Finding(NamedTuple):
    """One thing that is not at rest. state: a row of STATES; detail: what exactly, or ""."""

    state: str
    path: str
    detail: str

    @property
    def meaning(self) -> str:
        return STATES[self.state][0]

    @property
    def mended_by(self) -> str:
        return STATES[self.state][1]

    @property
    def damage(self) -> bool:
        return self.state[0] == "D"


def examine(spool: Path, live: bool, deep: bool = True) -> Iterator[Finding]:
    """Everything that is not S3 or S5. live: kmqd runs, so moments are passed over. deep: checksums of bodies too."""
    disk = Disk(spool)
    try:
        yield from _format(disk)
        known = checkpoint.read(disk)
        if known is None and disk.status(checkpoint.FILE):
            yield Finding("D9", checkpoint.FILE, "")
        traced, _ = recovery.trace(journal.read(disk), known[0] if known else 0)
        seen: set[int] = set()
        for finding in _homes(disk, traced, seen, deep):
            if not (live and (finding.state in MOVING or _moves(disk, finding))):
                yield finding
        if not live:
            yield from _unmade(traced, seen)
            yield from _incoming(disk, traced)
    finally:
        disk.close()


def _format(disk: Disk) -> Iterator[Finding]:
    try:
        version = json.loads(disk.read("FORMAT", 4096))["version"]
        if version != layout.VERSION:
            yield Finding("D0", "FORMAT", f"version {version}, this kmq knows {layout.VERSION}")
    except (OSError, ValueError, KeyError, TypeError) as error:
        yield Finding("D0", "FORMAT", str(error))


def _homes(disk: Disk, traced: dict[int, Traced], seen: set[int], deep: bool) -> Iterator[Finding]:
    """All names in queue/ and poison/, message by message."""
    entries = [*disk.walk("queue"), *(("poison", name) for name in disk.names("poison"))]
    for folder, name in entries:
        number = _number(name)
        home = "poison" if folder == "poison" else "queue"
        if name in ("README.md",) or (home == "poison" and name.endswith(".reason")):
            continue
        if number is None or folder != layout.folder(number, home):
            yield Finding("D7", f"{folder}/{name}", "")
        elif name.endswith(".env") or not disk.status(layout.envelope(number, home)):
            seen.add(number)
            yield from _message(disk, number, home, traced.get(number), deep)


def _message(disk: Disk, number: int, home: str, one: Traced | None, deep: bool) -> Iterator[Finding]:
    """One message in one home."""
    path = layout.stem(number, home)
    envelope, body = disk.status(path + ".env"), disk.status(path + ".eml")
    other = "poison" if home == "queue" else "queue"
    if one is not None and one.removed:
        yield Finding("S6", path, "")
    elif envelope is None:
        state = ("S2" if home == "queue" and one.put else "S4") if one else "D1"
        yield Finding(state, path + ".eml", "")
    elif disk.status(layout.envelope(number, other)):
        yield Finding("S4" if one else "D6", path, "")
    else:
        yield from _envelope(disk, number, home, body is not None, deep)


def _envelope(disk: Disk, number: int, home: str, has_body: bool, deep: bool) -> Iterator[Finding]:
    path = layout.stem(number, home)
    try:
        text = disk.read(path + ".env")
    except OSError as error:
        yield Finding("D3", path + ".env", str(error.strerror))
        return
    folded = fold(text)
    if folded is None:
        yield Finding("D3", path + ".env", "")
        return
    head, _, _ = folded
    if head.id != queue_id.text(number):
        yield Finding("D5", path + ".env", f"it is that of {head.id[:40]!r}")
    elif not has_body:
        yield Finding("D2", path + ".env", "")
    else:
        yield from _body(disk, path + ".eml", head, deep)
    for place, line in enumerate(lines_of(text)[1:], 2):
        if read_event(line) is None:
            yield Finding("D8", path + ".env", f"line {place}")


def _body(disk: Disk, name: str, head: Head, deep: bool) -> Iterator[Finding]:
    found = disk.status(name)
    if found is not None and found.st_size != head.size:
        yield Finding("D4", name, f"{found.st_size} bytes, accepted were {head.size}")
    elif found is not None and deep:
        total = hashlib.sha256()
        try:
            with open(disk.open(name), "rb") as file:
                while part := file.read(1 << 20):
                    total.update(part)
        except OSError as error:
            yield Finding("D4", name, str(error.strerror))
            return
        if total.hexdigest() != head.sha256:
            yield Finding("D4", name, "its checksum is wrong")


def _unmade(traced: dict[int, Traced], seen: set[int]) -> Iterator[Finding]:
    for number, one in sorted(traced.items()):
        if one.put and not one.removed and number not in seen:
            yield Finding("S1", layout.stem(number), "")


def _incoming(disk: Disk, traced: dict[int, Traced]) -> Iterator[Finding]:
    named = {one.put.incoming for one in traced.values() if one.put}
    for name in disk.names("incoming"):
        if name not in named and name != "README.md":
            yield Finding("S7", f"incoming/{name}", "")


def _moves(disk: Disk, finding: Finding) -> bool:
    """Whether a finding of a live spool was but a moment: the message is gone, or whole, when one looks again."""
    number = _number(finding.path.rpartition("/")[2])
    if number is None:
        return False
    home = "poison" if finding.path.startswith("poison") else "queue"
    return disk.status(layout.envelope(number, home)) is None or finding not in list(
        _message(disk, number, home, None, deep=True)
    )


def repair(spool: Path, segment_size: int, note: str) -> list[str]:
    """Recovery, then damage goes to poison/; -> what was done, a sentence each. The caller holds the spool lock."""
    disk = Disk(spool)
    try:
        layout.prepare(disk)
        recovered, log = recovery.Recovery(disk, Note(note), segment_size).recover()
        log.close()
        done = [f"set aside {sentence}" for sentence in recovered.set_aside]
        if recovered.repaired:
            done.append(f"made {recovered.repaired} messages whole from the journal")
        for one in loading.everything(disk):
            if isinstance(one, loading.Damaged):
                done.append(_aside(disk, one.id, one.reason))
            elif any(_body(disk, layout.body(one.id), one.head, deep=True)):
                done.append(_aside(disk, one.id, "the body is not what was accepted"))
        return done
    finally:
        disk.close()


def _aside(disk: Disk, number: int, reason: str) -> str:
    set_aside(disk, number, reason)
    return f"set aside {queue_id.text(number)} in poison/: {reason}"


def _number(name: str) -> int | None:
    if len(name) != queue_id.LENGTH + 4 or name[-4:] not in (".env", ".eml"):
        return None
    try:
        return queue_id.parse(name[:-4])
    except ValueError:
        return None
