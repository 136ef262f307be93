"""The tracking log read back: what happened to mail, selected by time and filter. kmq-tracking(5)

Promise:  read-only, without kmqd. A line that is torn, or not ours, is passed over. Files outside the time are not
          opened; of the newest entries only as many files are read as it takes. Memory is that of the entries wanted.
On crash: nothing is held.
Callers:  kmq.cli (track, history), kmq.admin.hindsight.
"""

import os
from collections.abc import Iterable, Iterator
from heapq import nlargest
from pathlib import Path

import msgspec

from kmq.admin.filter_match import matcher
from kmq.admin.filter_tree import Both, Comparison, Node, parse
from kmq.admin.filter_values import Kind
from kmq.admin.tracked_names import READINGS, TABLE
from kmq.errors import KmqError
from kmq.log.tracking import Entry
from kmq.log.tracking_files import ended_by, names
from kmq.model import moment, queue_id

#: Bytes of a line; a longer one is not ours.
_LONGEST = 1 << 20
#: Seconds by which a line may come later than what it tells of.
_GATHERED = 5.0

_decode = msgspec.json.Decoder(Entry).decode


class Properties(dict[str, object]):
    """The properties of an entry, each read when it is asked for."""

    def __init__(self, entry: Entry) -> None:
        self._entry = entry

    def get(self, name: str, default: object = None) -> object:
        return READINGS[name](self._entry)


class Question:
    """What is asked for: a filter (FilterError), since and until as Unix times, and messages by ID (none: all)."""

    def __init__(
        self, filter: str = "", since: float = 0.0, until: float = float("inf"), ids: Iterable[str] = ()
    ) -> None:
        tree = parse(filter, TABLE)
        self.since = since
        self.until = until
        self._first = moment.as_text(since) if since > 0 else ""
        self._last = moment.as_text(until) if until < 1e11 else "~"
        self._matches = matcher(tree) if tree is not None else None
        self._needles = needles(tree)
        self._ids = [one.encode() for one in ids]

    def answers(self, line: bytes) -> Entry | None:
        """The entry of a line that is asked for."""
        if self._ids and not any(one in line for one in self._ids):
            return None
        if self._needles:
            lower = line.lower()
            if not all(one in lower for one in self._needles):
                return None
        entry = read(line)
        if entry is None or not self._first <= entry.date_time <= self._last:
            return None
        return entry if self._matches is None or self._matches(Properties(entry)) else None


def needles(tree: Node | None) -> list[bytes]:
    """What must stand in a line, in lower case, for the filter to match: most lines need not be understood then."""
    if isinstance(tree, Both):
        return [needle for part in tree.parts for needle in needles(part)]
    if isinstance(tree, Comparison) and tree.operator in ("-eq", "-like", "-contains") and len(tree.values) == 1:
        name, value = tree.property.name, tree.values[0]
        if (
            isinstance(value, str)
            and name != "MessageSubject"
            and tree.property.kind in (Kind.TEXT, Kind.LIST, Kind.WORDS)
        ):
            plain = (part for part in value.lower().split("*") if part.isascii() and part.isprintable())
            return [part.encode() for part in plain if part and '"' not in part and "\\" not in part]
    return []


def read(line: bytes) -> Entry | None:
    """The entry of its line; None when it is torn, or none of ours."""
    try:
        return _decode(line)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None


def entries(folder: Path, question: Question) -> Iterator[Entry]:
    """All that is asked for, file by file, the oldest first. KmqError when the log cannot be read."""
    for name in _files(folder, question):
        yield from _of_file(folder / name, question)


def newest(folder: Path, question: Question, limit: int) -> list[Entry]:
    """The last `limit` of them, in order of time."""
    found: list[Entry] = []
    for name in reversed(_files(folder, question)):
        found += nlargest(limit, _of_file(folder / name, question), key=_time)
        if len(found) >= limit:
            break
    return sorted(found, key=_time)[-limit:]


def about(folder: Path, name: str) -> list[Entry]:
    """Everything about one message, in order of time; [] when there is no log any more."""
    since = queue_id.created(queue_id.parse(name)) - _GATHERED
    try:
        return sorted(entries(folder, Question(since=since, ids=[name])), key=_time)
    except KmqError:
        return []


def _time(entry: Entry) -> str:
    return entry.date_time


def _files(folder: Path, question: Question) -> list[str]:
    try:
        there = names(folder)
    except PermissionError:
        raise KmqError(f"{folder}: this user may not read it; ask as root or as one of kmqd's group") from None
    except OSError as error:
        raise KmqError(f"{folder}: {error.strerror}: is there a tracking log? [kmq] tracking_log says where") from None
    return [
        name
        for name in there
        if ended_by(name) + _GATHERED >= question.since and ended_by(name) - 3600 <= question.until + _GATHERED
    ]


def _of_file(path: Path, question: Question) -> Iterator[Entry]:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return  # taken away for its age meanwhile
    except OSError as error:
        raise KmqError(f"{path}: {error.strerror}") from None
    with open(fd, "rb", buffering=1 << 18) as file:
        while line := file.readline(_LONGEST):
            entry = question.answers(line)
            if entry is not None:
                yield entry
