"""Is the spool as it should be? The table of legal states of kmq-spool(5), looked up for every message.

Promise:  `examine` only looks, also while kmqd runs: what moves at that moment is no finding then, and what looks like
          damage is looked at again, with the journal read anew, until it has stayed the same for a second.
On crash: only looks.
Callers:  `kmq fsck`, mending.
"""

import json
import re
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from kmq.errors import SpoolError
from kmq.model import queue_id
from kmq.spool import checkpoint, incoming, kept, layout, net_fsck
from kmq.spool.disk import Disk
from kmq.spool.inspection import Finding, Inspection, Log, read_log
from kmq.spool.states import MOVING

#: Seconds before what looks like damage is looked at again while kmqd runs.
_PAUSES = (0.05, 0.25, 0.7)

_FOLDER = re.compile(r"[0-9a-f]{5}-[0-9a-f]{4}")
#: Names that kmq makes of an ID, by home.
_NAMES = {
    "queue": re.compile(r"([0-9a-f]{8}-[0-9a-f]{8})\.(env|eml|put|env\.new|eml\.new)"),
    "poison": re.compile(r"([0-9a-f]{8}-[0-9a-f]{8})\.(env|eml|put|env\.new|eml\.new|reason|[0-9]+\.env|[0-9]+\.eml)"),
}
_OF_LOG = re.compile(r"[0-9a-f]{8}\.[0-9a-f]{4}\.log|spare\.[0-9a-f]{8}|damaged\..*|checkpoint(\.new)?")
_READ_ME = "README.md"


def examine(
    spool: Path, live: bool, deep: bool = True, pause: Callable[[float], object] = time.sleep
) -> Iterator[Finding]:
    """Everything that is not at rest. live: kmqd runs, so moments are passed over. deep: checksums of bodies too.
    pause: waits for so many seconds.

    SpoolError when the spool cannot be read, or is of a later program; PermissionError when this user may not.
    """
    disk = Disk(spool)
    try:
        yield from _format(disk)
        yield from _lasting(disk, deep, pause) if live else Look(disk, deep).everything()
    except PermissionError:
        raise
    except OSError as error:
        raise SpoolError(f"{spool}: {error.filename or 'a file'} cannot be read: {error.strerror}") from error
    finally:
        disk.close()


def _format(disk: Disk) -> Iterator[Finding]:
    try:
        version = int(json.loads(disk.read("FORMAT", 4096))["version"])
    except FileNotFoundError:
        yield Finding("D0", "FORMAT", "it is missing")
    except PermissionError:
        raise  # it tells nothing about the file
    except (OSError, ValueError, KeyError, TypeError):
        yield Finding("D0", "FORMAT", f"it should read {layout.format_text().decode().strip()}")
    else:
        if version > layout.VERSION:
            raise SpoolError(f"{disk.root} has format {version}, this kmq knows formats up to {layout.VERSION}")


def _lasting(disk: Disk, deep: bool, pause: Callable[[float], object]) -> Iterator[Finding]:
    """The damage that is no moment of a kmqd at work: an effect under way has its record in the journal, or is done by
    the next look."""
    doubtful = [one for one in Look(disk, deep).everything() if one.state not in MOVING]
    for seconds in _PAUSES:
        if not doubtful:
            return
        pause(seconds)
        look = Look(disk, deep)
        doubtful = [one for one in doubtful if one in look.again(one)]
    yield from doubtful


class Look:
    """One look at a spool, with the journal as it was when it began. deep: bodies are read, and not only measured."""

    def __init__(self, disk: Disk, deep: bool = True) -> None:
        self.disk = disk
        self.deep = deep
        self.log: Log = read_log(disk)
        self._seen: set[int] = set()

    def everything(self) -> Iterator[Finding]:
        """Every finding: of the journal, of messages by ID, the queue's first, of sent/, backup/ and incoming/."""
        yield from self._journal()
        for folder in self.disk.names("queue"):
            yield from self._folder(folder)
        yield from self._messages("poison")
        for number in sorted(self.log.traced.keys() - self._seen):
            yield from self.message(number)
        yield from net_fsck.look(self.disk, self.deep)
        yield from self._state()
        yield from self._incoming()

    def message(self, number: int) -> list[Finding]:
        """What there is to say of one message."""
        return Inspection(self.disk, self.log, number, self.deep).findings()

    def again(self, finding: Finding) -> list[Finding]:
        """What there is to say now about what a finding was about."""
        if finding.id and finding.path.startswith((f"{layout.SENT}/", f"{layout.BACKUP}/")):
            return net_fsck.message(self.disk, finding.path, self.deep)
        if finding.id:
            return self.message(finding.id)
        if finding.state == "D7":
            return [finding] if self.disk.status(finding.path) else []
        return list(self._journal())

    # --- folder by folder --------------------------------------------------------------------------------------------

    def _journal(self) -> Iterator[Finding]:
        if self.log.lost:
            yield Finding("D9", checkpoint.FILE)
        for sentence in self.log.damage:
            yield Finding("D10", "journal", sentence)
        for name in self.disk.names("journal"):
            if not _OF_LOG.fullmatch(name):
                yield from _foreign(f"journal/{name}")

    def _state(self) -> Iterator[Finding]:
        """Suspended queues and GUIDs of connectors."""
        for name in kept.names(self.disk):
            path = f"{kept.FOLDER}/{name}"
            if name == _READ_ME:
                continue
            if name.removesuffix(".new") not in kept.FILES:
                yield from _foreign(path)
            elif name.endswith(".new"):
                yield Finding("S8", path)
            elif damaged := kept.read(self.disk, name)[1]:
                yield Finding("D12", path, f"{damaged} {'line' if damaged == 1 else 'lines'}")

    def _folder(self, folder: str) -> Iterator[Finding]:
        """What lies directly below queue/."""
        if not _FOLDER.fullmatch(folder):
            yield from _foreign(f"queue/{folder}")
            return
        try:
            yield from self._messages(f"queue/{folder}")
        except NotADirectoryError:
            yield Finding("D7", f"queue/{folder}", "it is not a folder")

    def _messages(self, folder: str) -> Iterator[Finding]:
        """The messages of a folder, and what lies beside them."""
        home = "poison" if folder == "poison" else "queue"
        for name in self.disk.names(folder):
            match = _NAMES[home].fullmatch(name)
            number = queue_id.parse(match[1]) if match else 0
            if match is None or folder != layout.folder(number, home):
                yield from _foreign(f"{folder}/{name}")
            elif self._half_made(match[2]):
                yield Finding("S8", f"{folder}/{name}")
            elif match[2] in ("env", "eml", "put") and number not in self._seen:
                self._seen.add(number)
                yield from self.message(number)

    def _half_made(self, ending: str) -> bool:
        return ending.endswith(".new") or (ending == "put" and not self.log.plain)

    def _incoming(self) -> Iterator[Finding]:
        """Bodies that no record names and no living receiver may still hand over."""
        named = {one.put.incoming for one in self.log.traced.values() if one.put}
        for name in self.disk.names("incoming"):
            path = f"incoming/{name}"
            found = self.disk.status(path)
            if name in named or name == _READ_ME or found is None:
                continue
            if not stat.S_ISREG(found.st_mode):
                yield Finding("D7", path)
            elif not incoming.lives(name):
                yield Finding("S7", path)


def _foreign(path: str) -> Iterator[Finding]:
    if not path.endswith("/" + _READ_ME):
        yield Finding("D7", path)
