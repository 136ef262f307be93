"""What lies in queue/ and poison/ and belongs to no message: found after a crash, by name.

Promise:  what kmq itself left half done goes; what may be mail is set aside in poison/; what kmq did not make (folders,
          FIFOs, links, an editor's backup) is left alone and cannot stop the start.
On crash: done again by the next recovery.
Callers:  recovery.
"""

import contextlib
import re
import stat
from collections.abc import Container, Iterable, Iterator

from kmq.model import queue_id
from kmq.spool import layout
from kmq.spool.aside import set_aside
from kmq.spool.disk import Disk

_NAME = re.compile(r"([0-9a-f]{8}-[0-9a-f]{8})\.(env|eml|put|env\.new|eml\.new)")
_FOLDER = re.compile(r"[0-9a-f]{5}-[0-9a-f]{4}")
#: The folder of a day below sent/.
DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
#: A folder below backup/: of a day, a week, or a month.
PERIOD = re.compile(r"[0-9]{4}-(?:[0-9]{2}-[0-9]{2}|W[0-9]{2}|[0-9]{2})")


def names(disk: Disk, home: str) -> Iterator[tuple[int, str, str]]:
    """(ID, ending, path) of everything in a home that bears a message's name, at the place where it should be."""
    entries = disk.walk("queue") if home == "queue" else (("poison", name) for name in disk.names("poison"))
    for folder, name in entries:
        match = _NAME.fullmatch(name)
        if match:
            number = queue_id.parse(match[1])
            if folder == layout.folder(number, home):
                yield number, match[2], f"{folder}/{name}"


def sweep(disk: Disk, traced: Container[int], plain: bool) -> list[str]:
    """Temporary names go; a body that has neither envelope nor record is set aside, a sentence each.

    plain: the last run kept no journal. There such a body is one that was never accepted, or is removed, and goes.
    """
    aside = []
    for home in layout.HOMES:
        for number, ending, path in _odd(disk, home):
            if ending in ("env.new", "eml.new", "put"):
                _unlink_file(disk, path)
            elif ending == "eml" and number not in traced and _alone(disk, path):
                if plain:
                    disk.unlink(path)
                elif home == "queue":
                    set_aside(disk, number, "a body without an envelope")
                    aside.append(f"{path}: a body without an envelope")
    return aside


def sweep_kept(disk: Disk, places: Iterable[str]) -> None:
    """Temporary names that a recovery which was cut left in folders of sent/ and backup/, where it made messages."""
    for place in places:
        for name in disk.names(place):
            if name.endswith(".new"):
                _unlink_file(disk, f"{place}/{name}")


def _odd(disk: Disk, home: str) -> list[tuple[int, str, str]]:
    """Of `names` those that are not one half of a pair. A million pairs cost a look into a set each, and no look at the
    disk: no mail is taken in meanwhile."""
    found = []
    for folder in (f"queue/{name}" for name in disk.names("queue")) if home == "queue" else ("poison",):
        with contextlib.suppress(NotADirectoryError):
            there = set(disk.names(folder))
            alone = [
                name
                for name in there
                if name[-4:] != ".env" and (name[-4:] != ".eml" or f"{name[:-4]}.env" not in there)
            ]
            for name in alone:
                match = _NAME.fullmatch(name)
                if match and folder == layout.folder(number := queue_id.parse(match[1]), home):
                    found.append((number, match[2], f"{folder}/{name}"))
    return sorted(found)


def _alone(disk: Disk, path: str) -> bool:
    """A body without an envelope, and without a reason beside it (what was set aside has one)."""
    beside = (path[:-4] + ending for ending in (".env", ".reason"))
    return _is_file(disk, path) and not any(map(disk.status, beside))


def _is_file(disk: Disk, path: str) -> bool:
    found = disk.status(path)
    return found is not None and stat.S_ISREG(found.st_mode)


def _unlink_file(disk: Disk, path: str) -> None:
    if _is_file(disk, path):
        disk.unlink(path)


def sweep_folders(disk: Disk) -> None:
    """Folders of the queue that nothing is in any more; only between a syncfs and the next effect (J3)."""
    for folder in disk.names("queue"):
        if _FOLDER.fullmatch(folder):
            with contextlib.suppress(OSError):  # most are not empty
                disk.remove_folder(f"queue/{folder}")


def newest_ids(disk: Disk) -> list[int]:
    """The newest IDs that lie there (the checkpoint may be lost with a damaged disk)."""
    folders = [folder for folder in disk.names("queue") if _FOLDER.fullmatch(folder)]
    newest = max(folders, default="")
    found = [number for number, _, _ in names(disk, "poison")]
    with contextlib.suppress(NotADirectoryError):
        for name in reversed(disk.names(f"queue/{newest}") if newest else []):
            if match := _NAME.fullmatch(name):
                found.append(queue_id.parse(match[1]))
                break
    return found


def newest_kept(disk: Disk) -> int:
    """The newest ID of the last day in sent/, and of the last folder in backup/; 0 when nothing is kept."""
    days = [f"{layout.SENT}/{name}" for name in disk.names(layout.SENT) if DAY.fullmatch(name)]
    periods = [f"{layout.BACKUP}/{name}" for name in disk.names(layout.BACKUP) if PERIOD.fullmatch(name)]
    stems = (name[: queue_id.LENGTH] for place in (days[-1:] + periods[-1:]) for name in disk.names(place))
    return max((queue_id.parse(stem) for stem in stems if queue_id.PATTERN.fullmatch(stem)), default=0)


def poisoned(disk: Disk) -> set[int]:
    """The messages that live in poison/."""
    return {number for number, ending, _ in names(disk, "poison") if ending == "env"}
