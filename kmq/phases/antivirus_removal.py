"""Mail without what a scanner found in it: each part is scanned by itself, and the infected ones are taken out.

Law:      the parts in which something was found go, and nothing else; then the rest is scanned as a whole, by all
          scanners. Where no part alone is infected, or the mail cannot be taken apart, nothing is removed: it is for
          the caller to hold the mail.
Promise:  a part is opened by the examiner, a confined process; here only its bytes go by.
On crash: nothing is kept.
Callers:  phases.antivirus.
"""

import os
from collections.abc import Iterator
from typing import NamedTuple

from kmq.phases.antivirus_round import Round, Scanners
from kmq.phases.examining import Examiners, without_facts
from kmq.phases.facts import Cause, Facts, Part, Trouble
from kmq.phases.inspection import Finding, Matter, Pieces
from kmq.phases.removal_words import Removal, in_place, shown
from kmq.phases.splicing import Cut, removable, without
from kmq.routing.languages import Languages

_PIECE = 128 << 10
#: Bytes of a part that are shown to a scanner in one piece.
_SMALL = 1 << 20
#: Names of removed parts that are told.
_NAMES = 3


class Rest(NamedTuple):
    """The mail that goes on. names: of what was removed, for people; round: what the scanners said of the rest."""

    pieces: Pieces
    names: str
    round: Round


class Whole(NamedTuple):
    """Nothing can be taken out, and why."""

    why: str


class Remover:
    """Takes infected parts out. hostname: of this server, in the note."""

    def __init__(self, examiners: Examiners, languages: Languages, hostname: str) -> None:
        self._examiners = examiners
        self._languages = languages
        self._hostname = hostname

    async def close(self) -> None:
        await self._examiners.close()

    async def removed(self, matter: Matter, scanners: Scanners) -> Rest | Round | Whole | Finding:
        """The rest; a round in which a scanner could not be asked; why nothing can be removed; or what hinders it."""
        facts = await self._examiners.facts(matter.head, matter.body)
        if isinstance(facts, Trouble):
            return _without_facts(facts, matter)
        cuts: list[Cut] = []
        language = self._languages.of(matter.head.recipients[matter.rcpt[0]].address)
        for part in filter(lambda one: _alone(one, facts), facts.parts):
            said = await self._look(matter, part, scanners)
            if isinstance(said, Trouble):
                return _without_facts(said, matter)
            if said.down is not None:
                return said
            if said.found is not None:
                if not removable(part):
                    return Whole(f"{_name(part)} cannot be taken out")
                removal = Removal([_name(part)], [str(said.found)], part.sealed)
                cuts.append(Cut(part, in_place(removal, self._hostname, language)))
        if not cuts:
            return Whole("no part alone is infected")
        return await self._rest(matter, cuts, scanners)

    async def _rest(self, matter: Matter, cuts: list[Cut], scanners: Scanners) -> Rest | Round | Whole:
        pieces = without(matter.head, matter.body, cuts)
        said = await scanners.ask(pieces, matter.head.size)
        if said.down is not None:
            return said
        if said.found is not None:
            return Whole(f"without its attachment it is still {said.found}")
        return Rest(pieces, _names(cuts), said)

    async def _look(self, matter: Matter, part: Part, scanners: Scanners) -> Round | Trouble:
        fd = await self._examiners.extract(matter.head, matter.body, part)
        if isinstance(fd, Trouble):
            return fd
        try:
            size = os.fstat(fd).st_size
            text = os.pread(fd, size, 0) if size <= _SMALL else _pieces_of(fd)
            return await scanners.ask(text, size)
        finally:
            os.close(fd)


def _alone(part: Part, facts: Facts) -> bool:
    """It has a text of its own: no multipart, no message whose parts are looked at, nothing within what is encoded."""
    if part.container or part.within >= 0 or part.end < part.text:
        return False
    return not any(one.parent == part.number and one.within < 0 for one in facts.parts)


def _pieces_of(fd: int) -> Pieces:
    def pieces() -> Iterator[bytes]:
        at = 0
        while piece := os.pread(fd, _PIECE, at):
            at += len(piece)
            yield piece

    return pieces


def _without_facts(trouble: Trouble, matter: Matter) -> Whole | Finding:
    """A message that the examiner fails on is held, as what it is: infected. Raises BodyDamaged."""
    if trouble.cause is Cause.CRASHED:
        return Whole(f"it cannot be taken apart: {trouble.why}")
    return without_facts(trouble, matter)


def _names(cuts: list[Cut]) -> str:
    names = [*dict.fromkeys(_name(one.part) for one in cuts)]
    more = f" and {len(names) - _NAMES} more" if len(names) > _NAMES else ""
    return ", ".join(names[:_NAMES]) + more


def _name(part: Part) -> str:
    return shown(part.name or part.type)
