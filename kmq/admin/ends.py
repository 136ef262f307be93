"""What the mail log says of messages since a moment: which recipients have come to their end, and what was removed.

Promise:  memory for the messages that are asked for, not for the whole log. What the log does not say did not happen,
          as far as is known here: such a recipient gets its mail (again).
Callers:  kmq.cli.restore.
"""

from collections.abc import Collection, Iterable

from kmq.admin.maillog import Entry
from kmq.model import moment, recipients
from kmq.model.envelope import Head, State
from kmq.model.event import Delivered, Discarded, Event, Expanded, Failed, Removed, Replaced

_ENDS = frozenset({"delivered", "failed", "expired", "expanded", "removed", "discarded", "replaced"})


class Ends:
    """The ends of some messages."""

    def __init__(self, entries: Iterable[Entry], ids: Collection[str]) -> None:
        self._found: dict[str, list[Entry]] = {}
        self._removed: set[str] = set()
        for entry in entries:
            if entry.id not in ids:
                continue
            if entry.word == "removed" and "rcpt" not in entry.keys:
                self._removed.add(entry.id)
            elif entry.word in _ENDS:
                self._found.setdefault(entry.id, []).append(entry)

    def since(self, head: Head, state: State) -> list[Event] | None:
        """Events for recipients that were open then; None when an operator removed the message."""
        if head.id in self._removed:
            return None
        events: list[Event] = []
        left = set(state.open)
        for entry in self._found.get(head.id, ()):
            ended = left & _indices(entry, head)
            if ended:
                events.append(_event(entry, sorted(ended), state))
                left -= ended
        return events


def _indices(entry: Entry, head: Head) -> set[int]:
    """The recipients that a line is about: by address, or by their places where a worker died."""
    if "rcpt" in entry.keys:
        try:
            return set(recipients.from_text(entry.keys["rcpt"]))
        except ValueError:
            return set()
    to = entry.keys.get("to", "")
    return {index for index, one in enumerate(head.recipients) if one.address == to}


def _event(entry: Entry, ended: list[int], state: State) -> Event:
    keys = entry.keys
    rcpt, at = recipients.as_text(ended), moment.as_text(entry.at)
    if entry.word == "removed":
        return Removed(at=at, rcpt=rcpt, by=keys.get("by", ""), reason=keys.get("reason", ""))
    by, reason = keys.get("by", ""), keys.get("reason", "")
    if entry.word == "discarded":
        return Discarded(at=at, rcpt=rcpt, by=by, reason=reason)
    if entry.word == "replaced":
        return Replaced(at=at, rcpt=rcpt, child=keys.get("child", ""), by=by, reason=reason)
    attempt = max(state.results[index] for index in ended) + 1
    reply, host = keys.get("reply", ""), keys.get("relay", "")
    if entry.word == "delivered":
        return Delivered(at=at, rcpt=rcpt, attempt=attempt, reply=reply, host=host)
    if entry.word == "expanded":
        return Expanded(at=at, rcpt=rcpt, child=keys.get("child", ""), rule="from the mail log")
    return Failed(at=at, rcpt=rcpt, attempt=attempt, reply=reply, host=host, notice=keys.get("notice", ""))
