"""What the phase Backup archives below the spool: a name for the body in backup/<period>/, the envelope beside it.

Promise:  the body is linked, and copied only where the file system gives it no further name; the envelope has the head
          and the events up to that of the phase. Both are durable before the message leaves the queue (departures), or
          by the checkpoint, whichever comes first (J4b). Done twice it ends in the same files.
          A message that ends in the same record leaves its envelope to the archive; one whose files were never begun
          (gathered) has them here alone.
On crash: recovery makes from the records what is missing (recovery).
Callers:  effects, the store without a journal, recovery. One thread.
"""

import contextlib
import os
from collections.abc import Iterable

import msgspec

from kmq.model.envelope import lines_of, read_event, unseal
from kmq.spool import layout
from kmq.spool.departures import Departures
from kmq.spool.gathered import UNLINKABLE, Gathered, Gathering
from kmq.spool.homes import Homes
from kmq.spool.record import Archive


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

    def __init__(self, homes: Homes, departures: Departures, gathering: Gathering) -> None:
        self.homes = homes
        self.disk = homes.disk
        self._departures = departures
        self._gathering = gathering

    def take(self, wish: Archive, generation: int, more: Iterable[bytes] = (), last: bool = False) -> None:
        """Its names. more: lines that its envelope is about to get; last: it gets none from now on, since the message
        ends in the same record. OSError: it is owed."""
        gathered = self._gathering.of(wish.id)
        if gathered is not None:
            self._make(wish, gathered)
            return
        home = self.homes.of(wish.id)
        envelope, body = layout.envelope(wish.id, home), layout.body(wish.id, home)
        if self.disk.status(envelope) is None or self.disk.status(body) is None:
            return  # somebody took its files away by hand: there is nothing to archive
        if not self._link(body, layout.body(wish.id, wish.place)):
            self._copy(wish, self.disk.pieces(body), self._text(envelope, wish, more))
            return
        # The lines behind an archive are not in the envelope yet when its turn comes: what there is has one more name.
        if not (last and self._link(envelope, layout.envelope(wish.id, wish.place))):
            text = self._text(envelope, wish, more)
            self.homes.make(layout.envelope(wish.id, wish.place), text, again=True)
        self._departures.named(wish.id, wish.place, generation)

    def _text(self, envelope: str, wish: Archive, more: Iterable[bytes]) -> bytes:
        return b"\n".join(up_to([*lines_of(self.disk.read(envelope)), *more], wish.seq))

    def _make(self, wish: Archive, gathered: Gathered) -> None:
        """Of a message without files: they are made here, and nowhere else."""
        place = self.disk.status(wish.place)
        if place is None or place.st_dev == self.disk.device:
            try:
                self._gathering.make(gathered, wish.place)
                return
            except OSError as error:
                if error.errno not in UNLINKABLE:
                    raise
        self._copy(wish, self._gathering.pieces(gathered), gathered.envelope)

    def _link(self, old: str, new: str) -> bool:
        """Whether a file has its name there, on the spool's own file system."""
        try:
            self.homes.link(old, new)
        except FileExistsError:
            found, source = self.disk.status(new), self.disk.status(old)
            if found is not None and source is not None and os.path.samestat(found, source):
                return True  # a try before this one
            self.homes.unlink(new)
            return self._link(old, new)
        except OSError as error:
            if error.errno not in UNLINKABLE:
                raise
            return False
        return True

    def _copy(self, wish: Archive, body: Iterable[bytes | memoryview], envelope: bytes) -> None:
        """Durable when this returns: on another file system no syncfs of the spool's will do it."""
        with contextlib.suppress(FileExistsError):
            self.disk.make_folder(wish.place)
        self._write(layout.body(wish.id, wish.place), body)
        self._write(layout.envelope(wish.id, wish.place), [envelope])
        self.disk.sync_folder(wish.place)
        self.disk.sync_folder(wish.place.rpartition("/")[0])

    def _write(self, name: str, pieces: Iterable[bytes | memoryview]) -> None:
        self.homes.unlink(name + ".new")
        fd = self.disk.create(name + ".new")
        try:
            for piece in pieces:
                self.disk.write(fd, piece)
            self.disk.sync(fd)
        finally:
            self.disk.close_file(fd)
        self.disk.rename(name + ".new", name)
