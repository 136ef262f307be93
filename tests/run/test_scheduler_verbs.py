"""What an operator says, and what it means for shares in every state (J14)."""

import pytest

from kmq.config.sections import QueueSection
from kmq.run.assignment import Held
from tests.run.desk import DEAD, ISP, MAILBOX, SUBMISSION, UNREACHABLE, Desk, deferred, delivered, routed


@pytest.fixture
def desk():
    return Desk(workers=(50,))


# --- suspend, resume --------------------------------------------------------------------------------------------------


def test_a_suspended_message_is_not_handed_out_and_a_resumed_one_is(desk):
    mid = desk.accept()
    assert desk.scheduler.verbs.suspend(mid, desk.now)
    assert desk.assign() == []
    assert desk.status(mid) == ["Suspended"]
    assert desk.queue(SUBMISSION).held == 1
    assert desk.scheduler.verbs.resume(mid, desk.now)
    assert desk.one().mid == mid


def test_what_is_out_ends_as_it_ends_and_what_comes_back_is_held(desk):
    mid = desk.queued(ISP, count=3)
    given = desk.one()
    desk.scheduler.verbs.suspend(mid, desk.now)
    assert desk.status(mid) == ["PendingSuspend"]
    desk.done(given, [delivered(given, (0,)), deferred(given, (1,))])
    left = sorted((facts.rcpt, facts.status.value) for facts in desk.scheduler.state_of(mid))
    assert left == [((1,), "Suspended"), ((2,), "Suspended")]
    desk.wait(1000)
    assert desk.assign() == []


def test_what_is_routed_while_its_message_is_suspended_is_held_in_its_new_queue(desk):
    mid = desk.accept()
    given = desk.one()
    desk.scheduler.verbs.suspend(mid, desk.now)
    desk.routed(given, ISP)
    assert desk.queue(ISP).held == 1
    assert desk.assign() == []
    desk.scheduler.verbs.resume(mid, desk.now)
    assert desk.one().hop == ISP


def test_a_resumed_message_waits_for_its_time_as_before(desk):
    mid = desk.queued(ISP)
    desk.deferred(desk.one())
    desk.scheduler.verbs.suspend(mid, desk.now)
    desk.wait(100)
    desk.scheduler.verbs.resume(mid, desk.now)
    assert desk.status(mid) == ["Retry"]
    assert desk.assign() == []
    desk.wait(200)
    assert desk.one().attempt == 2


def test_suspended_beyond_its_time_it_goes_at_once_when_resumed(desk):
    mid = desk.queued(ISP)
    desk.deferred(desk.one())
    desk.scheduler.verbs.suspend(mid, desk.now)
    desk.wait(400)
    assert desk.assign() == []
    desk.scheduler.verbs.resume(mid, desk.now)
    assert desk.one().mid == mid


def test_suspending_and_resuming_for_ever_makes_no_second_share_and_no_endless_line(desk):
    mid = desk.queued(ISP)
    for _ in range(1000):
        desk.scheduler.verbs.suspend(mid, desk.now)
        desk.scheduler.verbs.resume(mid, desk.now)
    assert len(desk.scheduler._lines.queues[ISP].line.fresh) < 200
    assert desk.one().mid == mid
    assert desk.assign() == []


def test_a_message_suspended_on_disk_is_held(desk):
    mid = desk.queued(ISP, suspended=True)
    assert desk.assign() == []
    desk.scheduler.verbs.resume(mid, desk.now)
    assert desk.one().mid == mid


def test_a_suspended_message_does_not_expire(desk):
    mid = desk.queued(DEAD, created=desk.wall - 6 * 86400)
    given = desk.one()
    desk.scheduler.verbs.suspend(mid, desk.now)
    desk.deferred(given)
    assert desk.assign() == []
    desk.scheduler.verbs.resume(mid, desk.now)
    assert desk.one().expire == ""


# --- queues -----------------------------------------------------------------------------------------------------------


def test_a_suspended_queue_takes_in_but_gives_nothing(desk):
    first = desk.queued(ISP)
    given = desk.one()
    assert desk.scheduler.verbs.suspend_queue(ISP, desk.now)
    second = desk.queued(ISP)
    assert desk.assign() == []
    assert desk.queue(ISP).status.value == "Suspended"
    assert desk.status(second) == ["Ready"]
    assert desk.scheduler.closed() == [ISP]
    assert desk.delivered(given).complete
    assert desk.scheduler.verbs.resume_queue(ISP, desk.now)
    assert desk.one().mid == second
    assert not desk.scheduler.has(first)
    assert desk.scheduler.closed() == []


def test_a_suspended_queue_stays_when_it_is_empty(desk):
    desk.queued(ISP)
    desk.delivered(desk.one())
    desk.scheduler.verbs.suspend_queue(ISP, desk.now)
    desk.wait(1000)
    assert desk.queue(ISP).status.value == "Suspended"
    desk.scheduler.verbs.resume_queue(ISP, desk.now)
    desk.wait(179)
    assert desk.queue(ISP) is not None
    desk.wait(1)
    assert desk.queue(ISP) is None


def test_submission_can_be_suspended_and_the_rest_flows(desk):
    desk.accept()
    desk.scheduler.verbs.suspend_queue(SUBMISSION, desk.now)
    mid = desk.queued(ISP)
    assert desk.one().mid == mid
    desk.scheduler.verbs.resume_queue(SUBMISSION, desk.now)
    assert desk.one().hop == SUBMISSION


def test_a_suspended_queue_in_trouble_tries_again_when_it_is_resumed(desk):
    desk.queued(ISP)
    desk.unavailable(desk.one())
    desk.scheduler.verbs.suspend_queue(ISP, desk.now)
    desk.wait(1000)
    assert desk.assign() == []
    assert desk.scheduler.next_due(desk.now) is None
    desk.scheduler.verbs.resume_queue(ISP, desk.now)
    assert desk.one().hop == ISP


def test_nobody_knows_a_message_or_a_queue_that_is_not_here(desk):
    verbs = desk.scheduler.verbs
    assert not any([verbs.suspend(1, 0.0), verbs.resume(1, 0.0), verbs.retry(1, 0.0)])
    assert not any([verbs.suspend_queue(ISP, 0.0), verbs.resume_queue(ISP, 0.0), verbs.retry_queue(ISP, 0.0)])
    assert verbs.reroute(0.0) == 0
    assert verbs.remove(1, 0.0)
    verbs.removed(1, 0.0)
    assert not desk.scheduler.busy(1)


# --- retry, flush -----------------------------------------------------------------------------------------------------


def test_retry_tries_a_waiting_message_now_and_its_failure_sets_the_time_anew(desk):
    mid = desk.queued(ISP)
    desk.deferred(desk.one())
    desk.wait(10)
    assert desk.scheduler.verbs.retry(mid, desk.now)
    desk.deferred(desk.one())
    (facts,) = desk.scheduler.state_of(mid)
    assert (facts.attempt, facts.due) == (3, 10 + 600)
    desk.wait(290)
    assert desk.assign() == []


def test_retry_reaches_for_the_hop_that_the_message_waits_for(desk):
    mid = desk.queued(ISP)
    desk.unavailable(desk.one())
    desk.wait(10)
    desk.scheduler.verbs.retry(mid, desk.now)
    desk.unavailable(desk.one())
    assert desk.queue(ISP).next_retry == 10 + 120
    assert desk.assign() == []


def test_retry_leaves_held_what_is_held(desk):
    mid = desk.queued(ISP)
    desk.deferred(desk.one())
    desk.scheduler.verbs.suspend(mid, desk.now)
    desk.scheduler.verbs.retry(mid, desk.now)
    assert desk.status(mid) == ["Suspended"]
    assert desk.assign() == []


def test_retrying_a_queue_tries_the_hop_and_all_that_waits_but_not_what_fails_again(desk):
    for _ in range(4):
        desk.queued(MAILBOX)
    for given in desk.assign():
        desk.deferred(given)
    assert desk.assign() == []
    assert desk.scheduler.verbs.retry_queue(MAILBOX, desk.now)
    again = desk.assign()
    assert [given.attempt for given in again] == [2] * 4
    for given in again:
        desk.deferred(given)
    assert desk.assign() == []
    assert desk.scheduler.next_due(desk.now) == 600


def test_flush_tries_everything_everywhere(desk):
    desk.queued(MAILBOX)
    desk.queued(ISP)
    for given in desk.assign():
        if given.hop == ISP:
            desk.unavailable(given)
        else:
            desk.deferred(given)
    assert desk.assign() == []
    desk.scheduler.verbs.flush(desk.now)
    assert {given.hop for given in desk.assign()} == {ISP, MAILBOX}


def test_a_flush_of_very_many_is_done_in_portions():
    desk = Desk(workers=(1,))
    for _ in range(12_000):
        desk.load(desk.mid(), [((0,), MAILBOX, 2, desk.wall + 3000)])
    desk.scheduler.verbs.flush(desk.now)
    desk.run_until(5.0, desk.delivered)
    assert len(desk.scheduler) == 0


# --- unreachable, and back to the categorizer -------------------------------------------------------------------------


def test_what_is_unreachable_waits_for_a_new_configuration_and_keeps_its_attempts(desk):
    mid = desk.accept(count=2)
    given = desk.one()
    desk.done(given, [routed(given, ((0,), UNREACHABLE)), routed(given, ((1,), ISP)), deferred(given, (0,))])
    desk.delivered(desk.one())
    desk.wait(10_000)
    assert desk.assign() == []
    assert desk.scheduler.verbs.reroute(desk.now) == 1
    again = desk.one()
    assert (again.mid, again.hop, again.rcpt, again.attempt) == (mid, SUBMISSION, (0,), 2)
    assert desk.queue(UNREACHABLE).messages == 0


def test_rerouting_leaves_suspended_messages_until_they_are_resumed(desk):
    mid = desk.accept()
    given = desk.one()
    desk.scheduler.verbs.suspend(mid, desk.now)
    desk.routed(given, UNREACHABLE)
    assert desk.scheduler.verbs.reroute(desk.now) == 0
    desk.scheduler.verbs.resume(mid, desk.now)
    assert desk.one().hop == SUBMISSION


def test_what_was_unreachable_once_and_is_routed_now_is_not_rerouted(desk):
    mid = desk.accept()
    desk.routed(desk.one(), UNREACHABLE)
    desk.scheduler.verbs.suspend(mid, desk.now)
    desk.scheduler.verbs.resume(mid, desk.now)
    given = desk.one()
    assert given.hop == SUBMISSION
    desk.routed(given, ISP)
    assert desk.scheduler.verbs.reroute(desk.now) == 0
    assert desk.one().hop == ISP


def test_a_suspended_unreachable_queue_is_not_rerouted(desk):
    desk.accept()
    desk.routed(desk.one(), UNREACHABLE)
    desk.scheduler.verbs.suspend_queue(UNREACHABLE, desk.now)
    assert desk.scheduler.verbs.reroute(desk.now) == 0
    assert desk.assign() == []


def test_any_queue_may_be_routed_anew_with_what_waits_in_it(desk):
    for _ in range(3):
        desk.queued(DEAD)
    first, *rest = desk.assign()
    desk.deferred(first)
    desk.unavailable(rest[0])
    assert desk.scheduler.verbs.reroute(desk.now, DEAD) == 2
    assert [given.hop for given in desk.assign()] == [SUBMISSION, SUBMISSION]
    desk.wait(1000)
    assert desk.assign() == []


# --- remove (J14) -----------------------------------------------------------------------------------------------------


def test_a_message_that_nobody_works_on_may_be_removed_at_once(desk):
    mid = desk.queued(ISP, count=2)
    assert desk.scheduler.verbs.remove(mid, desk.now)
    assert desk.assign() == []
    assert desk.status(mid) == ["PendingRemove"]
    desk.scheduler.verbs.removed(mid, desk.now)
    assert not desk.scheduler.has(mid)
    assert desk.queue(ISP).messages == 0
    assert desk.scheduler.verbs.released() == []


def test_a_removal_waits_for_the_workers_and_for_the_sync_of_their_results(desk):
    mid = desk.accept(count=3)
    desk.routed(desk.one(), ((0,), ISP), ((1,), MAILBOX), ((2,), DEAD))
    out, back, dead = desk.assign()
    desk.deferred(dead)
    assert not desk.scheduler.verbs.remove(mid, desk.now)
    desk.deferred(out, settle=False)
    assert desk.scheduler.verbs.released() == []
    desk.settle(out)
    assert desk.scheduler.verbs.released() == []
    desk.scheduler.returned(back.n, desk.now)
    desk.wait(10_000)
    assert desk.assign() == []
    assert desk.scheduler.verbs.released() == [mid]
    assert desk.scheduler.verbs.released() == []
    desk.scheduler.verbs.removed(mid, desk.now)
    assert not desk.scheduler.has(mid)


def test_a_removal_waits_for_a_worker_that_dies(desk):
    mid = desk.accept()
    given = desk.one()
    assert not desk.scheduler.verbs.remove(mid, desk.now)
    desk.scheduler.worker_gone(given.worker, desk.now)
    assert desk.scheduler.verbs.released() == [mid]


def test_a_message_that_is_delivered_before_it_could_be_removed_is_gone(desk):
    mid = desk.accept()
    given = desk.one()
    assert not desk.scheduler.verbs.remove(mid, desk.now)
    assert desk.delivered(given).complete
    assert desk.scheduler.verbs.released() == []
    assert not desk.scheduler.has(mid)


def test_nothing_is_removed_before_every_worker_has_reported():
    desk = Desk(living=(1,))
    mine, other = desk.queued(ISP), desk.queued(ISP)
    assert not desk.scheduler.verbs.remove(mine, desk.now)
    assert not desk.scheduler.verbs.remove(other, desk.now)
    assert desk.scheduler.verbs.released() == []
    desk.scheduler.holding(1, [Held(5, mine, ISP, (0,), 1)], desk.now)
    assert desk.scheduler.verbs.released() == [other]
    assert desk.assign() == []


def test_an_id_may_come_again_after_its_removal(desk):
    mid = desk.queued(ISP)
    desk.scheduler.verbs.remove(mid, desk.now)
    desk.scheduler.verbs.removed(mid, desk.now)
    desk.load(mid, [((0,), ISP, 1, 0.0)])
    assert desk.one().mid == mid


# --- configuration ----------------------------------------------------------------------------------------------------


def test_a_new_configuration_counts_from_now_on(desk):
    for _ in range(3):
        desk.queued(ISP)
    first, second, third = desk.assign()
    desk.deferred(first)
    desk.scheduler.configure(QueueSection(retry_interval=10.0, retry_interval_max=20.0, per_hop=1))
    assert desk.queue(ISP) is not None
    desk.deferred(second)
    desk.deferred(third)
    desk.wait(10)
    assert len(desk.assign()) == 2
