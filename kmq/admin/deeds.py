"""The administrators' log: what was asked over one connection, as one line of the mail log for each command.

What:     a command on many messages comes in parts (verbs.IDS_LIMIT); parts of the same verb, with the same reason and
          chosen by the same words, are one line. Looks are not told.
Promise:  tells of answers that were given. Counts are those of the lines that the operator heard.
On crash: the line of a command that was cut off is lost; the events in the envelopes are not.
Callers:  admin.control, one for each connection.
"""

from collections.abc import Mapping

from kmq.admin.verbs import Arguments
from kmq.log import mail
from kmq.model.outcome import DONE, GONE, PENDING, SKIPPED

_SHOWN = ("queue", "connector", "selection", "reason")


class Deeds:
    """What one user does over one connection."""

    def __init__(self, uid: int) -> None:
        self._by = f"uid {uid}"
        self._what: dict[str, str] = {}
        self._counts: dict[str, int] = {}
        self._exit = DONE

    def begin(self, verb: str, arguments: Arguments) -> None:
        """A question that changes something; what was asked before is told, unless this is its next part."""
        what = {"verb": verb} | {name: str(arguments[name]) for name in _SHOWN if arguments.get(name)}
        if arguments.get("all"):
            what["selection"] = "--all"
        if what != self._what:
            self.tell()
            self._what = what
        names = arguments.get("ids")
        if isinstance(names, list):
            self._count("count", len(names))

    def heard(self, line: Mapping[str, object]) -> None:
        """A line of the answer."""
        result = line.get("Result")
        if result in (PENDING, GONE, SKIPPED):
            self._count(str(result), 1)
        elif result is not None:
            self._count("done", 1)

    def end(self, status: int) -> None:
        """The last word of an answer."""
        self._exit = max(self._exit, status)

    def tell(self) -> None:
        """The line, if there is anything to tell."""
        if self._what:
            mail.tell("operator", keys={**self._what, **self._counts, "exit": self._exit, "by": self._by})
        self._what, self._counts, self._exit = {}, {}, DONE

    def _count(self, what: str, more: int) -> None:
        self._counts[what] = self._counts.get(what, 0) + more
