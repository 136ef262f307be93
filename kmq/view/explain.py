"""Why a message or a queue is still here, for people and as an object.

Promise:  every line is harmless text; the command stands last, alone on its line.
Callers:  kmq.cli.explain.
"""

import re
from collections.abc import Iterable, Iterator, Mapping

from kmq.admin.explain_causes import CAUSES
from kmq.admin.explain_deadlines import Deadlines
from kmq.admin.explain_evidence import LAST_ERROR
from kmq.admin.explain_finding import Finding
from kmq.admin.explain_finding import properties as finding_properties
from kmq.admin.explain_story import Chapter, Story
from kmq.admin.listing import utc
from kmq.model.hop import DeliveryType
from kmq.spool.index_rows import unix
from kmq.spool.look import Found
from kmq.view.history import origin
from kmq.view.words import counted, duration, harmless, local_time, volume

_NAMED = 3
#: How events and entries are dated.
_MOMENT = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:.]+Z", re.ASCII)
#: Attempts that are told one by one.
_ATTEMPTS = 10


def message(found: Found, told: Story, now: float) -> Iterator[str]:
    """A message: where it is from, then each queue that it waits in."""
    head = found.head
    sender = head.sender or "<> (a report of a mail server)"
    created = unix(head.created)
    yield harmless(f"{head.id} from {sender}, {volume(head.size)}, here for {duration(now - created)}")
    yield from _line("Came", f"{local_time(created)} {origin(head)}")
    for finding in told.common:
        yield ""
        yield from causes([finding], now)
    for chapter in told.chapters:
        yield ""
        yield from _chapter(chapter, now)


def _chapter(chapter: Chapter, now: float) -> Iterator[str]:
    yield harmless(f"{_some(chapter.share.to)}, in the queue {chapter.share.hop.name}")
    first, *others = chapter.findings
    routed = [f"{chapter.routed.at} routed: {chapter.routed.rule}"] if chapter.routed else []
    yield from _cause(first, now, [*chapter.attempts[-_ATTEMPTS:], *routed])
    if chapter.routed is not None:
        connector = f" by connector {chapter.share.hop.connector}" if chapter.share.hop.connector else ""
        yield from _line("Routed", f"to {chapter.share.hop.name}{connector} ({chapter.routed.rule})")
    yield from _attempts(chapter.attempts)
    if chapter.deadlines is not None:
        stopped = any(one.code == "expiry-stopped" for one in chapter.findings)
        yield from _deadlines(chapter.deadlines, chapter.share.hop.delivery_type is DeliveryType.UNREACHABLE, stopped)
    yield from _remedy(first)
    for other in others:
        yield from causes([other], now)


def causes(findings: Iterable[Finding], now: float) -> Iterator[str]:
    """Causes with what changes them."""
    for finding in findings:
        yield from _cause(finding, now)
        yield from _remedy(finding)


def _cause(finding: Finding, now: float, attempts: Iterable[str] = ()) -> Iterator[str]:
    """attempts: what is told below anyway."""
    yield from _line("Cause", f"{finding.code}: {finding.says}")
    yield from _line("Until", CAUSES[finding.code].until or _until(finding.until, now))
    for evidence in finding.evidence:
        if evidence not in attempts and evidence.removeprefix(LAST_ERROR) not in finding.says:
            yield from _line("Because", _dated(evidence))


def _dated(text: str) -> str:
    """Evidence with its time as tables show it: local."""
    at, _, rest = text.partition(" ")
    moment = unix(at) if _MOMENT.fullmatch(at) else 0.0
    return f"{local_time(moment)} {rest}" if moment else text


def _remedy(finding: Finding) -> Iterator[str]:
    if finding.first:
        yield from _line("First", finding.first)
    yield from _line("Command", finding.command)


def ended(finding: Finding) -> Iterator[str]:
    """What became of a message that is not here."""
    yield from _line("Cause", f"{finding.code}: {finding.says}")
    for evidence in finding.evidence[-_ATTEMPTS:]:
        yield from _line("Because", _dated(evidence))
    yield from _line("Command", finding.command)


def _until(until: float | None, now: float) -> str:
    if until is None:
        return "somebody does something"
    if not until or until <= now:
        return "its turn comes, at any moment"
    return f"{local_time(until)} (in {duration(until - now)})"


def _attempts(attempts: list[str]) -> Iterator[str]:
    if not attempts:
        yield from _line("Attempts", "none of its own so far")
    if len(attempts) > _ATTEMPTS:
        yield from _line("Attempts", f"{counted(len(attempts) - _ATTEMPTS, 'earlier one')}; kmq history tells all")
    for one in attempts[-_ATTEMPTS:]:
        yield from _line("Attempt", _dated(one))


def _deadlines(limits: Deadlines, unreachable: bool, stopped: bool) -> Iterator[str]:
    """unreachable: nothing is tried, so both come by themselves; stopped: it is over, and kept all the same."""
    yield from _line("Warning", _warning(limits, unreachable))
    when = local_time(limits.expiry)
    times = f", or attempt {limits.attempts}" if limits.attempts else ""
    if stopped:
        yield from _line("Given up", f"not now, though its time was over at {when}: see below")
    elif unreachable:
        yield from _line("Given up", f"at {when}, when no connector serves it until then")
    else:
        yield from _line("Given up", f"with the first attempt that fails after {when}{times}")


def _warning(limits: Deadlines, unreachable: bool) -> str:
    if limits.warned:
        return "was sent: the sender knows that it takes longer"
    if not limits.heard:
        return "none: its sender does not want to hear that it takes longer, or is nobody"
    if not limits.warning:
        return "none: the schedule has no delay warning"
    when = local_time(limits.warning)
    if unreachable:
        return f"to the sender at {when}, when no connector serves it until then"
    return f"to the sender with the first attempt that fails after {when}"


def _line(title: str, text: str) -> Iterator[str]:
    yield harmless(f"  {title:9} {text}")


def _some(to: list[str]) -> str:
    more = len(to) - _NAMED
    return ", ".join(to[:_NAMED]) + (f" and {more} more" if more > 0 else "")


# --- as objects -------------------------------------------------------------------------------------------------------


def message_properties(found: Found, told: Story) -> dict[str, object]:
    """The same as one object; times in UTC."""
    head = found.head
    return {
        "ID": head.id,
        "FromAddress": head.sender,
        "Size": head.size,
        "Created": head.created,
        "Came": origin(head),
        "Causes": [finding_properties(one) for one in told.common]
        + [_properties(one, chapter) for chapter in told.chapters for one in chapter.findings],
    }


def _properties(finding: Finding, chapter: Chapter) -> Mapping[str, object]:
    limits = chapter.deadlines
    return {
        **finding_properties(finding),
        "NextHop": str(chapter.share.hop),
        "Rule": chapter.routed.rule if chapter.routed else None,
        "Attempts": chapter.attempts,
        "DelayNoticeTime": utc(limits.warning) if limits and limits.heard and not limits.warned else None,
        "ExpirationTime": utc(limits.expiry) if limits else None,
    }
