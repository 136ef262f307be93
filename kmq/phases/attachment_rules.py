"""Which attachments of a message the configuration does not let through: sections [NAME : attachment] in their order.

Law:      the first section that fits an attachment says what becomes of it; what none fits is let through (Kerio
          Connect). A file in an archive that is blocked takes the archive with it; an archive that is accepted is not
          looked into.
Promise:  pure; a pattern is matched in time linear in the name.
Callers:  phases.content_attachments; a trial of a poisoned message.
"""

import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from fnmatch import translate
from typing import NamedTuple

from kmq.config import Settings
from kmq.config.content import AttachmentSection
from kmq.phases.facts import Attachment, Facts
from kmq.phases.file_names import plain

_SEPARATORS = re.compile(r"[/\\]")


class Rule:
    """A section, ready to be tried. place: `kmq.conf:12`."""

    __slots__ = ("_names", "_types", "place", "section")

    def __init__(self, section: AttachmentSection, place: str) -> None:
        self.section = section
        self.place = place
        self._names = _pattern(unicodedata.normalize("NFKC", one).casefold() for one in section.names)
        self._types = _pattern(section.types)

    @property
    def name(self) -> str:
        return f"{self.section.name} ({self.place})"

    @property
    def blocks(self) -> bool:
        return self.section.action == "block"

    def fits(self, attachment: Attachment) -> bool:
        types = (attachment.type, attachment.magic)
        return any(self._types(one) for one in types if one) or any(
            self._names(form) for name in attachment.names for form in _forms(name)
        )


def rules_of(settings: Settings) -> list[Rule]:
    """Those of a configuration, in its order."""
    return [Rule(one, settings.origin(one.name, "").place) for one in settings.attachments]


def _pattern(patterns: Iterable[str]) -> Callable[[str], object]:
    """A text fits one of some wildcards."""
    whole = "|".join(map(translate, patterns))
    return re.compile(whole).match if whole else lambda text: None


def _forms(name: str) -> tuple[str, ...]:
    """A name, and what it is without the folders of some system."""
    whole = plain(name)
    last = _SEPARATORS.split(whole)[-1]
    return (whole,) if last == whole else (whole, last)


class Blocked(NamedTuple):
    """attachment: what a rule blocks, a file in an archive perhaps; part: what has to go for it."""

    attachment: Attachment
    rule: Rule

    @property
    def part(self) -> int:
        return self.attachment.part

    @property
    def name(self) -> str:
        """For people; as a stranger wrote it."""
        one = self.attachment
        own = one.name or one.type
        return f"{one.inside}/{own}" if one.member else own


def blocked(facts: Facts, rules: Sequence[Rule]) -> list[Blocked]:
    """All that is not let through, in the order of the message."""
    found: list[Blocked] = []
    decided: set[int] = set()  # parts that a rule has spoken about, so that nobody looks into them
    for one in facts.attachments:
        if one.member and one.part in decided:
            continue
        rule = next((rule for rule in rules if rule.fits(one)), None)
        if rule is not None and not one.member:
            decided.add(one.part)
        if rule is not None and rule.blocks:
            found.append(Blocked(one, rule))
    return found
