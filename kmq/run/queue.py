"""The scheduler process: it owns the spool, decides with the pure core, and is the one writer.

The data's way: a receiver's Put -> `arrivals` -> storage -> Stored, and into the core; the core's assignment ->
a worker -> Done -> `results` -> storage -> Known. One turn of the loop gathers what came, then assigns once.
Promise:  J1, J9, J10, J14 by the parts that it joins. Nothing is assigned before every worker that lives has said what
          it holds. It never parses a message, waits for a network, or reads the queue in its loop.
On crash: the supervisor starts a new one: recovery, then the links come back by themselves.
Callers:  cli.kmqd starts it.
"""

import asyncio
import gc
import os
import random
import signal
import time
from collections.abc import Callable
from functools import partial

from kmq import log
from kmq.config import Settings
from kmq.errors import StorageFailed
from kmq.model import queue_id, recipients
from kmq.model.frame import (
    AnyFrame,
    Ask,
    Assign,
    Closed,
    Done,
    End,
    Etrn,
    Etrned,
    Hello,
    Holding,
    Indexed,
    Living,
    Put,
    Reaped,
    Reserve,
    Stop,
    unladen,
)
from kmq.run import memory, rotation
from kmq.run.arrivals import Arrival, Arrivals
from kmq.run.assignment import Assignment, Held, Start
from kmq.run.changes import ROLE as INDEX
from kmq.run.changes import Changes
from kmq.run.clock import Clock
from kmq.run.control_server import MakeControl
from kmq.run.cord import Gift, Ward
from kmq.run.deaths import Deaths, WorkerProcess
from kmq.run.etrn import Etrns
from kmq.run.headstart import HeadStart
from kmq.run.inheritance import Inheritance
from kmq.run.limits import limits_of
from kmq.run.lines import SUBMISSION
from kmq.run.link import Link
from kmq.run.loader import Loader
from kmq.run.metering import Metering
from kmq.run.numbers import Numbers
from kmq.run.opening import open_spool
from kmq.run.operators import Operators
from kmq.run.outcasts import Leaving, Outcasts
from kmq.run.replays import Replays
from kmq.run.rerouting import Rerouting
from kmq.run.results import Result, Results
from kmq.run.roll import Roll, Voice
from kmq.run.safety_net import SafetyNet
from kmq.run.schedule import schedules_of
from kmq.run.scheduler import Scheduler
from kmq.run.showing import Showing
from kmq.run.storage import Storage
from kmq.run.taking_out import Withdrawn
from kmq.run.told import Told
from kmq.spool import layout
from kmq.spool.disk import Disk
from kmq.spool.lock import SpoolLock
from kmq.spool.recovery import Recovered
from kmq.spool.status import StatusFile
from kmq.spool.store import Pending, Store

_BRING_MAIL = frozenset({"receiver", "pickup"})  #: processes that hand in messages from outside
_UNREACHABLE_LOOKS = 60.0  #: seconds between two looks at what is unreachable, whose lifetime may be over
_LAST_PUTS = 5.0  #: seconds after which a dead receiver's last puts have been read from its socket
_MAKING = 0.01  #: seconds between two looks whether a large body's files are made, which its assignment waits for


class QueueProcess:
    """All parts joined. exit_status: what the process ends with."""

    def __init__(self, given: Inheritance, status: StatusFile, started: float) -> None:
        self.settings = given.settings
        self.ward = Ward(given.cord, given.number, self._make, lambda: len(self.core) if self._ready else -1)
        self.status = status
        self.started = started
        self.exit_status = 0
        self.ended = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._living: asyncio.Future[Living] = self._loop.create_future()
        self._early: list[Callable[[], None]] = []
        self._ready = False
        self._supervisor: Link | None = None
        self._roles: dict[Link, Hello] = {}
        self.roll = Roll(self.settings.kmq.spool / "status", self._settle, self._on_frame, self._end)
        self._assigning = False
        self._timer: asyncio.TimerHandle | None = None
        self._due: float | None = None  #: when it wakes us
        self._closings = -1
        self.clock = Clock(self._tick, status)
        self._looked = 0.0

    # --- the start ---------------------------------------------------------------------------------------------------

    async def start(self, disk: Disk) -> None:
        """Recovery, then the parts, then what has been said to us meanwhile."""
        living = await self._living
        store, recovered = open_spool(disk, self.settings)
        self._join(store, recovered, living)
        self._ready = True
        self.roll.living(living)
        early, self._early = self._early, []
        for said in early:
            said()
        self._loading = self._loop.create_task(self.loader.load(recovered.damaged))
        self._loading.add_done_callback(self._loaded)
        self._loop.call_soon(memory.give_back)
        self._tick()

    def _loaded(self, loading: asyncio.Task[None]) -> None:
        """All of the queue is known, as it was routed by whatever configuration counted then."""
        self.etrns.loading = False
        if not loading.cancelled() and self.rerouting.configure(self.settings):
            self._assign_soon()

    def _join(self, store: Store, recovered: Recovered, living: Living) -> None:
        queue = self.settings.queue
        self.storage = Storage(store, queue, self._durable, self._not_durable, self._fatal)
        workers = frozenset(n for role, n, _ in living.children if role == "worker")
        start = Start(time.monotonic(), time.time(), recovered.last_id, workers, (recovered.generation << 32) + 1)
        self.core = Scheduler(queue, random.random, start, schedules_of(self.settings), limits_of(self.settings))
        self.numbers = Numbers()
        self.arrivals = Arrivals(self.storage, recovered.tokens)
        self.outcasts = Outcasts(self.core, self.storage, self.numbers, queue.poison_threshold)
        self.outcasts.poison = set(recovered.poison)
        self.results = Results(self.core, self.storage, self.arrivals.fresh, self.numbers, self.outcasts)
        self.results.named = self.arrivals.name
        self.net = SafetyNet(self.settings, self.storage, self.outcasts.keeping)
        last_id = recovered.last_id
        self.loader = Loader(self.core, self.outcasts, self.numbers, store.effects, last_id)
        self.results.passed.read = self.loader.passed
        self.loader.known, self.loader.seen = self._assign_soon, self.outcasts.keeping.loaded
        folder = self.settings.kmq.spool / "status"
        self.deaths = Deaths(self.core, self.storage, self.outcasts, self.numbers, folder, Told)
        self.showing = Showing(self.status, self.core, self.storage)
        self.showing.rung = self.clock.hurry
        self.changes = Changes(store.effects.homes.touched, self.clock.hurry)
        self.metering = Metering(self.settings, self.core, self.storage, self.arrivals, self.status.counters)
        self.rerouting = Rerouting(self.core, self.storage)
        self.etrns = Etrns(self.core, self.settings)
        self.operators = Operators(self.core, self.storage, self.numbers, self.outcasts, self.loader)
        self.operators.reload = self.ward.reload
        self.operators.taking_out.left = self._left
        self.operators.begin(self.settings)
        self.operators.metering = self.metering
        self.ward.closed = lambda: self.metering.closed
        self.headstart = HeadStart(self.core, self.storage, self.roll.link, self.ward)
        self.results.grace = self.operators.grace
        self.operators.replays = Replays(self.core, self.storage, self.numbers, self.arrivals)

    # --- links -------------------------------------------------------------------------------------------------------

    def new_link(self) -> Link:
        return Link(self._on_frame, self._on_end)

    def _on_frame(self, link: Link, frame: AnyFrame, raw: bytes) -> None:
        if not self._ready:
            if isinstance(frame, Living) and not self._living.done():
                self._living.set_result(frame)
            self._early.append(partial(self._on_frame, link, frame, raw))
            return
        if self.roll.kept_back and self.roll.later(link, frame, raw):
            return
        if type(frame) is Put:
            self.arrivals.put(link, frame, raw)  # there is nothing to hand out before it is durable
        elif type(frame) is Done:
            self._done(link, frame, raw)
        else:
            self._on_other_frame(link, frame, raw)
            self._assign_soon()

    def _on_other_frame(self, link: Link, frame: AnyFrame, raw: bytes) -> None:
        match frame:
            case Reserve():
                self.arrivals.reserve(link, frame)
            case Etrn():
                link.send(Etrned(frame.token, str(self.etrns.ask(frame.node, time.monotonic()))))
            case Ask():
                self.arrivals.ask(link, frame)
            case Hello():
                self._hello(link, frame)
            case Holding():
                self._holding(link, unladen(frame, raw))
            case Reaped():
                if frame.role == "worker":
                    self.roll.reaped(frame)
                elif frame.role in _BRING_MAIL:
                    self._loop.call_later(_LAST_PUTS, self.arrivals.maker_died, frame.pid)
            case Stop():
                self._leaves(link)
            case Indexed():
                self.changes.heard(link)
            case Living():
                self._supervised(link, frame)
            case _:
                log.warning("a frame that the scheduler process does not understand", frame=type(frame).__name__)

    def _hello(self, link: Link, hello: Hello) -> None:
        self._roles[link] = hello
        if hello.role in _BRING_MAIL:
            self.arrivals.joined(link)
        elif hello.role == INDEX:
            self.changes.joined(link)
        elif hello.role == "worker":
            voice = self.roll.hello(link, hello)
            if voice is Voice.WORKER:
                self.core.worker_up(hello.n, self.settings.queue.worker_slots)
                link.send(Closed(self.core.closed()))
            elif voice is Voice.LEAVING:
                self.core.worker_draining(hello.n)
            elif voice is Voice.FORMER and not self.roll.workers[hello.n].came:
                self.core.worker_up(hello.n, 0)

    def _supervised(self, link: Link, living: Living) -> None:
        """The supervisor is (back) on the line."""
        self._supervisor = link
        self.roll.living(living)

    def _on_end(self, link: Link) -> None:
        if not self._ready:
            self._early.append(partial(self._on_end, link))
            return
        if link is self._supervisor:
            self._supervisor = None
        self._leaves(link)
        self._roles.pop(link, None)
        self.arrivals.links.discard(link)
        self.changes.ended(link)
        self.roll.ended(link)

    # --- workers -----------------------------------------------------------------------------------------------------

    def _holding(self, link: Link, holding: list[tuple[int, str, str, str, int]]) -> None:
        hello = self._roles[link]
        worker = self.roll.workers.get(hello.n)
        if worker is None or worker.link is not link:
            return  # dead by now: what it has is free
        held = []
        for n, name, hop, rcpt, attempt in holding:
            number = queue_id.parse(name)
            self.loader.need(number)
            held.append(Held(n, number, hop, recipients.from_text(rcpt), attempt))
        self.core.holding(hello.n, held, time.monotonic())

    def _done(self, link: Link, done: Done, raw: bytes) -> None:
        if not self.loader.done:
            self.loader.need(queue_id.parse(done.m))
        if 0 < done.configuration < self.ward.number:
            self.rerouting.outdated.add(queue_id.parse(done.m))
        recorded = self.results.done(self._roles[link].n, link, done, raw)
        if not recorded or self.core.hungry:  # else the next turn is when it is durable
            self._assign_soon()

    def _leaves(self, link: Link) -> None:
        """A worker that says so, or whose socket has ended: it would not hear of anything new."""
        for worker in self.roll.workers.values():
            if worker.link is link:
                self.core.worker_draining(worker.n)

    def _settle(self, worker: WorkerProcess) -> None:
        """J9: it is reaped, and all that it said is heard."""
        self.deaths.settle(worker)
        self.arrivals.maker_died(worker.pid)
        self._assign_soon()

    def _end(self, end: End) -> bool:
        return self._supervisor is not None and self._supervisor.send(end)

    # --- handing out -------------------------------------------------------------------------------------------------

    def _assign_soon(self) -> None:
        if not self._assigning:
            self._assigning = True
            self._loop.call_soon(self._assign)

    def _assign_meanwhile(self) -> None:
        """When the disk works next. Those who were told of their mail want the processor first: they bring more of it,
        and one sync is for more of them."""
        if not self._assigning:
            self._assigning = True
            self.storage.meanwhile(self._assign)

    def _assign(self) -> None:
        """Once for all that came in this turn of the loop."""
        self._assigning = False
        if self.storage.broken:
            return  # what could not be written down is not begun; the next tick looks again
        now = time.monotonic()
        if self.core.verbs.letting_go:
            self.outcasts.release()
            self.operators.taking_out.release()
        for one in self.core.assign(now):
            self._hand_out(one)
        if self.core.closings != self._closings:
            self._closings = self.core.closings
            self.showing.changed()
            self.roll.tell(Closed(self.core.closed()))
        self._wake_at(self.core.next_due(now), now)

    def _hand_out(self, one: Assignment) -> None:
        worker = self.roll.workers.get(one.worker)
        if worker is None or worker.link is None:
            return  # its socket has ended: the assignment is freed when it is reaped
        mid, hop = one.mid, one.hop
        line, body = self.arrivals.fresh.take(mid)
        if not body and self.storage.store.effects.unmade(mid):
            self._loop.call_later(_MAKING, self._hand_out_later, one)
            return
        rcpt = "0" if one.rcpt == (0,) else recipients.as_text(one.rcpt)
        edited = mid in self.numbers.edited
        before = self.numbers.last(mid) if edited or hop == SUBMISSION else 0
        frame = Assign(
            one.n, queue_id.text(mid), hop, rcpt, one.attempt, len(line), len(body), "queue", one.alone,
            one.expire, one.delay, one.warn, self.ward.number, one.share.forced, before, edited,
        )  # fmt: skip
        if line and self.headstart.has(mid, worker.link):
            line = body = b""
        worker.link.send(frame, line, body)

    def _hand_out_later(self, one: Assignment) -> None:
        if self.core.is_out(one.n):  # else it was freed meanwhile
            self._hand_out(one)

    def _wake_at(self, due: float | None, now: float) -> None:
        if due is not None and due <= now:
            self._assign_soon()
        elif due != self._due:
            if self._timer is not None:
                self._timer.cancel()
            self._due = due
            self._timer = self._loop.call_later(due - now, self._wake) if due is not None else None

    def _wake(self) -> None:
        self._due = self._timer = None
        self._assign_soon()

    # --- what became durable -----------------------------------------------------------------------------------------

    def _durable(self, batch: list[Pending]) -> None:
        arrivals: list[Arrival] = []
        results: list[Result] = []
        for one in batch:
            ticket = one.ticket
            if type(ticket) is Arrival:
                arrivals.append(ticket)
            elif type(ticket) is Result:
                results.append(ticket)
            elif isinstance(ticket, Leaving):
                self.outcasts.durable(ticket)
                self._left(ticket.id)
            elif isinstance(ticket, Withdrawn):
                self.operators.taking_out.durable(ticket)
            elif isinstance(ticket, Told):
                ticket.tell()
        now = time.monotonic()
        self.showing.changed()
        for arrival in arrivals:
            self.core.accepted(arrival.id, arrival.recipients, now, arrival.priority)
        if results:
            self.results.durable(results)
            for result in results if not self.loader.done else ():
                if result.complete:
                    self.loader.left(result.id)
            self.rerouting.recorded(results)
        if not arrivals:
            self._assign_soon()
        elif len(batch) == 1:  # the worker first: what a receiver and its client do next would keep it from a processor
            self._assign()
            self._loop.call_soon(self.arrivals.durable, arrivals)
        else:
            self.arrivals.durable(arrivals)
            self._assign_meanwhile()

    def _left(self, number: int) -> None:
        self.arrivals.fresh.drop(number)
        self.loader.left(number)

    def _not_durable(self, refused: list[Pending]) -> None:
        self.arrivals.not_durable([one.ticket for one in refused if isinstance(one.ticket, Arrival)])

    def _fatal(self, why: str) -> None:
        """Nothing of the storage can be trusted: this process ends, and a new one recovers (J7)."""
        log.error("the scheduler process stops", why=why)
        log.flush()
        os._exit(70)

    # --- time --------------------------------------------------------------------------------------------------------

    def _tick(self) -> None:
        now = time.monotonic()
        self.clock.wind(now)  # first: whatever fails below must not stop the clock
        jumped = self.core.clock(now, time.time())
        if jumped:
            log.warning("the clock jumped; nothing expires because of it", seconds=int(jumped))
        self.metering.tick(now, self.operators.stopped)
        for target, wait, reply in self.core.verbs.slowed():
            log.warning("a next hop asks for less", queue=target.name, pause=round(wait), reply=reply)
        self.roll.watch(now, self.settings.queue.phase_limit)
        self.rerouting.look()
        if now > self._looked + _UNREACHABLE_LOOKS:
            self._looked = now
            self.core.expire_unreachable(now)
        self.showing.beat(self.arrivals, self.results, self.outcasts)
        self.changes.tell()
        self.ward.tell_news()
        self._assign_soon()

    # --- a new configuration -----------------------------------------------------------------------------------------

    def _make(self, gift: Gift) -> Callable[[], None]:
        return lambda: self._count(gift.settings)

    def _count(self, settings: Settings) -> None:
        """It counts from here on: every worker is ready for it, and will do by it what is assigned from here on."""
        self.settings = settings
        log.begin("scheduler-1", settings.kmq)
        if not self._ready:
            return
        self.core.configure(settings.queue, schedules_of(settings), limits_of(settings))
        self.storage.settings = settings.queue
        self.outcasts.threshold = settings.queue.poison_threshold
        self.net.configure(settings)
        self.metering.configure(settings)
        self.operators.configure(settings)
        self.etrns.configure(settings)
        if self.rerouting.configure(settings):
            self._assign_soon()

    async def stop(self) -> None:
        """Workers and receivers have gone: what waits is written, every effect made, a checkpoint ends it."""
        if self._ready:
            self._loading.cancel()
            await asyncio.wait((self._loading,))
            await self.storage.stop()
        self.ended.set()


def main(given: Inheritance, number: int, started: float, control: MakeControl | None = None) -> int:
    """The process; -> its exit status. It was given the listeners "queue" and "control"."""
    import uvloop

    settings, sockets = given.settings, given.sockets
    lock = SpoolLock(settings.kmq.spool)
    status = StatusFile(settings.kmq.spool / "status", "scheduler", number)
    disk = Disk(settings.kmq.spool)

    async def work() -> int:
        loop = asyncio.get_running_loop()
        log.gather(loop)
        rotation.heed(loop)
        process = QueueProcess(given, status, started)
        stopping: list[asyncio.Task[None]] = []
        loop.add_signal_handler(signal.SIGTERM, lambda: stopping.append(loop.create_task(process.stop())))
        loop.add_signal_handler(signal.SIGINT, lambda: None)  # the supervisor says when
        server = await loop.create_unix_server(process.new_link, sock=sockets["queue"])
        process.ward.begin()
        try:
            layout.prepare(disk)
            await process.start(disk)
        except OSError as error:
            raise StorageFailed(f"the spool's disk does not do what it should: {error}") from error
        gc.freeze()
        asked = control(process.changes.told_first(process.operators.ask)) if control else None
        if asked is not None:
            await asked.serve(sockets["control"])
        process.ward.serves()
        await process.ended.wait()
        if asked is not None:
            await asked.close()
        server.close()
        process.ward.close()
        return process.exit_status

    ended = uvloop.run(work())
    status.close()
    lock.release()
    return ended
