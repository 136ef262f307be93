"""A scheduler at a desk: its clock is a number, its workers are the test. Used by the scheduler's tests."""

from kmq.config.sections import QueueSection
from kmq.model import queue_id, recipients
from kmq.model.event import Deferred, Delayed, Delivered, Failed, Routed
from kmq.model.frame import Done
from kmq.model.priority import NORMAL
from kmq.run.assignment import Start
from kmq.run.limits import Limits
from kmq.run.lines import SUBMISSION, UNREACHABLE
from kmq.run.schedule import Schedules
from kmq.run.scheduler import Scheduler
from kmq.run.share import SUSPENDED, Part

BEGIN = 1_700_000_000
ISP = "SmartHostConnectorDelivery;isp.example;isp"
DEAD = "SmartHostConnectorDelivery;dead.example;dead"
MAILBOX = "SmtpDeliveryToMailbox;example.org;mailboxes"

__all__ = ["BEGIN", "DEAD", "ISP", "MAILBOX", "SUBMISSION", "UNREACHABLE", "Desk", "remote"]


def remote(number):
    return f"SmartHostConnectorDelivery;host{number}.example;c{number}"


class Desk:
    """now: monotonic seconds; the wall clock is BEGIN + now + jumped. chance: what random answers (0.5: no jitter).

    dealt: to how many workers connections are dealt out. inspected: scanners look at mail.
    """

    def __init__(
        self,
        workers=(200,),
        living=(),
        last_id=0,
        first=1,
        connectors=(),
        retries=(),
        dealt=1,
        inspected=False,
        **settings,
    ):
        self.now = 0.0
        self.jumped = 0.0
        self.chance = 0.5
        start = Start(self.now, self.wall, last_id, frozenset(living), first)
        self.section = section = QueueSection(**settings)
        self._rules = Schedules(section, connectors, retries), Limits(section, connectors, dealt, inspected)
        self.scheduler = Scheduler(section, lambda: self.chance, start, *self._rules)
        self.last = 0
        for number, slots in enumerate(workers, 1):
            self.scheduler.worker_up(number, slots)

    @property
    def wall(self):
        return BEGIN + self.now + self.jumped

    def wait(self, seconds):
        self.now += seconds
        return self.scheduler.clock(self.now, self.wall)

    def restart(self, living, first):
        """The scheduler process died: a new one, which knows nothing yet; these workers live (J10)."""
        start = Start(self.now, self.wall, 0, frozenset(living), first)
        self.scheduler = Scheduler(self.section, lambda: self.chance, start, *self._rules)

    # --- messages

    def mid(self, created=None):
        self.last += 1
        return int(self.wall if created is None else created) << 32 | self.last

    def accept(self, count=1, created=None, priority=NORMAL):
        mid = self.mid(created)
        self.scheduler.accepted(mid, count, self.now, priority)
        return mid

    def queued(self, hop, count=1, created=None, suspended=False, priority=NORMAL):
        """A message that is routed already and stands in the queue of its hop."""
        mid = self.mid(created)
        self.load(mid, [(tuple(range(count)), hop, 1, 0.0, False, 0, "", priority)], suspended)
        return mid

    def load(self, mid, parts, suspended=False, crashes=0):
        parts = [Part(*part) for part in parts]
        parts = [part._replace(word=SUSPENDED) for part in parts] if suspended else parts
        return self.scheduler.loaded(mid, parts, self.now, crashes)

    # --- workers

    def assign(self):
        return self.scheduler.assign(self.now)

    def one(self):
        (assignment,) = self.assign()
        return assignment

    def done(self, assignment, events=(), settle=True, **words):
        """The worker's result, durable at once unless settle is False; the ruling."""
        frame = Done(
            n=assignment.n,
            m=queue_id.text(assignment.mid),
            rcpt=recipients.as_text(assignment.rcpt),
            attempt=assignment.attempt,
            **{"hop": assignment.hop, **words},
        )
        ruling = self.scheduler.result(frame, list(events), self.now)
        if settle:
            self.settle(assignment)
        return ruling

    def settle(self, assignment):
        self.scheduler.settled(assignment.n, self.now)

    def delivered(self, assignment, rcpt=None, **words):
        return self.done(assignment, [delivered(assignment, rcpt)], **words)

    def deferred(self, assignment, reply="450 4.2.0 later", **words):
        return self.done(assignment, [deferred(assignment, None, reply)], **words)

    def failed(self, assignment):
        return self.done(assignment, [Failed(rcpt=names(assignment), attempt=assignment.attempt, reply="550 no")])

    def delayed(self, assignment, **words):
        """The sender was told that it takes longer."""
        return self.done(assignment, [Delayed(rcpt=names(assignment), reply=assignment.delay, notice="N")], **words)

    def routed(self, assignment, *parts):
        """Routed only: (recipients, hop) each, or one hop for all."""
        return self.done(assignment, [routed(assignment, part) for part in parts])

    def unavailable(self, assignment, reply="421 4.4.1 connection refused", **words):
        return self.done(assignment, unavailable=reply, **words)

    def run_until(self, end, answer):
        """Time goes on as the scheduler wishes; every assignment is answered at once by `answer(assignment)`."""
        while True:
            while given := self.assign():
                for assignment in given:
                    answer(assignment)
            due = self.scheduler.next_due(self.now)
            if due is None or due > end:
                self.wait(max(0.0, end - self.now))
                return
            looking = self.scheduler._expiry.looking
            assert due > self.now or looking, "asked for again at once although it has nothing to do"
            self.wait(due - self.now)

    # --- looks

    def queue(self, hop):
        return next((facts for facts in self.scheduler.queues(self.now) if facts.hop == hop), None)

    def status(self, mid):
        return [facts.status.value for facts in self.scheduler.state_of(mid)]


def names(assignment, rcpt=None):
    return recipients.as_text(assignment.rcpt if rcpt is None else rcpt)


def delivered(assignment, rcpt=None):
    return Delivered(rcpt=names(assignment, rcpt), attempt=assignment.attempt, reply="250 2.0.0 Ok", host="mx")


def deferred(assignment, rcpt=None, reply="450 4.2.0 later"):
    return Deferred(rcpt=names(assignment, rcpt), attempt=assignment.attempt, reply=reply, host="mx")


def routed(assignment, part):
    rcpt, hop = part if isinstance(part, tuple) else (None, part)
    return Routed(rcpt=names(assignment, rcpt), hop=hop, rule="test")
