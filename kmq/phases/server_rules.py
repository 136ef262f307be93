"""Server rules as a step of the phase Content filtering.

Does:     finds out about a message what its rules ask for, and no more: the envelope is at hand, a small message's
          header too; a large one's is read in a thread; attachments are the examiner's. Then all that the rules want
          is one Finding. Mail that plainly has no attachment costs no question.
Policy:   where attachments are asked for and cannot all be seen, [content] says what becomes of the message
          (`unreadable`, `beyond_limits`); when there are attachment rules too, their step says so, behind this one.
Errors:   BodyDamaged, OSError, as the body's file has them.
On crash: done again, with the same Finding.
Callers:  phases.content_filtering, which makes it.
"""

import asyncio
from collections.abc import Container, Sequence

import msgspec

from kmq.config import Settings
from kmq.model import recipients
from kmq.model.event import Passed
from kmq.model.phase import Phase
from kmq.phases import rules_header, unexamined
from kmq.phases.examining import Examiners, without_facts
from kmq.phases.facts import Facts, Trouble
from kmq.phases.inspection import Finding, Matter
from kmq.phases.plain_mail import has_no_attachment
from kmq.phases.rules import Applied, apply, asks_first, rules_of
from kmq.phases.rules_deeds import HOW, Asking, finding
from kmq.phases.rules_header import Header
from kmq.phases.rules_letters import Office
from kmq.phases.rules_tests import Look, Need

#: A message of more recipients goes in several shares at once (run.share).
SHARE = 1000


class ServerRules:
    """The rules of a configuration, tried on each message."""

    phase = Phase.CONTENT
    step = "rules"

    def __init__(self, settings: Settings, examiners: Examiners) -> None:
        self.rules = rules_of(settings)
        self._examiners = examiners
        self._office = Office(settings.kmq.postmaster, settings.kmq.hostname)
        self._content = settings.content
        self._behind = bool(settings.attachments)
        self._by_header = bool(self.rules) and asks_first(self.rules[0]) >= Need.HEADER

    def concerns(self, matter: Matter) -> bool:
        """What a rule has made meets no rule again: so none makes a loop."""
        return matter.head.source.how != HOW

    async def inspect(self, matter: Matter) -> Finding:
        """See the module."""
        look = Look(matter.head, score=score_of(matter))
        before = [one for one in matter.earlier if one.step == self.step]
        fresh = set(matter.rcpt) - self._through(matter, before) if before else matter.rcpt
        whole = range(len(matter.head.recipients))  # rules are about each, so that a part of them finds the same
        note = ""
        if self._by_header and matter.body.text is not None:
            look = Look(look.head, await header_of(self._ahead(matter) if before else matter), None, look.score)
        while True:
            found = apply(self.rules, look, whole, matter.local)
            if not isinstance(found, Need):
                mine = [Applied(one.rule, rcpt) for one in found if (rcpt := _shared(one.rcpt, fresh))]
                asking = Asking(look, matter.attempt, self._office, self._silent(matter, before, found))
                return finding(asking, mine, note)
            if found is Need.HEADER:
                header = await header_of(self._ahead(matter) if before else matter)
                look = Look(look.head, header, look.attachments, look.score)
                continue
            facts = await self._facts(matter)
            if isinstance(facts, Trouble):
                return without_facts(facts, matter)
            ended = None if self._behind else unexamined.ended(matter, facts, self._content)
            if ended is not None:
                return ended
            note = unexamined.said(facts)
            look = Look(look.head, look.header, facts.attachments, look.score)

    def _ahead(self, matter: Matter) -> Matter:
        """The message as it came to this step, also when some recipients have been through it."""
        return msgspec.structs.replace(matter, earlier=tuple(one for one in matter.earlier if one.step != self.step))

    def _through(self, matter: Matter, before: Sequence[Passed]) -> set[int]:
        """Who has met the rules before, and was held by one: an operator has let him go on."""
        said = [one.rcpt for one in before]
        return {index for rcpt in said for index in (recipients.from_text(rcpt) if rcpt else matter.rcpt)}

    def _silent(self, matter: Matter, before: Sequence[Passed], found: Sequence[Applied]) -> frozenset[str]:
        """Rules that made their copies and notices with recipients who went through this step before, or, of a message
        that goes in several shares at once, those who make them with the first recipient whom they are about."""
        said = [one.by for one in before]
        shares = len(matter.head.recipients) > SHARE
        return frozenset(
            one.rule.section.name
            for one in found
            if any(one.rule.name in by for by in said) or (shares and one.rcpt[0] not in matter.rcpt)
        )

    async def _facts(self, matter: Matter) -> Facts | Trouble:
        text = matter.body.text
        if text is not None and has_no_attachment(text):
            return Facts((), ())
        return await self._examiners.facts(matter.head, matter.body)

    async def close(self) -> None:
        """Nothing is kept but the examiners, who are others' too."""
        await self._examiners.close()


def _shared(some: Sequence[int], others: Container[int]) -> tuple[int, ...]:
    return tuple(index for index in some if index in others)


def score_of(matter: Matter) -> float | None:
    """Points of spam, by the last filter of ours that gave any."""
    return next((one.score for one in reversed(matter.earlier) if one.score is not None), None)


async def header_of(matter: Matter) -> Header:
    """The header, with what phases have changed of it so far."""
    if matter.body.text is not None:
        return rules_header.header_of(matter.body, matter.edits)
    return await asyncio.to_thread(rules_header.header_of, matter.body, matter.edits)
