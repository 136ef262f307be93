"""From the plain files to what the scheduler must know: which messages there are, and how far each one is.

Promise:  a message that cannot be read as what it should be is told as damaged, with the reason; it is not touched.
On crash: only looks.
Callers:  the scheduler process at its start, message by message when somebody names one that is not known yet; fsck.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from kmq.model import queue_id
from kmq.model.envelope import Head, State, fold
from kmq.spool import layout
from kmq.spool.disk import Disk


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


def everything(disk: Disk, home: str = "queue") -> Iterator[Loaded | Damaged]:
    """Every message of a home, one after the other; one that leaves meanwhile is passed over."""
    for number in ids(disk, home):
        found = one(disk, number, home)
        if found is not None:
            yield found
