"""From the plain files to what the scheduler must know: which messages there are, and how far each one is.

Promise:  a message that cannot be read as what it should be is told as damaged, with the reason; it is not touched.
On crash: only looks.
Callers:  the scheduler process at its start, message by message when somebody names one that is not known yet; fsck.
"""

import contextlib
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from kmq.model import queue_id
from kmq.model.envelope import Head, State, fold
from kmq.spool import layout
from kmq.spool.disk import Disk

_CHUNK = 100


@dataclass(slots=True, frozen=True)
class Loaded:
    """One message of the queue."""

    id: int
    head: Head
    state: State


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
