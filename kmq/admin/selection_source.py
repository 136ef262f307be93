"""Where a selection reads: the index as it is, or a copy of it in memory, brought up to the files.

What:     an index that kmqd has kept up to this moment is read as it is. While kmqd does not run, or the index is
          behind, the files' sizes and times are compared with it, and only what differs is read, into a copy of ours.
Promise:  writes nothing, locks nothing that anybody waits for. There is always a view, whatever became of the index:
          the worst is that every envelope is read.
On crash: nothing is held.
Callers:  selection, selection_sql.
"""

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from kmq.admin.circumstances import Circumstances
from kmq.spool import as_of
from kmq.spool.index import Index, NoIndex

#: Seconds that we wait for an index process that has been told of what we are to see.
_PATIENCE = 0.25
_LOOKS = 0.002

#: Who may see what was true a moment ago reads no more messages than this, as long as the index process, which is
#: behind with a mass of changes, has been heard of within so many seconds.
_READ_AT_MOST = 3000
_LATE = 300.0

#: Steps of SQLite, some milliseconds, after which it lets Python hear of Ctrl-C.
_STEPS = 1_000_000

#: What SQLite says when Python code that it calls has raised; ours raises for nothing else.
_RAISED = "user-defined function raised exception"


class Source(NamedTuple):
    """connection: to look into, with tables as in spool/index; as_of: Unix time."""

    connection: sqlite3.Connection
    as_of: float


def opened(spool: Path, around: Circumstances, late: bool = False) -> Source:
    """The queue as it is now. SpoolError when there is no spool or it may not be read.

    late: as it was a moment ago is good enough while so much changes that it would take long to read all of that.
    """
    at = _told(spool, around)
    try:
        index = Index.to_read(spool)
    except NoIndex:
        return from_files(spool)
    if at:
        return Source(index.connection, at)
    try:
        if not index.clean:
            index.check_whole()
        return _from_files(spool, index, late and not around.silence)
    except (sqlite3.Error, NoIndex):
        index.connection.close()
        return from_files(spool)


def from_files(spool: Path) -> Source:
    """The same without an index: every envelope is read."""
    return _from_files(spool, None)


def _told(spool: Path, around: Circumstances) -> float:
    """Of which moment the index is, 0.0 when nobody can say. kmqd was asked for its queues just now, so that its index
    process has heard of all that happened before."""
    at = 0.0 if around.silence else as_of.read(spool, as_of.RESTING)
    until = time.monotonic() + _PATIENCE
    while at and at < around.now and time.monotonic() < until:
        time.sleep(_LOOKS)
        at = as_of.read(spool, as_of.RESTING)
    return at if time.time() - at <= as_of.FRESH else 0.0


def _from_files(spool: Path, index: Index | None, late: bool = False) -> Source:
    """What differs is read; a copy is made only when something does."""
    at = time.time()
    view = index or Index.in_memory(spool)
    stale = [number for numbers in view.stale() for number in numbers]
    if late and index is not None and len(stale) > _READ_AT_MOST and (before := as_of.read(spool, _LATE)):
        return Source(index.connection, before)
    if stale and index is not None:
        view = Index.in_memory(spool, index)
        index.connection.close()
    if stale:
        view.look_again(stale)
    return Source(view.connection, at)


@contextmanager
def stoppable(connection: sqlite3.Connection) -> Iterator[None]:
    """Ctrl-C ends a statement. SQLite hears of it where it calls Python, and gives it back as an error of its own."""
    connection.set_progress_handler(_hear, _STEPS)
    try:
        yield
    except sqlite3.OperationalError as error:
        if getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_INTERRUPT or str(error) == _RAISED:
            raise KeyboardInterrupt from None
        raise


def _hear() -> int:
    """Where Python runs, it acts on signals."""
    return 0
