"""Who does what when: which recipients, which next hop, which worker, when next.

Does:     is told what came in, what workers answered and how time goes on; says what is to be handed out (`assign`),
          what is to be recorded (`result`) and when to be asked again (`next_due`).
Promise:  pure: no files, sockets, clock or loop, and chance is handed in. A recipient is in one assignment at a time. A
          share whose result waits for its sync is not handed out (J10, J14). Nothing is handed out before every worker
          of an earlier run has said what it holds, or is dead (J10). A recipient is let go only by a result that says
          that it is done, or by the operator.
Times:    `now` is monotonic seconds; `clock` is told the wall time beside it, once in every turn of the loop.
On crash: a new one is filled from the envelopes (`loaded`) and from the workers' reports (`holding`).
Callers:  the scheduler process, from its loop. Operators' words: `verbs`.
"""

from collections.abc import Callable, Iterable, Sequence
from math import ceil

from kmq.config.sections import QueueSection
from kmq.model import queue_id
from kmq.model.event import Event
from kmq.model.frame import Done
from kmq.model.priority import NORMAL
from kmq.run.assignment import Assignment, Held, Recording, Ruling, Start
from kmq.run.backoff import UNTRIED, Jitter
from kmq.run.brake import Brake
from kmq.run.crew import Crew, Worker
from kmq.run.expiry import Expiry
from kmq.run.fates import read
from kmq.run.hopqueue import QueueFacts
from kmq.run.lifetime import Lifetime
from kmq.run.limits import Limits
from kmq.run.lines import UNREACHABLE, Lines
from kmq.run.reach import Reach
from kmq.run.schedule import Schedules
from kmq.run.sequel import Ended, Sequel
from kmq.run.share import (
    ALONE,
    ASSIGNED,
    OWING,
    READY,
    RECORDING,
    Part,
    Share,
    ShareFacts,
    all_recipients,
    chain,
    portions,
    shared,
    turn,
    unfinished,
)
from kmq.run.suspects import Suspects
from kmq.run.verbs import Verbs

#: Most assignments of one call; `next_due` says so when there are more.
BOUND = 200

#: Notices that are made by themselves have at most one of so many slots.
OWING_PART = 4


class Scheduler:
    """The core of the scheduler process. random: 0 <= x < 1, as random.random."""

    def __init__(
        self,
        section: QueueSection,
        random: Callable[[], float],
        start: Start,
        schedules: Schedules | None = None,
        limits: Limits | None = None,
    ) -> None:
        schedules, limits = schedules or Schedules(section), limits or Limits(section)
        self._random = random
        self._crew = Crew()
        self._suspects = Suspects()
        self._lines = Lines(limits, schedules, self._suspects, start.now)
        self._lines.rota.carried = self._crew.free_among
        self._lines.unreported.update(start.living)
        self._lifetime = Lifetime(schedules.longest, start.now, start.wall, start.last_id)
        self.brake = Brake(section.mass_expiry)
        self._expiry = Expiry(self._lines, self._lifetime, self.brake)
        jitter = Jitter(section.retry_jitter, random)
        self._sequel = Sequel(self._lines, self._expiry, jitter)
        self._reach = Reach(self._lines, self._expiry, jitter)
        self._out: dict[int, Assignment] = {}
        self._recording: dict[int, Recording] = {}
        self._next = start.first
        self._owing_out = 0
        self._more = False
        self.verbs = Verbs(self._lines)
        self.configure(section, schedules, limits)
        self.clock(start.now, start.wall)

    def configure(
        self, section: QueueSection, schedules: Schedules | None = None, limits: Limits | None = None
    ) -> None:
        """The configuration, also when it was read again: what comes from now on follows it."""
        schedules = schedules or Schedules(section)
        self._reach.jitter = self._sequel.jitter = Jitter(section.retry_jitter, self._random)
        self._longest_wait = schedules.longest * (1 + section.retry_jitter)
        self._lifetime.cycle = schedules.longest
        self.brake.limit = section.mass_expiry
        self._lines.max_idle = section.queue_max_idle_time
        self._lines.configure(schedules, limits or Limits(section))
        self._warning = schedules.soonest_warning
        self._late = 0.0

    def clock(self, now: float, wall: float) -> float:
        """Both clocks; by how many seconds the wall clock jumped ahead, 0.0 when it did not. Expiry waits a cycle."""
        jump = self._lifetime.clock(now, wall)
        self._late = self._late_by(now)
        self._lines.look(now, wall)
        return jump

    def _late_by(self, now: float) -> float:
        """No message with this ID or a later one is old enough for a warning: one look for nearly all mail."""
        return (self._lifetime.wall(now) - self._warning) * (1 << 32)

    # --- messages ------------------------------------------------------------------------------------------------

    def accepted(self, mid: int, count: int, now: float, priority: int = NORMAL) -> None:
        """A message of `count` recipients is durable. priority: model.priority."""
        lines = self._lines
        queue = lines.submission
        for rcpt in portions(all_recipients(count)):
            share = Share(mid, queue, rcpt, priority=priority)
            lines.enter(share, now)
            queue.put(share, front=False)
        if not queue.listed:
            lines.rota.list(queue, now)

    def loaded(self, mid: int, parts: Sequence[Part], now: float, crashes: int = 0) -> bool:
        """A message from the disk, with what is left to do for it (`share.open_parts`); poison is not loaded.

        False when nothing is left: it is not taken in.
        One that has killed a worker when it was alone is a suspect still. A time to wait is believed up to the longest
        wait, so that a clock that was wrong when it was written delays nothing for years.
        """
        if not parts:
            return False
        if crashes:
            self._suspects.crashes[mid] = crashes
            self._suspects.mids.add(mid)
        for part in parts:
            wait = min(part.until - self._lifetime.wall(now), self._longest_wait)
            due = ceil(now + wait) if wait > 0 else 0
            queue = self._lines.queue(part.hop, now)
            share = Share(
                *(mid, queue, shared(part.rcpt), part.attempt, RECORDING, due, None, None),
                *(part.word, part.forced, part.priority),
            )
            if part.warned:
                self._lines.warn(mid, part.rcpt)
            self._lines.enter(share, now)
            queue.arrived -= 1  # it was here before
            self._lines.line_up(share, now)
            if queue.hours is not None:
                queue.hours.catch_up(queue, queue_id.created(mid))
                self._lines.rota.list(queue, now)
        return True

    def expire_unreachable(self, now: float) -> None:
        """What no connector serves is never tried, nor what nobody has sent; when its lifetime is over its sender
        hears of it all the same."""
        lines = self._lines
        queue = lines.queues.get(UNREACHABLE)
        if queue is not None and not queue.suspended:
            self._expiry.begin(queue, "554 5.4.4 no connector serves the address", now)
        for one in lines.timetable.demanded(lines.queues.values()) if lines.timetable else ():
            if not one.suspended:
                self._expiry.begin(one, "451 4.4.7 nobody has asked for the mail of this domain", now)

    def expire_held(self, now: float) -> None:
        """An operator lets go what the brake has held back."""
        self.brake.release(self._lifetime.wall(now))
        self._expiry.begin_all(now)
        self.expire_unreachable(now)

    def is_warned(self, mid: int, rcpt: tuple[int, ...]) -> bool:
        """Whether it is recorded that the sender was told that it takes longer for these recipients."""
        return self._lines.is_warned(mid, rcpt)

    def overdue(self, mid: int, now: float) -> list[str]:
        """The next hops for which some of the message has had its last attempt, should that fail."""
        shares = chain(self._lines.messages.get(mid))
        over = self._expiry.over
        return [
            one.queue.hop for one in shares if one.rcpt and over(one.queue, mid, one.attempt - 1, now, one.priority)
        ]

    def has(self, mid: int) -> bool:
        """Whether the message is queued here."""
        return mid in self._lines.messages

    @property
    def mids(self) -> list[int]:
        """All messages that are queued here, oldest first as they came in."""
        return list(self._lines.messages)

    def busy(self, mid: int) -> bool:
        """Whether a worker holds some of it (or may: not every worker has reported), or a result waits for its sync."""
        return self._lines.busy(mid)

    def __len__(self) -> int:
        return len(self._lines.messages)

    # --- workers -------------------------------------------------------------------------------------------------

    def worker_up(self, number: int, slots: int) -> None:
        """A worker is there. One of an earlier run gets nothing before `holding` was called for it."""
        self._crew.up(number, slots)

    def worker_draining(self, number: int) -> None:
        """A worker takes nothing new; what it has in hand it ends."""
        self._crew.leaving(number)

    def worker_gone(self, number: int, now: float) -> list[Assignment]:
        """A worker is dead and reaped, and its socket was read to the end (J9): what it had is free. What it had.

        Whoever decides that some of it is suspect says so (`suspect`) before the next `assign`.
        """
        self._crew.gone(number)
        self._lines.reported(number)
        held = [assignment for assignment in self._out.values() if assignment.worker == number]
        for assignment in reversed(held):
            del self._out[assignment.n]
            self._let_go(assignment, now)
            self._lines.line_up(assignment.share, now, front=True)
            self._lines.at_rest(assignment.mid)
        return held

    @property
    def waiting_for(self) -> frozenset[int]:
        """Workers that have not said yet what they hold; nothing is assigned meanwhile (J10)."""
        return frozenset(self._lines.unreported)

    def holding(self, number: int, held: Iterable[Held], now: float) -> list[int]:
        """A worker (that is up) has said all that it has; numbers of what is in its hands now.

        What is not named is known or gone: its result is acknowledged at once (J10).
        """
        adopted = [assignment.n for assignment in held if self.adopt(number, assignment, now)]
        self._lines.reported(number)
        return adopted

    def adopt(self, number: int, held: Held, now: float) -> bool:
        """A worker (that is up) has this from an earlier run, or a result of it; whether that is news to us.

        Recipients whose next attempt is the one that the worker has are cut out of what was loaded.
        """
        worker = self._crew.workers.get(number)
        if worker is None:
            return False
        self._next = max(self._next, held.n + 1)
        known = self._out.get(held.n)
        if known is not None:
            return known.mid == held.mid and known.worker == number
        adopted = self._lines.cut(held, now)
        if adopted is None:
            return False
        self._hand(adopted, worker, now, held.n)
        return True

    # --- what goes out -------------------------------------------------------------------------------------------

    def assign(self, now: float) -> list[Assignment]:
        """What is to be handed out now, at most BOUND."""
        lines = self._lines
        lines.wake(now)
        given: list[Assignment] = []
        if not lines.unreported:
            self._expiry.look(now)
            if lines.owing:
                self._assign_owing(given, now)
            if self._suspects.waiting:
                self._assign_alone(given, now)
            self._assign_ordinary(given, now)
        self._more = len(given) >= BOUND
        return given

    def next_due(self, now: float) -> float | None:
        """When `assign` has something to do although nothing happens; None when only an event can tell."""
        if self._lines.unreported:
            return None
        if self._more or self._expiry.looking:
            return now
        times = [at for at in (self._lines.next_alarm(), self._suspects.wake(now)) if at is not None]
        return max(now, min(times)) if times else None

    def _assign_owing(self, given: list[Assignment], now: float) -> None:
        crew = self._crew
        most = max(1, crew.slots // OWING_PART)
        while crew.free and self._owing_out < most and len(given) < BOUND:
            share = self._expiry.next()
            if share is None:
                return
            given.append(self._hand(share, crew.next(), now))

    def _assign_alone(self, given: list[Assignment], now: float) -> None:
        suspects = self._suspects
        if suspects.running:
            return
        share = suspects.next(now)
        if share is None:
            suspects.idle(self._crew)
            return
        worker = suspects.worker(self._crew, now, others_wait=len(self._lines.rota) > 0)
        if worker is not None:
            suspects.begin(self._next)
            given.append(self._hand(share, worker, now))

    def _assign_ordinary(self, given: list[Assignment], now: float) -> None:
        crew, rota = self._crew, self._lines.rota
        while crew.free and len(given) < BOUND:
            queue = rota.next(now, crew.free, crew.slots)
            if queue is None:
                return
            share = queue.take()
            assert share is not None, "a queue whose tally is not that of its lines"
            together = self._lines.limits.together if queue is self._lines.submission else 0
            given.append(self._hand(share, crew.next(queue.carriers, together), now))

    def _hand(self, share: Share, worker: Worker, now: float, n: int = 0) -> Assignment:
        """The share is in the worker's hands; n: the number that it has there already."""
        if not n:
            n = self._next
            self._next += 1
        queue = share.queue
        turn(share, ASSIGNED)
        owed = share.owed
        expire = delay = ""
        if owed is not None:
            expire, delay = (owed.reply, "") if owed.over else ("", owed.reply)
        notice = expire != "" or delay != ""
        if notice:
            self._owing_out += 1
        else:
            queue.handed(share, now)
            if queue.doubtful:
                self._lines.rota.doubtful_out += 1
            if queue.failures:
                queue.probe = n
        self._crew.take(worker)
        mid = share.mid
        alone = n == self._suspects.running
        warn = mid < self._late and owed is None and self._expiry.late(share, now)
        assignment = self._out[n] = Assignment(
            n, worker.number, mid, queue.hop, share.rcpt, share.attempt, alone, expire, delay, warn, share, notice
        )
        return assignment

    def _let_go(self, assignment: Assignment, now: float) -> bool:
        """The worker has it in hand no longer; whether it was its queue's probe."""
        queue = assignment.share.queue
        self._crew.give(assignment.worker)
        if assignment.alone:
            self._suspects.ended(self._crew, now)
        if assignment.notice:
            self._owing_out -= 1
            return False
        queue.let_go(assignment.share)
        lines = self._lines
        if queue.throttle is not None:
            lines.throttles.gave(queue, now, lines.rota)
        if queue.doubtful:
            lines.rota.doubtful_out -= 1
        probing = queue.probe == assignment.n
        if probing:  # without a word about the hop the next probe must not follow at once, for ever
            queue.probe = 0
            queue.next_retry = max(queue.next_retry, now + UNTRIED)
            lines.alarm(queue, now)
        if not queue.listed:
            lines.rota.list(queue, now)
        return probing

    # --- what comes back -----------------------------------------------------------------------------------------

    def result(self, done: Done, events: Sequence[Event], now: float) -> Ruling | None:
        """A worker's result with its events (decoded, in order); None when its number is not out.

        The result is the worker's last word about this number, but counts only when it is durable: then say `settled`,
        at once when there was nothing to record. A result that is `crashed` makes the message a suspect.
        """
        out = self._out.pop(done.n, None)
        if out is None:
            return None
        share, mid, notice = out.share, out.mid, out.notice
        probing = self._let_go(out, now)
        turn(share, RECORDING)
        if done.crashed:
            self._suspects.mids.add(mid)
        fates = read(out.rcpt, events)
        if not notice:
            self._reach.spoke(share.queue, fates, probing, now)
        unreached = None
        if done.unavailable and not notice:
            unreached = self._reach.silent(done.hop, done.unavailable, share.queue if probing else None, now)
        share.rcpt = ()
        share.owed = None
        going: tuple[Share, ...] = ()
        until = ""
        if fates.parts:
            going, until = self._sequel.of(Ended(out, done.uncertain, unreached), fates, now)
        self._recording[done.n] = Recording(share, going, out.alone and not done.crashed)
        return Ruling(mid, not unfinished(self._lines.messages[mid]), until)

    def settled(self, n: int, now: float) -> None:
        """The result is durable (or had nothing to record): what is left of it goes on."""
        record = self._recording.pop(n, None)
        if record is None:
            return
        lines, share = self._lines, record.share
        mid = share.mid
        if not share.rcpt:
            lines.leave(share, now)
        for part in record.going:
            lines.line_up(part, now, front=part.queue is share.queue)
        if record.proven:
            self._proven(mid)
        if lines.pending:
            lines.at_rest(mid)

    def returned(self, n: int, now: float) -> None:
        """The worker gave an assignment back without trying it."""
        assignment = self._out.pop(n, None)
        if assignment is not None:
            self._let_go(assignment, now)
            assignment.share.due = ceil(now + UNTRIED)
            self._lines.line_up(assignment.share, now, front=True)
            self._lines.at_rest(assignment.mid)

    # --- suspects ------------------------------------------------------------------------------------------------

    def suspect(self, mids: Iterable[int], now: float) -> None:
        """A worker died, perhaps of one of these: each is run alone. To be said before the next `assign`."""
        for mid in mids:
            first = self._lines.messages.get(mid)
            if first is not None:
                self._suspects.mids.add(mid)
                for share in chain(first):
                    if share.state is READY or share.state is OWING:
                        self._lines.line_up(share, now)

    def crashed_alone(self, mid: int) -> int:
        """The message was alone when its worker died of itself (or its phase failed); how often by now."""
        return self._suspects.crashed(mid)

    def quiet(self, mid: int, now: float) -> None:
        """The message is no suspect any more; what stood in line to be run alone is ordinary mail."""
        self._suspects.quiet(mid)
        for share in chain(self._lines.messages.get(mid)):
            if share.state is ALONE:
                self._lines.line_up(share, now)

    def _proven(self, mid: int) -> None:
        """A run alone ended well: that clears the message, unless more of it is to be run alone."""
        if all(share.state is not ALONE for share in chain(self._lines.messages.get(mid))):
            self._suspects.quiet(mid)

    # --- for tables ----------------------------------------------------------------------------------------------

    def queues(self, now: float) -> list[QueueFacts]:
        """All queues, as they are now."""
        self._lines.drop_idle(now)
        return [queue.facts() for queue in self._lines.queues.values()]

    def state_of(self, mid: int) -> list[ShareFacts]:
        """The shares of a message that have recipients left; [] when it is not here."""
        return [self._lines.facts(share) for share in chain(self._lines.messages.get(mid)) if share.rcpt]

    def closed(self) -> list[str]:
        """Next hops that get nothing now (suspended, or waiting for a retry), for frame.Closed."""
        return sorted(self._lines.closed)

    @property
    def closings(self) -> int:
        """Grows with each change of `closed`."""
        return self._lines.closings

    def is_out(self, n: int) -> bool:
        """Whether the assignment of this number is in a worker's hands still."""
        return n in self._out

    @property
    def hungry(self) -> bool:
        """Whether somebody waits for a slot."""
        lines = self._lines
        return bool(lines.rota.sure or lines.rota.doubtful or lines.owing or self._suspects.waiting)

    @property
    def likely(self) -> int:
        """The worker that would get a fresh message if nothing else happened; 0 where something is under way."""
        lines, queue = self._lines, self._lines.submission
        idle = not (self._out or lines.unreported or queue.suspended) and self._crew.free
        return self._crew.next(queue.carriers, lines.limits.together).number if idle else 0

    @property
    def in_hand(self) -> int:
        """Assignments without a result."""
        return len(self._out)
