"""The two files of a message, and the steps by which they come, grow, change home and go.

Promise:  each step may be done again after it failed or stopped half-way, and ends in the same files. A body is there
          before its envelope and goes after it (J1).
On crash: nothing here is synced, except what a change of home needs (J4), and names on other file systems (J12).
Callers:  effects, and the store without a journal. One thread.
"""

import contextlib
import os
from collections.abc import Iterable

from kmq.model import queue_id
from kmq.spool import layout
from kmq.spool.checkpoint import Note
from kmq.spool.disk import Disk
from kmq.spool.record import Dropped, Move, Put
from kmq.spool.touched import Touched

_QUEUE, _ENVELOPE = "queue/", ".env"


class Homes:
    """Where each message lives, and what is done to its files there.

    note: the store's, who sets it (J7); touched: whose envelope has changed.
    """

    note: Note

    def __init__(self, disk: Disk, poison: Iterable[int] = ()) -> None:
        self.disk = disk
        self._poison = set(poison)
        self.touched = Touched()
        self._left: set[str] = set()  # folders of the queue that a message has left

    def of(self, number: int) -> str:
        """queue or poison."""
        return "poison" if number in self._poison else "queue"

    # --- coming ------------------------------------------------------------------------------------------------------

    def make_body(self, put: Put, again: bool) -> None:
        """The body's file in the queue; `again`: a try before this one may have left a part of it."""
        name = layout.body(put.id)
        if put.body is not None:
            self.make(name, put.body, again)
        elif not (again and self.disk.status(name)):
            self.link(f"incoming/{put.incoming}", name)

    def make(self, name: str, text: bytes | memoryview, again: bool) -> None:
        """A new file with this content; `again`: one that is there is of a try before this one."""
        try:
            fd = self._create(name)
        except FileExistsError:
            if not again:
                raise
            self.disk.unlink(name)
            fd = self._create(name)
        try:
            self.disk.write(fd, text)
        finally:
            self.disk.close_file(fd)
        self._born(name)

    def _born(self, name: str) -> None:
        if name.endswith(_ENVELOPE) and name.startswith(_QUEUE):
            self.touched.made(queue_id.parse(name[-queue_id.LENGTH - len(_ENVELOPE) : -len(_ENVELOPE)]))

    def _create(self, name: str) -> int:
        try:
            return self.disk.create(name)
        except FileNotFoundError:
            self._make_folder(name)
            return self.disk.create(name)

    def link(self, old: str, new: str) -> None:
        """A second name of a file, in a folder that is made if it must."""
        try:
            self.disk.link(old, new)
        except FileNotFoundError:
            self._make_folder(new)
            self.disk.link(old, new)
        self._born(new)

    def _make_folder(self, name: str) -> None:
        with contextlib.suppress(FileExistsError):
            self.disk.make_folder(name.rpartition("/")[0])

    # --- growing, and moving -----------------------------------------------------------------------------------------

    def append(self, number: int, line: bytes) -> None:
        """One more line, with a newline before it (J4); a message without files was removed before a crash."""
        with contextlib.suppress(FileNotFoundError):
            self.disk.append(layout.envelope(number, self.of(number)), b"\n" + line)
            self.touched.changed(number)

    def enter(self, move: Move) -> bool:
        """The line that says so, then the names in the new home (J4); False when there are no files to move."""
        old = "queue" if move.home == "poison" else "poison"
        there = [home for home in (old, move.home) if self.disk.status(layout.envelope(move.id, home))]
        if not there:
            return False
        envelope = layout.envelope(move.id, there[0])
        if move.line not in self.disk.read(envelope):
            self.disk.append(envelope, b"\n" + move.line)
        for name in (layout.body, layout.envelope):
            if self.disk.status(name(move.id, old)) and not self.disk.status(name(move.id, move.home)):
                self.link(name(move.id, old), name(move.id, move.home))
        return True

    def sync_names(self, number: int, home: str) -> None:
        """The names in a home are durable; in the queue also that of their folder, which may be new. StorageFailed."""
        with self.note.around(self.disk):
            self.disk.sync_folder(layout.folder(number, home))
            if home == "queue":
                self.disk.sync_folder("queue")

    def moved(self, number: int, home: str) -> None:
        """The message lives there from now on."""
        if home != self.of(number):
            (self._poison.add if home == "poison" else self._poison.discard)(number)
            self.touched.changed(number)

    # --- going -------------------------------------------------------------------------------------------------------

    def leave(self, number: int, home: str) -> None:
        """Both names in a home go, the envelope's first; from poison/ the reason goes too."""
        self.unlink(layout.envelope(number, home))
        (self.touched.left if home == self.of(number) else self.touched.changed)(number)
        self.unlink(layout.body(number, home))
        if home == "queue":
            self._left.add(layout.folder(number))
        else:
            self.unlink(layout.reason(number))

    def unlink(self, name: str) -> None:
        """A name that may be gone already."""
        with contextlib.suppress(FileNotFoundError):
            self.disk.unlink(name)

    def unlink_dropped(self, dropped: Dropped) -> None:
        """The file became a message (J12). One with the same name that came later is another and stays; nobody may put
        one over another, since that could happen between the look and the unlinking."""
        found = self.disk.status(dropped.name)
        if dropped.lies(found):
            self.disk.unlink(dropped.name)
        place = self.disk.status(dropped.name.rpartition("/")[0])
        if place and place.st_dev != self.disk.device:
            self._sync_elsewhere(dropped.name, found)

    def _sync_elsewhere(self, name: str, found: os.stat_result | None) -> None:
        """On another file system than the spool's, which syncfs does not reach. Where the name is gone already, the try
        that unlinked it may have failed to sync that, and no sync would do it now: it is made and unlinked again. An
        empty file is what such a try was killed at."""
        if found is None:
            self.disk.close_file(self.disk.create(name))
        if found is None or not found.st_size:
            self.disk.unlink(name)
        self.disk.sync_folder(name.rpartition("/")[0])

    def remove_empty_folders(self) -> None:
        """Folders of the queue whose last message has left; only between a syncfs and the next effect (J3)."""
        for folder in self._left:
            with contextlib.suppress(OSError):  # not empty: the next unlink in it brings it here again
                self.disk.remove_folder(folder)
        self._left.clear()
