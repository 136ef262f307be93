"""A message's walk through the phases, in a worker's hands.

Order:    `begin` -> `_inspect` (phases ahead of routing, where there are any) -> `_categorize` (fresh mail: Executing;
          `_expand` for aliases) -> `_deliver` (Local or SMTP delivery) -> `_reported` (Terminating: the notice) ->
          `finished`, which is told once for each job.
          `show` (J1a): a message that will be assigned in a moment, up to its text; then `begin` goes on with it.
Promise:  an exception of our own while a message is worked on is that message's crash, not the worker's.
On crash: the status file says which phase each message was in; the walk begins again elsewhere (J9).
Callers:  run.worker.
"""

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from hashlib import sha256

import msgspec

from kmq import log
from kmq.config import ConnectorSection, Settings
from kmq.model import envelope, hop, recipients
from kmq.model.envelope import Head
from kmq.model.event import Deferred, Event, Failed, Passed, Routed
from kmq.model.frame import Assign, Child, Done, Show
from kmq.model.hop import DeliveryType, NextHop
from kmq.model.phase import Phase
from kmq.phases.allotment import Allotment
from kmq.phases.executing import Categorized, categorize
from kmq.phases.gate import Gate
from kmq.phases.local_delivery import LocalDelivery
from kmq.phases.rewriting import Rewriting
from kmq.phases.smtp import Smtp
from kmq.phases.ways import Ways
from kmq.phases.work import Body, Outcome, Work
from kmq.routing.table import Routes
from kmq.run import from_files
from kmq.run.directory import Directories
from kmq.run.expansion import draft, present
from kmq.run.grace_evidence import blames_of
from kmq.run.inspecting import Inspected, Inspecting
from kmq.run.inspectors import inspectors_of
from kmq.run.job import Job
from kmq.run.linking import BodyLost, Linking, Placed
from kmq.run.notice import office_of
from kmq.run.past import Past, recall
from kmq.run.terminating import Notices, concerns, delay_of, notices_of
from kmq.run.timetable import timed
from kmq.spool import layout
from kmq.spool.status import StatusFile, addressees

#: Seconds for connections to say QUIT, and for a file that is being written.
_CLOSE = 1.0


class Shown(msgspec.Struct, gc=False):
    """A message that may be assigned in a moment. assign: how, but for the number; job: what is begun of it, with its
    text behind the gate."""

    assign: Assign
    raw: bytes
    gate: Gate
    job: Job | None


class Walk:
    """The phases, and the messages in them. worker: the number of this one.

    jobs: by the assignment's number, until somebody takes them out. configuration: the number of the one that counts.
    closed: next hops that are not begun for fresh
    messages; draining: none is.
    finished: told once of each job that has its result.
    """

    def __init__(
        self,
        settings: Settings,
        worker: int,
        status: StatusFile,
        finished: Callable[[Job], None],
    ) -> None:
        self.jobs: dict[int, Job] = {}
        self.configuration = 1
        self.closed: frozenset[str] = frozenset()
        self.draining = False
        self._worker = worker
        self._status = status
        self._finished = finished
        self._ending = False
        self._shown: Shown | None = None
        connectors = self._take(settings, Routes(settings))
        self._directories = Directories()
        self.linking = Linking(self._spool)
        self.inspecting = Inspecting(self.linking, self._entered)
        self._rewriting = Rewriting(settings.rewrites)
        directory = self._directories.of(settings)
        allotment = _allotment(settings, worker)
        self.smtp = Smtp(connectors, settings.kmq.hostname, allotment, directory, self._rewriting)
        self.local = LocalDelivery(connectors, settings.kmq.hostname, self.smtp, allotment)
        self.ways = Ways(connectors, self._spool, allotment, self._rewriting)
        self._inspect_by(settings)

    def _inspect_by(self, settings: Settings) -> None:
        """The phases ahead of routing that a configuration wants."""
        self.inspecting.configure(inspectors_of(settings, self._worker), self._is_local)

    def _is_local(self, address: str) -> bool:
        """A name alone (RFC 5321 4.1.1.3: postmaster) is one of this server's."""
        _, at, domain = address.rpartition("@")
        return not at or self.routes.is_local(domain)

    def _take(self, settings: Settings, routes: Routes) -> dict[str, ConnectorSection]:
        """What of a configuration is ours; -> the connectors, by name."""
        self.routes = routes
        self._office = office_of(settings)
        self._small = settings.queue.small_body
        self._spool = str(settings.kmq.spool)
        self._timed = timed(settings)
        return {section.name: section for section in settings.connectors}

    def configure(self, settings: Settings, routes: Routes) -> None:
        """Takes a new configuration, with its routes; what is under way ends as it began."""
        connectors = self._take(settings, routes)
        self._rewriting.configure(settings.rewrites)
        self.smtp.configure(connectors, self._directories.of(settings))
        self.smtp.allot(_allotment(settings, self._worker))
        self.local.configure(connectors, _allotment(settings, self._worker))
        self.ways.configure(connectors, _allotment(settings, self._worker))
        self._inspect_by(settings)

    def abandon(self) -> None:
        """The process ends: a next hop that cannot be reached now is no trouble of the hop's."""
        self._ending = True

    async def close(self) -> None:
        """Ends connections; lets a file that is being written come to its end."""
        ends = (self.smtp.close(_CLOSE), self.local.close(_CLOSE), self.ways.close(_CLOSE))
        await asyncio.gather(self.inspecting.close(), *ends)
        await self._directories.close()

    # --- ahead of the assignment -------------------------------------------------------------------------------------

    def show(self, said: Show, raw: bytes) -> None:
        """A message whose record is being synced (J1a): where a server is all that it needs, the server hears of it."""
        self.unshow()
        fresh = Assign(0, said.m, _SUBMISSION, said.rcpt, 1, said.head, said.body, configuration=said.configuration)
        ready = said.configuration == self.configuration and not self.inspecting.on
        gate = Gate()
        self._shown = Shown(fresh, raw, gate, self._ahead(fresh, raw, gate) if ready else None)

    def unshow(self) -> None:
        """What was shown is another's, or nobody's."""
        shown, self._shown = self._shown, None
        if shown is not None:
            shown.gate.drop()

    def _ahead(self, assign: Assign, raw: bytes, gate: Gate) -> Job | None:
        head = envelope.read_head(raw[: assign.head])
        if head is None:
            return None
        rcpt = recipients.from_text(assign.rcpt)
        try:
            found = categorize(head, rcpt, self.routes.of(head).decide, assign.attempt)
        except Exception:  # it will do the same when the message is assigned, and is its crash then
            return None
        only = found.only
        target = hop.parse(only.hop) if only is not None and only.hop not in self.closed else None
        if target is None or target.delivery_type not in _BY_SMTP or not self._open(target):
            return None
        job = self._job(assign, raw, head)
        job.gate, job.routed, job.configuration = gate, found.events, self.configuration
        self._guarded(job, lambda one: self._deliver(one, target, rcpt))
        return job

    def _goes_on(self, assign: Assign) -> bool:
        """Whether it is assigned as it was shown, and is begun: then its text may go."""
        shown = self._shown
        if shown is None or shown.job is None or msgspec.structs.replace(shown.assign, n=assign.n) != assign:
            return False
        if self._came_to_nothing(shown.job):
            return False
        job, self._shown = shown.job, None
        job.assign = assign
        self.jobs[assign.n] = job
        shown.gate.lift()
        if job.done is not None:
            job.done.n = assign.n
            self._finished(job)
        return True

    def _came_to_nothing(self, job: Job) -> bool:
        """Whether what was begun is worth nothing: the hop was closed while the record was synced, or the server did
        not wait as long as our disk, for which the message must not wait until its next attempt."""
        closed = any(isinstance(event, Routed) and event.hop in self.closed for event in job.routed)
        return closed or (job.done is not None and any(isinstance(event, Deferred) for event in job.events))

    def text(self, assign: Assign, raw: bytes) -> bytes:
        """What comes along with an assignment, or came when it was shown: what was begun then ends."""
        if raw or not assign.head:
            return raw
        shown = self._shown
        assert shown is not None, "an assignment without its text"
        self.unshow()
        return shown.raw

    # --- a message's walk --------------------------------------------------------------------------------------------

    def begin(self, assign: Assign, raw: bytes) -> None:
        if assign.head and not raw:
            if self._goes_on(assign):
                return
            raw = self.text(assign, raw)
        path = f"{self._spool}/{layout.stem_of(assign.m, assign.home)}"
        try:
            head = envelope.read_head(raw[: assign.head] if assign.head else from_files.first_line(path + ".env"))
        except OSError as error:
            self._unreadable(self._headless(assign), "envelope", error)
            return
        if head is None:
            self._done_damaged(self._headless(assign), "the first line of the envelope is damaged")
            return
        job = self.jobs[assign.n] = self._job(assign, raw, head)
        if assign.before and (assign.edited or (assign.hop == _SUBMISSION and self.inspecting.on)):
            recall(path + ".env", assign.before, lambda past: self._recalled(job, past))
        else:
            self._guarded(job, self._work)

    def _job(self, assign: Assign, raw: bytes, head: Head) -> Job:
        addresses = head.recipients
        to = addresses[0].address if len(addresses) == 1 else addressees(one.address for one in addresses)
        slot = self._status.begin(assign.m, head.size, head.sender, to)
        text: bytes | None = raw[assign.head :] if assign.body else None
        path = f"{self._spool}/{layout.stem_of(assign.m, assign.home)}.eml"
        return Job(assign, head, Body(text, path, head.size), slot, edits=head.edits)

    def _recalled(self, job: Job, past: Past) -> None:
        """What the message has been through is known."""
        if past is None:
            log.error("the events of a message cannot be read, it is tried again", id=job.assign.m)
            self._done(job, job.result())
        else:
            job.recall(past)
            self._guarded(job, self._work)

    def _entered(self, job: Job, phase: Phase) -> None:
        self._status.enter(job.slot, phase)

    def _headless(self, assign: Assign) -> Job:
        job = self.jobs[assign.n] = Job(assign, _NO_HEAD, Body(b"", "", 0), self._status.begin(assign.m, 0, "", ""))
        return job

    def _unreadable(self, job: Job, what: str, error: OSError) -> None:
        """A file that is not there is damage; one that cannot be read now (descriptors, memory) is tried again."""
        if isinstance(error, FileNotFoundError):
            self._done_damaged(job, f"the {what} is missing")
        else:
            self._not_now(job, f"the {what} of a message cannot be read", error)

    def _not_now(self, job: Job, what: str, error: OSError) -> None:
        log.error(f"{what}, it is tried again", id=job.assign.m, why=str(error))
        self._done(job, job.result())

    def _guarded(self, job: Job, step: Callable[[Job], None]) -> None:
        """A step of the walk; what it raises is this message's crash (design: poison)."""
        try:
            step(job)
        except Exception as error:
            self._crashed(job, error)

    def _crashed(self, job: Job, error: BaseException) -> None:
        log.error("our program failed on a message", id=job.assign.m, trace=log.traced(error))
        self._done(job, job.result(crashed=Phase.EXECUTING.value, trace=log.traced(error)))

    def _work(self, job: Job) -> None:
        if job.body.text is None and job.head.size <= self._small and not self._read_small(job):
            return
        if job.assign.expire:
            self._expire(job)
        elif job.assign.delay:
            made = delay_of(job, hop.parse(job.assign.hop), self._office)
            self._done(job, _with_notices(job, [], made), made.raw)
        elif job.assign.hop == _SUBMISSION:
            ahead = self._inspect if self.inspecting.on else self._categorize
            ahead(job, recipients.from_text(job.assign.rcpt))
        else:
            self._deliver(job, hop.parse(job.assign.hop), recipients.from_text(job.assign.rcpt))

    def _read_small(self, job: Job) -> bool:
        """A small body that did not come along is read at once, and must be what was accepted."""
        try:
            text = from_files.beginning(job.body.path, job.head.size + 1)
        except OSError as error:
            self._unreadable(job, "body", error)
            return False
        if len(text) != job.head.size or sha256(text).hexdigest() != job.head.sha256:
            self._done_damaged(job, "the body is not what was accepted")
            return False
        job.body = Body(text, job.body.path, job.body.size)
        return True

    def _inspect(self, job: Job, rcpt: tuple[int, ...]) -> None:
        """The phases ahead of routing."""
        self.inspecting.begin(job, rcpt, lambda found: self._guarded(job, lambda one: self._inspected(one, found)))

    def _inspected(self, job: Job, found: Inspected) -> None:
        if found.damaged:
            self._done_damaged(job, found.damaged)
        elif found.crashed:
            self._done(job, job.result(crashed=found.crashed, trace=found.trace))
        else:
            job.routed, job.made, job.made_raw = found.events, found.children, found.raw
            job.edits += tuple(edit for one in found.events if isinstance(one, Passed) for edit in one.headers)
            if found.left:
                self._categorize(job, found.left)
            else:
                self._done(job, *self._terminated(job, found.events, hop.SUBMISSION))

    def _categorize(self, job: Job, rcpt: tuple[int, ...]) -> None:
        """Executing: every recipient gets its next hop. One hop that is open is delivered to in the same go."""
        forced, ways = job.assign.forced, self.routes.of(job.head)
        decide = self.routes.forced(forced, ways.decide) if forced else ways.decide
        found = categorize(job.head, rcpt, decide, job.assign.attempt)
        job.routed = job.routed + found.events if job.routed else found.events
        job.configuration = self.configuration
        only = found.only
        target = hop.parse(only.hop) if only is not None and only.hop not in self.closed else None
        if target is not None and self._open(target):
            self._deliver(job, target, rcpt)
        elif found.expansions:
            self._expand(job, found)
        else:
            self._done(job, *self._terminated(job, job.routed, hop.SUBMISSION))

    def _expand(self, job: Job, found: Categorized) -> None:
        """Aliases go on as messages of their own; for a large body names are made beside the loop."""
        drafts = draft(self._inherited(job), found.expansions, present(job.head, found.events), job.assign.attempt)
        if drafts.light(job.body):
            self._expanded(job, job.routed + drafts.events, *drafts.with_body(job.body))
            return

        def placed(names: Placed) -> None:
            if isinstance(names, BodyLost):
                self._done_damaged(job, str(names))
            elif isinstance(names, OSError):
                self._not_now(job, "the body of a message cannot be linked for an alias", names)
            elif isinstance(names, BaseException):
                self._crashed(job, names)
            else:
                children, raw = drafts.with_names(names, job.head.sha256)
                self._guarded(job, lambda _: self._expanded(job, job.routed + drafts.events, children, raw))

        self.linking.place(job.body, len(drafts.children), placed)

    def _inherited(self, job: Job) -> Head:
        """The head of what a message goes on as: what it has been through, that has been through too. Backup looks for
        itself: an alias may have brought it into another class."""
        if not self.inspecting.on and not job.edits:
            return job.head
        return msgspec.structs.replace(job.head, passed=_LOOKED_AT, edits=job.edits)

    def _expanded(self, job: Job, events: list[Event], children: list[Child], raw: bytes) -> None:
        done, notices = self._terminated(job, events, hop.SUBMISSION)
        done.children += children
        self._done(job, done, notices + raw)

    def _open(self, target: NextHop) -> bool:
        """Whether fresh mail may be begun there; of hours the scheduler process knows."""
        if self.draining or target.connector in self._timed:
            return False
        if target.delivery_type is DeliveryType.SMART_HOST or target.delivery_type is DeliveryType.DNS:
            return self.smtp.ready(target)
        if target.delivery_type is DeliveryType.MAILBOX:
            return self.local.ready(target)
        return self.ways.ready(target)

    def _deliver(self, job: Job, target: NextHop, rcpt: tuple[int, ...]) -> None:
        work = Work(job.head, job.body, rcpt, target, job.assign.attempt, job.edits, job.gate)
        status, slot = self._status, job.slot
        report, show = partial(self._reported, job, target), partial(status.show, slot)
        if target.delivery_type is DeliveryType.MAILBOX:
            status.enter(slot, Phase.LOCAL)
            self.local.deliver(work, report, show)
        elif target.delivery_type is DeliveryType.SMART_HOST or target.delivery_type is DeliveryType.DNS:
            status.enter(slot, Phase.SMTP)
            self.smtp.deliver(work, report, show)
        else:
            status.enter(slot, Phase.SMTP if target.delivery_type is DeliveryType.DELIVERY_AGENT else Phase.LOCAL)
            self.ways.deliver(work, report, show)

    def _reported(self, job: Job, target: NextHop, outcome: Outcome) -> None:
        """Terminating: results, and the notice about those that failed."""
        if job.gate is not None and job.gate.shut:
            self._status.end(job.slot)
            return
        if outcome.damaged:
            self._done_damaged(job, outcome.damaged)
            return
        job.begun = outcome.begun
        events = job.routed + outcome.events
        done, raw = self._terminated(job, events, target, outcome.relayed)
        done.uncertain = outcome.uncertain
        if outcome.unavailable is not None and not self._ending:
            done.unavailable, done.hop = str(outcome.unavailable), str(target)
        self._done(job, done, raw)

    def _expire(self, job: Job) -> None:
        """The lifetime is over: the last reply is what the sender hears."""
        event = Failed(rcpt=job.assign.rcpt, attempt=job.assign.attempt, reply=job.assign.expire)
        self._done(job, *self._terminated(job, [event], hop.parse(job.assign.hop)))

    def _terminated(
        self, job: Job, events: list[Event], target: NextHop, relayed: Sequence[int] = ()
    ) -> tuple[Done, bytes]:
        """The result with its notices, and the bytes of those."""
        raw = b""
        if not concerns(job, events):
            done = job.result(events=events)
        else:
            self._status.enter(job.slot, Phase.TERMINATING)
            made = notices_of(job, events, target, relayed, self._office)
            done, raw = _with_notices(job, events, made), made.raw
            done.blames = blames_of(job, events, target)
        if job.made:
            done.children += job.made
            raw += job.made_raw
        return done, raw

    def _done_damaged(self, job: Job, why: str) -> None:
        self._done(job, job.result(damaged=why))

    def _done(self, job: Job, done: Done, raw: bytes = b"") -> None:
        job.done, job.raw = done, raw
        self._status.end(job.slot)
        if job.gate is None or job.gate.open:
            self._finished(job)


def _allotment(settings: Settings, worker: int) -> Allotment:
    """The connections that are this worker's part of all."""
    queue = settings.queue
    parts = queue.priority_connections if queue.priority_queuing else None
    return Allotment(queue.per_hop, worker, settings.kmq.workers, parts)


def _with_notices(job: Job, events: list[Event], made: Notices) -> Done:
    done = job.result(events=events + made.events, unnoticed=made.unnoticed)
    done.children += made.children
    return done


_BY_SMTP = frozenset({DeliveryType.SMART_HOST, DeliveryType.DNS})
_NO_HEAD = Head("", "", "", "", [], 0)
_SUBMISSION = str(hop.SUBMISSION)
_LOOKED_AT = ",".join(phase.value for phase in (Phase.CONTENT, Phase.ANTIVIRUS))
