"""What is in a ZIP archive, and in archives within it, without trusting it (APPNOTE.TXT 6.3.10, the numbers here).

What:     the archive lies in a Region of a scratch file; its directory is read entry by entry, each entry is held
          against the header that stands ahead of its bytes, and the first bytes say what it looks like. Archives in it
          are unpacked behind it in the same file, and listed in turn.
Promise:  memory is a piece, whatever the archive says. A directory that does not tell of all members, or tells of them
          otherwise than they do themselves, is Broken; members that share their bytes, say that they are less than they
          are packed, or are more than the limits, are a TooMuch: a bomb. Nothing else is unpacked but its first bytes.
On crash: the scratch file has no name.
Callers:  phases.examiner.
"""

import struct
import zlib
from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

from kmq.phases.facts import Member
from kmq.phases.first_bytes import NEEDED, ZIP, looks_like

PIECE = 64 << 10

#: A bomb is what grows beyond this; below, no ratio matters.
HARMLESS = 10 << 20
#: Bytes by which deflate may be longer than what it packs (and a header of encryption).
_OVERHEAD = 1 << 10
#: Longest name that is told; what is longer is cut at its beginning.
_LONGEST = 500

_END, _ENTRY, _LOCAL = b"PK\5\6", b"PK\1\2", b"PK\3\4"  # 4.3.16, 4.3.12, 4.3.7
_END64, _LOCATOR64, _DESCRIPTOR = b"PK\6\6", b"PK\6\7", b"PK\7\x08"  # 4.3.14, 4.3.15, 4.3.9
_End = struct.Struct("<4s4H2LH")
_Entry = struct.Struct("<4s6H3L5H2L")
_Local = struct.Struct("<4s5H3L2H")
_Locator64 = struct.Struct("<4sLQL")
_End64 = struct.Struct("<4sQ2H2L4Q")

_ENCRYPTED, _UTF8, _MASKED = 1 << 0, 1 << 11, 1 << 13  # 4.4.4
_STORED, _DEFLATED = 0, 8  # 4.4.5
_NAMED = (".zip", ".jar")

#: Documents that are ZIP archives: what ends so, and has a member with such a name, is one file to its reader.
_DOCUMENTS = (
    *(".docx", ".docm", ".dotx", ".dotm", ".xlsx", ".xlsm", ".xltx", ".xltm", ".xlsb", ".pptx", ".pptm", ".potx"),
    *(".ppsx", ".vsdx", ".odt", ".ods", ".odp", ".odg", ".odf", ".ott", ".ots", ".otp", ".epub", ".pages", ".numbers"),
    *(".key", ".xps", ".oxps", ".3mf", ".kmz", ".idml"),
)
_MARKS = ("[Content_Types].xml", "mimetype", "Index/Document.iwa", "3D/3dmodel.model", "doc.kml")


class Broken(Exception):
    """The archive has no sure reading; the text says why."""


class TooMuch(Exception):
    """The archive goes beyond the limits; the text says how."""


class Scratch(Protocol):
    """A file that is written over and over."""

    def write(self, at: int, piece: bytes) -> None: ...

    def read(self, at: int, count: int) -> bytes: ...


class Region(NamedTuple):
    """Bytes of the scratch file: an archive."""

    scratch: Scratch
    start: int
    size: int

    def read(self, at: int, count: int) -> bytes:
        """At most so many from there, none beyond the end."""
        count = min(count, self.size - at)
        return self.scratch.read(self.start + at, count) if at >= 0 and count > 0 else b""

    def exactly(self, at: int, count: int) -> bytes:
        found = self.read(at, count)
        if len(found) != count:
            raise Broken("an archive is cut off")
        return found


class Limits(NamedTuple):
    """For all archives of a message together: within each other, files, bytes unpacked; and times the packed size."""

    depth: int
    files: int
    size: int
    ratio: int


class Tally:
    """What of the limits has been used."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.files = 0
        self.size = 0

    def one_more(self, size: int) -> None:
        self.files += 1
        self.size += size
        if self.files > self.limits.files:
            raise TooMuch(f"archives have more than {self.limits.files} files in them")
        if self.size > self.limits.size:
            raise TooMuch(f"archives are more than {self.limits.size} bytes when they are unpacked")


class Entry(NamedTuple):
    """One file in the archive. at: where its packed bytes begin; end: behind them."""

    name: str
    others: tuple[str, ...]
    flags: int
    method: int
    packed: int
    size: int
    header: int
    at: int

    @property
    def end(self) -> int:
        return self.at + self.packed


class _Directory(NamedTuple):
    """Where the directory lies. shift: what stands ahead of the archive, so that all places in it are wrong by that."""

    start: int
    size: int
    entries: int
    shift: int


def members(archive: Region, tally: Tally, part: int, names: Sequence[str]) -> Iterator[Member]:
    """All files in an archive that is part `part` of a message, those of archives in it behind the archive they are
    in. Broken, TooMuch: behind those that were found by then. names: its own; of a document nothing is told.
    """
    for entry in _files(archive, tally, names):
        yield from _told(archive, tally, part, (), entry)


def _files(archive: Region, tally: Tally, names: Sequence[str]) -> Iterator[Entry]:
    """The entries that are files by themselves. Those of a document count, and are looked at like any other."""
    document = False
    for place, entry in enumerate(_entries(archive, tally)):
        if place == 0:
            document = entry.name in _MARKS and any(_ends(name, _DOCUMENTS) for name in names)
        if not document and (entry.size or not entry.name.endswith("/")):
            yield entry


def _told(archive: Region, tally: Tally, part: int, around: tuple[str, ...], entry: Entry) -> Iterator[Member]:
    encrypted = bool(entry.flags & _ENCRYPTED)
    looks = "" if encrypted else looks_like(_beginning(archive, entry))
    for name in (entry.name, *entry.others):
        yield Member(part, name, entry.size, encrypted, looks, around)
    if not encrypted and entry.packed and (looks == ZIP or _ends(entry.name, _NAMED)):
        if len(around) + 2 > tally.limits.depth:
            raise TooMuch(f"archives lie more than {tally.limits.depth} deep")
        inner = _unpacked(archive, tally, entry)
        for one in _files(inner, tally, (entry.name, *entry.others)):
            yield from _told(inner, tally, part, (*around, entry.name), one)


def _ends(name: str, endings: tuple[str, ...]) -> bool:
    return name.lower().rstrip(" .").endswith(endings)


# --- the directory ----------------------------------------------------------------------------------------------------


def _entries(archive: Region, tally: Tally) -> Iterator[Entry]:
    """Each entry of the directory, held against its own header, in the order of their bytes or not."""
    directory = _directory(archive)
    at, end = directory.start, directory.start + directory.size
    places: list[tuple[int, int]] = []
    unpacked = 0
    for _ in range(directory.entries):
        entry, at = _entry(archive, directory, at, end)
        tally.one_more(entry.size)
        unpacked += entry.size
        if unpacked > max(HARMLESS, archive.size * tally.limits.ratio):
            raise TooMuch(f"an archive becomes more than {tally.limits.ratio} times as large when it is unpacked")
        if entry.size + entry.size // 1000 + _OVERHEAD < entry.packed:
            raise TooMuch("a file in an archive says that it is less than it is packed")
        places.append((entry.header, entry.end))
        yield entry
    if at != end:
        raise Broken("the directory of an archive has more in it than it says")
    _check_places(archive, places, directory.start)


def _directory(archive: Region) -> _Directory:
    tail_at = max(0, archive.size - _End.size - 0xFFFF)
    tail = archive.read(tail_at, archive.size - tail_at)
    found = tail.rfind(_END)
    if found < 0 or len(tail) - found < _End.size:
        raise Broken("an archive has no directory")
    _, disk, first_disk, here, count, size, start, _ = _End.unpack_from(tail, found)
    at = tail_at + found
    small = 0xFFFF not in (disk, here, count) and 0xFFFFFFFF not in (size, start)
    if not small or archive.read(at - _Locator64.size, 4) == _LOCATOR64:
        large = _directory64(archive, at)
        if small and (size, count, start) != (large.size, large.entries, large.start - large.shift):
            raise Broken("an archive has two directories")
        return large
    if disk or first_disk or here != count:
        raise Broken("an archive is split")
    if size > at or start > at - size:
        raise Broken("the directory of an archive is not where it says")
    return _Directory(at - size, size, count, at - size - start)


def _directory64(archive: Region, end: int) -> _Directory:
    """4.3.14: a large archive, or one that likes to look so."""
    locator = archive.read(end - _Locator64.size, _Locator64.size) if end >= _Locator64.size else b""
    if locator[:4] != _LOCATOR64:
        raise Broken("an archive has no directory")
    at = end - _Locator64.size - _End64.size
    record = archive.exactly(at, _End64.size) if at >= 0 else b""
    if record[:4] != _END64:
        raise Broken("an archive has no directory")
    _, length, _, _, disk, first_disk, here, count, size, start = _End64.unpack(record)
    if disk or first_disk or here != count:
        raise Broken("an archive is split")
    if length != _End64.size - 12 or size > at or start > at - size:
        raise Broken("the directory of an archive is not where it says")
    return _Directory(at - size, size, count, at - size - start)


def _entry(archive: Region, directory: _Directory, at: int, end: int) -> tuple[Entry, int]:
    """The entry of the directory at a place, and where the next one is."""
    if at + _Entry.size > end:
        raise Broken("the directory of an archive has less in it than it says")
    fixed = _Entry.unpack(archive.exactly(at, _Entry.size))
    signature, _, _, flags, method, _, _, _, packed, size, named, extra, comment, disk, _, _, header = fixed
    if signature != _ENTRY or at + _Entry.size + named + extra + comment > end:
        raise Broken("the directory of an archive is broken")
    if flags & _MASKED:
        raise Broken("an archive hides the names of its files")
    raw = archive.exactly(at + _Entry.size, named + extra)
    name, extras = raw[:named], raw[named:]
    packed, size, header, disk = _large(extras, packed, size, header, disk)
    if disk:
        raise Broken("an archive is split")
    begin = _local(archive, header + directory.shift, name, flags, method)
    entry = Entry(
        name=_text(name, flags),
        others=_unicode_path(extras, _text(name, flags)),
        flags=flags,
        method=method,
        packed=packed,
        size=size,
        header=header + directory.shift,
        at=begin,
    )
    return entry, at + _Entry.size + named + extra + comment


def _local(archive: Region, at: int, name: bytes, flags: int, method: int) -> int:
    """Where the bytes of a file begin, whose own header says the same of it as the directory."""
    fixed = _Local.unpack(archive.exactly(at, _Local.size))
    signature, its_flags, its_method = fixed[0], fixed[2], fixed[3]
    named: int = fixed[9]
    extra: int = fixed[10]
    if signature != _LOCAL:
        raise Broken("a file of an archive is not where its directory says")
    if archive.exactly(at + _Local.size, named) != name or its_method != method or (its_flags ^ flags) & _ENCRYPTED:
        raise Broken("a file of an archive says something else of itself than the directory")
    return at + _Local.size + named + extra


def _check_places(archive: Region, places: list[tuple[int, int]], end: int) -> None:
    """Files lie one behind the other; between them, and ahead of the first, is none that the directory hides."""
    last = 0
    for start, stop in (*sorted(places), (end, end)):
        if start < last:
            raise TooMuch("files of an archive share their bytes")
        if start > last:
            between = archive.read(last, min(start - last, 28))
            behind = between.find(_LOCAL, 0, 4 + 24)  # behind a descriptor, which may come with its name or without
            if between[:4] == _LOCAL or (behind > 0 and behind in (12, 16, 20, 24)):
                raise Broken("the directory of an archive does not tell of all its files")
        last = stop


# --- fields -----------------------------------------------------------------------------------------------------------


def _extras(extras: bytes) -> Iterator[tuple[int, bytes]]:
    """4.5: (kind, what it holds)."""
    at = 0
    while at + 4 <= len(extras):
        kind, length = struct.unpack_from("<2H", extras, at)
        yield kind, extras[at + 4 : at + 4 + length]
        at += 4 + length


def _large(extras: bytes, packed: int, size: int, header: int, disk: int) -> tuple[int, int, int, int]:
    """4.5.3: figures that do not fit stand in the extra field, in this order."""
    if 0xFFFFFFFF not in (packed, size, header) and disk != 0xFFFF:
        return packed, size, header, disk
    held = next((found for kind, found in _extras(extras) if kind == 1), b"")
    figures = []
    at = 0
    for figure in (size, packed, header):
        if figure == 0xFFFFFFFF:
            if at + 8 > len(held):
                raise Broken("the directory of an archive is broken")
            (figure,) = struct.unpack_from("<Q", held, at)
            at += 8
        figures.append(figure)
    return figures[1], figures[0], figures[2], 0 if disk == 0xFFFF else disk


def _text(name: bytes, flags: int) -> str:
    """4.4.17, appendix D; a name in another alphabet of old is not told from CP437, and stays as long as it is."""
    try:
        text = name.decode() if flags & _UTF8 or not name.isascii() else name.decode("ascii")
    except UnicodeDecodeError:
        text = name.decode("cp437")
    return text[-_LONGEST:]


def _unicode_path(extras: bytes, name: str) -> tuple[str, ...]:
    """4.6.9: another name for the same file, which some programs take."""
    for kind, held in _extras(extras):
        if kind == 0x7075 and len(held) > 5:
            other = held[5:].decode("utf-8", "replace")[-_LONGEST:]
            return (other,) if other != name else ()
    return ()


# --- bytes ------------------------------------------------------------------------------------------------------------


def _beginning(archive: Region, entry: Entry) -> bytes:
    packed = archive.read(entry.at, min(entry.packed, 4 * NEEDED))
    if entry.method == _STORED:
        return packed[:NEEDED]
    if entry.method != _DEFLATED:
        return b""
    try:
        return zlib.decompressobj(-15).decompress(packed, NEEDED)
    except zlib.error:
        return b""


def _unpacked(archive: Region, tally: Tally, entry: Entry) -> Region:
    """An archive in an archive, behind it in the scratch file."""
    if entry.method not in (_STORED, _DEFLATED):
        raise Broken(f"an archive in an archive is packed by method {entry.method}")
    start = archive.start + archive.size
    most = min(entry.size, tally.limits.size)
    written = 0
    for piece in _pieces(archive, entry):
        written += len(piece)
        if written > most:
            raise TooMuch("a file in an archive is more than it says")
        archive.scratch.write(start + written - len(piece), piece)
    if written != entry.size:
        raise Broken("a file in an archive is less than it says")
    return Region(archive.scratch, start, written)


def _pieces(archive: Region, entry: Entry) -> Iterator[bytes]:
    unpacker = zlib.decompressobj(-15) if entry.method == _DEFLATED else None
    for at in range(entry.at, entry.end, PIECE):
        packed = archive.exactly(at, min(PIECE, entry.end - at))
        if unpacker is None:
            yield packed
            continue
        try:
            while packed:
                yield unpacker.decompress(packed, PIECE)
                packed = unpacker.unconsumed_tail
        except zlib.error:
            raise Broken("a file in an archive cannot be unpacked") from None
    if unpacker is not None:
        yield unpacker.flush()  # some hundred bytes: what the last piece had no room for
