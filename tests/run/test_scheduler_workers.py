"""Workers that come, go, die and were there before: J9, J10, and suspects that are run alone."""

from collections import Counter

import pytest

from kmq.config.reading import read
from kmq.model.envelope import State
from kmq.model.event import Crashed, Deferred, Delivered, Failed, Moved, Redirected, Routed, Suspended
from kmq.run.assignment import Held
from kmq.run.limits import TOGETHER, limits_of
from kmq.run.share import Part, open_parts
from kmq.run.suspects import PATIENCE
from tests.run.desk import BEGIN, DEAD, ISP, MAILBOX, SUBMISSION, UNREACHABLE, Desk, routed


def held(assignment, n=None):
    return Held(assignment.n if n is None else n, assignment.mid, assignment.hop, assignment.rcpt, assignment.attempt)


# --- death (J9) -------------------------------------------------------------------------------------------------------


def test_what_a_dead_worker_had_is_free_and_goes_to_another_in_its_old_order():
    desk = Desk(workers=(5, 5))
    mids = [desk.accept() for _ in range(10)]
    given = desk.assign()
    lost = desk.scheduler.worker_gone(1, desk.now)
    assert [assignment.mid for assignment in lost] == [assignment.mid for assignment in given if assignment.worker == 1]
    for assignment in given:
        if assignment.worker == 2:
            desk.delivered(assignment)
    again = []
    while left := desk.assign():
        for assignment in left:
            assert (assignment.worker, assignment.attempt) == (2, 1)
            again.append(assignment.mid)
            desk.delivered(assignment)
    assert again[: len(lost)] == [assignment.mid for assignment in lost]
    assert sorted(again + [assignment.mid for assignment in given if assignment.worker == 2]) == mids


def test_a_result_read_before_the_death_counts():
    desk = Desk(workers=(5, 5))
    mid = desk.accept()
    given = desk.one()
    assert desk.delivered(given, settle=False).complete
    assert desk.scheduler.worker_gone(given.worker, desk.now) == []
    assert desk.assign() == []
    desk.settle(given)
    assert not desk.scheduler.has(mid)


def test_a_result_after_the_death_is_nobodys():
    desk = Desk(workers=(5, 5))
    desk.accept()
    given = desk.one()
    desk.scheduler.worker_gone(given.worker, desk.now)
    assert desk.delivered(given) is None
    assert desk.one().n > given.n


def test_a_draining_worker_ends_what_it_has_and_gets_nothing_new():
    desk = Desk(workers=(5, 5))
    for _ in range(4):
        desk.accept()
    given = desk.assign()
    desk.scheduler.worker_draining(1)
    for assignment in given:
        desk.delivered(assignment)
        desk.accept()
    assert {assignment.worker for assignment in desk.assign()} == {2}
    assert desk.scheduler.worker_gone(1, desk.now) == []


def test_a_worker_that_comes_again_has_all_its_slots():
    desk = Desk(workers=(3,))
    for _ in range(3):
        desk.accept()
    assert len(desk.assign()) == 3
    desk.scheduler.worker_gone(1, desk.now)
    assert desk.assign() == []
    desk.scheduler.worker_up(1, 3)
    assert len(desk.assign()) == 3


# --- a new scheduler process (J10) ------------------------------------------------------------------------------------


def test_nothing_is_assigned_before_every_worker_has_reported_or_is_dead():
    desk = Desk(workers=(5, 5), living=(1, 2, 3))
    mid = desk.queued(ISP)
    assert desk.assign() == []
    assert desk.scheduler.next_due(desk.now) is None
    assert desk.scheduler.busy(mid)
    desk.scheduler.holding(1, [], desk.now)
    assert desk.assign() == []
    desk.scheduler.worker_gone(3, desk.now)
    assert desk.scheduler.waiting_for == {2}
    assert desk.assign() == []
    desk.scheduler.holding(2, [], desk.now)
    assert desk.one().mid == mid


def test_what_a_worker_reports_is_in_its_hands_and_its_number_is_never_given_again():
    desk = Desk(workers=(20,), living=(1,))
    mid = desk.queued(ISP, count=2)
    other = desk.queued(ISP)
    assert desk.scheduler.holding(1, [Held(41, mid, ISP, (0, 1), 1)], desk.now) == [41]
    assert desk.status(mid) == ["Active"]
    given = desk.one()
    assert (given.mid, given.n) == (other, 42)
    given.n = 41
    given.mid = mid
    given.rcpt = (0, 1)
    assert desk.delivered(given).complete
    assert not desk.scheduler.has(mid)


@pytest.mark.parametrize(
    "report",
    [
        pytest.param(lambda mid: Held(9, mid + 1, ISP, (0,), 1), id="a message that is gone"),
        pytest.param(lambda mid: Held(9, mid, ISP, (0, 1), 1), id="an attempt whose result is on disk"),
        pytest.param(lambda mid: Held(9, mid, ISP, (7,), 2), id="a recipient that is done"),
    ],
)
def test_what_is_known_already_is_not_taken_up(report):
    desk = Desk(living=(1,))
    mid = desk.mid()
    desk.load(mid, [((0, 1), ISP, 2, 0.0)])
    assert desk.scheduler.holding(1, [report(mid)], desk.now) == []
    given = desk.one()
    assert (given.rcpt, given.attempt) == ((0, 1), 2)
    assert given.n > 9


def test_a_report_about_some_recipients_leaves_the_others_free():
    desk = Desk(living=(1,))
    mid = desk.queued(ISP, count=5)
    assert desk.scheduler.holding(1, [Held(3, mid, ISP, (1, 4), 1)], desk.now) == [3]
    given = desk.one()
    assert (given.rcpt, given.hop) == ((0, 2, 3), ISP)


def test_a_report_from_before_the_routing_was_lost_keeps_the_hop_that_the_worker_knows():
    desk = Desk(living=(1,))
    mid = desk.accept(count=2)
    assert desk.scheduler.holding(1, [Held(3, mid, ISP, (1,), 1), Held(4, mid, SUBMISSION, (0,), 1)], desk.now) == [
        3,
        4,
    ]
    assert sorted(facts.hop for facts in desk.scheduler.state_of(mid)) == [ISP, SUBMISSION]
    assert desk.assign() == []


def test_what_waits_or_is_held_is_in_hand_when_the_worker_says_so():
    desk = Desk(living=(1,))
    waiting, suspended = desk.mid(), desk.mid()
    desk.load(waiting, [((0,), ISP, 2, desk.wall + 500)])
    desk.load(suspended, [((0,), ISP, 1, 0.0)], suspended=True)
    reports = [Held(3, waiting, ISP, (0,), 2), Held(4, suspended, ISP, (0,), 1)]
    assert desk.scheduler.holding(1, reports, desk.now) == [3, 4]
    assert desk.status(suspended) == ["PendingSuspend"]
    desk.wait(600)
    assert desk.assign() == []


def test_a_late_result_of_an_earlier_run_finds_its_share_or_is_known():
    desk = Desk(living=(1,))
    mid = desk.queued(ISP)
    desk.scheduler.holding(1, [], desk.now)
    given = desk.one()
    assert desk.scheduler.holding(1, [held(given, n=given.n + 5)], desk.now) == []
    assert desk.delivered(given).complete
    assert not desk.scheduler.has(mid)


def test_a_report_twice_is_one():
    desk = Desk(living=(1,))
    mid = desk.queued(ISP)
    report = Held(3, mid, ISP, (0,), 1)
    assert desk.scheduler.holding(1, [report, report], desk.now) == [3, 3]
    assert desk.scheduler.in_hand == 1


# --- from disk --------------------------------------------------------------------------------------------------------


def test_open_recipients_are_grouped_by_hop_number_of_results_and_time():
    state = State(8)
    for event in [
        Routed(rcpt="0-5", hop=ISP),
        Routed(rcpt="6", hop=UNREACHABLE),
        Delivered(rcpt="0", attempt=1),
        Failed(rcpt="1", attempt=1),
        Deferred(rcpt="2-3", attempt=1, until="2023-11-14T22:18:20.000Z"),
        Deferred(rcpt="4", attempt=1, until="soon"),
    ]:
        state.after(event)
    assert open_parts(state) == [
        Part((2, 3), ISP, 2, BEGIN + 300.0),
        Part((4,), ISP, 2, 0.0),
        Part((5,), ISP, 1, 0.0),
        Part((6, 7), SUBMISSION, 1, 0.0),
    ]


def test_what_is_suspended_where_no_connector_serves_it_stays_there_until_it_is_resumed():
    desk, state = Desk(), State(2)
    for event in [Routed(rcpt="0-1", hop=UNREACHABLE), Suspended(rcpt="1", by="uid 0")]:
        state.after(event)
    parts = open_parts(state)
    assert [(part.rcpt, part.hop) for part in parts] == [((0,), SUBMISSION), ((1,), UNREACHABLE)]
    mid = desk.mid()
    desk.load(mid, parts)
    assert desk.queue(UNREACHABLE).messages == 1, "the queue is counted as the envelope has it"
    assert desk.one().rcpt == (0,)
    desk.scheduler.verbs.resume(mid, desk.now)
    given = desk.one()
    assert (given.rcpt, given.hop) == ((1,), SUBMISSION), "by the configuration of now"


def test_a_hop_of_another_version_is_routed_anew():
    state = State(1)
    state.after(Routed(rcpt="0", hop="Teleport;there;x"))
    assert open_parts(state) == [Part((0,), SUBMISSION, 1, 0.0)]


@pytest.mark.parametrize("hop", [ISP, ISP.replace(";isp", ";line")])
def test_what_was_redirected_to_a_connector_that_was_renamed_still_goes_that_way(hop):
    state = State(1)
    state.after(Redirected(rcpt="0", connector="isp"))
    state.after(Routed(rcpt="0", hop=hop))
    (part,) = open_parts(state, former={"isp": "line"})
    assert (part.hop, part.forced) == (hop, "line"), "it is not routed anew, and knows the name of now"
    (part,) = open_parts(state, former={"isp": "cable", "line": "cable"})
    assert (part.hop, part.forced) == (hop, "cable")
    state.after(Routed(rcpt="0", hop=DEAD))
    (part,) = open_parts(state, former={"isp": "line"})
    assert (part.hop, part.forced) == (SUBMISSION, "line"), "by routing, when an operator said otherwise"


def test_the_attempt_is_the_same_before_and_after_a_restart():
    desk = Desk()
    desk.queued(ISP)
    state = State(1)
    for _ in range(3):
        given = desk.one()
        desk.deferred(given)
        state.after(Routed(rcpt="0", hop=ISP))
        state.after(Deferred(rcpt="0", attempt=given.attempt))
        desk.wait(desk.scheduler.next_due(desk.now) - desk.now)
    assert desk.one().attempt == open_parts(state)[0].attempt == 4


def test_what_waited_on_disk_waits_here_but_not_longer_than_the_longest_wait():
    desk = Desk()
    short, long = desk.mid(), desk.mid()
    desk.load(short, [((0,), ISP, 2, desk.wall + 100)])
    desk.load(long, [((0,), ISP, 2, desk.wall + 1e8)])
    assert desk.assign() == []
    desk.wait(100)
    assert desk.one().mid == short
    desk.wait(3861)
    assert desk.one().mid == long


def test_a_message_with_nothing_left_is_not_taken_in():
    desk = Desk()
    assert not desk.load(desk.mid(), [], suspended=True, crashes=1)
    assert len(desk.scheduler) == 0


# --- suspects ---------------------------------------------------------------------------------------------------------


def crash(desk, number=1, slots=10):
    """The worker dies with all that it has, and comes again."""
    lost = desk.scheduler.worker_gone(number, desk.now)
    desk.scheduler.suspect([assignment.mid for assignment in lost], desk.now)
    desk.scheduler.worker_up(number, slots)
    return lost


def test_others_are_woken_when_one_has_more_than_a_little_and_then_the_least_busy_is_next():
    desk = Desk(workers=(20, 20, 5))
    for _ in range(TOGETHER):
        desk.accept()
    assert {assignment.worker for assignment in desk.assign()} == {1}
    for _ in range(TOGETHER + 5):
        desk.accept()
    assert Counter(assignment.worker for assignment in desk.assign()) == {2: TOGETHER, 3: 5}
    for _ in range(6):
        desk.accept()
    assert Counter(assignment.worker for assignment in desk.assign()) == {1: 3, 2: 3}


def test_what_a_worker_has_work_with_goes_to_the_least_busy_at_once():
    desk = Desk(workers=(20, 20))
    for _ in range(6):
        desk.load(desk.mid(), [((0,), MAILBOX, 1, 0.0)])
    assert Counter(assignment.worker for assignment in desk.assign()) == {1: 3, 2: 3}


@pytest.mark.parametrize(
    "section",
    [
        "[a : attachment]\naction = accept\nnames = invoice-*.zip\n",
        "[r : rule]\ncondition = all mail\naction = hold\n",
        "[av : scanner]\ntype = clamd\naddress = 127.0.0.1:3310\n",
    ],
)
def test_fresh_mail_that_is_looked_at_is_spread_at_once(section, tmp_path):
    assert limits_of(read("", "kmq.conf", str(tmp_path))).together == TOGETHER
    assert limits_of(read(section, "kmq.conf", str(tmp_path))).together == 0


def test_suspects_are_run_alone_one_at_a_time_while_others_flow():
    desk = Desk(workers=(20, 20))
    for _ in range(2 * TOGETHER):
        desk.accept()
    given = desk.assign()
    lost = crash(desk, slots=20)
    mates = [assignment for assignment in given if assignment.worker == 2]
    assert len(lost) == len(mates) == TOGETHER
    order = []
    for _ in lost:
        fresh = [desk.accept() for _ in range(4)]
        out = desk.assign()
        (alone,) = [assignment for assignment in out if assignment.alone]
        ordinary = [assignment for assignment in out if not assignment.alone]
        assert [assignment.mid for assignment in ordinary] == fresh
        assert {assignment.worker for assignment in ordinary}.isdisjoint({alone.worker})
        order.append(alone.mid)
        for assignment in [alone, *ordinary]:
            desk.delivered(assignment)
    assert order == [assignment.mid for assignment in lost]
    for assignment in mates:
        desk.delivered(assignment)
    for _ in range(TOGETHER + 1):
        desk.accept()
    assert len({assignment.worker for assignment in desk.assign()}) == 2


def test_a_suspect_waits_until_its_worker_has_nothing_in_hand():
    desk = Desk(workers=(10, 10))
    for _ in range(TOGETHER + 2):
        desk.accept()
    given = desk.assign()
    crash(desk)
    desk.scheduler.worker_draining(1)
    desk.scheduler.worker_up(3, 10)
    desk.scheduler.worker_gone(3, desk.now)
    others = [assignment for assignment in given if assignment.worker == 2]
    assert desk.assign() == []
    suspects = {assignment.mid for assignment in given} - {assignment.mid for assignment in others}
    assert {mid for mid in desk.scheduler.mids for facts in desk.scheduler.state_of(mid) if facts.alone} == suspects
    desk.delivered(others[0])
    assert desk.assign() == []
    desk.delivered(others[1])
    assert desk.one().alone


def test_only_a_crash_alone_is_counted_and_the_innocent_are_cleared():
    desk = Desk(workers=(10,))
    guilty, innocent = desk.accept(), desk.accept()
    desk.assign()
    crash(desk)
    alone = desk.one()
    assert alone.mid == guilty
    (lost,) = desk.scheduler.worker_gone(1, desk.now)
    assert lost.alone
    assert desk.scheduler.crashed_alone(guilty) == 1
    desk.scheduler.worker_up(1, 10)
    second = desk.one()
    assert (second.mid, second.alone) == (innocent, True)
    assert desk.delivered(second).complete
    third = desk.one()
    assert (third.mid, third.alone) == (guilty, True)
    desk.scheduler.worker_gone(1, desk.now)
    assert desk.scheduler.crashed_alone(guilty) == 2
    assert desk.scheduler.verbs.remove(guilty, desk.now)
    desk.scheduler.verbs.removed(guilty, desk.now)
    desk.scheduler.worker_up(1, 10)
    assert desk.assign() == []
    desk.accept()
    assert not desk.one().alone


def test_each_share_of_a_suspect_is_run_alone_before_it_is_cleared():
    desk = Desk(workers=(10, 10))
    desk.accept(count=2)
    first = desk.one()
    crash(desk, first.worker)
    alone = desk.one()
    assert alone.alone
    desk.done(alone, [routed(alone, ((0,), ISP)), routed(alone, ((1,), MAILBOX))])
    second = desk.one()
    assert second.alone
    assert not desk.deferred(second).complete
    third = desk.one()
    assert third.alone
    assert third.hop != second.hop
    desk.deferred(third)
    desk.wait(300)
    assert [given.alone for given in desk.assign()] == [False, False]


def test_a_phase_that_fails_in_the_program_makes_a_suspect_without_a_death():
    desk = Desk(workers=(10, 10))
    mid = desk.accept()
    desk.done(desk.one(), crashed="Executing", trace="RecursionError")
    desk.wait(1)
    given = desk.one()
    assert (given.mid, given.alone) == (mid, True)
    desk.done(given, crashed="Executing", trace="RecursionError")
    assert desk.scheduler.crashed_alone(mid) == 1
    desk.wait(1)
    assert desk.one().alone


def test_a_phase_that_fails_again_when_it_is_run_alone_clears_nobody():
    desk = Desk(workers=(10, 10))
    desk.accept()
    for alone in (False, True, True):
        given = desk.one()
        assert given.alone is alone
        desk.done(given, crashed="Executing", trace="RecursionError")
        desk.wait(1)


def test_a_message_that_comes_back_from_poison_begins_with_no_crashes():
    desk = Desk(workers=(10, 10))
    mid = desk.queued(ISP)
    for count in (1, 2):
        assert desk.scheduler.crashed_alone(mid) == count
    assert desk.scheduler.verbs.remove(mid, desk.now)
    desk.scheduler.verbs.removed(mid, desk.now)
    desk.load(mid, [((0,), ISP, 1, 0.0)])
    assert not desk.one().alone
    assert desk.scheduler.crashed_alone(mid) == 1


def test_a_message_that_killed_a_worker_alone_before_the_restart_is_a_suspect_still():
    state = State(1)
    state.after(Crashed(phase="Executing", count=1))
    desk = Desk(workers=(10,))
    mid = desk.mid()
    desk.load(mid, open_parts(state), crashes=state.crashes)
    assert desk.one().alone
    desk.scheduler.worker_gone(1, desk.now)
    assert desk.scheduler.crashed_alone(mid) == 2
    state.after(Moved(home="queue"))
    assert state.crashes == 0


def test_a_suspect_is_tried_at_a_hop_out_of_reach_no_oftener_than_others():
    desk = Desk(workers=(10, 10))
    mid = desk.queued(DEAD)
    crash(desk, desk.one().worker)
    tries = []

    def answer(assignment):
        assert assignment.alone
        tries.append(desk.now)
        desk.unavailable(assignment)

    desk.run_until(1000.0, answer)
    assert tries == [0.0, 60.0, 180.0, 420.0, 900.0]
    assert desk.status(mid) == ["Ready"]


def test_a_message_that_dies_of_its_notice_is_run_alone_with_it():
    desk = Desk(workers=(10,))
    desk.queued(ISP, created=BEGIN - 6 * 86400)
    desk.deferred(desk.one(), "450 busy")
    last = desk.one()
    assert (last.expire, last.alone) == ("450 busy", False)
    crash(desk)
    alone = desk.one()
    assert (alone.expire, alone.alone, alone.attempt) == ("450 busy", True, 2)
    assert desk.failed(alone).complete


def test_a_worker_without_slots_gets_no_suspect_either():
    desk = Desk(workers=(10,))
    desk.accept()
    desk.assign()
    crash(desk)
    desk.scheduler.worker_up(2, 0)
    given = desk.one()
    assert (given.alone, given.worker) == (True, 1)
    desk.scheduler.worker_gone(1, desk.now)
    assert desk.assign() == []


def test_the_only_worker_alternates_between_suspects_and_ordinary_mail():
    desk = Desk(workers=(10,))
    for _ in range(3):
        desk.accept()
    desk.assign()
    crash(desk)
    alone = desk.one()
    fresh = [desk.accept() for _ in range(3)]
    assert desk.assign() == []
    desk.wait(2)
    desk.delivered(alone)
    out = desk.assign()
    assert [assignment.mid for assignment in out] == fresh
    for assignment in out:
        desk.delivered(assignment)
        desk.accept()
    desk.wait(5)
    assert [assignment.alone for assignment in desk.assign()] == [False] * 3
    assert desk.scheduler.next_due(desk.now) == 8.0
    desk.wait(1)
    assert desk.assign() == []


def test_the_only_worker_is_not_kept_from_mail_for_long_by_what_it_cannot_end():
    desk = Desk(workers=(10,))
    desk.accept()
    slow = desk.queued(ISP)
    guilty = next(assignment for assignment in desk.assign() if assignment.mid != slow)
    desk.scheduler.returned(guilty.n, desk.now)
    desk.scheduler.suspect([guilty.mid], desk.now)
    desk.wait(1)
    for patience in (PATIENCE, 2 * PATIENCE, 4 * PATIENCE):
        assert desk.assign() == []
        fresh = desk.accept()
        assert desk.assign() == []
        assert desk.scheduler.next_due(desk.now) == desk.now + patience
        desk.wait(patience)
        given = desk.one()
        assert (given.mid, given.alone) == (fresh, False)
        desk.delivered(given)
        busy = desk.accept()
        assert desk.one().mid == busy
        assert desk.scheduler.next_due(desk.now) == desk.now + 3 * patience
        desk.wait(3 * patience)


def test_a_suspended_suspect_is_not_run_until_it_is_resumed():
    desk = Desk(workers=(10,))
    mid = desk.accept()
    desk.assign()
    crash(desk)
    desk.scheduler.verbs.suspend(mid, desk.now)
    assert desk.assign() == []
    other = desk.accept()
    assert desk.one().mid == other
    desk.scheduler.verbs.resume(mid, desk.now)
    desk.scheduler.worker_up(2, 10)
    assert desk.one().alone


def test_the_operator_may_clear_a_suspect():
    desk = Desk(workers=(10,))
    desk.accept()
    mid = desk.one().mid
    crash(desk)
    desk.scheduler.quiet(mid, desk.now)
    assert not desk.one().alone
