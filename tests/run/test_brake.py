"""Mass expiry: when too much would be given up at once, nothing is, until an operator says so; and no mail is lost."""

import pytest

from kmq.run.brake import WINDOW, Brake
from tests.run.desk import BEGIN, DEAD, ISP, Desk, remote

HOUR = 3600.0
DAY = 24 * HOUR
OLD = BEGIN - 5 * DAY - 1


def passed(brake, count, now=0.0, queued=100, ended=1.0):
    return sum(brake.passes(ended, now, queued) for _ in range(count))


# --- the law ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("queued", "count", "lets"),
    [
        (20, 19, 19),  # fewer than 20 are never too many
        (20, 20, 19),  # the twentieth stops it
        (100_000, 1000, 1000),  # 1 % is not more than 1 %
        (100_000, 1500, 1000),
    ],
)
def test_more_than_a_hundredth_and_at_least_twenty_in_a_minute_stop_it(queued, count, lets):
    brake = Brake(20)
    assert passed(brake, count, queued=queued) == lets
    assert brake.stopped == (lets < count)


def test_what_is_spread_over_time_is_not_much():
    brake = Brake(20)
    for minute in range(100):
        assert passed(brake, 19, now=minute * WINDOW) == 19
    assert not brake.stopped


def test_it_stays_stopped_however_long_it_is():
    brake = Brake(20)
    passed(brake, 20)
    assert passed(brake, 5, now=30 * DAY) == 0
    assert brake.held == 6


def test_an_operator_lets_go_what_was_over_by_then_and_no_more():
    brake = Brake(20)
    passed(brake, 25, ended=100.0)
    brake.release(wall=200.0)
    assert passed(brake, 1000, ended=100.0) == 1000
    assert passed(brake, 1000, ended=300.0) == 19
    assert brake.stopped


def test_without_a_limit_it_never_stops():
    assert passed(Brake(0), 10_000, queued=10_000) == 10_000


# --- in the core ------------------------------------------------------------------------------------------------------


def refuse(desk, ended):
    """Every hop is out of reach or refuses; what expires or is delayed is told."""

    def answer(assignment):
        if assignment.expire:
            ended.append(assignment.mid)
            desk.failed(assignment)
        elif assignment.delay:
            desk.delayed(assignment)
        elif assignment.hop == DEAD:
            desk.unavailable(assignment)
        else:
            desk.deferred(assignment)

    return answer


def test_a_dead_line_bounces_nineteen_messages_and_then_none():
    desk = Desk()
    mids = [desk.queued(DEAD, created=OLD) for _ in range(300)]
    ended = []
    desk.run_until(2 * DAY, refuse(desk, ended))
    assert len(ended) == 19
    assert desk.scheduler.brake.stopped
    assert [mid for mid in mids if desk.scheduler.has(mid)] == [mid for mid in mids if mid not in ended]
    assert desk.queue(DEAD).messages == 281


def test_expiry_stops_for_everybody_and_deferrals_go_on():
    desk = Desk()
    for number in range(30):
        desk.queued(remote(number), created=OLD)
    ended = []
    desk.run_until(DAY, refuse(desk, ended))
    assert len(ended) == 19
    left = [mid for mid in desk.scheduler.mids if desk.status(mid) == ["Retry"]]
    assert len(left) == 11


def test_held_mail_is_delivered_when_the_line_is_back():
    desk = Desk()
    for _ in range(300):
        desk.queued(DEAD, created=OLD)
    desk.run_until(DAY, refuse(desk, []))
    delivered = []

    def answer(assignment):
        assert not assignment.expire
        delivered.append(assignment.mid)
        desk.delivered(assignment)

    desk.run_until(2 * DAY, answer)
    assert len(delivered) == 281
    assert len(desk.scheduler) == 0


def test_an_operator_lets_it_be_given_up_at_once_where_the_last_attempt_failed():
    desk = Desk()
    for _ in range(300):
        desk.queued(DEAD, created=OLD)
    waiting = [desk.queued(ISP, created=OLD) for _ in range(5)]
    ended = []
    answer = refuse(desk, ended)
    desk.run_until(HOUR, answer)
    assert len(ended) == 19
    overdue = [hop for mid in desk.scheduler.mids for hop in desk.scheduler.overdue(mid, desk.now)]
    assert len(overdue) == len(desk.scheduler)
    desk.scheduler.expire_held(desk.now)
    desk.run_until(desk.now + 1, answer)
    assert desk.queue(DEAD).messages == 0
    desk.run_until(desk.now + 2 * HOUR, answer)
    assert len(ended) == 305
    assert set(waiting) <= set(ended)


def test_a_new_run_counts_anew_and_loses_nothing():
    for _ in range(3):
        desk = Desk()
        for _ in range(100):
            desk.queued(DEAD, created=OLD)
        ended = []
        desk.run_until(HOUR, refuse(desk, ended))
        assert (len(ended), len(desk.scheduler)) == (19, 81)


def test_a_small_expiry_is_no_matter():
    desk = Desk()
    for _ in range(19):
        desk.queued(DEAD, created=OLD)
    ended = []
    desk.run_until(HOUR, refuse(desk, ended))
    assert (len(ended), desk.scheduler.brake.stopped) == (19, False)
