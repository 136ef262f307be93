"""What `kmq explain` knows, and what it finds: facts, and causes with their evidence and command.

Promise:  values. Nothing foreign is made part of a command but the names of queues, which are quoted for a shell.
Callers:  kmq.admin.explain and those beside it, kmq.cli.explain, kmq.view.explain.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from shlex import quote

from kmq.admin.circumstances import Circumstances
from kmq.admin.explain_causes import CAUSES
from kmq.admin.listing import utc
from kmq.config import Settings


@dataclass(slots=True)
class Kmqd:
    """How kmqd is. silence: why it did not answer, "" when it did; owned: whether some kmqd holds the spool, None when
    this user cannot see; forbidden: this user may not ask; workers: how many are up, None when that cannot be seen;
    still: seconds for which all of them have stood still, 0.0 when one does not.
    """

    silence: str = ""
    owned: bool | None = True
    forbidden: bool = False
    workers: int | None = 1
    still: float = 0.0


@dataclass(slots=True)
class Facts:
    """What is known. free: bytes on the spool's disk, None when nobody knows; told: whether kmqd was asked about the
    message and answered. expiry_stopped: the brake holds (run/brake).
    """

    now: float
    settings: Settings
    around: Circumstances
    kmqd: Kmqd = field(default_factory=Kmqd)
    free: int | None = None
    told: bool = False
    expiry_stopped: bool = False


@dataclass(slots=True)
class Finding:
    """One cause, found. to: the addresses that it is about; queue: its name, "" for the message itself; until: Unix
    time at which something happens by itself, 0.0 for as soon as possible, None for not before somebody does something.
    evidence: what proves it. words: what fills the cause's sentences; "queue" is what a command calls it, where that
    is not its name.
    """

    code: str
    to: list[str] = field(default_factory=list)
    queue: str = ""
    until: float | None = None
    evidence: list[str] = field(default_factory=list)
    words: dict[str, str] = field(default_factory=dict)

    @property
    def says(self) -> str:
        return self._filled(CAUSES[self.code].says)

    @property
    def first(self) -> str:
        """What has to be done before the command, "" for nothing."""
        return self._filled(CAUSES[self.code].first)

    @property
    def command(self) -> str:
        return self._filled(CAUSES[self.code].command)

    def _filled(self, text: str) -> str:
        queue = quote(self.words.get("queue") or self.queue)
        return text.format_map(_Words(self.words | {"queue": queue})).rstrip(": ")


class _Words(dict[str, str]):
    """A word that nobody knows is left out."""

    def __missing__(self, name: str) -> str:
        return ""


def properties(finding: Finding) -> Mapping[str, object]:
    """A finding as one object."""
    return {
        "Code": finding.code,
        "Says": finding.says,
        "Recipients": finding.to,
        "Queue": finding.queue or None,
        "Until": "now" if finding.until == 0.0 else utc(finding.until or 0.0),
        "Evidence": finding.evidence,
        "First": finding.first or None,
        "Command": finding.command,
    }
