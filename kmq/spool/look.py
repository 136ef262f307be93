"""Looking at the messages of a spool, read-only, while kmqd runs or not.

Promise:  disturbs nobody and needs nobody. Messages come in the order of their IDs, first queue/, then poison/. What
          vanishes meanwhile was delivered and is left out; what is damaged is told with the reason, never an exception.
          What was accepted in the last milliseconds may not be there yet (its journal record is).
On crash: nothing is held, nothing is written.
Callers:  kmq.admin and kmq.cli.
"""

import contextlib
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from kmq.errors import SpoolError
from kmq.model import queue_id

if TYPE_CHECKING:
    from kmq.model.envelope import Head, State
    from kmq.model.event import AnyEvent

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC

ENV = ".env"
#: What makes a message of a name: in queue/ its envelope, in poison/ whatever is left of it.
ENVELOPE = frozenset({ENV})
POISONED = frozenset({ENV, ".eml", ".reason"})

#: Bytes of an envelope; a longer one is not ours (a thousand recipients with all their events are far below).
_LONGEST = 64 << 20

#: Bytes of a header that are shown.
HEADER_LIMIT = 100_000


@dataclass(slots=True)
class Found:
    """A message as its envelope tells it.

    folder: of its files; home: `queue` or `poison`, where it was found; reason: why it is in poison/, "" elsewhere.
    """

    folder: Path
    home: str
    head: "Head"
    state: "State"
    events: "list[AnyEvent]"
    reason: str = ""

    @property
    def path(self) -> Path:
        """The envelope's file."""
        return self.folder / f"{self.head.id}{ENV}"

    @property
    def body(self) -> Path:
        """The message itself."""
        return self.folder / f"{self.head.id}.eml"


@dataclass(slots=True)
class Damaged:
    """An envelope that cannot be understood, and why."""

    folder: Path
    home: str
    id: str
    reason: str

    @property
    def path(self) -> Path:
        """The envelope's file."""
        return self.folder / f"{self.id}{ENV}"


def walk(spool: Path) -> Iterator[Found | Damaged]:
    """All messages of the spool. SpoolError when there is no spool or it may not be read."""
    for folder in _generations(spool / "queue"):
        yield from of_folder(spool / "queue" / folder, "queue", ENVELOPE)
    yield from of_folder(spool / "poison", "poison", POISONED)


def find(spool: Path, number: int) -> Found | Damaged | None:
    """One message by its ID; None when it is not in the spool (any more)."""
    name = queue_id.text(number)
    for folder, home in ((spool / "queue" / queue_id.generation(number), "queue"), (spool / "poison", "poison")):
        found = in_folder(folder, home, name)
        if found is not None:
            return found
    return None


def in_folder(folder: Path, home: str, name: str) -> Found | Damaged | None:
    """The message of this name in a folder; None when there is none."""
    fd = _open_folder(folder)
    if fd < 0:
        return None
    try:
        return _look(fd, name, folder, home)
    finally:
        os.close(fd)


def generations(spool: Path) -> list[str]:
    """The folders of queue/, in order. SpoolError when there is no spool or it may not be read."""
    return _generations(spool / "queue")


def anybody(spool: Path) -> bool:
    """Whether there is any message. SpoolError when there is no spool or it may not be read."""
    folders = [(spool / "queue" / name, ENVELOPE) for name in generations(spool)]
    return any(_any_of(folder, endings) for folder, endings in [*folders, (spool / "poison", POISONED)])


def _any_of(folder: Path, endings: frozenset[str]) -> bool:
    fd = _open_folder(folder)
    if fd < 0:
        return False
    try:
        with os.scandir(fd) as entries:
            return any(one.name[queue_id.LENGTH :] in endings and queue_id.PATTERN.match(one.name) for one in entries)
    finally:
        os.close(fd)


def stamps(folder: Path, endings: frozenset[str]) -> dict[int, tuple[int, int]]:
    """Of each message of a folder the size and time (ns) of its envelope, -1 and -1 where it has none. Nothing is read:
    what is the same as before need not be looked at again."""
    out: dict[int, tuple[int, int]] = {}
    fd = _open_folder(folder)
    if fd < 0:
        return out
    bodies = ENV not in endings or len(endings) > 1
    try:
        with os.scandir(fd) as entries:
            for entry in entries:
                name = entry.name
                if name[-4:] == ENV and len(name) == _NAME:
                    try:
                        found = os.stat(name, dir_fd=fd, follow_symlinks=False)
                        out[_number(name)] = (found.st_size, found.st_mtime_ns)
                    except (OSError, ValueError):
                        continue  # gone meanwhile, or another's
                elif bodies and name[queue_id.LENGTH :] in endings:
                    with contextlib.suppress(ValueError):
                        out.setdefault(_number(name), (-1, -1))
    finally:
        os.close(fd)
    return out


#: Characters of an envelope's name.
_NAME = queue_id.LENGTH + len(ENV)


def _number(name: str) -> int:
    """The ID of a name, ValueError for none; a hundred thousand are read while somebody waits."""
    number = int(name[:8], 16) << 32 | int(name[9:17], 16)
    if number < 0:
        raise ValueError
    return number


def header_of(body: Path) -> bytes | None:
    """The header of a message without the blank line, at most 100,000 bytes; None when the file cannot be read."""
    try:
        fd = os.open(body, _FILE)
    except OSError:
        return None
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            return None
        text = os.pread(fd, HEADER_LIMIT, 0)
    except OSError:
        return None
    finally:
        os.close(fd)
    return text.partition(b"\r\n\r\n")[0]


def _generations(queue: Path) -> list[str]:
    try:
        names = os.listdir(queue)
    except FileNotFoundError:
        raise SpoolError(f"{queue} is not there: kmqd makes the spool when it starts; does [kmq] spool fit?") from None
    except NotADirectoryError:
        raise SpoolError(f"{queue} is not a folder") from None
    except PermissionError:
        raise forbidden(queue) from None
    return sorted(names)


def of_folder(folder: Path, home: str, endings: frozenset[str]) -> Iterator[Found | Damaged]:
    """The messages of a folder, by ID. endings: what makes a message of a name."""
    fd = _open_folder(folder)
    if fd < 0:
        return
    try:
        last = ""
        for name in sorted(os.listdir(fd)):
            stem = name[: queue_id.LENGTH]
            if name[queue_id.LENGTH :] not in endings or stem == last or not queue_id.PATTERN.fullmatch(stem):
                continue
            last = stem
            found = _look(fd, stem, folder, home)
            if found is not None:
                yield found
    finally:
        os.close(fd)


def _open_folder(folder: Path) -> int:
    """A descriptor; -1 when there is no such folder (emptied meanwhile, or a stray file)."""
    try:
        return os.open(folder, _FOLDER)
    except PermissionError:
        raise forbidden(folder) from None
    except OSError:
        return -1


def forbidden(folder: Path) -> SpoolError:
    """What somebody hears who may not look there."""
    return SpoolError(f"{folder}: this user may not read it; ask as root or as the user that kmqd runs as")


def _look(fd: int, name: str, folder: Path, home: str) -> Found | Damaged | None:
    """One message; None when it is not there any more. What was set aside may have no envelope, but has a reason."""
    reason = _reason(fd, name) if home == "poison" else ""
    try:
        text = _bytes_of(fd, name + ENV)
    except FileNotFoundError:
        there = home == "poison" and _has_body(fd, name)
        return Damaged(folder, home, name, reason or "it has no envelope") if there else None
    except OSError as error:
        return Damaged(folder, home, name, f"cannot be read: {error.strerror}")
    found = _understood(text, folder, home, name)
    if isinstance(found, Damaged):
        found.reason = reason or found.reason
    elif home == "poison":
        found.reason = found.state.why or reason or "nobody knows why"
    return found


def _reason(fd: int, name: str) -> str:
    """What stands in the file beside a message that was set aside without a word in its envelope."""
    try:
        return _bytes_of(fd, name + ".reason")[:4096].decode("utf-8", "replace").strip()
    except OSError:
        return ""


def _has_body(fd: int, name: str) -> bool:
    try:
        os.stat(name + ".eml", dir_fd=fd, follow_symlinks=False)
    except OSError:
        return False
    return True


def _bytes_of(folder: int, name: str) -> bytes:
    fd = os.open(name, _FILE, dir_fd=folder)
    try:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode):
            raise OSError(0, "not a regular file")
        if found.st_size > _LONGEST:
            raise OSError(0, "longer than any envelope")
        text = os.read(fd, found.st_size)
        while len(text) < found.st_size and (more := os.read(fd, found.st_size - len(text))):
            text += more
        return text
    finally:
        os.close(fd)


def _understood(text: bytes, folder: Path, home: str, name: str) -> Found | Damaged:
    from kmq.model.envelope import fold  # 40 ms with msgspec, which an empty queue need not cost

    envelope = fold(text)
    if envelope is None:
        return Damaged(folder, home, name, "the envelope's first line is damaged" if text else "the envelope is empty")
    head, state, events = envelope
    if head.id != name:
        return Damaged(folder, home, name, f"the envelope says that it is {head.id[:40]}")
    return Found(folder, home, head, state, events)
