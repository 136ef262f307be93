"""Is what the safety net keeps, and what is archived, as it should be?

Promise:  reads only. Each message there has an envelope of its own ID and a body that is what was accepted; damage is
          told, and nobody mends it: what is in sent/ was delivered, and goes when its day is over. Compressed folders
          are not looked into: each was read back when it was made (ageing), and gzip has its own checksum.
On crash: only looks.
Callers:  fsck.
"""

import hashlib
from collections.abc import Iterator

from kmq.model import queue_id
from kmq.model.envelope import Head, fold
from kmq.spool import layout
from kmq.spool.disk import Disk
from kmq.spool.inspection import Finding
from kmq.spool.net_clean import OLD
from kmq.spool.strays import DAY, PERIOD

#: The row of what is damaged, by the folder above.
_DAMAGED = {layout.SENT: "D11", layout.BACKUP: "D13"}
#: What ageing makes of a folder: whole, and half made.
_COMPRESSED = (".tar.gz", ".tar.gz.new")


def look(disk: Disk, deep: bool) -> Iterator[Finding]:
    """Everything in sent/ and backup/ that is not at rest. deep: bodies are read, and not only measured."""
    for name in disk.names(layout.SENT):
        folder = f"{layout.SENT}/{name}"
        if DAY.fullmatch(name):
            yield from _day(disk, folder, deep)
        elif name != "README.md" and not DAY.fullmatch(name.removesuffix(OLD)):
            yield Finding("D7", folder)
    for name in disk.names(layout.BACKUP):
        folder = f"{layout.BACKUP}/{name}"
        if PERIOD.fullmatch(name):
            yield from _day(disk, folder, deep)
        elif name != "README.md" and not (name.endswith(_COMPRESSED) and PERIOD.fullmatch(name.partition(".")[0])):
            yield Finding("D7", folder)


def _day(disk: Disk, folder: str, deep: bool) -> Iterator[Finding]:
    try:
        names = disk.names(folder)
    except NotADirectoryError:
        yield Finding("D7", folder, "it is not a folder")
        return
    seen = ""
    for name in names:
        stem, ending = name[: queue_id.LENGTH], name[queue_id.LENGTH :]
        if not queue_id.PATTERN.fullmatch(stem) or ending not in (".env", ".eml", ".env.new", ".eml.new"):
            if name != "README.md":
                yield Finding("D7", f"{folder}/{name}")
        elif ending.endswith(".new"):
            yield Finding("S8", f"{folder}/{name}")
        elif stem != seen:
            seen = stem
            yield from message(disk, f"{folder}/{stem}", deep)


def message(disk: Disk, stem: str, deep: bool) -> list[Finding]:
    """What there is to say of one message there; stem: its path without ending."""
    flaw = _flaw(disk, stem, deep)
    return (
        [Finding(_DAMAGED[stem.partition("/")[0]], stem, flaw, queue_id.parse(stem.rpartition("/")[2]))] if flaw else []
    )


def _flaw(disk: Disk, stem: str, deep: bool) -> str:
    try:
        folded = fold(disk.read(f"{stem}.env"))
    except FileNotFoundError:
        return "it has no envelope" if disk.status(f"{stem}.eml") else ""
    except OSError as error:
        return f"its envelope cannot be read: {error.strerror}"
    if folded is None:
        return "its envelope is damaged"
    if folded[0].id != stem.rpartition("/")[2]:
        return f"its envelope is that of {folded[0].id[:40]!r}"
    return _flaw_of_body(disk, f"{stem}.eml", folded[0], deep)


def _flaw_of_body(disk: Disk, name: str, head: Head, deep: bool) -> str:
    found = disk.status(name)
    if found is None:
        return "it has no body"
    if found.st_size != head.size:
        return f"its body has {found.st_size} bytes, accepted were {head.size}"
    if not deep:
        return ""
    total = hashlib.sha256()
    try:
        for part in disk.pieces(name):
            total.update(part)
    except OSError as error:
        return f"its body cannot be read: {error.strerror}"
    return "" if total.hexdigest() == head.sha256 else "the checksum of its body is wrong"
