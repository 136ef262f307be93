"""A message explained: what counts for all of it, and for each queue that it waits in the causes, how it was routed,
each attempt, and its deadlines.

Promise:  pure.
Callers:  kmq.cli.explain; kmq.view.explain shows it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from kmq.admin.explain import explain
from kmq.admin.explain_deadlines import Deadlines, deadlines
from kmq.admin.explain_evidence import attempt_told, by, last_line, last_routing, waiting_in
from kmq.admin.explain_finding import Facts, Finding
from kmq.admin.listing import Share, shares
from kmq.log.tracking import Entry
from kmq.model.event import AnyEvent, Crashed, Deferred, Redirected, Resubmitted, Routed
from kmq.model.recipients import from_text
from kmq.spool.look import Damaged, Found


@dataclass(slots=True)
class Chapter:
    """One queue. attempts: a line each, the oldest first; deadlines: None where nothing is ever given up (poison/)."""

    share: Share
    findings: list[Finding]
    routed: Routed | None = None
    attempts: list[str] = field(default_factory=list)
    deadlines: Deadlines | None = None


@dataclass(slots=True)
class Story:
    """common: what counts for all of it; chapters: the queues."""

    common: list[Finding] = field(default_factory=list)
    chapters: list[Chapter] = field(default_factory=list)

    @property
    def findings(self) -> list[Finding]:
        """All of them."""
        return [*self.common, *(one for chapter in self.chapters for one in chapter.findings)]


#: Next hop -> attempts to reach it, which were everybody's who waited: a line each, the oldest first.
Tried = Mapping[str, Sequence[str]]


def story(found: Found | Damaged, facts: Facts, tried: Tried | None = None) -> Story:
    """The whole explanation of one message."""
    findings = explain(found, facts)
    told = Story([one for one in findings if not one.queue])
    if isinstance(found, Damaged):
        return told
    for share in shares(found, facts.around):
        own = [one for one in findings if one.queue and one.to == share.to]
        if own:
            told.chapters.append(_chapter(found, share, own, facts))
    for chapter in told.chapters:
        chapter.attempts = sorted([*chapter.attempts, *(tried or {}).get(str(chapter.share.hop), ())])
    return told


def _chapter(found: Found, share: Share, findings: list[Finding], facts: Facts) -> Chapter:
    if found.home == "poison":
        return Chapter(share, findings, attempts=_attempts(found.events, found.state.open))
    indices = waiting_in(found, share)
    limits = deadlines(found, share, facts.settings)
    return Chapter(share, findings, last_routing(found, indices), _attempts(found.events, indices), limits)


def of_queue(entries: Sequence[Entry]) -> list[str]:
    """Attempts in vain to reach a next hop, as the tracking log has them."""
    return [
        f"{one.date_time} attempt {one.custom_data.attempt if one.custom_data else 0} of the whole queue:"
        f" {' '.join(one.recipient_status)}"
        for one in entries
    ]


def _attempts(events: Sequence[AnyEvent], indices: Sequence[int]) -> list[str]:
    """What was tried with these recipients, and what operators said of their way."""
    told = []
    for event in events:
        if isinstance(event, Deferred) and not set(from_text(event.rcpt)).isdisjoint(indices):
            told.append(attempt_told(event))
        elif isinstance(event, Crashed):
            told.append(f"{event.at} a worker died of it in {event.phase}: {last_line(event.trace)}")
        elif isinstance(event, Redirected):
            told.append(f"{event.at} given to connector {event.connector} {by(event.by, event.reason)}")
        elif isinstance(event, Resubmitted):
            told.append(f"{event.at} sent back to the categorizer {by(event.by, event.reason)}")
    return told
