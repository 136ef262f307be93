"""When the sender is told that it takes longer: on a failed attempt made after that time, once for each recipient."""

import pytest

from kmq.model.envelope import Head, Recipient, State, event_line, fold, head_line, head_tail
from kmq.model.event import Deferred, Delayed
from kmq.model.frame import Done
from kmq.run.assignment import Held
from kmq.run.share import open_parts
from tests.run.desk import BEGIN, DEAD, ISP, UNREACHABLE, Desk, deferred, delivered

HOUR = 3600.0
DAY = 24 * HOUR
LATE = BEGIN - 4 * HOUR - 1


def told(assignment):
    """The worker deferred it, and made the notice at once, as it was asked to."""
    return [
        deferred(assignment),
        Delayed(rcpt=",".join(map(str, assignment.rcpt)), reply="450 4.2.0 later", notice="N"),
    ]


# --- by the message's own deferral ------------------------------------------------------------------------------------


def test_mail_in_its_time_is_handed_out_without_a_word_about_warnings():
    desk = Desk()
    desk.queued(ISP, created=BEGIN - 4 * HOUR + 60)
    given = desk.one()
    assert (given.warn, given.delay) == (False, "")


def test_late_mail_is_handed_out_with_the_order_to_tell_and_once_only():
    desk = Desk()
    mid = desk.queued(ISP, created=LATE)
    given = desk.one()
    assert given.warn
    ruling = desk.done(given, told(given))
    assert ruling.until
    desk.wait(HOUR)
    again = desk.one()
    assert (again.mid, again.attempt, again.warn) == (mid, 2, False)


def test_a_worker_that_could_tell_nobody_is_asked_again():
    desk = Desk()
    desk.queued(ISP, created=LATE)
    desk.deferred(desk.one())
    desk.wait(HOUR)
    assert desk.one().warn


def test_each_recipient_is_told_of_once_when_they_wait_apart():
    desk = Desk()
    mid = desk.mid(LATE)
    desk.load(mid, [((0,), ISP, 3, 0.0, True), ((1, 2), DEAD, 2, 0.0, False)])
    assert {given.rcpt: given.warn for given in desk.assign()} == {(0,): False, (1, 2): True}


def test_those_that_are_delivered_meanwhile_are_not_told_of():
    desk = Desk()
    desk.queued(ISP, count=2, created=LATE)
    given = desk.one()
    desk.done(given, [delivered(given, (0,)), deferred(given, (1,)), Delayed(rcpt="1", notice="N")])
    desk.wait(HOUR)
    again = desk.one()
    assert (again.rcpt, again.warn) == ((1,), False)


def test_what_is_over_is_given_up_and_not_warned_of():
    desk = Desk()
    desk.queued(ISP, created=BEGIN - 6 * DAY)
    desk.deferred(desk.one())
    last = desk.one()
    assert (last.expire, last.delay) == ("450 4.2.0 later", "")


@pytest.mark.parametrize("warning", [0.0, 5 * HOUR])
def test_it_is_told_when_the_configuration_says_so(warning):
    desk = Desk(delay_warning=warning)
    desk.queued(ISP, created=LATE)
    assert not desk.one().warn


# --- by the failed probe of the queue ---------------------------------------------------------------------------------


def test_a_hop_out_of_reach_has_all_senders_told_whose_mail_is_late():
    desk = Desk()
    late = [desk.queued(DEAD, created=LATE) for _ in range(3)]
    desk.queued(DEAD)
    for given in desk.assign():
        desk.unavailable(given)
    orders = desk.assign()
    assert [order.mid for order in orders] == late
    assert {(order.delay, order.expire, order.attempt) for order in orders} == {("421 4.4.1 connection refused", "", 1)}
    for order in orders:
        ruling = desk.delayed(order)
        assert (ruling.complete, ruling.until) == (False, "")
    assert desk.queue(DEAD).messages == 4


def test_they_are_told_once_however_often_the_probe_fails():
    desk = Desk()
    desk.queued(DEAD, created=LATE)
    orders = []

    def answer(assignment):
        if assignment.delay:
            orders.append(desk.now)
            desk.delayed(assignment)
        else:
            desk.unavailable(assignment)

    desk.run_until(DAY, answer)
    assert orders == [0.0]


def test_those_who_become_late_behind_others_are_told_too():
    desk = Desk()
    mids = [desk.queued(DEAD, created=BEGIN - 4 * HOUR + minutes * 60) for minutes in (-1, 30, 90)]
    orders = []

    def answer(assignment):
        if assignment.delay:
            orders.append(assignment.mid)
            desk.delayed(assignment)
        else:
            desk.unavailable(assignment)

    desk.run_until(4 * HOUR, answer)
    assert orders == mids


def test_the_order_is_no_word_of_the_hop_and_no_attempt():
    desk = Desk()
    desk.queued(DEAD, created=LATE)
    desk.unavailable(desk.one())
    order = desk.one()
    assert desk.queue(DEAD).status.value == "Retry"
    desk.delayed(order)
    facts = desk.queue(DEAD)
    assert (facts.status.value, facts.ready, facts.waiting) == ("Retry", 1, 0)
    assert desk.assign() == []
    desk.wait(60)
    assert desk.one().attempt == 1


def test_mail_that_was_warned_of_stays_behind_nobody_and_is_delivered():
    desk = Desk()
    late = [desk.queued(DEAD, created=LATE) for _ in range(200)]
    young = [desk.queued(DEAD) for _ in range(50)]
    reached = []

    def answer(assignment):
        if assignment.delay:
            desk.delayed(assignment)
        elif desk.now < HOUR:
            desk.unavailable(assignment)
        else:
            reached.append(assignment.mid)
            desk.delivered(assignment)

    desk.run_until(3 * HOUR, answer)
    assert sorted(reached) == sorted([*late, *young])


def test_a_worker_that_dies_of_the_order_has_it_done_by_another():
    desk = Desk(workers=(10, 10))
    desk.queued(DEAD, created=LATE)
    desk.unavailable(desk.one())
    order = desk.one()
    desk.scheduler.worker_gone(order.worker, desk.now)
    again = desk.one()
    assert (again.delay, again.rcpt) == (order.delay, order.rcpt)


def test_a_message_that_an_operator_holds_is_not_told_of():
    desk = Desk()
    mid = desk.queued(DEAD, created=LATE)
    desk.unavailable(desk.one())
    desk.scheduler.verbs.suspend(mid, desk.now)
    assert desk.assign() == []
    assert desk.status(mid) == ["Suspended"]
    desk.scheduler.verbs.resume(mid, desk.now)
    assert desk.assign() == []
    desk.wait(60)
    desk.unavailable(desk.one())
    assert desk.one().delay


def test_a_suspect_is_told_of_alone():
    desk = Desk()
    mid = desk.queued(DEAD, created=LATE)
    desk.unavailable(desk.one())
    order = desk.one()
    desk.scheduler.worker_gone(order.worker, desk.now)
    desk.scheduler.worker_up(2, 200)
    desk.scheduler.suspect([mid], desk.now)
    again = desk.one()
    assert (again.delay, again.alone) == (order.delay, True)


def test_what_no_connector_serves_is_told_of_too():
    desk = Desk()
    desk.queued(UNREACHABLE, created=LATE)
    desk.scheduler.expire_unreachable(desk.now)
    assert desk.one().delay.startswith("554 5.4.4")


def test_a_clock_that_jumps_ahead_warns_nobody_for_a_cycle():
    desk = Desk()
    desk.queued(ISP)
    desk.jumped = DAY
    desk.wait(10)
    assert not desk.one().warn


# --- across runs (J10) ------------------------------------------------------------------------------------------------


def envelope(*events):
    head = Head("", "", "2023-11-14T22:13:20.000Z", "s@x.test", [Recipient("a@b.test"), Recipient("c@b.test")], 1)
    lines = [head_line("69212ad0-0000a1f3", "ab", head_tail(head))]
    for seq, event in enumerate(events, 1):
        event.seq = seq
        lines.append(event_line(event))
    return fold(b"\n".join(lines))


def test_the_envelope_knows_who_was_told():
    folded = envelope(Deferred(rcpt="0-1", attempt=1, reply="450 x"), Delayed(rcpt="1", reply="450 x", notice="N"))
    assert folded is not None
    state: State = folded[1]
    assert state.warned == {1}
    assert state.results == [1, 1]
    assert {part.rcpt: part.warned for part in open_parts(state)} == {(0,): False, (1,): True}


def test_nothing_is_told_again_after_a_start():
    desk = Desk()
    desk.load(desk.mid(LATE), [((0,), DEAD, 1, 0.0, True)])
    given = desk.one()
    assert not given.warn
    desk.unavailable(given)
    assert desk.assign() == []


def test_an_order_that_was_out_when_the_scheduler_died_is_adopted_with_its_result():
    desk = Desk(workers=())
    desk.scheduler.worker_up(1, 10)
    mid = desk.mid(LATE)
    desk.load(mid, [((0,), DEAD, 1, 0.0)])
    assert desk.scheduler.adopt(1, Held(7, mid, DEAD, (0,), 1), desk.now)
    done = Done(n=7, m="", hop=DEAD, rcpt="0", attempt=1)
    assert desk.scheduler.result(done, [Delayed(rcpt="0", notice="N")], desk.now) is not None
    desk.scheduler.settled(7, desk.now)
    assert desk.scheduler.is_warned(mid, (0,))
    desk.wait(2)
    assert not desk.one().warn
