"""One message under the loupe: what lies there of it in both homes, and what the journal says of it.

Promise:  reads only. What cannot be read is told in words, never an exception; so is what is no file at all.
On crash: only looks.
Callers:  fsck, mending.
"""

import contextlib
import hashlib
import stat
from collections.abc import Iterator
from functools import cached_property
from os import stat_result
from typing import NamedTuple

from kmq.errors import SpoolError
from kmq.model import queue_id
from kmq.model.envelope import Head, lines_of, read_event, read_head, unseal
from kmq.model.event import Moved
from kmq.spool import aside, checkpoint, journal, layout, recovery
from kmq.spool.checkpoint import Checkpoint
from kmq.spool.disk import Disk
from kmq.spool.states import AT_REST, MOVING, NOTHING, STATES, Files, Part, Said, row
from kmq.spool.tracing import Traced, trace

QUEUE, POISON = layout.HOMES

#: Tries to read a journal that a checkpoint does not overtake meanwhile.
_TRIES = 20


class Finding(NamedTuple):
    """One thing that is not at rest. state: a row of STATES; detail: what exactly, or ""; id: of the message, or 0."""

    state: str
    path: str
    detail: str = ""
    id: int = 0

    @property
    def meaning(self) -> str:
        return STATES[self.state].meaning

    @property
    def mended_by(self) -> str:
        return STATES[self.state].mended_by

    @property
    def damage(self) -> bool:
        return self.state[0] == "D"


class Log(NamedTuple):
    """What the journal says. lost: there is a checkpoint, but it cannot be read; damage: what else cannot, in words."""

    known: Checkpoint | None
    lost: bool
    traced: dict[int, Traced]
    damage: list[str]

    @property
    def plain(self) -> bool:
        """Mail was kept without a journal since the checkpoint."""
        return self.known is not None and self.known.plain


def read_log(disk: Disk) -> Log:
    """The journal as it stands; where a checkpoint comes meanwhile, segments are recycled, and it is read again."""
    for _ in range(_TRIES):
        known = checkpoint.read(disk)
        with contextlib.suppress(FileNotFoundError):
            segments = journal.read(disk)
            if checkpoint.read(disk) == known:
                first = recovery.first_needed(known, segments)
                traced, _ = trace(segments, first)
                lost = known is None and disk.status(checkpoint.FILE) is not None
                return Log(known, lost, traced, recovery.damage_of(segments, first))
    raise SpoolError(f"{disk.root}/journal changes faster than it can be read: try again")


class Copy(NamedTuple):
    """An envelope as it lies in a home. flaw: why it is not whole, in words; lines: all but the first."""

    part: Part
    head: Head | None = None
    lines: tuple[bytes, ...] = ()
    flaw: str = ""

    @property
    def good(self) -> list[bytes]:
        return [line for line in self.lines if unseal(line) is not None]


class Inspection:
    """A message as one look finds it. deep: bodies are read, and not only measured."""

    def __init__(self, disk: Disk, log: Log, number: int, deep: bool = True) -> None:
        self.disk = disk
        self.number = number
        self.deep = deep
        self._log = log
        self._one = log.traced.get(number) or Traced()
        self.copies = {home: self._copy(home) for home in layout.HOMES}

    # --- what lies there ---------------------------------------------------------------------------------------------

    def status(self, name: str) -> stat_result | None:
        """lstat; None also where the folder is none."""
        with contextlib.suppress(NotADirectoryError):
            return self.disk.status(name)
        return None

    def _copy(self, home: str) -> Copy:
        try:
            lines = lines_of(self.disk.read(layout.envelope(self.number, home)))
        except (FileNotFoundError, NotADirectoryError):
            return Copy(Part.ABSENT)
        except OSError as error:
            return Copy(Part.BROKEN, flaw=str(error.strerror))
        if not lines:
            return Copy(Part.BROKEN, flaw="it is empty")
        head = read_head(lines[0])
        if head is None:
            return Copy(Part.BROKEN, lines=tuple(lines[1:]))
        if head.id != queue_id.text(self.number):
            return Copy(Part.FOREIGN, flaw=f"it is that of {head.id[:40]!r}")
        return Copy(Part.WHOLE, head, tuple(lines[1:]))

    @cached_property
    def head(self) -> Head | None:
        """What the bodies are held against; None when nothing whole says it."""
        put = self._one.put
        heads = [read_head(put.line) if put else None, *(copy.head for copy in self.copies.values()), self._unborn]
        return next((head for head in heads if head is not None), None)

    @cached_property
    def _unborn(self) -> Head | None:
        """Of an envelope that does not count yet (store.FileStore)."""
        if not self._log.plain:
            return None
        try:
            line = next(iter(lines_of(self.disk.read(layout.unborn(self.number)))), b"")
        except OSError:
            return None
        head = read_head(line)
        return head if head is not None and head.id == queue_id.text(self.number) else None

    @cached_property
    def flaws(self) -> dict[str, str]:
        """home -> why the body that lies there is not whole, in words; "" when it is."""
        names = {home: layout.body(self.number, home) for home in layout.HOMES}
        return {home: self._flaw(name) for home, name in names.items() if self.status(name)}

    def _flaw(self, name: str) -> str:
        found = self.status(name)
        if found is None:
            return "it is gone"
        if not stat.S_ISREG(found.st_mode):
            return "it is not a regular file"
        if self.head is None:
            return "nothing says what it should be"
        if found.st_size != self.head.size:
            return f"{found.st_size} bytes, accepted were {self.head.size}"
        return self._misread(name, self.head.sha256) if self.deep else ""

    def _misread(self, name: str, sha256: str) -> str:
        total = hashlib.sha256()
        try:
            for part in self.disk.pieces(name):
                total.update(part)
        except OSError as error:
            return str(error.strerror)
        return "" if total.hexdigest() == sha256 else "its checksum is wrong"

    # --- what it adds up to ------------------------------------------------------------------------------------------

    @property
    def explained(self) -> bool:
        """Somebody set it aside, and said why."""
        return aside.reason_of(self.disk, self.number) != ""

    def _files(self, home: str) -> Files:
        flaw = self.flaws.get(home)
        body = Part.ABSENT if flaw is None else Part.BROKEN if flaw else Part.WHOLE
        return Files(body, self.copies[home].part)

    def _said(self, there: list[Files]) -> Said:
        """What the journal says, or what stands for it where there is none."""
        if self._log.plain:
            unborn = self._unborn is not None and self.flaws.get(QUEUE) == ""
            alone = len(there) == 1 and there[0].envelope is Part.ABSENT
            return Said(put=unborn, move=len(there) == 2, remove=alone and not unborn)
        one = self._one
        return Said(one.put is not None and self._body_is_somewhere(), any(map(_is_move, one.lines)), one.removed)

    def _body_is_somewhere(self) -> bool:
        put = self._one.put
        assert put is not None
        return put.body is not None or "" in self.flaws.values() or not self._flaw(f"incoming/{put.incoming}")

    @cached_property
    def state(self) -> str:
        """The row of the table."""
        queue, poison = self._files(QUEUE), self._files(POISON)
        said = self._said([files for files in (queue, poison) if files != NOTHING])
        if self._one.put and not said.put and (queue, poison) == (NOTHING, NOTHING):
            queue = Files(Part.ABSENT, Part.WHOLE)  # its envelope is in the journal, its body nowhere
        return row(queue, poison, said, self.explained)

    def findings(self) -> list[Finding]:
        """What is not at rest. Damaged lines count where nothing is done to the envelope anyway."""
        if self.state in MOVING:
            return [Finding(self.state, *self._where(), self.number)] if self.state != "S7" else []
        found = [] if self.state in AT_REST else [Finding(self.state, *self._where(), self.number)]
        for home, copy in self.copies.items():
            name = layout.envelope(self.number, home)
            found += [Finding("D8", name, f"line {place}", self.number) for place in self._damaged_lines(copy)]
        return found

    def _where(self) -> tuple[str, str]:
        """Path and detail of its finding."""
        home = QUEUE if self._files(QUEUE) != NOTHING or self._files(POISON) == NOTHING else POISON
        copy, stem = self.copies[home], layout.stem(self.number, home)
        match self.state:
            case "D1":
                return f"{stem}.eml", ""
            case "D2" if copy.part is Part.ABSENT:
                return f"{stem}.env", "it is in the journal; its body is lost"
            case "D2" | "D3" | "D5":
                return f"{stem}.env", copy.flaw
            case "D4":
                return f"{stem}.eml", self.flaws[home]
        return stem, ""

    def _damaged_lines(self, copy: Copy) -> Iterator[int]:
        """Where they stand. One that was cut short, and stands there or in the journal whole as well, is none."""
        whole = [*copy.good, *(line for _, line in self._one.lines)]
        for place, line in enumerate(copy.lines if copy.part is Part.WHOLE else (), 2):
            if unseal(line) is None and not any(line in one for one in whole):
                yield place


def _is_move(line: tuple[int, bytes]) -> bool:
    return isinstance(read_event(line[1]), Moved)
