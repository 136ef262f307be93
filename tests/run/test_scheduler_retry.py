"""When is it tried again? Deferrals of messages, troubles of queues, and that no trouble holds up others."""

from kmq.model import moment
from kmq.run.hopqueue import FIRST_WIDTH
from tests.run.desk import BEGIN, DEAD, ISP, MAILBOX, SUBMISSION, Desk, delivered, remote, routed

MINUTE = 60.0
HOUR = 3600.0


# --- messages -------------------------------------------------------------------------------------------------------


def test_a_deferred_message_waits_longer_each_time_and_its_attempts_are_counted():
    desk = Desk()
    desk.queued(ISP)
    waits = []
    for attempt in range(1, 8):
        given = desk.one()
        assert given.attempt == attempt
        ruling = desk.deferred(given)
        due = desk.scheduler.next_due(desk.now)
        assert moment.from_text(ruling.until) == BEGIN + due
        waits.append(due - desk.now)
        desk.wait(waits[-1] - 1)
        assert desk.assign() == []
        desk.wait(1)
    assert waits == [5 * MINUTE, 10 * MINUTE, 20 * MINUTE, 40 * MINUTE, HOUR, HOUR, HOUR]


def test_an_uncertain_end_is_not_tried_again_sooner_than_five_minutes():
    desk = Desk(retry_interval=1.0)
    desk.queued(ISP)
    assert desk.deferred(desk.one(), uncertain=True).until == moment.as_text(BEGIN + 300)
    desk.wait(299)
    assert desk.assign() == []
    desk.wait(1)
    desk.deferred(desk.one())
    desk.wait(2)
    assert desk.one().attempt == 3


def test_a_deferral_by_a_phase_before_routing_waits_in_submission():
    desk = Desk()
    desk.accept()
    desk.deferred(desk.one(), "451 4.7.1 content scanner unavailable")
    assert desk.queue(SUBMISSION).waiting == 1
    desk.wait(300)
    given = desk.one()
    assert (given.hop, given.attempt) == (SUBMISSION, 2)


def test_a_deferral_is_no_trouble_of_the_queue():
    desk = Desk()
    desk.queued(ISP)
    desk.deferred(desk.one())
    assert desk.queue(ISP).status.value == "Ready"
    assert desk.scheduler.closed() == []


def test_messages_that_wait_until_the_same_second_all_come():
    desk = Desk(workers=(100, 100))
    mids = [desk.queued(MAILBOX) for _ in range(50)]
    for given in desk.assign():
        desk.deferred(given)
    desk.wait(300)
    assert [given.mid for given in desk.assign()] == mids


# --- queues ---------------------------------------------------------------------------------------------------------


def test_a_hop_out_of_reach_is_a_trouble_of_the_queue_and_costs_no_attempt():
    desk = Desk()
    mids = [desk.queued(ISP) for _ in range(3)]
    for given in desk.assign():
        desk.unavailable(given, "421 4.4.1 no route")
    facts = desk.queue(ISP)
    assert (facts.status.value, facts.last_error, facts.ready) == ("Retry", "421 4.4.1 no route", 3)
    assert (facts.failures, facts.next_retry) == (1, 60.0)
    assert desk.status(mids[0]) == ["Retry"]
    assert desk.scheduler.closed() == [ISP]
    assert desk.assign() == []
    assert desk.scheduler.next_due(desk.now) == 60.0
    desk.wait(60)
    probe = desk.one()
    assert (probe.mid, probe.attempt) == (mids[0], 1)
    assert desk.queue(ISP).status.value == "Connecting"
    assert desk.assign() == []
    desk.delivered(probe)
    assert [given.mid for given in desk.assign()] == mids[1:]
    assert desk.scheduler.closed() == []


def test_each_failed_probe_doubles_the_wait_of_the_queue():
    desk = Desk()
    desk.queued(ISP)
    waits = []
    for _ in range(9):
        desk.unavailable(desk.one())
        assert desk.assign() == []
        waits.append(desk.scheduler.next_due(desk.now) - desk.now)
        desk.wait(waits[-1])
    assert waits == [minutes * MINUTE for minutes in (1, 2, 4, 8, 16, 32, 60, 60, 60)]


def test_what_was_under_way_when_the_queue_closed_does_not_lengthen_its_wait():
    desk = Desk()
    for _ in range(FIRST_WIDTH):
        desk.queued(ISP)
    first, *rest = desk.assign()
    desk.unavailable(first, "421 first")
    desk.wait(30)
    for given in rest:
        desk.unavailable(given, "421 late")
    facts = desk.queue(ISP)
    assert (facts.failures, facts.next_retry, facts.last_error) == (1, 60.0, "421 late")


def test_shares_that_come_back_stand_in_their_old_order():
    desk = Desk()
    mids = [desk.queued(ISP) for _ in range(FIRST_WIDTH + 3)]
    given = desk.assign()
    for place in (2, 0, 4, 1, 3):
        desk.unavailable(given[place])
    order = []
    desk.run_until(100.0, lambda assignment: (order.append(assignment.mid), desk.delivered(assignment)))
    assert order == mids


def test_a_refusal_shows_that_the_hop_is_there():
    desk = Desk()
    for _ in range(2):
        desk.queued(ISP)
    for given in desk.assign():
        desk.unavailable(given)
    desk.wait(60)
    desk.failed(desk.one())
    assert desk.queue(ISP).status.value == "Active"
    assert len(desk.assign()) == 1


def test_a_probe_that_says_nothing_about_the_hop_is_followed_by_another_a_moment_later():
    desk = Desk(workers=(10, 10))
    desk.queued(ISP)
    desk.unavailable(desk.one())
    desk.wait(60)
    probe = desk.one()
    desk.scheduler.worker_gone(probe.worker, desk.now)
    assert desk.assign() == []
    assert desk.scheduler.next_due(desk.now) == desk.now + 1
    desk.wait(1)
    assert desk.one().mid == probe.mid


def test_mail_that_comes_for_a_closed_queue_waits_with_the_others():
    desk = Desk()
    desk.queued(ISP)
    desk.unavailable(desk.one())
    desk.accept()
    desk.routed(desk.one(), ISP)
    assert desk.assign() == []
    desk.wait(60)
    desk.delivered(desk.one())
    assert len(desk.assign()) == 1


def test_a_new_hop_begins_narrow_and_grows_to_its_limit_with_each_conversation():
    desk = Desk(workers=(1000,), per_hop=10)
    for _ in range(200):
        desk.queued(ISP)
    out = desk.assign()
    assert len(out) == FIRST_WIDTH
    for conversations in range(1, 30):
        desk.delivered(out.pop())
        out += desk.assign()
        assert len(out) == min(20, FIRST_WIDTH + conversations)


def test_a_probe_that_got_through_opens_the_queue_at_full_width():
    desk = Desk(workers=(1000,), per_hop=10)
    for _ in range(50):
        desk.queued(ISP)
    for given in desk.assign():
        desk.unavailable(given)
    desk.wait(60)
    desk.delivered(desk.one())
    assert len(desk.assign()) == 20


def test_a_hop_that_takes_some_connections_and_refuses_others_keeps_those_it_takes():
    desk = Desk(workers=(1000,), per_hop=10)
    for _ in range(500):
        desk.queued(ISP)
    out = desk.assign()
    while len(out) < 20:
        desk.delivered(out.pop(0))
        out += desk.assign()
    for given in out[6:]:
        desk.unavailable(given, "421 too many connections")
    assert desk.queue(ISP).status.value == "Retry"
    assert desk.assign() == []
    desk.delivered(out[0])
    assert desk.queue(ISP).status.value == "Active"
    assert len(desk.assign()) == 7 - 5


def test_a_mailbox_queue_has_its_own_trouble():
    desk = Desk()
    desk.queued(MAILBOX)
    desk.unavailable(desk.one(), "451 4.3.0 not mounted")
    assert desk.queue(MAILBOX).status.value == "Retry"
    desk.wait(60)
    desk.delivered(desk.one())
    assert desk.queue(MAILBOX).status.value == "Ready"


def test_what_went_out_in_one_go_tells_of_the_hop_too():
    desk = Desk()
    late = desk.accept()
    given = desk.one()
    desk.done(given, [routed(given, ISP)], unavailable="421 down", hop=ISP)
    assert desk.queue(ISP).status.value == "Retry"
    assert desk.queue(SUBMISSION).status.value == "Ready"
    closings = desk.scheduler.closings
    desk.accept()
    given = desk.one()
    desk.done(given, [routed(given, ISP), delivered(given)])
    assert desk.queue(ISP).status.value == "Active"
    assert desk.scheduler.closings == closings + 1
    assert desk.one().mid == late


def test_a_queue_in_trouble_that_is_empty_is_forgotten_with_its_trouble():
    desk = Desk()
    mid = desk.queued(ISP)
    desk.unavailable(desk.one())
    assert desk.scheduler.verbs.remove(mid, desk.now)
    desk.scheduler.verbs.removed(mid, desk.now)
    assert desk.scheduler.closed() == [ISP]
    desk.wait(181)
    assert desk.queue(ISP) is None
    assert desk.scheduler.closed() == []


# --- nobody holds up others (reliability P4, row 61) ------------------------------------------------------------------


def test_ten_thousand_messages_to_a_dead_host_bind_a_few_slots_and_delay_nobody():
    desk = Desk(workers=(200, 200))
    for _ in range(10_000):
        desk.queued(DEAD)
    hanging = [given for given in desk.assign() if given.hop == DEAD]
    assert len(hanging) == FIRST_WIDTH
    for _ in range(30):
        mid = desk.queued(ISP)
        given = desk.one()
        assert given.mid == mid
        desk.delivered(given)
    desk.wait(30)
    for given in hanging:
        desk.unavailable(given, "421 4.4.1 timed out")
    tries = []

    def time_out(assignment):
        if assignment.delay:
            desk.delayed(assignment)
        else:
            tries.append(desk.now)
            desk.unavailable(assignment)

    desk.run_until(6 * HOUR, time_out)
    assert len(tries) <= 12
    assert desk.queue(DEAD).messages == 10_000


def test_many_dead_hosts_together_bind_a_third_of_the_slots():
    desk = Desk(workers=(30, 30))
    for number in range(40):
        for _ in range(10):
            desk.queued(remote(number))
    desk.queued(MAILBOX)
    given = desk.assign()
    assert sum(assignment.hop != MAILBOX for assignment in given) == 20
    assert sum(assignment.hop == MAILBOX for assignment in given) == 1
    for assignment in given:
        if assignment.hop != MAILBOX:
            desk.unavailable(assignment)
    assert len(desk.assign()) == 20


def test_hosts_that_die_while_they_have_much_out_count_as_doubtful_with_all_of_it():
    desk = Desk(workers=(40,), per_hop=6)
    for number in range(2):
        desk.queued(remote(number))
    for given in desk.assign():
        desk.delivered(given)
    for number in range(2):
        for _ in range(30):
            desk.queued(remote(number))
    out = desk.assign()
    assert len(out) == 2 * (FIRST_WIDTH + 1)
    for number in range(2):
        desk.unavailable(next(given for given in out if given.hop == remote(number)))
    for number in range(2, 10):
        desk.queued(remote(number))
    assert len(desk.assign()) == 40 // 3 - 10
    for given in out:
        desk.delivered(given)
    assert len(desk.assign()) >= 5


def test_slow_hosts_leave_slots_for_others():
    desk = Desk(workers=(100,))
    slow = [remote(number) for number in range(10)]
    for hop in slow:
        desk.queued(hop)
    for _ in range(40):
        for given in desk.assign():
            desk.delivered(given)
        for hop in slow:
            desk.queued(hop)
    for hop in slow:
        for _ in range(200):
            desk.queued(hop)
    assert 90 <= len(desk.assign()) < 100
    desk.accept()
    assert desk.one().hop == SUBMISSION


def test_submission_alone_does_not_take_all_slots():
    desk = Desk(workers=(100,))
    for _ in range(300):
        desk.accept()
    assert len(desk.assign()) == 80
    desk.queued(MAILBOX)
    assert desk.one().hop == MAILBOX


def test_with_one_slot_everything_is_done_in_turn():
    desk = Desk(workers=(1,))
    for _ in range(5):
        desk.accept()
        desk.queued(ISP)
        desk.queued(DEAD)
    seen = []

    def answer(assignment):
        seen.append(assignment.hop)
        if assignment.hop == DEAD:
            desk.unavailable(assignment)
        else:
            desk.delivered(assignment)

    desk.run_until(100.0, answer)
    assert seen.count(SUBMISSION) == 5
    assert seen.count(ISP) == 5
    assert seen.count(DEAD) == 2
