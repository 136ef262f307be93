"""Whose mail an entry of the tracking log is about, where it names a message alone: an operator's words, for instance.

Promise:  read-only. Sender and addresses come from the entry of the message's birth; where the log does not have that
          any more, the entry stays as it is. The log is read once more at most, and of it only lines of births.
On crash: nothing is held.
Callers:  kmq.cli.track, kmq.cli.history.
"""

import contextlib
from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec

from kmq.admin import tracked
from kmq.log.tracking import Entry
from kmq.model import queue_id, recipients

_BIRTHS = ("RECEIVE", "TRANSFER", "DSN")


class _Born:
    """sender: of a message; to: its addresses, by place."""

    def __init__(self) -> None:
        self.sender = ""
        self.to: dict[str, None] = {}

    def learn(self, entry: Entry) -> None:
        """From one of the lines of its birth: there are several for more than a hundred recipients."""
        self.sender = entry.sender_address
        self.to.update(dict.fromkeys(entry.recipient_address))


def addressed(folder: Path, found: Sequence[Entry]) -> list[Entry]:
    """The same entries, with sender and addresses."""
    lacking = {entry.internal_message_id for entry in found if _lacks(entry)}
    if not lacking:
        return list(found)
    born = _births(folder, lacking)
    return [_with(entry, born.get(entry.internal_message_id)) if _lacks(entry) else entry for entry in found]


def _lacks(entry: Entry) -> bool:
    named = queue_id.PATTERN.fullmatch(entry.internal_message_id) is not None
    silent = not entry.sender_address and entry.event_id not in _BIRTHS
    return named and (silent or any(map(_places, entry.recipient_address)))


def _places(text: str) -> tuple[int, ...]:
    """`#0-2,5` -> (0, 1, 2, 5); () for an address, which may begin with # as well."""
    with contextlib.suppress(ValueError):
        return recipients.from_text(text[1:]) if text[:1] == "#" else ()
    return ()


def _births(folder: Path, names: set[str]) -> dict[str, _Born]:
    oldest = min(queue_id.created(queue_id.parse(name)) for name in names)
    born: dict[str, _Born] = {}
    for entry in tracked.entries(folder, _Births(names, oldest)):
        born.setdefault(entry.internal_message_id, _Born()).learn(entry)
    return born


class _Births(tracked.Question):
    """Lines of the births of these messages; all others are passed over unread."""

    def __init__(self, names: set[str], oldest: float) -> None:
        super().__init__(since=max(0.0, oldest - 1.0))
        self._names = names

    def answers(self, line: bytes) -> Entry | None:
        if not any(one in line for one in _MARKS):
            return None
        entry = tracked.read(line)
        wanted = entry is not None and entry.event_id in _BIRTHS and entry.internal_message_id in self._names
        return entry if wanted else None


_MARKS = tuple(f'"event-id":"{one}"'.encode() for one in _BIRTHS)


def _with(entry: Entry, born: _Born | None) -> Entry:
    if born is None:
        return entry
    to = list(_addresses(entry.recipient_address, list(born.to)))
    if not to and len(born.to) == 1:
        to = list(born.to)
    sender = entry.sender_address or born.sender
    return msgspec.structs.replace(entry, sender_address=sender, recipient_address=to)


def _addresses(to: Iterable[str], known: Sequence[str]) -> Iterable[str]:
    for one in to:
        places = _places(one)
        if places and places[-1] < len(known):
            yield from (known[place] for place in places)
        else:
            yield one
