"""Messages of a snapshot brought back into a spool that nobody works in.

Promise:  a message that is in the spool is left as it is. What is brought back has its old ID and its whole history,
          and in addition what the mail log says of its recipients since then, as lines of its envelope; what the safety
          net keeps was delivered since, whatever the log says. A body is taken only when it is what was accepted
          (SHA-256). New files are synced before they get their names, body first.
On crash: half-made files are swept by the next start (.new), and asking again goes on.
Callers:  kmq.cli.restore, who holds the spool's locks.
"""

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from kmq.model import queue_id
from kmq.model.envelope import Head, State, event_line
from kmq.model.event import Event
from kmq.spool import incoming, kept, layout, net_look
from kmq.spool.checkpoint import Note
from kmq.spool.disk import Disk
from kmq.spool.look import Damaged, Found, find, walk
from kmq.spool.recovery import Recovery

#: What became of a message: it is back; it was there; nothing of it is left to do; it cannot be brought back.
BACK, THERE, DONE, DAMAGED = "restored", "there", "done", "damaged"

#: What has happened since, as far as it is known: events without seq for a message and its state; None: it was removed.
Since = Callable[[Head, State], list[Event] | None]


class Restored(NamedTuple):
    """What became of one message of the snapshot. open: recipients that are left; why: in words."""

    id: str
    home: str
    outcome: str
    open: int = 0
    why: str = ""


def make_ready(spool: Path, segment_size: int, note: str) -> None:
    """Brings about what the journal says, so that it says nothing more of messages that are brought back."""
    disk = Disk(spool)
    try:
        layout.prepare(disk)
        _, log = Recovery(disk, Note(note), segment_size, incoming.lives).recover()
        log.close()
    finally:
        disk.close()


def restore(folder: Path, spool: Path, since: Since, really: bool = True) -> Iterator[Restored]:
    """Each message of a snapshot. really: False only says what would become of it."""
    owner = spool.stat()
    disk = Disk(spool)
    try:
        for message in walk(folder):
            yield _restore(message, disk, spool, since, owner if really else None)
        if really:
            _bring_state(folder, disk, owner)
    finally:
        disk.close()


def _bring_state(folder: Path, disk: Disk, owner: os.stat_result) -> None:
    """Suspended queues and GUIDs of connectors, of a spool that knows of none."""
    source = Disk(folder)
    try:
        for name in kept.FILES:
            lines, _ = kept.read(source, name)
            if lines and disk.status(f"{kept.FOLDER}/{name}") is None:
                kept.replace(disk, name, lines)
                _give(disk, f"{kept.FOLDER}/{name}", owner)
    finally:
        source.close()


def _restore(message: Found | Damaged, disk: Disk, spool: Path, since: Since, owner: os.stat_result | None) -> Restored:
    name = message.head.id if isinstance(message, Found) else message.id
    if find(spool, queue_id.parse(name)) is not None:
        return Restored(name, message.home, THERE)
    if isinstance(message, Damaged):
        return Restored(name, message.home, DAMAGED, why=message.reason)
    if net_look.find(spool, queue_id.parse(name)) is not None:
        return Restored(name, message.home, DONE, why="it came to its end since, and is kept in sent/")
    happened = since(message.head, message.state)
    if happened is None:
        return Restored(name, message.home, DONE, why="an operator removed it")
    lines, left = _continued(message, happened)
    if not left:
        return Restored(name, message.home, DONE, why="all its recipients have come to their end since")
    if not _is_whole(message):
        return Restored(name, message.home, DAMAGED, left, "its body is not what was accepted")
    if owner is not None:
        _bring(message, lines, disk, owner)
    return Restored(name, message.home, BACK, left)


def _continued(message: Found, happened: Sequence[Event]) -> tuple[bytes, int]:
    """The lines to be added to the envelope, each with its newline before it (J4); and how many recipients are left."""
    state = message.state
    lines = b""
    for event in happened:
        event.seq = state.next_seq
        lines += b"\n" + event_line(event)
        state.after(event)  # type: ignore[arg-type]
    return lines, len(state.open)


def _is_whole(message: Found) -> bool:
    try:
        with open(message.body, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == message.head.sha256
    except OSError:
        return False


def _bring(message: Found, lines: bytes, disk: Disk, owner: os.stat_result) -> None:
    """The body, then whatever lies beside it, then the envelope, which makes it count."""
    folder = layout.folder(queue_id.parse(message.head.id), message.home)
    if disk.status(folder) is None:
        disk.make_folder(folder)
        _give(disk, folder, owner)
    name = f"{folder}/{message.head.id}"
    pieces = _pieces(message.body)
    _make(disk, f"{name}.eml", pieces, owner)
    reason = message.folder / f"{message.head.id}.reason"
    if message.home == "poison" and reason.exists():
        _make(disk, f"{name}.reason", _pieces(reason), owner)
    _make(disk, f"{name}.env", iter([message.path.read_bytes() + lines]), owner)
    disk.sync_folder(folder)
    disk.sync_folder(folder.rpartition("/")[0] or ".")


def _pieces(path: Path) -> Iterator[bytes]:
    with open(path, "rb") as file:
        while piece := file.read(1 << 20):
            yield piece


def _make(disk: Disk, name: str, pieces: Iterator[bytes], owner: os.stat_result) -> None:
    half = f"{name}.new"
    if disk.status(half) is not None:
        disk.unlink(half)
    fd = disk.create(half)
    try:
        for piece in pieces:
            disk.write(fd, piece)
        if os.geteuid() == 0:
            os.fchown(fd, owner.st_uid, owner.st_gid)
        disk.sync(fd)
    finally:
        disk.close_file(fd)
    disk.rename(half, name)


def _give(disk: Disk, folder: str, owner: os.stat_result) -> None:
    if os.geteuid() == 0:
        os.chown(folder, owner.st_uid, owner.st_gid, dir_fd=disk.fd, follow_symlinks=False)
