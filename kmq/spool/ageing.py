"""Folders of archived mail whose period is over: each becomes one compressed file, and goes when it is old.

Promise:  the compressed file is written beside the folder as `<period>.tar.gz.new`, read back and compared, synced and
          renamed; only then the files that are in it go. What came later into such a folder is added to it the next
          time. A file that cannot be read, or that archiving did not make, stays where it is. Memory is bounded by a
          piece; `stop` is asked between two of them.
On crash: begun again; what is in the compressed file already is not added twice.
Callers:  run.archive_age, in a thread.
"""

import calendar
import contextlib
import gzip
import os
import re
import stat
import tarfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import IO, NamedTuple
from zlib import crc32

from kmq.spool.strays import PERIOD

COMPRESSED = ".tar.gz"
NEW = ".new"
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_WRITE = os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = re.compile(r"[0-9a-f]{8}-[0-9a-f]{8}\.(?:env|eml)")
#: What a run that was cut left: `<id>.eml.new`; after so many seconds nobody writes it any more.
_HALF = re.compile(_FILE.pattern + r"\.new")
_ABANDONED = 86400.0
_LEVEL = 6


class Stopped(Exception):
    """The process ends; the rest is for the next one."""


class Aged(NamedTuple):
    """What became of a folder, or of its compressed file. messages: that were added, or that a folder had; left: files
    that stay where they are."""

    name: str
    compressed: bool
    messages: int = 0
    left: int = 0


@dataclass(slots=True)
class _Sums:
    """Name in the compressed file -> size and CRC-32."""

    of: dict[str, tuple[int, int]] = field(default_factory=dict)


def end_of(period: str) -> float:
    """The moment, Unix time, at which a period is over; ValueError when it is none: 2026-13-40."""
    year = int(period[:4])
    if "W" in period:
        end = date.fromisocalendar(year, int(period[6:]), 1) + timedelta(days=7)
    elif len(period) == 7:
        end = (date(year, int(period[5:]), 1) + timedelta(days=31)).replace(day=1)
    else:
        end = date.fromisoformat(period) + timedelta(days=1)
    return float(calendar.timegm(end.timetuple()))


def over(root: str, moment: float) -> list[str]:
    """Names of folders and compressed files whose period had ended by then, oldest first. OSError."""
    found = []
    for name in os.listdir(root):
        period = name.removesuffix(COMPRESSED)
        if PERIOD.fullmatch(period):
            with contextlib.suppress(ValueError, OverflowError):
                if (end := end_of(period)) <= moment:
                    found.append((end, name))
    return [name for _, name in sorted(found)]


def compress(root: str, period: str, stop: Callable[[], bool]) -> Aged | None:
    """One folder; None when there is nothing in it to compress. OSError: all is as before; Stopped."""
    above = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        folder = os.open(period, _FOLDER, dir_fd=above)
        try:
            names = _names(folder)
            if names:
                return _compress(above, folder, period, names, stop)
            with contextlib.suppress(OSError):  # somebody's files
                os.rmdir(period, dir_fd=above)
            return None
        finally:
            os.close(folder)
    finally:
        os.close(above)


def _names(folder: int) -> list[str]:
    """What archiving made; leavings of runs that were cut go."""
    found = sorted(os.listdir(folder))
    for name in found:
        if _HALF.fullmatch(name):
            with contextlib.suppress(OSError):
                if os.stat(name, dir_fd=folder, follow_symlinks=False).st_mtime < time.time() - _ABANDONED:
                    os.unlink(name, dir_fd=folder)
    return [name for name in found if _FILE.fullmatch(name)]


def _compress(above: int, folder: int, period: str, names: list[str], stop: Callable[[], bool]) -> Aged:
    final = period + COMPRESSED
    known = _members(above, final, stop)
    fresh = [name for name in names if not _is_in(known, folder, f"{period}/{name}", name)]
    if fresh:
        sums = _Sums()
        try:
            _write(above, folder, period, fresh, sums, stop)
            if _members(above, final + NEW, stop).of != sums.of:
                raise OSError(5, "what was compressed is not what was to be", final)
            os.rename(final + NEW, final, src_dir_fd=above, dst_dir_fd=above)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(final + NEW, dir_fd=above)
            raise
        known = sums
    os.fsync(above)
    gone = _unlink(folder, period, names, known)
    with contextlib.suppress(OSError):  # what cannot be read, what came meanwhile, what somebody put there
        os.rmdir(period, dir_fd=above)
    added = [name for name in fresh if name.endswith(".eml") and f"{period}/{name}" in known.of]
    return Aged(final, True, len(added), len(names) - gone)


def _members(above: int, name: str, stop: Callable[[], bool]) -> _Sums:
    """What a compressed file holds, every byte of it read; nothing when there is none. OSError when it is damaged."""
    sums = _Sums()
    try:
        fd = os.open(name, _READ, dir_fd=above)
    except FileNotFoundError:
        return sums
    with open(fd, "rb") as file:
        for member, text in _each(file, name):
            sums.of[member.name] = member.size, _sum(text, stop)
    return sums


def _each(file: IO[bytes], name: str) -> Iterator[tuple[tarfile.TarInfo, IO[bytes]]]:
    """The regular files in a compressed file."""
    try:
        with tarfile.open(fileobj=file, mode="r|gz") as tar:
            for member in tar:
                if member.isreg() and (text := tar.extractfile(member)) is not None:
                    yield member, text
    except (tarfile.TarError, EOFError, gzip.BadGzipFile) as damage:
        raise OSError(5, f"it is damaged: {damage}", name) from damage


def _sum(text: IO[bytes], stop: Callable[[], bool]) -> int:
    total = 0
    while piece := text.read(1 << 18):
        total = crc32(piece, total)
        if stop():
            raise Stopped
    return total


def _is_in(known: _Sums, folder: int, member: str, name: str) -> bool:
    there = known.of.get(member)
    return there is not None and os.stat(name, dir_fd=folder, follow_symlinks=False).st_size == there[0]


def _write(above: int, folder: int, period: str, names: list[str], sums: _Sums, stop: Callable[[], bool]) -> None:
    """The compressed file as it will be: what it had before, then what is added."""
    final = period + COMPRESSED
    fd = os.open(final + NEW, _WRITE, 0o600, dir_fd=above)
    with open(fd, "wb") as file:
        with (
            gzip.GzipFile(filename="", mode="wb", compresslevel=_LEVEL, fileobj=file, mtime=0) as packed,
            tarfile.open(fileobj=packed, mode="w|", format=tarfile.PAX_FORMAT) as tar,
        ):
            replaced = {f"{period}/{name}" for name in names}
            with contextlib.suppress(FileNotFoundError), open(os.open(final, _READ, dir_fd=above), "rb") as before:
                for member, text in _each(before, final):
                    if member.name not in replaced:
                        _add(tar, member, text, sums, stop)
            for name in names:
                _add_file(tar, folder, period, name, sums, stop)
        file.flush()
        os.fsync(file.fileno())


def _add_file(tar: tarfile.TarFile, folder: int, period: str, name: str, sums: _Sums, stop: Callable[[], bool]) -> None:
    try:
        fd = os.open(name, _READ, dir_fd=folder)
    except OSError:
        return  # a link, or nothing that may be read: it stays
    with open(fd, "rb") as file:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode):
            return
        member = tarfile.TarInfo(f"{period}/{name}")
        member.size, member.mtime, member.mode = found.st_size, found.st_mtime, 0o600
        member.uid, member.gid = found.st_uid, found.st_gid
        _add(tar, member, file, sums, stop)


class _Counted:
    """A file whose checksum is known when it has been read."""

    def __init__(self, file: IO[bytes], stop: Callable[[], bool]) -> None:
        self._file = file
        self._stop = stop
        self.sum = 0

    def read(self, count: int = -1) -> bytes:
        if self._stop():
            raise Stopped
        piece = self._file.read(count)
        self.sum = crc32(piece, self.sum)
        return piece


def _add(tar: tarfile.TarFile, member: tarfile.TarInfo, file: IO[bytes], sums: _Sums, stop: Callable[[], bool]) -> None:
    counted = _Counted(file, stop)
    tar.addfile(member, counted)
    sums.of[member.name] = member.size, counted.sum


def _unlink(folder: int, period: str, names: list[str], known: _Sums) -> int:
    """What is in the compressed file goes, the envelope of a message first; -> how many files."""
    gone = 0
    for name in sorted(names, key=lambda name: not name.endswith(".env")):
        if f"{period}/{name}" in known.of:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(name, dir_fd=folder)
            gone += 1
    return gone


def remove(root: str, name: str, stop: Callable[[], bool]) -> Aged:
    """A folder, or a compressed file, for good. OSError; Stopped. Files that archiving did not make stay, and so does
    their folder."""
    above = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if name.endswith(COMPRESSED):
            os.unlink(name, dir_fd=above)
            return Aged(name, True)
        folder = os.open(name, _FOLDER, dir_fd=above)
        try:
            return _empty(above, folder, name, stop)
        finally:
            os.close(folder)
    finally:
        os.close(above)


def _empty(above: int, folder: int, name: str, stop: Callable[[], bool]) -> Aged:
    names = sorted(_names(folder), key=lambda one: not one.endswith(".env"))
    for one in names:
        if stop():
            raise Stopped
        os.unlink(one, dir_fd=folder)
    left = len(os.listdir(folder))
    with contextlib.suppress(OSError):
        os.rmdir(name, dir_fd=above)
    return Aged(name, False, sum(one.endswith(".eml") for one in names), left)
