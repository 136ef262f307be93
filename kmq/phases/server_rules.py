"""Server rules as a step of the phase Content filtering.

Does:     finds out about a message what its rules ask for, and no more: the envelope is at hand, a small message's
          header too; a large one's is read in a thread; attachments are the examiner's. Then all that the rules want
          is one Finding.
Policy:   where attachments are asked for and cannot all be seen, [content] says what becomes of the message
          (`unreadable`, `beyond_limits`); when there are attachment rules too, their step says so, behind this one.
Errors:   BodyDamaged, OSError, as the body's file has them.
On crash: done again, with the same Finding.
Callers:  phases.content_filtering, which makes it.
"""

import asyncio

from kmq.config import Settings
from kmq.model import recipients
from kmq.model.event import Failed, Passed, Suspended
from kmq.model.phase import Phase
from kmq.model.reply import Reply
from kmq.phases import rules_header
from kmq.phases.examining import Examiners, without_facts
from kmq.phases.facts import Facts, Trouble, Verdict
from kmq.phases.inspection import Finding, Matter
from kmq.phases.rules import apply, rules_of
from kmq.phases.rules_deeds import HOW, Asking, finding
from kmq.phases.rules_header import Header
from kmq.phases.rules_letters import Office
from kmq.phases.rules_tests import Look, Need


class ServerRules:
    """The rules of a configuration, tried on each message."""

    phase = Phase.CONTENT
    step = "rules"

    def __init__(self, settings: Settings, examiners: Examiners) -> None:
        self.rules = rules_of(settings)
        self._examiners = examiners
        self._office = Office(settings.kmq.postmaster, settings.kmq.hostname)
        content = settings.content
        self._policy = {Verdict.UNREADABLE: content.unreadable, Verdict.LIMITS: content.beyond_limits}
        self._first = not settings.attachments

    def concerns(self, matter: Matter) -> bool:
        """What a rule has made meets no rule again: so none makes a loop."""
        return matter.head.source.how != HOW

    async def inspect(self, matter: Matter) -> Finding:
        """See the module."""
        look = Look(matter.head, score=score_of(matter))
        note = ""
        while True:
            found = apply(self.rules, look, matter.rcpt, matter.local)
            if not isinstance(found, Need):
                return finding(Asking(look, matter.rcpt, matter.attempt, self._office), found, note)
            if found is Need.HEADER:
                look = Look(look.head, await header_of(matter), look.attachments, look.score)
                continue
            facts = await self._examiners.facts(matter.head, matter.body)
            if isinstance(facts, Trouble):
                return without_facts(facts, matter)
            if facts.verdict is not Verdict.WHOLE:
                note = f"{facts.verdict.value}: {facts.why}"
                if self._first and self._policy[facts.verdict] != "accept":
                    return unseen(matter, facts, self._policy[facts.verdict])
            look = Look(look.head, look.header, facts.attachments, look.score)

    async def close(self) -> None:
        """Nothing is kept; the examiners are others', too: they end when nobody asks."""


def score_of(matter: Matter) -> float | None:
    """Points of spam, by the last filter of ours that gave any."""
    return next((one.score for one in reversed(matter.earlier) if one.score is not None), None)


async def header_of(matter: Matter) -> Header:
    """The header, with what phases have changed of it so far."""
    if matter.body.text is not None:
        return rules_header.header_of(matter.body, matter.edits)
    return await asyncio.to_thread(rules_header.header_of, matter.body, matter.edits)


def unseen(matter: Matter, facts: Facts, policy: str) -> Finding:
    """Not all of the message could be seen, and it does not go on as if there were nothing."""
    rcpt, why = recipients.as_text(matter.rcpt), f"{facts.verdict.value}: {facts.why}"
    option = "unreadable" if facts.verdict is Verdict.UNREADABLE else "beyond_limits"
    passed = Passed(by=f"[content] {option}", verdict=why)
    if policy == "hold":
        return Finding(passed, [Suspended(rcpt=rcpt, by=passed.by, reason=why)])
    reply = str(Reply(550, "5.6.0", f"the message cannot be examined: {facts.why}"))
    return Finding(passed, [Failed(rcpt=rcpt, attempt=matter.attempt, reply=reply)])
