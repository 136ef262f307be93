"""Looking at archived mail, in folders and in compressed files, while kmqd runs or not.

Promise:  read-only. Period by period, oldest first; a message that lies in a folder and in the compressed file of the
          same period is told once. What is damaged is told with the reason, never an exception; memory is bounded by a
          header and an envelope.
On crash: nothing is held, nothing is written.
Callers:  kmq.admin.archived.
"""

import os
import tarfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import IO, NamedTuple

from kmq.errors import SpoolError
from kmq.model import queue_id
from kmq.model.envelope import fold
from kmq.spool import ageing, look
from kmq.spool.ageing import COMPRESSED
from kmq.spool.look import Damaged, Found
from kmq.spool.strays import PERIOD

HOME = "backup"
#: Bytes of an envelope in a compressed file; a longer one is not ours.
_LONGEST = 64 << 20
#: Seconds: the longest period.
_MONTH = 31 * 86400.0


class Archived(NamedTuple):
    """A message. place: the name of its folder, or of the compressed file; header: its first bytes."""

    found: Found
    place: str
    header: Callable[[], bytes | None]


def places(root: Path, since: float = 0.0, until: float = float("inf")) -> list[str]:
    """Folders and compressed files of periods that touch these times (Unix time), oldest first. SpoolError."""
    try:
        names = ageing.over(str(root), float("inf"))
    except PermissionError:
        raise look.forbidden(root) from None
    except OSError as error:
        raise SpoolError(f"{root}: {error.strerror}") from None
    ends = {name: ageing.end_of(name.removesuffix(COMPRESSED)) for name in names}
    return [name for name, end in ends.items() if end > since and end - _length(name) <= until]


def _length(name: str) -> float:
    return _MONTH if len(name.removesuffix(COMPRESSED)) == 7 else 7 * 86400.0 if "W" in name else 86400.0


def walk(root: Path, since: float = 0.0, until: float = float("inf")) -> Iterator[Archived | Damaged]:
    """All messages of these periods."""
    told: set[str] = set()
    period = ""
    for name in places(root, since, until):
        if name.removesuffix(COMPRESSED) != period:
            period = name.removesuffix(COMPRESSED)
            told.clear()
        for one in _compressed(root, name) if name.endswith(COMPRESSED) else _folder(root, name):
            id_ = one.found.head.id if isinstance(one, Archived) else one.id
            if id_ not in told:
                told.add(id_)
                yield one


def _folder(root: Path, name: str) -> Iterator[Archived | Damaged]:
    for found in look.of_folder(root / name, HOME, look.ENVELOPE):
        if isinstance(found, Damaged):
            yield found
        else:
            yield Archived(found, name, partial(look.header_of, found.body))


def _compressed(root: Path, name: str) -> Iterator[Archived | Damaged]:
    headers: dict[str, bytes] = {}
    folder = root / name
    try:
        for id_, ending, text in _members(folder):
            if ending == ".eml":
                headers = {id_: text.read(look.HEADER_LIMIT)}  # its envelope is the next member
                continue
            folded = fold(text.read(_LONGEST))
            if folded is None or folded[0].id != id_:
                yield Damaged(folder, HOME, id_, "its envelope is damaged")
                continue
            head, state, events = folded
            header = headers.pop(id_, b"")
            yield Archived(Found(folder, HOME, head, state, events), name, partial(bytes, header))
    except (OSError, tarfile.TarError, EOFError) as error:
        yield Damaged(folder, HOME, "", f"{name} cannot be read to its end: {error}")


def _members(file: Path) -> Iterator[tuple[str, str, IO[bytes]]]:
    """(ID, ending, content) of each file in it, in order."""
    with _opened(file) as raw, tarfile.open(fileobj=raw, mode="r|gz") as tar:
        for member in tar:
            period, _, name = member.name.partition("/")
            id_, ending = name[: queue_id.LENGTH], name[queue_id.LENGTH :]
            text = tar.extractfile(member) if member.isreg() else None
            if PERIOD.fullmatch(period) and queue_id.PATTERN.fullmatch(id_) and text is not None:
                yield id_, ending, text


def _opened(file: Path) -> IO[bytes]:
    return open(os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), "rb")


def bodies(root: Path, place: str, wanted: set[str]) -> Iterator[tuple[str, IO[bytes]]]:
    """(ID, its body, to be read at once) of these messages in a place. OSError."""
    if place.endswith(COMPRESSED):
        try:
            for id_, ending, text in _members(root / place):
                if ending == ".eml" and id_ in wanted:
                    yield id_, text
        except (tarfile.TarError, EOFError) as error:
            raise OSError(5, f"it is damaged: {error}", place) from error
        return
    for id_ in sorted(wanted):
        with _opened(root / place / f"{id_}.eml") as file:
            yield id_, file
