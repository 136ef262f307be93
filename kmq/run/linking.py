"""The bodies of child messages: a name in incoming/ for each, so that a large mail to a list is copied to nobody; and
texts that phases have made.

Promise:  whoever asked is told once, in the loop; with names when every one is there and durable, and means the whole
          body (J6). A large body is linked, no link followed: its bytes were durable before its parent was accepted;
          they are synced all the same, since what was small when it came may be large by a newer configuration, and a
          file without anything to write costs nothing. A body at hand, whose file may not be made yet, is written once
          and linked for the others. Where it fails nothing of it is left.
On crash: the names stay; they tell whose they were (spool.incoming), and go when this worker is reaped, or at recovery.
Callers:  run.walk.
"""

import asyncio
import contextlib
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from kmq.phases.inspection import Pieces
from kmq.phases.work import Body
from kmq.run.written import SMALL, Measure, Written, normal
from kmq.spool.disk import Disk
from kmq.spool.incoming import FOLDER, Maker, maker_here, name

_THREADS = 2
#: The number in the names of workers; receivers count from 1.
_WORKER = 0


class BodyLost(Exception):
    """The body is not what was accepted; the text says why."""


#: The names, or what came between; what is neither OSError nor BodyLost is a mistake of ours.
Placed = list[str] | BaseException


class Linking:
    """This worker's names in incoming/."""

    def __init__(self, spool: str) -> None:
        self._spool = spool
        self._maker: Maker | None = None
        self._disk: Disk | None = None
        self._serial = 0
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="kmq-linking")

    def place(self, body: Body, count: int, then: Callable[[Placed], None]) -> None:
        """The body under so many names. Returns at once."""
        names = self._names(count)
        placing = asyncio.get_running_loop().run_in_executor(self._threads, self._place, body, names)

        def placed(done: "asyncio.Future[None]") -> None:
            error = OSError("interrupted") if done.cancelled() else done.exception()
            then(names if error is None else error)

        placing.add_done_callback(placed)

    async def linked(self, body: Body) -> str:
        """One more name for a body. OSError; BodyLost."""
        names = self._names(1)
        await asyncio.get_running_loop().run_in_executor(self._threads, self._place, body, names)
        return names[0]

    def write(self, pieces: Pieces) -> "asyncio.Future[Written]":
        """A text that a phase has made. OSError, and whatever making it raises."""
        return asyncio.get_running_loop().run_in_executor(self._threads, self._write, pieces, self._names(1)[0])

    def _write(self, pieces: Pieces, name: str) -> Written:
        """In a thread. What is small needs no file."""
        measure, some, coming = Measure(), b"", normal(pieces())
        for piece in coming:
            measure.feed(piece)
            some += piece
            if measure.size > SMALL:
                break
        else:
            return measure.done(some, "")
        disk, path = self._disk, f"{FOLDER}/{name}"
        assert disk is not None, "names come first"
        fd = disk.create(path)
        try:
            try:
                disk.write(fd, some)
                for piece in coming:
                    measure.feed(piece)
                    disk.write(fd, piece)
                disk.sync(fd)
            finally:
                disk.close_file(fd)
            disk.sync_folder(FOLDER)
        except BaseException:
            with contextlib.suppress(OSError):
                disk.unlink(path)
            raise
        return measure.done(None, name)

    def _names(self, count: int) -> list[str]:
        if self._maker is None:
            self._maker = maker_here(_WORKER)
            self._disk = Disk(self._spool)
        self._serial += count
        return [name(self._maker, serial) for serial in range(self._serial - count + 1, self._serial + 1)]

    def _place(self, body: Body, names: Sequence[str]) -> None:
        """In a thread."""
        disk = self._disk
        assert disk is not None, "names come first"
        first, *others = (f"{FOLDER}/{one}" for one in names)
        made: list[str] = []
        try:
            _fill(disk, _first(disk, body, first, made), body)
            for path in others:
                disk.link(first, path)
                made.append(path)
            disk.sync_folder(FOLDER)
        except BaseException:
            for path in made:
                with contextlib.suppress(OSError):
                    disk.unlink(path)
            raise


def _first(disk: Disk, body: Body, path: str, made: list[str]) -> int:
    """The first name, open. made: gets it as soon as it is there."""
    if body.text is not None:
        fd = disk.create(path)
        made.append(path)
        return fd
    _link(disk, os.path.relpath(body.path, disk.root), path)
    made.append(path)
    return disk.open(path)


def _link(disk: Disk, body: str, path: str) -> None:
    try:
        disk.link(body, path)
    except FileNotFoundError:
        if disk.status(body) is None:
            raise BodyLost("the body is missing") from None
        raise  # the folder of the new name is


def _fill(disk: Disk, fd: int, body: Body) -> None:
    """What is at hand is written; what was linked must be whole. Both are synced."""
    try:
        if body.text is not None:
            disk.write(fd, body.text)
        found = os.fstat(fd).st_size
        if found != body.size:
            raise BodyLost(f"the body has {found} bytes, and had {body.size}")
        disk.sync(fd)
    finally:
        disk.close_file(fd)
