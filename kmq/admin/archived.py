"""Archived mail, as an operator asks for it: what there is, and copies of it as files for the Replay directory.

What:     the filter language of the queue's messages over what an archived envelope says, and Place: the folder, or the
          compressed file, in which it lies.
Promise:  looks only, but for the files that `copies` makes; works while kmqd is stopped. FilterError (exit status 2)
          for a mistake in a filter. A body is copied only when it is what was accepted (SHA-256).
On crash: a file is there whole or not at all.
Callers:  kmq.cli.archive.
"""

import hashlib
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, NamedTuple

from kmq.admin.bygone import properties_of
from kmq.admin.exporting import Folder
from kmq.admin.filter_match import matcher
from kmq.admin.filter_names import MESSAGE, Property, Table
from kmq.admin.filter_tree import parse
from kmq.admin.filter_values import Kind
from kmq.admin.listing import utc
from kmq.spool import archive_look
from kmq.spool.archive_look import Archived
from kmq.spool.index_rows import header_row, unix
from kmq.spool.look import Damaged, Found

#: Of a message's properties those that an archived envelope says.
_SAME = (
    *("Created", "Directionality", "EnvelopeId", "FromAddress", "Helo", "Id", "InternetMessageId"),
    *("MessageSourceName", "OriginalFromAddress", "Priority", "RecipientCount", "Recipients", "SCL", "Size"),
    *("SourceIP", "Subject", "User"),
)
_PIECE = 1 << 20

ARCHIVED = Table(
    "an archived message",
    [
        *(one for one in MESSAGE.properties if one.name in _SAME),
        Property("Place", Kind.TEXT, "the folder, or the compressed file, in which it lies"),
    ],
)


class Wanted(NamedTuple):
    """filter: in the filter language; since, until: Unix times of arrival; ids: those alone, all when empty."""

    filter: str = ""
    since: float = 0.0
    until: float = float("inf")
    ids: frozenset[str] = frozenset()


class Row(NamedTuple):
    """A message. plain: as properties are compared, times in Unix time."""

    found: Found
    place: str
    plain: Mapping[str, object]

    @property
    def properties(self) -> Mapping[str, object]:
        """By Exchange's names; times in RFC 3339."""
        told = {name: None if one == "" else one for name, one in self.plain.items()}
        created = self.plain["Created"]
        assert isinstance(created, float)
        return {**told, "FromAddress": self.found.head.sender, "Created": utc(created)}


def rows(root: Path, wanted: Wanted, now: float) -> Iterator[Row | Damaged]:
    """What matches, oldest period first; what is damaged comes along, since nobody knows whether it would match."""
    matches: Callable[[Mapping[str, object]], bool] = matcher(parse(wanted.filter, ARCHIVED, now))
    for one in archive_look.walk(root, wanted.since, wanted.until):
        if isinstance(one, Damaged):
            if not wanted.ids or one.id in wanted.ids or not one.id:
                yield one
            continue
        head = one.found.head
        if wanted.ids and head.id not in wanted.ids:
            continue
        if wanted.since <= unix(head.created) <= wanted.until and matches(plain := _plain(one)):
            yield Row(one.found, one.place, plain)


def _plain(one: Archived) -> dict[str, object]:
    to = [recipient.address for recipient in one.found.head.recipients]
    plain = properties_of(one.found, header_row(one.header()))
    return {**plain, "Recipients": to, "RecipientCount": len(to), "Place": one.place}


def copies(root: Path, found: Sequence[Row], folder: Folder, owner: os.stat_result) -> Iterator[tuple[str, str]]:
    """Each message as a file for the Replay directory, to all its recipients; -> its ID, and why there is none."""
    places: dict[str, dict[str, Row]] = {}
    for row in found:
        places.setdefault(row.place, {})[row.found.head.id] = row
    for place, wanted in places.items():
        left = dict(wanted)
        try:
            for id_, body in archive_look.bodies(root, place, set(wanted)):
                if id_ in left:
                    yield id_, _copy(left.pop(id_).found, body, folder, owner)
        except OSError as error:
            yield from ((id_, f"{place} cannot be read: {error.strerror}") for id_ in left)
            continue
        yield from ((id_, f"its body is not in {place}") for id_ in left)


def _copy(found: Found, body: IO[bytes], folder: Folder, owner: os.stat_result) -> str:
    with tempfile.TemporaryDirectory(prefix="kmq-") as passing:
        total = hashlib.sha256()
        with open(os.path.join(passing, f"{found.head.id}.eml"), "wb") as file:
            while piece := body.read(_PIECE):
                total.update(piece)
                file.write(piece)
        if total.hexdigest() != found.head.sha256:
            return "its body is not what was accepted"
        here = Found(Path(passing), found.home, found.head, found.state, found.events)
        try:
            folder.write(here, range(len(found.head.recipients)), owner)
        except FileExistsError:
            return f"{found.head.id}.eml is there already"
        except OSError as error:
            return f"its file cannot be made: {error.strerror}"
    return ""
