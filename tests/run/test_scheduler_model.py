"""Many events in any order, against simple laws: a ledger that knows nothing of queues judges what the scheduler does.

The laws: a recipient is in one assignment at a time; no suspended or removed recipient, nothing of a suspended queue
is handed out; what is removed with a notice is handed out for that notice alone; every recipient is in one share, or
done; attempts count results; limits hold; in the end, when everybody behaves, everything is delivered.
"""

import random
from collections import Counter

import pytest

from kmq.config.sections import ConnectorSection
from kmq.model.envelope import State
from kmq.model.event import (
    Deferred,
    Delayed,
    Delivered,
    Failed,
    Redirected,
    Removed,
    Removing,
    Resubmitted,
    Resumed,
    Routed,
    Suspended,
)
from kmq.model.priority import HIGH, LOW, NORMAL, Priority
from kmq.run.assignment import Held
from kmq.run.rota import DOUBTFUL_PART
from kmq.run.share import ASSIGNED, HELD, IN_HAND, READY, RECORDING, TAKEN_OUT, ShareState, chain, open_parts
from kmq.run.verbs import TakenOut
from tests.run.desk import DEAD, ISP, MAILBOX, SUBMISSION, UNREACHABLE, Desk, deferred, delivered, remote, routed

HOPS = [ISP, DEAD, MAILBOX, UNREACHABLE, *[remote(number) for number in range(4)]]
DAY = 86400.0


def limited(name, **options):
    return ConnectorSection(name=name, type="smarthost", address_spaces=("*",), helo="mx", **options)


LIMITED = [
    limited("isp", messages_per_minute=600, connections=2),
    limited("c0", messages_per_minute_per_domain=60),
    limited("c1", connections=1),
    limited("c2", connections_per_domain=2, messages_per_minute=30, messages_per_minute_per_domain=20),
]


class World:
    """The desk with a ledger: what is true of each message, told by what was said aloud."""

    def __init__(self, seed, limited=False):
        """limited: connectors have limits, and mail is more or less urgent."""
        self.chance = random.Random(seed)
        self.limited = limited
        options = {"connectors": LIMITED, "priority_queuing": True, "dealt": 3} if limited else {}
        self.desk = Desk(workers=(6, 4, 9), per_hop=3, message_lifetime=4 * 3600.0, delay_warning=1800.0, **options)
        self.scheduler = self.desk.scheduler
        self.verbs = self.scheduler.verbs
        self.slots = {1: 6, 2: 4, 3: 9}
        self.count = {}
        self.done = {}
        self.results = Counter()
        self.warned = set()
        self.orders = 0
        self.out = {}
        self.recording = {}
        self.suspended = set()  # (message, recipient)
        self.removing = {}  # the same -> whether the sender is to be told
        self.forced = {}  # the same -> connector
        self.priority = {}
        self.adopted = set()  # assignments of an earlier run: what waited for its sync then is in hand again
        self.envelopes = {}  # message -> what its envelope adds up to: what is durable
        self.leaving = set()
        self.granted = set()
        self.closed = set()
        self.draining = set()
        self.handed = 0

    # --- what may happen

    def accept(self):
        count, created = self.chance.choice([1, 1, 1, 2, 5]), self.chance.choice([None, self.desk.wall - DAY])
        mid = self.desk.accept(count, created, self.chance.choice([HIGH, NORMAL, LOW]) if self.limited else NORMAL)
        self.begin(mid, len(self.scheduler.state_of(mid)[0].rcpt))
        self.priority[mid] = self.scheduler._lines.messages[mid].priority

    def load(self):
        mid = self.desk.mid()
        self.desk.load(
            mid,
            [((0, 2), self.chance.choice(HOPS), 1, 0.0), ((1,), ISP, 3, self.desk.wall + 700)],
            crashes=self.chance.choice([0, 0, 0, 1]),
        )
        self.begin(mid, 3)
        self.results[mid, 1] = 2
        self.write(mid, Deferred(rcpt="1", attempt=2))
        for facts in self.scheduler.state_of(mid):
            self.write(mid, Routed(rcpt=",".join(map(str, facts.rcpt)), hop=facts.hop))

    def begin(self, mid, count):
        self.count[mid] = count
        self.envelopes[mid] = State(count)
        self.priority[mid] = NORMAL
        self.done[mid] = set()

    def write(self, mid, event):
        if mid in self.envelopes:
            self.envelopes[mid].after(event)

    def write_all(self, shares, event):
        """What an operator said, before he is answered."""
        for share in shares:
            event.rcpt = ",".join(map(str, share.rcpt))
            self.write(share.mid, event)

    def crash(self):
        """The scheduler process dies: what is not durable is forgotten, and the workers say what they have (J10)."""
        for n, (given, _) in self.recording.items():
            if not isinstance(given, TakenOut):
                self.out[n] = given  # its result is said again
        self.recording.clear()
        self.leaving.clear()
        self.granted.clear()
        self.draining.clear()
        desk = self.desk
        desk.restart(self.slots, self.scheduler._next)
        self.scheduler, self.verbs = desk.scheduler, desk.scheduler.verbs
        for hop in self.closed:
            self.verbs.suspend_queue(hop, desk.now, make=True)
        for mid, state in self.envelopes.items():
            assert self.scheduler.loaded(mid, open_parts(state, self.priority[mid]), desk.now)
        assert self.scheduler.assign(desk.now) == self.verbs.taken_out() == [], "not every worker has reported"
        for number, slots in self.slots.items():
            self.scheduler.worker_up(number, slots)
            held = [
                Held(one.n, one.mid, one.hop, one.rcpt, one.attempt)
                for one in self.out.values()
                if one.worker == number
            ]
            assert self.scheduler.holding(number, held, desk.now) == [one.n for one in held], "a worker is not believed"
        self.out = {n: self.scheduler._out[n] for n in self.out}
        self.adopted = set(self.out)

    def assign(self):
        given_now = self.scheduler.assign(self.desk.now)
        for given in given_now:
            self.judge(given)
            self.out[given.n] = given
            self.handed += 1
        if any(given.share.queue.doubtful and not given.alone and not given.notice for given in given_now):
            third = max(1, self.scheduler._crew.slots // DOUBTFUL_PART)
            assert self.scheduler._lines.rota.doubtful_out <= third + any(given.alone for given in given_now)

    def judge(self, given):
        mid = given.mid
        busy = {index for one in self.out.values() if one.mid == mid for index in one.rcpt}
        busy |= {index for one, _ in self.recording.values() if one.mid == mid for index in one.rcpt}
        assert busy.isdisjoint(given.rcpt), "a recipient is in two hands"
        assert self.done[mid].isdisjoint(given.rcpt), "a recipient that is done"
        assert mid not in self.leaving, "a message that is stopped"
        for name in ((mid, index) for index in given.rcpt):
            if name in self.removing:
                assert self.removing[name] and given.expire == TAKEN_OUT, "a recipient that is removed"
            else:
                assert name not in self.suspended, "a recipient that is suspended"
            if given.hop == SUBMISSION:
                assert given.share.forced == self.forced.get(name, "")
        assert given.notice or given.hop not in self.closed, "a queue that is suspended"
        assert given.hop != UNREACHABLE or given.notice
        assert {self.results[mid, index] + 1 for index in given.rcpt} == {given.attempt}
        assert given.worker not in self.draining
        if given.delay or given.warn:
            self.orders += 1
            assert self.warned.isdisjoint((mid, index) for index in given.rcpt), "a sender is told twice"
        mates = [one for one in self.out.values() if one.worker == given.worker]
        assert len(mates) < self.slots[given.worker]
        assert not any(one.alone for one in mates), "with somebody who is to be alone"
        assert not given.alone or not mates, "not alone"
        assert not given.alone or not any(one.alone for one in self.out.values()), "two are alone"

    def answer(self):
        if self.out:
            given = self.out.pop(self.chance.choice(list(self.out)))
            how = warn if given.delay and self.chance.random() < 0.9 else self.chance.choice(ANSWERS)
            how(self, given)

    def tell(self, given, events, **words):
        """A result: the ledger takes it when it is durable."""
        ruling = self.desk.done(given, events, settle=False, **words)
        self.recording[given.n] = (given, events)
        pending = self.ending(given.mid)
        assert ruling.complete == (len(self.done[given.mid] | pending) == self.count[given.mid])

    def ending(self, mid):
        """Recipients whose end waits for its sync."""
        return {index for one, told in self.recording.values() if one.mid == mid for index in ended(told)}

    def settle(self):
        if self.recording:
            n = next(iter(self.recording))  # the log is in order
            given, events = self.recording.pop(n)
            for event in events:
                self.write(given.mid, event)
                for index in indices(event):
                    if isinstance(event, Delayed):
                        self.warned.add((given.mid, index))
                    elif not isinstance(event, Routed | Removed):
                        self.results[given.mid, index] += 1
            self.done[given.mid] |= ended(events)
            if isinstance(given, TakenOut):
                self.verbs.out(given, self.desk.now)
            else:
                self.scheduler.settled(n, self.desk.now)
            if len(self.done[given.mid]) == self.count[given.mid]:
                assert not self.scheduler.has(given.mid)
                self.forget(given.mid)

    def forget(self, mid):
        del self.count[mid], self.done[mid], self.envelopes[mid]
        for mids in (self.leaving, self.granted):
            mids.discard(mid)
        for names in (self.suspended, self.removing, self.forced):
            for name in [name for name in names if name[0] == mid]:
                names.discard(name) if names is self.suspended else names.pop(name)

    def return_untried(self):
        if self.out:
            given = self.out.pop(self.chance.choice(list(self.out)))
            self.scheduler.returned(given.n, self.desk.now)

    def die(self):
        number = self.chance.choice(list(self.slots))
        lost = self.scheduler.worker_gone(number, self.desk.now)
        assert {one.n for one in lost} == {n for n, one in self.out.items() if one.worker == number}
        for one in lost:
            del self.out[one.n]
        if self.chance.random() < 0.5:
            if len(lost) == 1 and lost[0].alone:
                self.scheduler.crashed_alone(lost[0].mid)
            else:
                self.scheduler.suspect([one.mid for one in lost], self.desk.now)
        self.draining.discard(number)
        self.scheduler.worker_up(number, self.slots[number])

    def drain(self):
        if len(self.draining) < 2:
            number = self.chance.choice(list(self.slots))
            self.draining.add(number)
            self.scheduler.worker_draining(number)

    def some(self):
        return self.chance.choice(list(self.count)) if self.count else 0

    def scope(self):
        """A message, and all of its queues or one."""
        mid = self.some()
        hops = [facts.hop for facts in self.scheduler.state_of(mid)]
        return mid, self.chance.choice(["", *hops, "no such hop"])

    def names(self, shares):
        return {(share.mid, index) for share in shares for index in share.rcpt}

    def suspend(self):
        mid, hop = self.scope()
        shares = self.verbs.suspend(mid, self.desk.now, hop)
        assert hop or bool(shares) == (mid in self.count and len(self.done[mid] | self.ending(mid)) < self.count[mid])
        self.suspended |= self.names(shares)
        self.write_all(shares, Suspended())

    def resume(self):
        mid, hop = self.scope()
        if self.suspended and self.chance.random() < 0.7:
            mid, hop = self.chance.choice(sorted(self.suspended))[0], ""
        shares = self.verbs.resume(mid, self.desk.now, hop)
        self.suspended -= self.names(shares)
        self.write_all(shares, Resumed())
        assert hop or not any(
            name[0] == mid and name[1] not in self.done[mid] | self.ending(mid) for name in self.suspended
        )

    def retry(self):
        mid, hop = self.scope()
        self.verbs.retry(mid, self.desk.now, hop)

    def resubmit(self):
        mid, hop = self.scope()
        shares = self.verbs.resubmit(mid, self.desk.now, hop)
        assert self.suspended.isdisjoint(self.names(shares))
        self.write_all(shares, Resubmitted())

    def redirect(self):
        mid, hop = self.scope()
        connector = self.chance.choice(["relay", "other"])
        shares = self.verbs.redirect(mid, connector, self.desk.now, hop)
        self.forced.update(dict.fromkeys(self.names(shares), connector))
        self.write_all(shares, Redirected(connector=connector))

    def take_out(self):
        mid, hop = self.scope()
        if mid in self.leaving:
            return
        ndr = self.chance.random() < 0.5
        shares = self.verbs.take_out(mid, self.desk.now, hop, ndr)
        for name in self.names(shares):
            self.removing[name] = self.removing.get(name, False) or ndr
        for share in shares:
            told = any(self.removing[share.mid, index] for index in share.rcpt)
            self.write_all([share], Removing(ndr=told))

    def record_taken_out(self):
        for one in self.verbs.taken_out():
            for index in one.rcpt:
                assert self.removing.get((one.mid, index)) is False, "nobody asked, or its sender is to be told"
                assert all(given.mid != one.mid or index not in given.rcpt for given in self.out.values())
                assert index not in self.ending(one.mid), "removed before the sync (J14)"
            self.recording[-len(self.recording) - 1, one.mid, one.rcpt] = (
                one,
                [Removed(rcpt=",".join(map(str, one.rcpt)))],
            )
            assert one.last == (len(self.done[one.mid] | self.ending(one.mid)) == self.count[one.mid])

    def flush(self):
        self.verbs.flush(self.desk.now)

    def reroute(self):
        self.verbs.reroute(self.desk.now, self.chance.choice(HOPS))

    def suspend_queue(self):
        hop = self.chance.choice([SUBMISSION, *HOPS])
        if self.verbs.suspend_queue(hop, self.desk.now):
            self.closed.add(hop)

    def resume_queue(self):
        if self.closed:
            hop = self.chance.choice(sorted(self.closed))
            self.closed.discard(hop)
            assert self.verbs.resume_queue(hop, self.desk.now)

    def remove(self):
        mid = self.some()
        if mid and mid not in self.leaving:
            self.leaving.add(mid)
            if self.verbs.remove(mid, self.desk.now):
                self.granted.add(mid)

    def release(self):
        for mid in self.verbs.released():
            assert mid in self.leaving - self.granted, "released twice, or never asked for"
            self.granted.add(mid)
        for mid in self.granted:
            assert all(one.mid != mid for one in self.out.values()), "removed in a worker's hands (J14)"
            assert all(one.mid != mid for one, _ in self.recording.values()), "removed before the sync (J14)"
        self.record_taken_out()
        for mid in sorted(self.granted):
            if self.chance.random() < 0.7:  # else its record is not durable yet
                self.verbs.removed(mid, self.desk.now)
                assert not self.scheduler.has(mid)
                self.forget(mid)

    def quiet(self):
        self.scheduler.quiet(self.some(), self.desk.now)

    def pass_time(self):
        self.desk.wait(self.chance.choice([0.0, 0.4, 3.0, 70.0, 400.0, 4000.0]))

    def jump(self):
        self.desk.jumped += self.chance.choice([-DAY, 10.0, DAY])

    # --- what must always hold

    def check(self):
        lines = self.scheduler._lines
        assert set(lines.messages) == set(self.count)
        tallies = {hop: [0] * len(ShareState) for hop in lines.queues}
        for mid, first in lines.messages.items():
            seen = []
            for share in chain(first):
                assert share.queue is lines.queues[share.queue.hop]
                tallies[share.queue.hop][share.state] += 1
                seen.extend(share.rcpt)
                assert {self.results[mid, index] + 1 for index in share.rcpt} <= {share.attempt} or (
                    share.state is RECORDING
                )
                named = {(mid, index) for index in share.rcpt}
                stopped = mid in self.leaving or (named & self.suspended and named.isdisjoint(self.removing))
                assert not stopped or share.state is HELD or share.state in IN_HAND
            assert sorted([*seen, *self.done[mid], *self.ending(mid)]) == list(range(self.count[mid])), (
                "lost or doubled"
            )
        for hop, queue in lines.queues.items():
            flying = sum(one.hop == hop and not one.notice for one in self.out.values())
            assert (queue.tally, queue.count) == (tallies[hop], sum(tallies[hop]))
            assert queue.in_flight == flying
            adopted = sum(one.hop == hop and not one.notice and n in self.adopted for n, one in self.out.items())
            assert flying - adopted <= max(queue.limit, 0)
            assert queue.tally[ASSIGNED] == sum(one.hop == hop for one in self.out.values())
            assert sum(map(len, queue.lines)) <= 2 * queue.tally[READY] + 64 + 200
        self.check_slots()
        if self.limited:
            self.check_limits()

    def check_limits(self):
        beyond = sum(one.alone or n in self.adopted for n, one in self.out.items())
        queues = self.scheduler._lines.queues.values()
        for gate in self.scheduler._lines.throttles._gates.values():
            mine = [queue for queue in queues if queue.throttle is not None and queue.throttle.gate is gate]
            assert gate.out == sum(queue.in_flight for queue in mine) <= gate.limit + beyond
        for queue in queues:
            flying = [one.share for one in self.out.values() if one.hop == queue.hop and not one.notice]
            assert queue.out == [sum(share.priority == rank for share in flying) for rank in Priority]
            standing = [share for first in self.scheduler._lines.messages.values() for share in chain(first)]
            of_queue = [share.priority for share in standing if share.queue is queue]
            assert queue.urgency == [of_queue.count(rank) for rank in Priority]

    def check_slots(self):
        lines, crew = self.scheduler._lines, self.scheduler._crew
        doubtful = [hop for hop, queue in lines.queues.items() if queue.doubtful]
        assert lines.rota.doubtful_out == sum(one.hop in doubtful and not one.notice for one in self.out.values())
        for number, worker in crew.workers.items():
            assert worker.in_hand == sum(one.worker == number for one in self.out.values())
        assert crew.free == sum(max(0, worker.slots - worker.in_hand) for worker in crew.opened)
        assert self.scheduler._owing_out == sum(one.notice for one in self.out.values())

    # --- and in the end

    def heal(self):
        """Everybody behaves: everything that is left is delivered."""
        for number in self.slots:
            for one in self.scheduler.worker_gone(number, self.desk.now):
                del self.out[one.n]
            self.scheduler.worker_up(number, self.slots[number])
        self.draining.clear()
        while self.recording:
            self.settle()
        self.release()
        self.release()
        while self.granted:
            self.release()
        for hop in sorted(self.closed):
            self.verbs.resume_queue(hop, self.desk.now)
        self.closed.clear()
        for mid in sorted({name[0] for name in self.suspended}):
            self.verbs.resume(mid, self.desk.now)
        self.suspended.clear()
        assert not self.leaving
        self.verbs.reroute(self.desk.now)
        for _ in range(5000):
            if not self.count:
                return
            self.record_taken_out()
            self.assign()
            for n in list(self.out):
                succeed(self, self.out.pop(n))
            while self.recording:
                self.settle()
            due = self.scheduler.next_due(self.desk.now)
            if due is not None:
                self.desk.wait(due - self.desk.now)
        raise AssertionError(f"{len(self.count)} messages stand still")


def indices(event):
    return {int(index) for part in event.rcpt.split(",") for index in spread(part)} if event.rcpt else set()


def spread(part):
    first, _, last = part.partition("-")
    return range(int(first), int(last or first) + 1)


def ended(events):
    return {index for event in events if isinstance(event, Delivered | Failed | Removed) for index in indices(event)}


# --- answers of workers -----------------------------------------------------------------------------------------------


def succeed(world, given):
    if given.hop == SUBMISSION and not given.notice:
        world.tell(given, [routed(given, ISP), delivered(given)])
    else:
        world.tell(given, [delivered(given)])


def fail(world, given):
    world.tell(given, [Failed(rcpt=given_names(given), attempt=given.attempt, reply="550 no")])


def defer(world, given):
    told = [Delayed(rcpt=given_names(given), notice="N")] if given.warn else []
    world.tell(given, [deferred(given), *told], uncertain=world.chance.random() < 0.2)


def warn(world, given):
    world.tell(given, [Delayed(rcpt=given_names(given), notice="N")])


def route(world, given):
    hops = {index: world.chance.choice(HOPS) for index in given.rcpt}
    parts = [(tuple(index for index in given.rcpt if hops[index] == hop), hop) for hop in dict.fromkeys(hops.values())]
    world.tell(given, [routed(given, part) for part in parts] if given.hop == SUBMISSION else [])


def mix(world, given):
    events = []
    for index in given.rcpt:
        if given.hop == SUBMISSION and world.chance.random() < 0.7:
            events.append(routed(given, ((index,), world.chance.choice(HOPS[:3]))))
        how = world.chance.randrange(4)
        if how == 0:
            events.append(delivered(given, (index,)))
        elif how == 1:
            events.append(deferred(given, (index,), f"450 {index}"))
    world.tell(given, events)


def out_of_reach(world, given):
    hop = given.hop
    if hop == SUBMISSION:
        hop = world.chance.choice(HOPS)
        world.tell(given, [routed(given, hop)], unavailable="421 down", hop=hop)
    else:
        world.tell(given, [], unavailable="421 down")


def ask_for_less(world, given):
    if world.limited and given.hop != SUBMISSION:
        world.tell(given, [deferred(given, None, world.chance.choice(["421 4.3.2 no", "450 4.7.1 slower, please"]))])
    else:
        succeed(world, given)


def crash_inside(world, given):
    world.tell(given, [], crashed="Executing", trace="boom")


def given_names(given):
    return ",".join(str(index) for index in given.rcpt)


ANSWERS = [succeed, succeed, succeed, fail, defer, defer, route, route, mix, mix, out_of_reach, out_of_reach]
ANSWERS += [crash_inside, ask_for_less]

STEPS = (
    [World.accept] * 8
    + [World.load] * 2
    + [World.assign] * 14
    + [World.answer] * 30
    + [World.settle] * 30
    + [World.release] * 3
    + [World.return_untried, World.die, World.suspend, World.resume, World.resume, World.retry] * 2
    + [World.flush, World.reroute, World.suspend_queue, World.resume_queue, World.resume_queue, World.remove]
    + [World.resubmit, World.redirect, World.take_out]
    + [World.crash]
    + [World.drain, World.quiet, World.jump, World.pass_time, World.pass_time, World.pass_time, World.pass_time]
)


@pytest.mark.parametrize(
    ("seed", "limits"), [*((seed, False) for seed in range(40)), *((seed, True) for seed in range(20))]
)
def test_whatever_happens_the_laws_hold_and_everything_ends(seed, limits):
    world = World(seed, limits)
    for step in range(900):
        world.chance.choice(STEPS)(world)
        if step % 3 == 0:
            world.check()
    assert world.handed > 50
    world.heal()
    world.check()
    assert len(world.scheduler) == 0
