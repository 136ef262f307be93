"""The index: a row per message, and per message and queue, in SQLite, so that a hundred thousand are looked through at
once. A cache of queue/ and poison/ and nothing more.

Shape:    `index/queue.sqlite`, tables message, share, hop; columns as in index_rows, IDs as `mid` (index_rows.mid_of).
          With it the size and time of each envelope as it was read: whoever compares them with the folder knows what
          is stale. Who looks may do so at any time; who writes is one (WAL).
Promise:  it may be thrown away at any time, and a damaged, foreign or older one is: it is made anew from the files.
On crash: of the process, SQLite brings the last whole change back. After a power cut nothing in it is believed (it is
          never synced): it knows the boot in which it was written.
Callers:  run/indexer writes; admin/selection_source reads, and mends a copy in memory where the file is stale;
          spool/remembered reads what a start need not read in envelopes.
"""

import contextlib
import os
import re
import sqlite3
from collections.abc import Iterable, Iterator
from pathlib import Path
from zlib import crc32

from kmq.errors import SpoolError
from kmq.model import queue_id
from kmq.model.hop import NextHop
from kmq.spool import index_rows, look, standing
from kmq.spool.index_rows import HeaderRow, MessageRow, ShareRow, mid_of, number_of
from kmq.spool.standing import Files
from kmq.spool.status import boot_id

FOLDER = "index"
FILE = "queue.sqlite"

#: What tells our file from another's.
_APPLICATION = 0x6B6D7121

#: KiB of the file that a process keeps in memory.
_CACHE = 4096

_MESSAGE = MessageRow._fields + HeaderRow._fields
_SHARE = ShareRow._fields[1:]

_SCHEMA = f"""
CREATE TABLE fact (name TEXT PRIMARY KEY, value TEXT) WITHOUT ROWID;
CREATE TABLE hop (n INTEGER PRIMARY KEY, hop TEXT UNIQUE, delivery_type TEXT, domain TEXT, connector TEXT);
CREATE TABLE message (mid INTEGER PRIMARY KEY, bytes INTEGER, changed INTEGER, standing, {", ".join(_MESSAGE)});
CREATE TABLE share (mid INTEGER, hop INTEGER, {", ".join(_SHARE)}, PRIMARY KEY (mid, hop)) WITHOUT ROWID;
CREATE INDEX share_hop ON share (hop);
CREATE INDEX poison ON message (mid) WHERE home = 'poison';
"""

#: Counts up when a column comes to mean something else.
_MEANING = 3

#: What tells our file from that of another kmq: other tables are another version.
VERSION = crc32(f"{_SCHEMA}{_MEANING}".encode()) & 0x7FFFFFFF

_MARKS = f"PRAGMA application_id = {_APPLICATION}; PRAGMA user_version = {VERSION};"

_INSERT = f"INSERT OR REPLACE INTO message VALUES ({', '.join('?' * (4 + len(_MESSAGE)))})"
_UPDATE = (
    "UPDATE message SET bytes = ?, changed = ?, standing = ?, home = ?, scl = coalesce(?, scl)"
    " WHERE mid = ? AND NOT damaged"
)
_SHARES = f"INSERT OR REPLACE INTO share VALUES ({', '.join('?' * (2 + len(_SHARE)))})"


#: The name of a folder of queue/ (queue_id.generation).
_GENERATION = re.compile("[0-9a-f]{5}-[0-9a-f]{4}")


class NoIndex(Exception):
    """There is none that can be believed; the text says why."""


def path_of(spool: Path) -> Path:
    """The file of a spool's index."""
    return spool / FOLDER / FILE


class Index:
    """One index, in a file or in memory; one that was opened may change threads between two calls."""

    def __init__(self, connection: sqlite3.Connection, spool: Path) -> None:
        self.connection = connection
        self._spool = spool
        self._root = str(spool)
        self._hops: dict[NextHop, int] = {}

    # --- making and opening ------------------------------------------------------------------------------------------

    @classmethod
    def to_write(cls, spool: Path) -> "Index":
        """The one of the spool, for its only writer; made anew when it cannot be believed. OSError, sqlite3.Error."""
        path = path_of(spool)
        try:
            return cls._begun(_opened(path), spool)
        except (NoIndex, sqlite3.DatabaseError):
            discard(spool)
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        cls(connection := sqlite3.connect(path, isolation_level=None), spool).make()
        connection.close()
        return cls._begun(_opened(path), spool)

    @classmethod
    def _begun(cls, connection: sqlite3.Connection, spool: Path) -> "Index":
        index = cls(connection, spool)
        try:
            index.begin_writing()
        except BaseException:
            connection.close()
            raise
        return index

    @classmethod
    def to_read(cls, spool: Path) -> "Index":
        """The one of the spool, for somebody who looks; NoIndex when there is none that can be believed."""
        try:
            index = cls(_looked_into(path_of(spool)), spool)
        except sqlite3.Error as error:
            raise NoIndex(str(error)) from None
        try:
            index.check_believable()
        except (sqlite3.Error, NoIndex) as error:
            index.connection.close()
            raise NoIndex(str(error)) from None
        return index

    @classmethod
    def to_consult(cls, spool: Path) -> "Index":
        """The one of the spool, for a process of kmqd that reads it for longer than a look: what stands in the file
        beside it is read too, also when its writer begins only now. NoIndex, sqlite3.Error."""
        index = cls(_opened(path_of(spool)), spool)
        try:
            index.connection.execute("PRAGMA query_only = ON")
            index.check_believable()
        except BaseException:
            index.connection.close()
            raise
        return index

    @property
    def clean(self) -> bool:
        """It was closed in order, and nobody has written since."""
        return bool(self._fact("clean"))

    def check_whole(self) -> None:
        """sqlite3.Error or NoIndex when what is on the disk does not hang together; reads all of it."""
        (found,) = self.connection.execute("PRAGMA quick_check(1)").fetchone()
        if found != "ok":
            raise NoIndex(str(found))

    @classmethod
    def in_memory(cls, spool: Path, source: "Index | None" = None) -> "Index":
        """One of our own, as a copy or empty."""
        connection = sqlite3.connect(":memory:", isolation_level=None)
        index = cls(connection, spool)
        if source is None:
            index.make()
        else:
            source.connection.backup(connection)
        return index

    def make(self) -> None:
        """Its tables, in an empty file."""
        self.connection.executescript(
            f"PRAGMA journal_mode = WAL; PRAGMA synchronous = OFF; BEGIN; {_SCHEMA} {_MARKS} COMMIT;"
        )

    def begin_writing(self) -> None:
        """From here on it is this boot's, and not believed after another begins, until it is closed in order."""
        self.check_believable()
        self.connection.executescript(
            f"PRAGMA journal_mode = WAL; PRAGMA synchronous = OFF; PRAGMA cache_size = -{_CACHE};"
        )
        self._put("boot", boot_id())
        self._put("clean", "")

    def check_believable(self) -> None:
        """NoIndex when a power cut may have torn it."""
        boot = self._fact("boot")
        if boot and boot != boot_id() and not self.clean:
            raise NoIndex("it was not closed before the machine was started anew")

    def close(self, clean: bool = False) -> None:
        """clean: what it holds is synced now, and may be believed after the next start of the machine."""
        with contextlib.suppress(sqlite3.Error):
            if clean:
                self._put("clean", "1")
                self.connection.executescript("PRAGMA wal_checkpoint(TRUNCATE);")
        self.connection.close()
        if clean:
            _sync(path_of(self._spool))

    def _fact(self, name: str) -> str:
        found = self.connection.execute("SELECT value FROM fact WHERE name = ?", (name,)).fetchone()
        return str(found[0]) if found else ""

    def _put(self, name: str, value: str) -> None:
        self.connection.execute("INSERT OR REPLACE INTO fact VALUES (?, ?)", (name, value))

    # --- rows --------------------------------------------------------------------------------------------------------

    @property
    def count(self) -> int:
        """Messages."""
        return int(self.connection.execute("SELECT count(*) FROM message").fetchone()[0])

    def look_again(self, numbers: Iterable[int]) -> None:
        """Reads these messages, one change for all; those that are not there any more lose their rows."""
        with self._change():
            for number in numbers:
                self._look(number)

    def forget(self, numbers: Iterable[int]) -> None:
        """These are gone."""
        with self._change():
            for number in numbers:
                self._forget(number)

    @contextlib.contextmanager
    def _change(self) -> Iterator[None]:
        self.connection.execute("BEGIN")
        try:
            yield
        except BaseException:
            self.connection.execute("ROLLBACK")
            self._hops.clear()
            raise
        self.connection.execute("COMMIT")

    def _look(self, number: int) -> None:
        stamp = _stamp(self._root, queue_id.text(number), number)
        if stamp is None:  # most mail that was told of has left by now
            self._forget(number)
            return
        found = look.find(self._spool, number)
        if found is None:
            self._forget(number)
            return
        try:
            self._take(number, stamp, found)
        except (ValueError, OverflowError) as error:  # no text, or no number, that SQLite can hold
            self._take(number, stamp, look.Damaged(found.folder, found.home, queue_id.text(number), f"odd: {error}"))

    def _take(self, number: int, stamp: tuple[int, int], found: look.Found | look.Damaged) -> None:
        row = index_rows.message_row(found)
        mid = mid_of(number)
        self.connection.execute("DELETE FROM share WHERE mid = ?", (mid,))
        scl = index_rows.scl_of(found)
        line = standing.line_of(Files(number, *stamp, row.size), found)
        updated = self.connection.execute(_UPDATE, (*stamp, line, row.home, scl, mid)) if not row.damaged else None
        if updated is None or not updated.rowcount:
            body = look.header_of(found.body) if isinstance(found, look.Found) else None
            header = index_rows.header_row(body)
            if scl is not None:
                header = header._replace(scl=scl)
            self.connection.execute(_INSERT, (mid, *stamp, line, *row, *header))
        shares = index_rows.share_rows(found)
        self.connection.executemany(_SHARES, [(mid, self._hop(one.hop), *one[1:]) for one in shares])

    def _forget(self, number: int) -> None:
        mid = mid_of(number)
        if self.connection.execute("DELETE FROM message WHERE mid = ?", (mid,)).rowcount:
            self.connection.execute("DELETE FROM share WHERE mid = ?", (mid,))

    def tidy(self) -> None:
        """Next hops that nothing waits for any more go."""
        with self._change():
            self._hops.clear()
            self.connection.execute("DELETE FROM hop WHERE NOT EXISTS (SELECT 1 FROM share WHERE share.hop = hop.n)")

    def _hop(self, where: NextHop) -> int:
        number = self._hops.get(where)
        if number is None:
            kind, domain, connector = where.delivery_type.value, where.domain, where.connector
            insert = "INSERT OR IGNORE INTO hop (hop, delivery_type, domain, connector) VALUES (?, ?, ?, ?)"
            self.connection.execute(insert, (str(where), kind, domain, connector))
            found = self.connection.execute("SELECT n FROM hop WHERE hop = ?", (str(where),)).fetchone()
            number = self._hops[where] = int(found[0])
        return number

    # --- mending -----------------------------------------------------------------------------------------------------

    def stale(self) -> Iterator[list[int]]:
        """IDs whose files differ from what was read, come or gone; folder by folder, each in its own list."""
        folders = {(number >> 44, (number & 0xFFFFFFFF) >> 16) for number in self._generations()}
        for name in look.generations(self._spool):
            if _GENERATION.fullmatch(name):
                folders.add((int(name[:5], 16), int(name[6:], 16)))
        for second, counter in sorted(folders):
            there = look.stamps(self._spool / "queue" / f"{second:05x}-{counter:04x}", look.ENVELOPE)
            yield _differing(there, self._stamps_of(second, counter))
        yield _differing(look.stamps(self._spool / "poison", look.POISONED), self._stamps_of_poison())

    def _generations(self) -> Iterator[int]:
        """One ID of each folder that has rows."""
        found = self.connection.execute("SELECT max(mid) FROM message GROUP BY mid >> 44, (mid & 4294967295) >> 16")
        return (number_of(mid) for (mid,) in found.fetchall())

    def _stamps_of(self, second: int, counter: int) -> dict[int, tuple[int, int]]:
        rows = self.connection.execute(
            "SELECT mid, bytes, changed FROM message WHERE mid BETWEEN ? AND ?"
            " AND (mid & 4294967295) >> 16 = ? AND home = 'queue'",
            (mid_of(second << 44), mid_of((second + 1 << 44) - 1), counter),
        )
        return {number_of(mid): (size, changed) for mid, size, changed in rows}

    def _stamps_of_poison(self) -> dict[int, tuple[int, int]]:
        rows = self.connection.execute("SELECT mid, bytes, changed FROM message WHERE home = 'poison'")
        return {number_of(mid): (size, changed) for mid, size, changed in rows}


def _differing(there: dict[int, tuple[int, int]], known: dict[int, tuple[int, int]]) -> list[int]:
    """IDs whose stamps are not the same in both."""
    return sorted({number for number, _ in there.items() ^ known.items()})


def _stamp(spool: str, name: str, number: int) -> tuple[int, int] | None:
    """Size and time of an envelope, -1 where there is none, None where nothing is; taken before it is read, so that a
    change is noticed."""
    poisoned = f"{spool}/poison/{name}"
    for stem in (f"{spool}/queue/{queue_id.generation(number)}/{name}", poisoned):
        try:
            found = os.stat(stem + look.ENV, follow_symlinks=False)
        except OSError:
            continue
        return found.st_size, found.st_mtime_ns
    return (-1, -1) if any(os.path.lexists(poisoned + one) for one in look.POISONED) else None


def discard(spool: Path) -> None:
    """Throws it away."""
    for ending in ("", "-wal", "-shm", "-journal"):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(f"{path_of(spool)}{ending}")


def _opened(path: Path) -> sqlite3.Connection:
    return _connected(path, "mode=rw")


def _looked_into(path: Path) -> sqlite3.Connection:
    """A connection that writes nothing: not even the files beside it, which SQLite would make where nobody writes. Who
    begins to write now makes those first, and changes this file much later than we look."""
    written = os.path.lexists(f"{path}-wal")
    return _connected(path, "mode=ro" if written else "mode=ro&immutable=1")


def _connected(path: Path, way: str) -> sqlite3.Connection:
    """NoIndex when it is not of this kmq."""
    where = f"{path.absolute().as_uri()}?{way}"
    connection = sqlite3.connect(where, uri=True, isolation_level=None, check_same_thread=False)
    try:
        _recognize(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def _recognize(connection: sqlite3.Connection) -> None:
    known = [connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version")]
    if known != [_APPLICATION, VERSION]:
        raise NoIndex("it is not of this kmq")


def _sync(path: Path) -> None:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise SpoolError(f"{path}: {error.strerror}") from None
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
