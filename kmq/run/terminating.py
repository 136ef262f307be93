"""Terminating: the last phase. What became of a message is told to its sender, where the sender wants to hear it.

Does:     failures for good; deferrals that last long, once; deliveries that the sender asked about (RFC 3461), unless
          the next hop has taken that over. What nobody may be told of is for the postmaster.
Promise:  what has been delivered is told in any case: a mistake of ours while a notice is made leaves a failure
          unnoticed (Done.unnoticed), and the message is set aside. Mail that was delivered and whose sender asked for
          nothing is not even looked at.
On crash: run again with the same events; a notice is in the same record as what it tells of (design: durability).
Callers:  run.walk.
"""

import time
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field

from kmq import log
from kmq.model import hop, priority, recipients
from kmq.model.envelope import Head
from kmq.model.event import Deferred, Delayed, Delivered, Event, Expanded, Failed
from kmq.model.frame import Child
from kmq.model.hop import DeliveryType, NextHop
from kmq.run import notices
from kmq.run.job import Job, shorten
from kmq.run.notice import Action, Letter, Office, Told, unix
from kmq.run.notices import Notice

#: Bytes of a body that a notice may need: its header.
_HEADER_LIMIT = 128 * 1024
_UNREACHABLE = str(hop.UNREACHABLE)
_EXPANDED = "250 2.0.0 expanded"


@dataclass(slots=True)
class Notices:
    """What Terminating adds to a result. raw: bytes of the children; events: further ones; unnoticed: as in Done."""

    children: list[Child] = field(default_factory=list)
    raw: bytes = b""
    events: list[Event] = field(default_factory=list)
    unnoticed: bool = False

    def add(self, made: Notice) -> str:
        """One more notice; -> its place among them, which the scheduler process replaces by its ID."""
        self.children.append(Child(1, len(made.tail), len(made.body), made.stamp))
        self.raw += made.tail + made.body
        return str(len(self.children) - 1)


def concerns(job: Job, events: Sequence[Event]) -> bool:
    """Whether somebody may have to be told of these events."""
    if job.assign.warn:
        return True
    for event in events:
        if type(event) is Failed:
            return True
    asked = job.head.recipients
    return asked[0].notify != "" if len(asked) == 1 else _asks(job.head)


def _asks(head: Head) -> bool:
    """Whether the sender said anything about some recipient's notices."""
    return any(one.notify for one in head.recipients)


def notices_of(job: Job, events: Sequence[Event], target: NextHop, relayed: Collection[int], office: Office) -> Notices:
    """The notices about these events, which bear the places of theirs from now on.

    target: the hop that gave them; relayed: recipients that were handed to a server that knows nothing of notices.
    """
    shorten(events)
    if job.head.quiet:
        return _unheard(job, events)
    terminating = _Terminating(job, office, target)
    failed = [event for event in events if isinstance(event, Failed)]
    if failed:
        terminating.failed(failed)
    late = [event for event in events if isinstance(event, Deferred)] if job.assign.warn else []
    if late:
        terminating.late(late)
    if _asks(job.head):
        terminating.done(events, relayed)
    return terminating.notices


def delay_of(job: Job, target: NextHop, office: Office) -> Notices:
    """The notice that mail takes longer for which a hop is out of reach."""
    if job.head.quiet:
        return _unheard(job, [Deferred(rcpt=job.assign.rcpt, reply=job.assign.delay)])
    terminating = _Terminating(job, office, target)
    terminating.late([Deferred(rcpt=job.assign.rcpt, reply=job.assign.delay)])
    return terminating.notices


def _unheard(job: Job, events: Sequence[Event]) -> Notices:
    """Nobody is told of a message that is replayed quietly; that it takes longer is not asked again."""
    late = [event for event in events if isinstance(event, Deferred)] if job.assign.warn or job.assign.delay else []
    told = [Delayed(rcpt=event.rcpt, reply=event.reply) for event in late]
    return Notices(events=[*told])


class _Terminating:
    """One job's last phase."""

    def __init__(self, job: Job, office: Office, target: NextHop) -> None:
        self.notices = Notices()
        self._job = job
        self._office = office
        self._target = target
        self._now = time.time()

    def failed(self, failed: Sequence[Failed]) -> None:
        given_up = self._job.given_up and self._job.assign.hop != _UNREACHABLE  # that was never tried
        told = [
            Told(index, one.reply, one.host, Action.FAILED, given_up)
            for one in failed
            for index in recipients.from_text(one.rcpt)
        ]
        made = self._compose(told)
        head = self._job.head
        if made is None and not notices.answerable(head):
            made = self._for_nobody(told)
        elif made is None:
            self.notices.unnoticed = any(notices.wanted(head.recipients[one.rcpt], one.action) for one in told)
        if made is not None:
            self._name(failed, Action.FAILED, self.notices.add(made))

    def _for_nobody(self, told: Sequence[Told]) -> Notice | None:
        """A failure that nobody may be told of: a notice of ours, or of another server."""
        made = None
        if self._office.undeliverable == "drop":
            log.warning("a message without sender failed, and nobody is told of it", id=self._job.assign.m)
            return None
        if self._office.undeliverable == "postmaster":
            made = self._guarded(notices.copy, told)
        self.notices.unnoticed = made is None
        return made

    def late(self, late: Sequence[Deferred]) -> None:
        """Once for each recipient, also when nobody wants to hear of it: it is not asked again."""
        told = [
            Told(index, one.reply, one.host, Action.DELAYED) for one in late for index in recipients.from_text(one.rcpt)
        ]
        made = self._compose(told)
        place = self.notices.add(made) if made else ""
        rcpt = recipients.as_text(one.rcpt for one in told)
        self.notices.events.append(Delayed(rcpt=rcpt, reply=late[0].reply, notice=place))

    def done(self, events: Iterable[Event], relayed: Collection[int]) -> None:
        """Deliveries that the sender asked about, and what became of aliases."""
        events = tuple(events)
        local = self._target.delivery_type is DeliveryType.MAILBOX
        delivered = [event for event in events if isinstance(event, Delivered)]
        here = [
            (one, [index for index in recipients.from_text(one.rcpt) if local or index in relayed]) for one in delivered
        ]
        self._succeeded(here, Action.DELIVERED if local else Action.RELAYED)
        lists = [event for event in events if isinstance(event, Expanded) and event.several]
        self._succeeded([(one, recipients.from_text(one.rcpt)) for one in lists], Action.EXPANDED)

    def _succeeded(self, found: Sequence[tuple[Delivered | Expanded, Sequence[int]]], action: Action) -> None:
        told = [
            Told(index, one.reply if isinstance(one, Delivered) else _EXPANDED, getattr(one, "host", ""), action)
            for one, rcpt in found
            for index in rcpt
        ]
        made = self._compose(told)
        if made is not None:
            self._name([one for one, rcpt in found if rcpt], action, self.notices.add(made))

    # --- making ------------------------------------------------------------------------------------------------------

    def _name(self, events: Iterable[Failed | Delivered | Expanded], action: Action, place: str) -> None:
        """The events about somebody of whom the notice tells bear its place."""
        asked = self._job.head.recipients
        for event in events:
            if not self._job.head.sender or any(
                notices.wanted(asked[index], action) for index in recipients.from_text(event.rcpt)
            ):
                event.notice = place

    def _compose(self, told: Sequence[Told]) -> Notice | None:
        return self._guarded(notices.compose, told)

    def _guarded(
        self, make: Callable[[Letter, Sequence[Told], Office, float], Notice | None], told: Sequence[Told]
    ) -> Notice | None:
        """What a notice could not be made of must not keep a result from being told."""
        try:
            return make(self._letter(), told, self._dated(), self._now) if told else None
        except Exception as error:
            log.error("no notice could be made", id=self._job.assign.m, trace=log.traced(error))
            return None

    def _letter(self) -> Letter:
        """The message: all of it when it may have to go back whole, else its beginning."""
        job = self._job
        if job.body.text is not None:
            return Letter(job.head, job.body.text)
        wanted = job.head.size if job.head.size <= self._office.size_limit else _HEADER_LIMIT
        try:
            with open(job.body.path, "rb") as file:
                return Letter(job.head, file.read(max(wanted, _HEADER_LIMIT)))
        except OSError:
            return Letter(job.head, b"")

    def _dated(self) -> Office:
        """The office, with the end of this message's time."""
        urgency = priority.of(self._job.head.priority)
        lifetime = self._office.schedules.of(self._target.connector, urgency).lifetime
        return self._office._replace(until=unix(self._job.head.created) + lifetime)
