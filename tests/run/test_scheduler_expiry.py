"""When a message's time is over: on a failed attempt, with that attempt's reply, and never by a clock that jumped."""

import pytest

from kmq.run.expiry import PORTION
from kmq.run.lifetime import Lifetime
from tests.run.desk import BEGIN, DEAD, ISP, SUBMISSION, Desk, deferred, routed

HOUR = 3600.0
DAY = 24 * HOUR
OLD = BEGIN - 5 * DAY - 1


def test_a_message_whose_time_is_over_is_tried_once_more_and_expires_when_that_fails():
    desk = Desk()
    mid = desk.queued(ISP, count=2, created=OLD)
    given = desk.one()
    assert given.expire == ""
    ruling = desk.deferred(given, "450 4.2.1 still busy")
    assert (ruling.complete, ruling.until) == (False, "")
    last = desk.one()
    assert (last.mid, last.rcpt, last.attempt, last.expire) == (mid, (0, 1), 2, "450 4.2.1 still busy")
    assert desk.failed(last).complete
    assert not desk.scheduler.has(mid)


def test_a_message_whose_time_is_over_is_delivered_when_the_attempt_succeeds():
    desk = Desk()
    desk.queued(ISP, created=OLD)
    assert desk.delivered(desk.one()).complete


def test_a_message_in_its_time_is_not_expired():
    desk = Desk()
    desk.queued(ISP, created=OLD + 10)
    assert desk.deferred(desk.one()).until


def test_recipients_that_expire_with_different_replies_get_their_own():
    desk = Desk()
    desk.queued(ISP, count=3, created=OLD)
    given = desk.one()
    desk.done(given, [deferred(given, (0, 2), "450 busy"), deferred(given, (1,), "452 full")])
    assert {last.rcpt: last.expire for last in desk.assign()} == {(0, 2): "450 busy", (1,): "452 full"}


def test_a_deferral_without_a_reply_expires_too():
    desk = Desk()
    desk.queued(ISP, created=OLD)
    desk.deferred(desk.one(), "")
    assert desk.one().expire.startswith("451 4.4.0")


def test_a_notice_that_could_not_be_made_is_tried_again_like_a_message():
    desk = Desk()
    desk.queued(ISP, created=OLD)
    desk.deferred(desk.one())
    last = desk.one()
    ruling = desk.deferred(last, "451 4.3.0 no room for the notice")
    assert ruling.until
    assert desk.assign() == []
    desk.wait(600)
    given = desk.one()
    assert (given.attempt, given.expire) == (3, "")
    desk.deferred(given)
    assert desk.one().expire


def test_the_failed_probe_of_a_queue_was_the_last_attempt_of_all_that_are_too_old():
    desk = Desk(mass_expiry=0)
    old = [desk.queued(DEAD, created=OLD) for _ in range(20)]
    retried = desk.mid(OLD)
    desk.load(retried, [((0,), DEAD, 7, 0.0)])
    waiting = desk.mid(OLD)
    desk.load(waiting, [((0,), DEAD, 3, desk.wall + 30 * 60)])
    young = [desk.queued(DEAD) for _ in range(3)]
    ended = []

    def answer(assignment):
        if assignment.expire:
            assert assignment.expire == "421 4.4.1 connection refused"
            ended.append(assignment.mid)
            desk.failed(assignment)
        else:
            desk.unavailable(assignment)

    desk.run_until(HOUR / 2 - 1, answer)
    assert sorted(ended) == [*old, retried]
    desk.run_until(2 * HOUR, answer)
    assert ended[-1] == waiting
    assert [mid for mid in young if desk.scheduler.has(mid)] == young


def test_a_notice_is_no_word_of_the_hop():
    desk = Desk()
    desk.queued(DEAD, created=OLD)
    desk.queued(DEAD)
    for given in desk.assign():
        desk.unavailable(given)
    notice = desk.one()
    assert notice.expire
    desk.failed(notice)
    assert desk.queue(DEAD).status.value == "Retry"
    assert desk.assign() == []


def test_expired_retries_behind_younger_ones_are_found():
    desk = Desk()
    young = [desk.mid() for _ in range(3)]
    old = [desk.mid(OLD) for _ in range(3)]
    for mid in (young[0], old[0], young[1], old[1], young[2], old[2]):
        desk.load(mid, [((0,), DEAD, 2, 0.0)])
    for given in desk.assign():
        desk.unavailable(given)
    assert len(desk.assign()) == 3
    assert [mid for mid in old if desk.status(mid) == ["Active"]] == old
    assert [mid for mid in young if desk.status(mid) == ["Retry"]] == young


def test_a_hundred_thousand_that_expire_together_are_found_in_portions():
    desk = Desk(workers=(40,), mass_expiry=0)
    for _ in range(20_000):
        desk.queued(DEAD, created=OLD)
    for given in desk.assign():
        desk.unavailable(given)
    assert len(desk.assign()) == 10
    assert desk.scheduler.next_due(desk.now) == desk.now
    looks = 0
    while desk.scheduler.next_due(desk.now) == desk.now:
        assert desk.assign() == []
        looks += 1
        assert len(desk.scheduler._lines.owing) <= PORTION * (looks + 1)
    assert desk.queue(DEAD).messages == 20_000


def test_notices_leave_slots_for_mail():
    desk = Desk(workers=(40,), mass_expiry=0)
    for _ in range(200):
        desk.queued(DEAD, created=OLD)
    for given in desk.assign():
        desk.unavailable(given)
    assert len(desk.assign()) == 10
    desk.accept()
    assert desk.one().hop == SUBMISSION


def test_a_hop_that_speaks_ends_the_look_for_what_is_too_old():
    desk = Desk(workers=(400,), mass_expiry=0)
    for _ in range(PORTION * 3):
        desk.queued(DEAD, created=OLD)
    first, second, *rest = desk.assign()
    desk.unavailable(first)
    desk.assign()
    desk.delivered(second)
    for given in rest:
        desk.delivered(given)
    expired = len([given for given in desk.assign() if given.expire]) + len(desk.scheduler._lines.owing)
    assert expired < PORTION * 2
    assert not desk.scheduler._expiry.looking


def test_in_one_go_to_a_hop_out_of_reach_expires_what_is_too_old():
    desk = Desk()
    desk.accept(created=OLD)
    given = desk.one()
    desk.done(given, [routed(given, DEAD)], unavailable="421 down", hop=DEAD)
    assert desk.one().expire == "421 down"


# --- clocks (reliability row 38) --------------------------------------------------------------------------------------


def test_a_clock_that_jumps_ahead_expires_nothing_for_a_cycle():
    desk = Desk()
    for _ in range(3):
        desk.queued(ISP)
    desk.jumped = 30 * DAY
    assert desk.wait(10) == pytest.approx(30 * DAY)
    first, second, third = desk.assign()
    assert desk.deferred(first).until
    desk.wait(HOUR - 1)
    assert desk.deferred(second).until
    desk.wait(1)
    assert desk.deferred(third).until == ""


def test_a_clock_that_is_set_right_in_time_has_done_no_harm():
    desk = Desk()
    for _ in range(2):
        desk.queued(ISP)
    desk.jumped = 365 * DAY
    desk.wait(10)
    first, second = desk.assign()
    assert desk.deferred(first).until
    desk.jumped = 0
    assert desk.wait(HOUR * 2) == 0.0
    assert desk.deferred(second).until


@pytest.mark.parametrize("jumped", [-2 * DAY, -BEGIN, -3000.0, 3000.0])
def test_a_clock_that_goes_back_or_moves_a_little_is_no_jump_and_expires_nothing(jumped):
    desk = Desk()
    desk.queued(ISP)
    desk.jumped = jumped
    assert desk.wait(10) == 0.0
    assert desk.deferred(desk.one()).until
    desk.wait(300)
    assert len(desk.assign()) == 1


def test_time_that_nobody_saw_pass_before_the_start_is_not_believed_at_once():
    old = int(BEGIN - 30 * DAY) << 32
    desk = Desk(last_id=old)
    desk.queued(ISP, created=BEGIN - 30 * DAY)
    assert desk.deferred(desk.one()).until
    desk.wait(2 * HOUR)
    assert desk.deferred(desk.one()).until == ""


def test_a_start_soon_after_the_last_message_believes_the_clock():
    desk = Desk(last_id=int(BEGIN - 600) << 32)
    desk.queued(ISP, created=OLD)
    assert desk.deferred(desk.one()).until == ""


def test_drift_of_the_clock_adds_up_to_no_jump():
    lifetime = Lifetime(HOUR, 0.0, BEGIN)
    assert [lifetime.clock(second, BEGIN + 60.0 * second) for second in range(1, 200)] == [0.0] * 199
    assert lifetime.wall(199.0) == BEGIN + 60.0 * 199
