"""The phases of a message, run for trial: all that a worker does to its bytes, and nothing of what comes of it.

Phases:   Executing: the envelope and the body are read, every recipient gets its next hop or is expanded. Local
          delivery: the copies as they would stand in Maildirs and mbox files, into nothing. SMTP delivery: what would
          go over the wire, for servers with and without 8BITMIME, into nothing. Terminating: the notice that delivery
          failed.
          Content filtering: the message is examined, and held against the attachment rules. Backup and Antivirus
          control are not tried: they hand its bytes on as they are.
Promise:  no mailbox, queue or server is touched, whatever the answers are.
Callers:  admin.poison, in a confined child.
"""

from collections.abc import Callable, Sequence
from itertools import chain
from typing import NamedTuple

from kmq.admin.poison_content import content
from kmq.config import Settings
from kmq.model import recipients
from kmq.model.envelope import Head, Recipient, State, fold
from kmq.model.event import Failed
from kmq.model.frame import Assign
from kmq.model.hop import AWAY, SUBMISSION, WHOLE, DeliveryType, NextHop
from kmq.model.phase import Phase
from kmq.model.reply import Reply
from kmq.phases.addressee import addressee, copy_text
from kmq.phases.body import BodyFile, Stuffing, stuffed
from kmq.phases.copy_text import CopyText
from kmq.phases.executing import categorize
from kmq.phases.header_words import know_charsets
from kmq.phases.mbox_text import quoted
from kmq.phases.rendering import render
from kmq.phases.rewriting import Rewriting
from kmq.phases.storing import Refused, write_all
from kmq.phases.work import Body, Work
from kmq.routing.table import Route, Routes
from kmq.run.expansion import draft, present
from kmq.run.job import Job
from kmq.run.notice import office_of
from kmq.run.terminating import notices_of

#: A reply as a phase may have it.
_REFUSED = "554 5.0.0 a trial"


class Sample(NamedTuple):
    """What is tried. envelope: its bytes; body: the path of a copy. Made before the confinement: routes (warm), and
    nothing: a descriptor of /dev/null, the only file that may be written."""

    settings: Settings
    envelope: bytes
    body: str
    routes: Routes
    nothing: int


class _Message(NamedTuple):
    head: Head
    state: State
    body: Body


def warm(routes: Routes, settings: Settings) -> None:
    """Files of aliases and users, and tables of charsets, are read now: confined, they might not be readable."""
    know_charsets()
    domain = settings.kmq.local_domains[0] if settings.kmq.local_domains else settings.kmq.hostname
    head = Head("", "", "", "", [Recipient(f"postmaster@{domain}")], 0)
    routes.of(head).decide(head.recipients[0])


def run(sample: Sample, phase: Phase) -> list[str]:
    """One phase; -> what came of it, a sentence each. Raises whatever our own program raises."""
    folded = fold(sample.envelope)
    if folded is None:
        return ["the first line of the envelope is damaged: no phase can be run"]
    head, state, _ = folded
    small = head.size <= sample.settings.queue.small_body
    message = _Message(head, state, Body(_text(sample, head) if small else None, sample.body, head.size))
    return TRIALS[phase](sample, message)


def _text(sample: Sample, head: Head) -> bytes:
    file = BodyFile(sample.body, head.size, head.sha256)
    pieces = []
    while file.left:
        pieces.append(file.read())
    file.close()
    return b"".join(pieces)


def _open(message: _Message) -> list[int]:
    """Recipients that are left, or all when none is."""
    return message.state.open or list(range(len(message.head.recipients)))


def _executing(sample: Sample, message: _Message) -> list[str]:
    head = message.head
    found = categorize(head, _open(message), sample.routes.of(head).decide)
    drafts = draft(head, found.expansions, present(head, found.events), 1)
    said = [f"{type(event).__name__.lower()}: {_hop(event)}" for event in found.events]
    if found.expansions:
        said.append(f"{len(found.expansions)} aliases expand to {len(drafts.children)} messages")
    return said


def _hop(event: object) -> str:
    return str(getattr(event, "hop", "") or getattr(event, "reply", ""))


def _targets(sample: Sample, message: _Message) -> dict[NextHop, list[int]]:
    """Next hop -> recipients, by the configuration as it is."""
    routes = sample.routes.of(message.head)
    found: dict[NextHop, list[int]] = {}
    for index in _open(message):
        decision = routes.decide(message.head.recipients[index])
        if isinstance(decision, Route):
            found.setdefault(decision.hop, []).append(index)
    return found


def _local(sample: Sample, message: _Message) -> list[str]:
    sections = {section.name: section for section in sample.settings.connectors}
    said = []
    for hop, rcpt in _targets(sample, message).items():
        work = Work(message.head, message.body, tuple(rcpt), hop, 1)
        if hop.delivery_type is DeliveryType.NON_SMTP:
            said += _sends(work, sample, (False,))
        if hop.delivery_type is not DeliveryType.MAILBOX:
            continue
        for index in rcpt:
            one = addressee(work, index, sections[hop.connector])
            said.append(
                str(one) if isinstance(one, Reply) else _copied(copy_text(work, index), one.user, sample.nothing)
            )
    return said or ["no recipient has a mailbox here"]


def _copied(text: CopyText, user: str, nothing: int) -> str:
    """What a Maildir or a command would get, and what an mbox would."""
    try:
        for piece in chain(text.pieces(), quoted(text.pieces())):
            write_all(nothing, piece)
    except Refused as refusal:
        return str(refusal.reply)
    return f"a copy for {user}"


def _smtp(sample: Sample, message: _Message) -> list[str]:
    said = []
    for hop, rcpt in _targets(sample, message).items():
        work = Work(message.head, message.body, tuple(rcpt), hop, 1)
        if hop.delivery_type in AWAY and hop.delivery_type is not DeliveryType.NON_SMTP:
            said += _sends(work, sample, (False,) if hop.delivery_type in WHOLE else (False, True))
    return said or ["no recipient is elsewhere"]


def _sends(work: Work, sample: Sample, seven_bits: Sequence[bool]) -> list[str]:
    """How it is written for a next hop of each kind."""
    rewriter = Rewriting(sample.settings.rewrites).of(work.hop.connector)
    if isinstance(rewriter, Reply):
        return [str(rewriter)]
    said = []
    for seven_bit in seven_bits:
        rendering = render(work, rewriter, seven_bit)
        which = "without 8BITMIME" if seven_bit else "with 8BITMIME"
        if isinstance(rendering, Reply):
            said.append(f"{work.hop.name}, {which}: {rendering}")
            continue
        count = _sent(work, rendering.stream(), rendering.text, rendering.head.dots)
        said.append(f"{work.hop.name}, {which}: {count} bytes would be sent")
    return said


def _sent(work: Work, stream: object, text: bytes | None, dots: bool) -> int:
    """The bytes that DATA would carry, counted."""
    if text is not None:
        return len(stuffed(text, dots))
    stuffing, count = Stuffing(dots), 0
    file = BodyFile(work.body.path, work.head.size, work.head.sha256)
    while file.left:
        count += len(stuffing.feed(stream.feed(file.read())))  # type: ignore[attr-defined]
    file.close()
    return count + len(stuffing.feed(stream.end())) + len(stuffing.end())  # type: ignore[attr-defined]


def _terminating(sample: Sample, message: _Message) -> list[str]:
    rcpt = recipients.as_text(_open(message))
    job = Job(Assign(0, message.head.id, str(SUBMISSION), rcpt, 1), message.head, message.body, 0)
    made = notices_of(job, [Failed(rcpt=rcpt, attempt=1, reply=_REFUSED)], SUBMISSION, (), office_of(sample.settings))
    return [f"a notice of {len(made.raw)} bytes" if made.children else "no notice would be made"]


def _content(sample: Sample, message: _Message) -> list[str]:
    return content(sample.settings, message.head, sample.body)


def _untried(sample: Sample, message: _Message) -> list[str]:
    return ["not tried: this phase hands the bytes on as they are"]


TRIALS: dict[Phase, Callable[[Sample, _Message], list[str]]] = {
    Phase.EXECUTING: _executing,
    Phase.BACKUP: _untried,
    Phase.CONTENT: _content,
    Phase.ANTIVIRUS: _untried,
    Phase.LOCAL: _local,
    Phase.SMTP: _smtp,
    Phase.TERMINATING: _terminating,
}
