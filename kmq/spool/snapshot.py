"""A copy of the queue and of poison/ beside the spool, taken while kmqd works or rests.

Shape:    the same folders as in the spool: queue/<gen>/<id>.eml|.env, poison/..., state/...; and last of all
          `snapshot.json`, so that one without it is not whole. A body is never rewritten, so it is linked where that
          can be done, and copied where not; an envelope grows, so it is always copied.
Promise:  each message is in it whole, as it was at one moment between the beginning and the end; one that was
          delivered meanwhile may be in it or not. Nothing in the spool is changed. All of it is synced at the end.
On crash: there is no `snapshot.json`: take another one.
Callers:  kmq.cli.snapshot, which has asked kmqd to bring its files up to its journal, or holds its locks.
"""

import errno
import json
import os
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from kmq.errors import SpoolError
from kmq.model import moment, queue_id
from kmq.model.envelope import fold
from kmq.spool import kept, layout
from kmq.spool.disk import Disk

MANIFEST = "snapshot.json"
VERSION = 1
_PIECE = 1 << 20


class Saved(NamedTuple):
    """A message in the copy. why: what is wrong with it, "" when all is well; then it is in it as it was."""

    id: str
    home: str
    size: int
    why: str = ""


def take(spool: Path, folder: Path, hostname: str) -> Iterator[Saved]:
    """Each message as it is saved. SpoolError when the folder cannot be used."""
    source, target = Disk(spool), _target(spool, folder)
    try:
        counts = {"queue": 0, "poison": 0}
        seen: set[str] = set()
        began = time.time()
        # What moves from one home to the other meanwhile is met in one of the three.
        for home in ("queue", "poison", "queue"):
            for place in _folders(source, home):
                for saved in _folder(source, target, place, home, seen):
                    counts[home] += 1
                    yield saved
        _state(source, target)
        target.sync_all()
        _sign(target, {"hostname": hostname, "spool": str(spool), "created": moment.as_text(began), **counts})
    finally:
        source.close()
        target.close()


def created(folder: Path) -> float:
    """When a snapshot was begun, Unix time; SpoolError when the folder holds none that is whole."""
    try:
        found = json.loads((folder / MANIFEST).read_bytes())
        if found["kmq"] != "snapshot" or found["version"] > VERSION:
            raise SpoolError(f"{folder} was made by a later kmq")
        return moment.from_text(found["created"])
    except FileNotFoundError:
        raise SpoolError(f"{folder} is no snapshot, or one that was not finished: it has no {MANIFEST}") from None
    except OSError as error:
        raise SpoolError(f"{folder / MANIFEST}: {error.strerror}") from None
    except (ValueError, KeyError, TypeError):
        raise SpoolError(f"{folder / MANIFEST} is damaged") from None


def _target(spool: Path, folder: Path) -> Disk:
    """A new folder, or an empty one, that is not in the spool."""
    if folder.resolve().is_relative_to(spool.resolve()):
        raise SpoolError(f"{folder} is in the spool: a snapshot goes elsewhere")
    try:
        folder.mkdir(mode=0o700)
    except FileExistsError:
        if not folder.is_dir() or any(folder.iterdir()):
            raise SpoolError(f"{folder} is there already, and not an empty folder: name a new one") from None
    except OSError as error:
        raise SpoolError(f"{folder} cannot be made: {error.strerror}") from None
    disk = Disk(folder)
    for home in layout.HOMES:
        disk.make_folder(home)
    return disk


def _state(source: Disk, target: Disk) -> None:
    """Suspended queues and GUIDs of connectors."""
    target.make_folder(kept.FOLDER)
    for name in kept.FILES:
        lines, _ = kept.read(source, name)
        if lines:
            kept.replace(target, name, lines)


def _folders(source: Disk, home: str) -> list[str]:
    if home == "poison":
        return [home]
    return [f"queue/{name}" for name in sorted(source.names("queue")) if name[:1] != "."]


def _folder(source: Disk, target: Disk, place: str, home: str, seen: set[str]) -> Iterator[Saved]:
    try:
        names = sorted(source.names(place))
    except (FileNotFoundError, NotADirectoryError):
        return  # emptied meanwhile, or a stray file
    files: dict[str, list[str]] = {}
    for name in names:
        if queue_id.PATTERN.fullmatch(name[: queue_id.LENGTH]) and name[queue_id.LENGTH :][:1] == ".":
            files.setdefault(name[: queue_id.LENGTH], []).append(name)
    for stem, found in files.items():
        if stem in seen or (home == "queue" and f"{stem}.env" not in found):
            continue
        try:
            saved = _save(source, target, place, stem, found)
        except FileNotFoundError:  # delivered, or moved: then it is met elsewhere
            _forget(target, place, found)
            continue
        seen.add(stem)
        yield saved._replace(home=home)


def _save(source: Disk, target: Disk, place: str, stem: str, names: list[str]) -> Saved:
    """The envelope is read first and written last: a name that counts means that the body is there."""
    envelope = source.read(f"{place}/{stem}.env") if f"{stem}.env" in names else b""
    whole = fold(envelope)
    if target.status(place) is None:
        target.make_folder(place)
    size = 0
    for name in names:
        if not name.endswith(".env") and not name.endswith(".new"):
            size = max(size, _body(source, target, f"{place}/{name}"))
    for name in names:
        if name.endswith(".env"):
            text = envelope if name == f"{stem}.env" else source.read(f"{place}/{name}")
            _write(target, f"{place}/{name}", text)
    if whole is None:
        return Saved(stem, "", size, "its envelope is damaged, or missing")
    return Saved(stem, "", size, "" if size == whole[0].size else "its body is not as long as its envelope says")


def _forget(target: Disk, place: str, names: list[str]) -> None:
    for name in names:
        if target.status(f"{place}/{name}") is not None:
            target.unlink(f"{place}/{name}")


def _body(source: Disk, target: Disk, name: str) -> int:
    """A file that nobody changes any more; its length."""
    found = source.status(name)
    if found is None:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), name)
    if not stat.S_ISREG(found.st_mode):
        return 0
    try:
        os.link(name, name, src_dir_fd=source.fd, dst_dir_fd=target.fd, follow_symlinks=False)
    except OSError as error:
        if error.errno not in (errno.EXDEV, errno.EPERM, errno.EMLINK, errno.EOPNOTSUPP):
            raise
        fd = target.create(name)
        try:
            for piece in source.pieces(name):
                target.write(fd, piece)
        finally:
            target.close_file(fd)
    return found.st_size


def _write(target: Disk, name: str, text: bytes) -> None:
    fd = target.create(name)
    try:
        target.write(fd, text)
    finally:
        target.close_file(fd)


def _sign(target: Disk, facts: dict[str, object]) -> None:
    """The last word, durable when it can be read."""
    text = json.dumps({"kmq": "snapshot", "version": VERSION, **facts}, indent=1).encode() + b"\n"
    fd = target.create(f"{MANIFEST}.new")
    try:
        target.write(fd, text)
        target.sync(fd)
    finally:
        target.close_file(fd)
    target.rename(f"{MANIFEST}.new", MANIFEST)
    target.sync_folder(".")
