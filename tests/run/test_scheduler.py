"""A message's way through the scheduler: taken in, handed out, answered, recorded, gone."""

import pytest

from kmq.model.envelope import State
from kmq.model.event import Failed, Suspended
from kmq.run.scheduler import BOUND
from kmq.run.share import ASSIGNED, FOLLOWING, HELD, LARGEST, READY, RECORDING, Share, ShareState, open_parts, turn
from tests.run.desk import DEAD, ISP, MAILBOX, SUBMISSION, UNREACHABLE, Desk, deferred, delivered, remote, routed


def test_an_accepted_message_is_handed_out_once_with_all_its_recipients():
    desk = Desk()
    mid = desk.accept(count=3)
    given = desk.one()
    assert (given.mid, given.hop, given.rcpt, given.attempt, given.worker) == (mid, SUBMISSION, (0, 1, 2), 1, 1)
    assert (given.alone, given.expire) == (False, "")
    assert desk.assign() == []


def test_delivered_in_one_go_the_message_is_complete_and_gone_when_that_is_durable():
    desk = Desk()
    mid = desk.accept()
    given = desk.one()
    ruling = desk.done(given, [routed(given, ISP), delivered(given)], settle=False)
    assert (ruling.mid, ruling.complete, ruling.until) == (mid, True, "")
    assert desk.scheduler.has(mid)
    assert desk.scheduler.busy(mid)
    desk.settle(given)
    assert not desk.scheduler.has(mid)
    assert len(desk.scheduler) == 0
    assert (desk.queue(ISP).arrived, desk.queue(ISP).departed, desk.queue(ISP).messages) == (1, 1, 0)


def test_what_was_only_routed_goes_on_in_the_queues_of_its_hops_side_by_side():
    desk = Desk()
    mid = desk.accept(count=5)
    ruling = desk.routed(desk.one(), ((0, 2), ISP), ((1,), DEAD), ((3, 4), MAILBOX))
    assert not ruling.complete
    given = {assignment.hop: assignment for assignment in desk.assign()}
    assert {hop: assignment.rcpt for hop, assignment in given.items()} == {ISP: (0, 2), DEAD: (1,), MAILBOX: (3, 4)}
    assert {assignment.attempt for assignment in given.values()} == {1}
    assert not desk.delivered(given[ISP]).complete
    assert not desk.delivered(given[MAILBOX]).complete
    assert desk.delivered(given[DEAD]).complete
    assert not desk.scheduler.has(mid)


def test_each_recipient_has_its_own_fate():
    desk = Desk()
    mid = desk.queued(ISP, count=6)
    given = desk.one()
    events = [
        delivered(given, (0, 1)),
        deferred(given, (2, 3), "450 4.2.1 mailbox busy"),
        Failed(rcpt="4", attempt=1, reply="550 5.1.1 no such user"),
    ]
    ruling = desk.done(given, events)
    assert not ruling.complete
    assert ruling.until == "2023-11-14T22:18:20.000Z"
    waiting, untried = sorted(desk.scheduler.state_of(mid), key=lambda facts: facts.rcpt)
    assert (waiting.rcpt, waiting.attempt, waiting.status.value, waiting.due) == ((2, 3), 2, "Retry", 300)
    assert (untried.rcpt, untried.attempt) == ((5,), 1)


def test_what_one_result_defers_stays_together_whatever_the_replies():
    desk = Desk()
    desk.queued(ISP, count=3)
    given = desk.one()
    replies = ["450 4.2.1 busy", "452 4.2.2 full", "450 4.2.1 busy"]
    desk.done(given, [deferred(given, (index,), reply) for index, reply in enumerate(replies)])
    desk.wait(300)
    again = desk.one()
    assert (again.rcpt, again.attempt) == ((0, 1, 2), 2)


def test_routed_and_then_deferred_in_one_go_waits_in_the_queue_of_the_hop():
    desk = Desk()
    mid = desk.accept()
    given = desk.one()
    desk.done(given, [routed(given, ISP), deferred(given)])
    (facts,) = desk.scheduler.state_of(mid)
    assert (facts.hop, facts.attempt, facts.due) == (ISP, 2, 300)


def test_a_result_that_waits_for_its_sync_lets_nothing_go_on():
    desk = Desk()
    mid = desk.accept(count=2)
    given = desk.one()
    desk.done(given, [routed(given, ISP)], settle=False)
    assert desk.assign() == []
    assert desk.status(mid) == ["Active"]
    desk.settle(given)
    assert desk.one().hop == ISP


def test_the_last_of_several_results_that_wait_for_their_sync_completes_the_message():
    desk = Desk()
    desk.accept(count=2)
    desk.routed(desk.one(), ((0,), ISP), ((1,), MAILBOX))
    first, second = desk.assign()
    assert not desk.delivered(first, settle=False).complete
    assert desk.delivered(second, settle=False).complete


def test_a_number_counts_once():
    desk = Desk()
    desk.accept()
    given = desk.one()
    assert desk.delivered(given) is not None
    assert desk.delivered(given) is None
    assert desk.scheduler.in_hand == 0


def test_an_untried_share_comes_back_after_a_moment_with_its_attempt():
    desk = Desk()
    desk.queued(ISP)
    given = desk.one()
    desk.scheduler.returned(given.n, desk.now)
    desk.scheduler.returned(given.n, desk.now)
    assert desk.assign() == []
    assert desk.scheduler.next_due(desk.now) == 1.0
    desk.wait(1)
    assert desk.one().attempt == 1


@pytest.mark.parametrize(
    "words",
    [
        pytest.param({"events": ()}, id="an empty result"),
        pytest.param({"events": (Suspended(),)}, id="an event that is about no delivery"),
        pytest.param({"events": (Failed(rcpt="7-9", attempt=1, reply="550 no"),)}, id="recipients of somebody else"),
        pytest.param({"unavailable": "421 down", "hop": "no hop at all"}, id="a hop that nobody can read"),
        pytest.param({"unavailable": "421 down", "hop": SUBMISSION}, id="submission cannot be out of reach"),
    ],
)
def test_a_result_that_says_nothing_of_use_loses_nobody_and_costs_no_time(words):
    desk = Desk()
    mid = desk.accept(count=2)
    assert not desk.done(desk.one(), **words).complete
    assert desk.assign() == []
    assert desk.queue(SUBMISSION).status.value != "Retry"
    desk.wait(1)
    again = desk.one()
    assert (again.mid, again.rcpt, again.attempt) == (mid, (0, 1), 1)


def test_what_is_routed_to_a_hop_that_nobody_can_read_is_unreachable():
    desk = Desk()
    mid = desk.accept()
    desk.routed(desk.one(), "CarrierPigeon;loft;7")
    assert [facts.hop for facts in desk.scheduler.state_of(mid)] == [UNREACHABLE]
    assert desk.assign() == []


def test_fresh_mail_goes_before_retries_but_does_not_starve_them():
    desk = Desk(workers=(1,))
    old = [desk.mid() for _ in range(2)]
    for mid in old:
        desk.load(mid, [((0,), MAILBOX, 2, 0.0)])
    fresh = [desk.queued(MAILBOX) for _ in range(20)]
    order = []
    for _ in range(22):
        given = desk.one()
        order.append(given.mid)
        desk.delivered(given)
    assert [mid for mid in order if mid in fresh] == fresh
    assert [order.index(mid) for mid in old] == [7, 15]


def test_one_call_hands_out_a_bounded_number_and_says_that_there_is_more():
    desk = Desk(workers=(1000,))
    for _ in range(BOUND + 50):
        desk.accept()
    assert len(desk.assign()) == BOUND
    assert desk.scheduler.next_due(desk.now) == desk.now
    assert len(desk.assign()) == 50
    assert desk.scheduler.next_due(desk.now) is None


def test_nobody_gets_more_than_its_slots_and_the_idle_one_gets_the_next():
    desk = Desk(workers=(3, 5))
    for _ in range(20):
        desk.accept()
        desk.queued(MAILBOX)
    given = desk.assign()
    assert sorted(assignment.worker for assignment in given) == [1, 1, 1, 2, 2, 2, 2, 2]
    for assignment in given:
        if assignment.worker == 1:
            desk.delivered(assignment)
    assert {assignment.worker for assignment in desk.assign()} == {1}


def test_without_a_worker_mail_waits():
    desk = Desk(workers=())
    desk.accept()
    assert desk.assign() == []
    desk.scheduler.worker_up(4, 10)
    assert desk.one().worker == 4


def test_queues_take_turns():
    desk = Desk(workers=(6,))
    for _ in range(50):
        desk.queued(MAILBOX)
    for number in range(2):
        desk.load(desk.mid(), [((0,), f"SmtpDeliveryToMailbox;d{number}.example;m", 1, 0.0)])
    hops = [assignment.hop for assignment in desk.assign()]
    assert len(set(hops[:3])) == 3


def test_a_queue_of_many_recipients_of_one_message_ends_in_nothing():
    desk = Desk()
    mid = desk.accept(count=1000)
    desk.routed(desk.one(), *[((index,), remote(index % 50)) for index in range(1000)])
    assert len(desk.scheduler.state_of(mid)) == 50
    seen = []

    def deliver(assignment):
        seen.extend(assignment.rcpt)
        desk.delivered(assignment)

    desk.run_until(1.0, deliver)
    assert sorted(seen) == list(range(1000))
    assert not desk.scheduler.has(mid)


def test_no_worker_gets_more_recipients_at_once_than_a_result_can_tell_of():
    """Each may have a reply of its own, and a result is one frame."""
    desk = Desk()
    mid = desk.accept(count=2 * LARGEST + 1)
    given = desk.assign()
    assert [len(one.rcpt) for one in given] == [LARGEST, LARGEST, 1]
    assert sorted(index for one in given for index in one.rcpt) == list(range(2 * LARGEST + 1))
    for one in given:
        assert desk.scheduler.has(mid)
        desk.done(one, [routed(one, ISP), delivered(one)])
    assert not desk.scheduler.has(mid)


def test_what_was_read_from_the_disk_is_portioned_too():
    parts = open_parts(State(2 * LARGEST + 1))
    assert [len(one.rcpt) for one in parts] == [LARGEST, LARGEST, 1]
    assert {(one.hop, one.attempt) for one in parts} == {(SUBMISSION, 1)}


def test_an_idle_queue_is_shown_for_three_minutes():
    desk = Desk()
    desk.accept()
    given = desk.one()
    desk.done(given, [routed(given, ISP), delivered(given)])
    assert desk.queue(ISP).status.value == "Ready"
    desk.wait(170)
    desk.accept()
    given = desk.one()
    desk.done(given, [routed(given, ISP), delivered(given)])
    desk.wait(179)
    assert desk.queue(ISP) is not None
    desk.wait(2)
    assert desk.queue(ISP) is None
    assert desk.queue(SUBMISSION) is not None


def test_a_queue_that_holds_anything_is_never_idle():
    desk = Desk(retry_interval=3600.0)
    desk.queued(ISP)
    desk.deferred(desk.one())
    desk.wait(1000)
    assert desk.queue(ISP).waiting == 1


@pytest.mark.parametrize("before", list(ShareState))
@pytest.mark.parametrize("after", list(ShareState))
def test_a_share_goes_only_the_ways_of_the_table(before, after):
    queue = Desk().scheduler.verbs._lines.submission
    share = Share(1, queue, (0,), 1, before)
    queue.tally[before] += 1
    if after in FOLLOWING[before]:
        turn(share, after)
        assert (share.state, sum(queue.tally)) == (after, 1)
    else:
        with pytest.raises(AssertionError, match=before.name):
            turn(share, after)


def test_a_result_comes_only_from_a_workers_hands():
    assert [before for before in ShareState if RECORDING in FOLLOWING[before]] == [HELD, ASSIGNED], "or from a removal"
    assert READY not in FOLLOWING[READY]
