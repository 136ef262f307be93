"""What becomes of mail that could not be looked at as a whole, by the policies of [content].

Promise:  pure. `accept` is None: the phase goes on with what was found.
Callers:  phases.content_attachments, phases.server_rules.
"""

from kmq.config.content import ContentSection
from kmq.model import recipients
from kmq.model.event import Failed, Passed, Suspended
from kmq.model.reply import Reply
from kmq.phases.facts import Facts, Verdict
from kmq.phases.inspection import Finding, Matter
from kmq.phases.removal_words import shown


def said(facts: Facts) -> str:
    """The verdict for people, on one line; "" when all was looked at."""
    return f"{facts.verdict.value}: {shown(facts.why)}" if facts.verdict is not Verdict.WHOLE else ""


def ended(matter: Matter, facts: Facts, section: ContentSection) -> Finding | None:
    """Held, or refused; None when the message goes on."""
    if facts.verdict is Verdict.WHOLE:
        return None
    option = "unreadable" if facts.verdict is Verdict.UNREADABLE else "beyond_limits"
    policy = section.unreadable if facts.verdict is Verdict.UNREADABLE else section.beyond_limits
    if policy == "accept":
        return None
    rcpt = recipients.as_text(matter.rcpt)
    passed = Passed(by=f"[content] {option}", verdict=said(facts))
    if policy == "hold":
        return Finding(passed, [Suspended(rcpt=rcpt, by=passed.by, reason=shown(facts.why))])
    reply = str(Reply(550, "5.7.1", f"The message cannot be examined: {shown(facts.why)}"))
    return Finding(passed, [Failed(rcpt=rcpt, attempt=matter.attempt, reply=reply)])
