"""From the plain files to what the scheduler must know: which messages there are, and how far each one is.

Does:     reads envelopes; where there are so many that it takes long, only those of which the index does not say all
          that is asked (spool/standing), or of which the files are not those that it read.
Promise:  a message that cannot be read as what it should be is told as damaged, with the reason; it is not touched.
On crash: only looks.
Callers:  the scheduler process at its start, message by message when somebody names one that is not known yet; fsck.
"""

import contextlib
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from kmq.model import queue_id
from kmq.model.envelope import Head, State, fold
from kmq.spool import layout, standing
from kmq.spool.disk import Disk
from kmq.spool.standing import Files, Standing

if TYPE_CHECKING:
    from kmq.spool.remembered import Memory, Remembered

_CHUNK = 100

#: Messages that are read without a look at the index: that takes a tenth of a second, and opening it no less.
FEW = 2000


@dataclass(slots=True, frozen=True)
class Loaded:
    """One message of the queue."""

    id: int
    head: Head
    state: State


@dataclass(slots=True, frozen=True)
class Recalled:
    """One of which the index told, and whose files are as it read them: ordinary mail, of which nothing has ended."""

    id: int
    standing: Standing


@dataclass(slots=True, frozen=True)
class Damaged:
    """A message that is not what it should be."""

    id: int
    reason: str


def one(disk: Disk, number: int, home: str = "queue") -> Loaded | Damaged | None:
    """The message with this ID; None when there is none."""
    try:
        text = disk.read(layout.envelope(number, home))
    except FileNotFoundError:
        return None
    except OSError as error:
        return Damaged(number, f"the envelope cannot be read: {error.strerror}")
    folded = fold(text)
    if folded is None:
        return Damaged(number, "the first line of the envelope is damaged")
    head, state, _ = folded
    if head.id != queue_id.text(number):
        return Damaged(number, f"the envelope is that of {head.id[:40]!r}")
    found = disk.status(layout.body(number, home))
    if found is None:
        return Damaged(number, "the body is missing")
    if found.st_size != head.size:
        return Damaged(number, f"the body has {found.st_size} bytes, the envelope says {head.size}")
    return Loaded(number, head, state)


def ids(disk: Disk, home: str = "queue") -> Iterator[int]:
    """The IDs of all envelopes in a home, oldest first; foreign names are passed over."""
    entries = disk.walk("queue") if home == "queue" else (("poison", name) for name in disk.names("poison"))
    for _, name in entries:
        if name.endswith(".env"):
            try:
                yield queue_id.parse(name[:-4])
            except ValueError:
                continue


def _some(disk: Disk, numbers: Sequence[int], home: str = "queue") -> list[Loaded | Damaged]:
    """Those of these messages that are there. Their envelopes are fetched together: after a power cut the disk is asked
    for each."""
    for number in numbers:
        with contextlib.suppress(OSError):  # told by the look itself
            disk.fetch(layout.envelope(number, home))
    found = (one(disk, number, home) for number in numbers)
    return [each for each in found if each is not None]


def everything(disk: Disk, home: str = "queue") -> Iterator[list[Loaded | Damaged]]:
    """Every message of a home, some hundred at a time; one that leaves meanwhile is passed over."""
    numbers = ids(disk, home)
    while chunk := list(itertools.islice(numbers, _CHUNK)):
        yield _some(disk, chunk, home)


def whole_queue(disk: Disk) -> Iterator[list[Loaded | Recalled | Damaged]]:
    """`everything` that is in the queue, in one thread; behind the first messages the index is asked."""
    numbers = ids(disk)
    few = itertools.islice(numbers, FEW)
    while chunk := list(itertools.islice(few, _CHUNK)):
        yield [*_some(disk, chunk)]
    remembered: Remembered | None = None
    while chunk := list(itertools.islice(numbers, _CHUNK)):
        if remembered is None:
            remembered = _remembered(disk)
        yield _recalled_or_read(disk, chunk, remembered.of(chunk))
    if remembered is not None:
        remembered.close()


def _remembered(disk: Disk) -> "Remembered":
    from kmq.spool.remembered import Remembered  # SQLite, which a short queue need not cost

    return Remembered(Path(disk.root))


def _recalled_or_read(
    disk: Disk, numbers: Sequence[int], memories: "dict[int, Memory]"
) -> list[Loaded | Recalled | Damaged]:
    found: list[Loaded | Recalled | Damaged] = []
    to_read = []
    for number in numbers:
        memory = memories.get(number)
        recalled = memory and _recalled(disk, number, *memory)
        if recalled:
            found.append(recalled)
        else:
            to_read.append(number)
    if to_read:
        found += _some(disk, to_read)
        found.sort(key=lambda one: one.id)
    return found


def _recalled(disk: Disk, number: int, files: Files, line: str) -> Recalled | None:
    """A message that need not be read: the index has read these very files. A body that is not there, or not as large
    as it was, is told by who reads."""
    stem = layout.stem(number)
    envelope, body = disk.status(stem + ".env"), disk.status(stem + ".eml")
    if envelope is None or body is None:
        return None
    if files != (number, envelope.st_size, envelope.st_mtime_ns, body.st_size):
        return None
    found = standing.read(files, line)
    return None if found is None else Recalled(number, found)
