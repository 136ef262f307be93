"""The worker process: carries out assignments, and keeps each result until the scheduler process has it durably.

A message's walk:  `_assigned` -> `_categorize` (fresh mail: Executing) -> `_deliver` (Local or SMTP delivery) ->
                   `_reported` (Terminating: the notice) -> `_done` -> `_known`.
Promise:  a result is sent at once, sent again over every new connection, and forgotten only when it is known (J10). An
          exception of our own while a message is worked on is that message's crash, not the worker's.
On crash: the status file says what was in hand; the scheduler process gives it out again when we are reaped (J9).
Callers:  cli.kmqd starts it; one asyncio loop.
"""

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Callable
from hashlib import sha256

import msgspec

from kmq import log
from kmq.config import ConnectorSection, Settings
from kmq.model import envelope, hop, moment, recipients, reply
from kmq.model.envelope import Head
from kmq.model.event import Deferred, Delivered, Event, Failed, Routed
from kmq.model.frame import AnyFrame, Assign, Closed, Done, Frame, Hello, Holding, Known, Reload, Stop
from kmq.model.hop import DeliveryType, NextHop
from kmq.model.phase import Phase
from kmq.model.queue_id import parse
from kmq.phases.executing import categorize
from kmq.phases.mailbox import Mailbox
from kmq.phases.smtp import Smtp
from kmq.phases.work import Body, Outcome, Work
from kmq.routing.table import Routes
from kmq.run import notices
from kmq.run.link import Link
from kmq.run.reloading import reread
from kmq.spool import layout
from kmq.spool.status import BEAT, StatusFile, addressees

_encode = msgspec.json.Encoder().encode
_STATUS_PAUSE = 0.1
#: Characters of all replies in one result: a frame has its limit, and what a server says does not.
_REPLIES = 150_000
#: Bytes of an envelope's head: 100,000 recipients with all their parameters are less.
_HEAD_LIMIT = 64 << 20
#: Bytes of a body that a notice may need: its header.
_HEADER_LIMIT = 128 * 1024


class Job:
    """One assignment in hand. done: its result, once there is one; slot: its line in the status file."""

    __slots__ = ("assign", "body", "done", "head", "raw", "routed", "slot")

    def __init__(self, assign: Assign, head: Head, body: Body, slot: int) -> None:
        self.assign = assign
        self.head = head
        self.body = body
        self.slot = slot
        self.routed: list[Event] = []
        self.done: Done | None = None
        self.raw = b""


class Worker:
    """The work of one process."""

    def __init__(self, settings: Settings, number: int, status: StatusFile, started: float) -> None:
        self.number = number
        self.status = status
        self.started = started
        self.jobs: dict[int, Job] = {}
        self.stopping = False
        self._closed: frozenset[str] = frozenset()
        self._link: Link | None = None  #: over which the scheduler process has been told who we are
        self._hops: dict[str, NextHop] = {}
        self._stop_asked = asyncio.Event()
        self._ended = asyncio.Event()
        self._flush_due = False
        connectors = self._take(settings)
        share = max(1, -(-settings.queue.per_hop // settings.kmq.workers))
        self.smtp = Smtp(connectors, settings.kmq.hostname, share)
        self.mailbox = Mailbox(connectors, settings.kmq.hostname)

    def _take(self, settings: Settings) -> dict[str, ConnectorSection]:
        """What of a configuration is ours; -> the connectors, by name."""
        self.settings = settings
        self.routes = Routes(settings)
        self._small = settings.queue.small_body
        self._spool = str(settings.kmq.spool)
        return {section.name: section for section in settings.connectors}

    def reconfigure(self, settings: Settings) -> None:
        """Takes a new configuration; what is under way ends as it began."""
        connectors = self._take(settings)
        self.smtp.configure(connectors)
        self.mailbox.configure(connectors)
        self._say(Reload())

    # --- the link ----------------------------------------------------------------------------------------------------

    async def connect(self) -> None:
        """Finds the scheduler process and says who we are and what we hold; results that nobody acknowledged follow.

        Nothing goes over a connection before that: a result of a stranger would be nobody's.
        """
        link: Link | None = None
        while link is None or not link.open:  # it may have ended by the time that we hear of it
            link = Link(self._on_frame, self._on_end)
            await link.connect(self.settings.kmq.run_directory / "queue.sock")
        self._link = link
        link.send(Hello("worker", self.number, os.getpid(), self.started))
        held = [
            (one.assign.n, one.assign.m, one.assign.hop, one.assign.rcpt, one.assign.attempt)
            for one in self.jobs.values()
            if one.done is None
        ]
        link.send(Holding(held))
        for job in self.jobs.values():
            if job.done is not None:
                link.send(job.done, job.raw)
        if self.stopping:
            link.send(Stop())

    def _on_end(self, link: Link) -> None:
        if link is self._link and not self._ended.is_set():
            self._link = None
            self._connecting = asyncio.get_running_loop().create_task(self.connect())

    def _say(self, said: Frame, raw: bytes = b"") -> None:
        """To the scheduler process, if there is one; what it does not hear now it hears when we are connected again."""
        if self._link is not None:
            self._link.send(said, raw)

    def _on_frame(self, link: Link, said: AnyFrame, raw: bytes) -> None:
        match said:
            case Assign():
                self._assigned(said, raw)
            case Known():
                for number in said.numbers:
                    self._known(number)
            case Closed():
                self._closed = frozenset(said.hops)
            case Stop():
                self.stop()
            case _:
                log.warning("a frame that no worker understands", frame=type(said).__name__)

    # --- a message's walk --------------------------------------------------------------------------------------------

    def _assigned(self, assign: Assign, raw: bytes) -> None:
        path = f"{self._spool}/{layout.stem(parse(assign.m), assign.home)}"
        try:
            head = envelope.read_head(raw[: assign.head] if assign.head else _first_line(path + ".env"))
        except OSError as error:
            self._unreadable(self._headless(assign), "envelope", error)
            return
        if head is None:
            self._done(
                self._headless(assign), self._result(assign, damaged="the first line of the envelope is damaged")
            )
            return
        addresses = head.recipients
        to = addresses[0].address if len(addresses) == 1 else addressees(one.address for one in addresses)
        slot = self.status.begin(assign.m, head.size, head.sender, to)
        self._flush_soon()
        text: bytes | None = raw[assign.head :] if assign.body else None
        job = self.jobs[assign.n] = Job(assign, head, Body(text, path + ".eml", head.size), slot)
        self._guarded(job, self._work)

    def _headless(self, assign: Assign) -> Job:
        job = self.jobs[assign.n] = Job(assign, _NO_HEAD, Body(b"", "", 0), self.status.begin(assign.m, 0, "", ""))
        return job

    def _unreadable(self, job: Job, what: str, error: OSError) -> None:
        """A file that is not there is damage; one that cannot be read now (descriptors, memory) is tried again."""
        if isinstance(error, FileNotFoundError):
            self._done(job, self._result(job.assign, damaged=f"the {what} is missing"))
        else:
            log.error(f"the {what} of a message cannot be read, it is tried again", id=job.assign.m, why=str(error))
            self._done(job, self._result(job.assign))

    def _guarded(self, job: Job, step: Callable[[Job], None]) -> None:
        """A step of the walk; what it raises is this message's crash (design: poison)."""
        try:
            step(job)
        except Exception as error:
            log.error("our program failed on a message", id=job.assign.m, trace=log.traced(error))
            self._done(job, self._result(job.assign, crashed=Phase.EXECUTING.value, trace=log.traced(error)))

    def _work(self, job: Job) -> None:
        if not self._read_small(job):
            return
        if job.assign.expire:
            self._expire(job)
        elif job.assign.hop == _SUBMISSION:
            self._categorize(job)
        else:
            self._deliver(job, self._hop(job.assign.hop), recipients.from_text(job.assign.rcpt))

    def _read_small(self, job: Job) -> bool:
        """A small body that did not come along is read at once, and must be what was accepted."""
        if job.body.text is not None or job.head.size > self._small:
            return True
        try:
            with open(job.body.path, "rb") as file:
                text = file.read(job.head.size + 1)
        except OSError as error:
            self._unreadable(job, "body", error)
            return False
        if len(text) != job.head.size or sha256(text).hexdigest() != job.head.sha256:
            self._done(job, self._result(job.assign, damaged="the body is not what was accepted"))
            return False
        job.body = Body(text, job.body.path, job.body.size)
        return True

    def _categorize(self, job: Job) -> None:
        """Executing: every recipient gets its next hop. One hop that is open is delivered to in the same go."""
        rcpt = recipients.from_text(job.assign.rcpt)
        routed = categorize(job.head, rcpt, self.routes.route)
        job.routed = list(routed)
        if len(routed) == 1 and self._open(routed[0]):
            self._deliver(job, self._hop(routed[0].hop), rcpt)
        else:
            self._done(job, self._result(job.assign, events=job.routed))

    def _open(self, routed: Routed) -> bool:
        if routed.hop in self._closed or self.stopping:
            return False
        target = self._hop(routed.hop)
        if target.delivery_type is DeliveryType.SMART_HOST:
            return self.smtp.ready(target)
        return target.delivery_type is DeliveryType.MAILBOX

    def _hop(self, text: str) -> NextHop:
        found = self._hops.get(text)
        if found is None:
            if len(self._hops) > 10_000:
                self._hops.clear()
            found = self._hops[text] = hop.parse(text)
        return found

    def _deliver(self, job: Job, target: NextHop, rcpt: tuple[int, ...]) -> None:
        work = Work(job.head, job.body, rcpt, target, job.assign.attempt)
        status, slot = self.status, job.slot

        def report(outcome: Outcome) -> None:
            self._reported(job, target, outcome)

        def show(server: str, percent: int) -> None:
            status.show(slot, server, percent)
            self._flush_soon()

        if target.delivery_type is DeliveryType.MAILBOX:
            status.enter(slot, Phase.LOCAL)
            self.mailbox.deliver(work, report, show)
        elif target.delivery_type is DeliveryType.SMART_HOST:
            status.enter(slot, Phase.SMTP)
            self.smtp.deliver(work, report, show)
        else:
            report(Outcome(unavailable=reply.Reply(451, "4.4.0", f"this kmq has no way to deliver {target}")))

    def _reported(self, job: Job, target: NextHop, outcome: Outcome) -> None:
        """Terminating: results, and the notice about those that failed."""
        if outcome.damaged:
            self._done(job, self._result(job.assign, damaged=outcome.damaged))
            return
        done = self._result(job.assign, events=job.routed + outcome.events, uncertain=outcome.uncertain)
        if outcome.unavailable is not None and not self._ended.is_set():
            done.unavailable, done.hop = str(outcome.unavailable), str(target)
        self._with_notice(job, done, [event for event in outcome.events if isinstance(event, Failed)])

    def _expire(self, job: Job) -> None:
        """The lifetime is over: the last reply is what the sender hears."""
        event = Failed(rcpt=job.assign.rcpt, attempt=job.assign.attempt, reply=job.assign.expire)
        self._with_notice(job, self._result(job.assign, events=[event]), [event])

    def _with_notice(self, job: Job, done: Done, failed: list[Failed]) -> None:
        """The result, with the notice if one is owed. What has been delivered is told in any case: a mistake of ours
        while the notice is made leaves the failure unnoticed, and the message is set aside."""
        raw = b""
        if failed:
            self.status.enter(job.slot, Phase.TERMINATING)
            try:
                made = self._notice(job, failed)
            except Exception as error:
                log.error("no notice could be made of a failure", id=job.assign.m, trace=log.traced(error))
                made = None
            if made is not None:
                tail, count, body, stamp = made
                done.children = [(count, len(tail), len(body), stamp)]
                raw = tail + body
            done.unnoticed = made is None and notices.wanted(job.head, _indices(failed))
        self._done(job, done, raw)

    def _notice(self, job: Job, failed: list[Failed]) -> notices.Notice | None:
        failures = [(index, one.reply, one.host) for one in failed for index in recipients.from_text(one.rcpt)]
        expired = bool(job.assign.expire) and job.assign.hop != _UNREACHABLE  # that was never tried
        return notices.compose(job.head, self._header(job), failures, self.settings.kmq.hostname, time.time(), expired)

    def _header(self, job: Job) -> bytes:
        if job.body.text is not None:
            return job.body.text[:_HEADER_LIMIT]
        try:
            with open(job.body.path, "rb") as file:
                return file.read(_HEADER_LIMIT)
        except OSError:
            return b""

    # --- results -----------------------------------------------------------------------------------------------------

    def _result(self, assign: Assign, events: list[Event] | None = None, **more: str | bool) -> Done:
        now = moment.as_text(time.time())
        encoded = []
        longest = _REPLIES // max(1, len(events or ()))
        for event in events or ():
            event.at = now
            if isinstance(event, (Delivered, Failed, Deferred)) and len(event.reply) > longest:
                event.reply = event.reply[:longest]
            encoded.append(msgspec.Raw(_encode(event)))
        return Done(assign.n, assign.m, assign.hop, assign.rcpt, assign.attempt, encoded, **more)  # type: ignore[arg-type]

    def _done(self, job: Job, done: Done, raw: bytes = b"") -> None:
        job.done, job.raw = done, raw
        self.status.end(job.slot)
        self._flush_soon()
        self._say(done, raw)

    def _known(self, number: int) -> None:
        self.jobs.pop(number, None)
        if self.stopping and not self.jobs:
            self._ended.set()

    # --- status and end ----------------------------------------------------------------------------------------------

    def _flush_soon(self) -> None:
        if not self._flush_due:
            self._flush_due = True
            asyncio.get_running_loop().call_later(_STATUS_PAUSE, self._flush)

    def _flush(self) -> None:
        self._flush_due = False
        self.status.counters["in_hand"] = len(self.jobs)
        self.status.flush()

    def stop(self) -> None:
        """Finishes what is in hand, and asks for nothing new."""
        if not self.stopping:
            self.stopping = True
            self._stop_asked.set()
            self._say(Stop())
        if not self.jobs:
            self._ended.set()

    async def run(self, grace: float) -> None:
        """Until the end. grace: seconds that stopping may take; what is not done then is done by the next worker."""
        await self.connect()
        while not self._stop_asked.is_set():
            self.status.flush()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stop_asked.wait(), BEAT)
        try:
            await asyncio.wait_for(self._ended.wait(), grace)
        except TimeoutError:
            log.warning("stopped with messages in hand; they are tried again", count=len(self.jobs))
        self._ended.set()
        await asyncio.gather(self.smtp.close(_CLOSE), self.mailbox.close(_CLOSE))
        if self._link is not None:
            self._link.close()


def _first_line(path: str) -> bytes:
    """The head of an envelope on disk."""
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(fd, "rb") as file:
        return file.readline(_HEAD_LIMIT).rstrip()


def _indices(failed: list[Failed]) -> list[int]:
    return [index for one in failed for index in recipients.from_text(one.rcpt)]


_NO_HEAD = Head("", "", "", "", [], 0)
_SUBMISSION = str(hop.SUBMISSION)
_UNREACHABLE = str(hop.UNREACHABLE)
GRACE = 30.0
#: Seconds for connections to say QUIT, and for a file that is being written.
_CLOSE = 1.0


def main(settings: Settings, number: int, sockets: object, started: float) -> int:
    """The process; -> its exit status."""
    from kmq.errors import ConfigError

    status = StatusFile(settings.kmq.spool / "status", "worker", number)

    async def work() -> None:
        loop = asyncio.get_running_loop()
        log.gather(loop)
        worker = Worker(settings, number, status, started)

        def reload() -> None:
            try:
                worker.reconfigure(reread(worker.settings))
            except ConfigError as error:
                log.error("the new configuration is wrong, the old one stays", why=str(error))

        loop.add_signal_handler(signal.SIGTERM, worker.stop)
        loop.add_signal_handler(signal.SIGINT, lambda: None)  # the supervisor says when
        loop.add_signal_handler(signal.SIGHUP, reload)
        await worker.run(GRACE)

    import uvloop

    uvloop.run(work())
    status.close()
    return 0
