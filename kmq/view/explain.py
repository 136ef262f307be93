"""Why a message or a queue is still here, for people and as an object.

Promise:  every line is harmless text; the command stands last, alone on its line.
Callers:  kmq.cli.explain.
"""

from collections.abc import Iterable, Iterator, Mapping

from kmq.admin.explain_deadlines import Deadlines
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
    yield from _cause(first, now)
    if chapter.routed is not None:
        connector = f" by connector {chapter.share.hop.connector}" if chapter.share.hop.connector else ""
        yield from _line("Routed", f"to {chapter.share.hop.name}{connector} ({chapter.routed.rule})")
    yield from _attempts(chapter.attempts)
    if chapter.deadlines is not None:
        yield from _deadlines(chapter.deadlines, chapter.share.hop.delivery_type is DeliveryType.UNREACHABLE)
    yield from _remedy(first)
    for other in others:
        yield from causes([other], now)


def causes(findings: Iterable[Finding], now: float) -> Iterator[str]:
    """Causes with what changes them."""
    for finding in findings:
        yield from _cause(finding, now)
        yield from _remedy(finding)


def _cause(finding: Finding, now: float) -> Iterator[str]:
    yield from _line("Cause", f"{finding.code}: {finding.says}")
    yield from _line("Until", _until(finding.until, now))
    for evidence in finding.evidence:
        yield from _line("Because", evidence)


def _remedy(finding: Finding) -> Iterator[str]:
    if finding.first:
        yield from _line("First", finding.first)
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
        at, _, rest = one.partition(" ")
        yield from _line("Attempt", f"{local_time(unix(at))} {rest}")


def _deadlines(limits: Deadlines, unreachable: bool) -> Iterator[str]:
    if limits.warned:
        yield from _line("Warning", "was sent: the sender knows that it takes longer")
    elif not limits.heard:
        yield from _line("Warning", "none: its sender does not want to hear that it takes longer, or is nobody")
    elif limits.warning:
        yield from _line(
            "Warning", f"to the sender with the first attempt that fails after {local_time(limits.warning)}"
        )
    else:
        yield from _line("Warning", "none: the schedule has no delay warning")
    times = f", or attempt {limits.attempts}" if limits.attempts else ""
    if unreachable:
        yield from _line("Given up", f"at {local_time(limits.expiry)}, when no connector serves it until then")
        return
    yield from _line("Given up", f"with the first attempt that fails after {local_time(limits.expiry)}{times}")


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
