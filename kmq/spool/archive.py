"""What the phase Backup archives below the spool: a name for the body in backup/<period>/, the envelope beside it.

Promise:  the body is linked, and copied only where the file system gives it no further name; the envelope has the head
          and the events up to that of the phase. Both are durable before the message leaves the queue (departures), or
          by the checkpoint, whichever comes first (J4b). Done twice it ends in the same files.
On crash: recovery makes from the records what is missing (archive_recovery).
Callers:  effects, the store without a journal, recovery. One thread.
"""

import contextlib
import errno
from collections.abc import Iterable

import msgspec

from kmq.model.envelope import lines_of, read_event, unseal
from kmq.spool import layout
from kmq.spool.departures import Departures
from kmq.spool.homes import Homes
from kmq.spool.record import Archive

#: A file that gets no further name here is copied: on another file system (something was mounted since), or it has all
#: the names that it can have.
UNLINKABLE = frozenset({errno.EXDEV, errno.EMLINK, errno.EPERM, errno.EOPNOTSUPP})


def up_to(lines: Iterable[bytes], seq: int) -> list[bytes]:
    """Of an envelope's lines the head and the good ones up to this number."""
    head, *events = lines
    return [head, *(line for line in events if (found := seq_of(line)) is not None and found <= seq)]


def seq_of(line: bytes) -> int | None:
    """The number of an event's line; None when it is damaged."""
    event = read_event(line)
    if event is not None:
        return event.seq
    try:  # an event of a later kmq
        return int(msgspec.json.decode(unseal(line) or b"")["seq"])
    except (msgspec.MsgspecError, KeyError, TypeError, ValueError):
        return None


class Archives:
    """What becomes of durable `archive` operations."""

    def __init__(self, homes: Homes, departures: Departures) -> None:
        self.homes = homes
        self.disk = homes.disk
        self._departures = departures

    def take(self, wish: Archive, generation: int, more: Iterable[bytes] = ()) -> None:
        """Its names. more: lines that its envelope is about to get. OSError: it is owed."""
        home = self.homes.of(wish.id)
        envelope, body = layout.envelope(wish.id, home), layout.body(wish.id, home)
        if self.disk.status(envelope) is None or self.disk.status(body) is None:
            return  # somebody took its files away by hand: there is nothing to archive
        linked = self._link(body, layout.body(wish.id, wish.place))
        text = b"\n".join(up_to([*lines_of(self.disk.read(envelope)), *more], wish.seq))
        if linked:
            self.homes.make(layout.envelope(wish.id, wish.place), text, again=True)
            self._departures.named(wish.id, wish.place, generation)
        else:
            with contextlib.suppress(FileExistsError):
                self.disk.make_folder(wish.place)
            self._write(layout.body(wish.id, wish.place), self.disk.pieces(body))
            self._write(layout.envelope(wish.id, wish.place), [text])
            self.disk.sync_folder(wish.place)
            self.disk.sync_folder(wish.place.rpartition("/")[0])

    def _link(self, old: str, new: str) -> bool:
        """Whether the body has its name there, on the spool's own file system."""
        found, source = self.disk.status(new), self.disk.status(old)
        if found is not None and source is not None and (found.st_dev, found.st_ino) == (source.st_dev, source.st_ino):
            return True  # a try before this one
        self.homes.unlink(new)
        try:
            self.homes.link(old, new)
        except OSError as error:
            if error.errno not in UNLINKABLE:
                raise
            return False
        return True

    def _write(self, name: str, pieces: Iterable[bytes]) -> None:
        """Durable with its folder: on another file system no syncfs of the spool's will do it."""
        self.homes.unlink(name + ".new")
        fd = self.disk.create(name + ".new")
        try:
            for piece in pieces:
                self.disk.write(fd, piece)
            self.disk.sync(fd)
        finally:
            self.disk.close_file(fd)
        self.disk.rename(name + ".new", name)
