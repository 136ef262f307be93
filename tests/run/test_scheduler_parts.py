"""The scheduler's parts on their own: what events mean, lines and times of a queue, and what a message costs."""

import tracemalloc

import pytest

from kmq.model.event import (
    Deferred,
    Delivered,
    Discarded,
    Failed,
    Passed,
    Replaced,
    Resumed,
    Routed,
    Suspended,
)
from kmq.run.fates import NO_REPLY, Fates, Part, read
from kmq.run.hopqueue import HopQueue
from kmq.run.share import HELD, READY, RECORDING, WAITING, Share, all_recipients, shared, turn
from tests.run.desk import DEAD, ISP, MAILBOX, SUBMISSION, Desk

# --- fates ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rcpt", "events", "parts", "spoke"),
    [
        pytest.param((0,), [], [((0,), "", "")], [], id="nothing was said"),
        pytest.param((0,), [Delivered(rcpt="0")], [], [""], id="delivered"),
        pytest.param((0,), [Failed(rcpt="0")], [], [""], id="failed"),
        pytest.param((0,), [Routed(rcpt="0", hop=ISP)], [((0,), ISP, "")], [], id="routed only"),
        pytest.param((0,), [Routed(rcpt="0", hop=ISP), Delivered(rcpt="0")], [], [ISP], id="in one go"),
        pytest.param((0,), [Deferred(rcpt="0", reply="450")], [((0,), "", "450")], [""], id="deferred"),
        pytest.param((0,), [Deferred(rcpt="0")], [((0,), "", NO_REPLY)], [""], id="deferred without a word"),
        pytest.param((0,), [Resumed()], [((0,), "", "")], [], id="not about delivery"),
        pytest.param((1,), [Delivered(rcpt="0")], [((1,), "", "")], [], id="about somebody else"),
        pytest.param(
            (0,), [Routed(rcpt="0", hop=ISP), Deferred(rcpt="0", reply="450")], [((0,), ISP, "450")], [ISP], id="later"
        ),
        pytest.param(
            (0, 1, 2, 3),
            [Routed(rcpt="0-1", hop=ISP), Routed(rcpt="2", hop=DEAD), Delivered(rcpt="0,2"), Deferred(rcpt="1")],
            [((1,), ISP, NO_REPLY), ((3,), "", "")],
            [ISP, DEAD],
            id="each its own",
        ),
        pytest.param(
            (0, 1),
            [Deferred(rcpt="0-1", reply="450"), Routed(rcpt="0-1", hop=ISP), Routed(rcpt="1", hop=DEAD)],
            [((0,), ISP, "450"), ((1,), DEAD, "450")],
            [""],
            id="a deferral before the routing counts as a result, as it does on disk (J10)",
        ),
        pytest.param((0, 1), [Failed(rcpt="0"), Delivered(rcpt="0-1")], [], [""], id="the first end counts"),
        pytest.param(
            (0, 1, 2),
            [Passed(step="rules"), Discarded(rcpt="0"), Replaced(rcpt="1", child="0"), Routed(rcpt="2", hop=ISP)],
            [((2,), ISP, "")],
            [],
            id="a phase ended some, and no hop has said a word",
        ),
        pytest.param(
            (0, 1),
            [Passed(step="rules"), Suspended(rcpt="0"), Routed(rcpt="1", hop=ISP), Delivered(rcpt="1")],
            [((0,), "", "", True)],
            [ISP],
            id="a phase holds one",
        ),
    ],
)
def test_what_events_mean(rcpt, events, parts, spoke):
    assert read(rcpt, events) == Fates(tuple(Part(*part) for part in parts), tuple(spoke))


# --- a queue ----------------------------------------------------------------------------------------------------------


def in_line(queue, mid, attempt=1):
    share = Share(mid, queue, (0,), attempt, READY)
    queue.tally[READY] += 1
    queue.put(share, front=False)
    return share


def test_a_share_that_left_its_line_otherwise_is_passed_over():
    queue, other = HopQueue(ISP, 10, 0.0), HopQueue(DEAD, 10, 0.0)
    held, moved, good = (in_line(queue, mid) for mid in (1, 2, 3))
    turn(held, HELD)
    moved.queue = other
    assert queue.take() is good
    assert queue.take() is None


def test_a_share_that_waited_twice_for_one_second_stands_in_line_once():
    desk = Desk()
    mid = desk.mid()
    desk.load(mid, [((0,), MAILBOX, 2, desk.wall + 10)])
    for _ in range(5):
        desk.scheduler.verbs.suspend(mid, desk.now)
        desk.scheduler.verbs.resume(mid, desk.now)
    desk.scheduler.verbs.suspend_queue(MAILBOX, desk.now)
    desk.wait(10)
    assert desk.assign() == []
    assert len(desk.scheduler._lines.queues[MAILBOX].line.again) == 1


def test_a_call_brings_what_waits_now_and_not_what_waits_later():
    queue = HopQueue(MAILBOX, 10, 0.0)
    first, second, third = (Share(mid, queue, (0,), 2, RECORDING, due) for mid, due in ((1, 500), (2, 900), (3, 500)))
    queue.tally[RECORDING] = 3
    queue.waits.add(first)
    queue.waits.add(second)
    queue.waits.call()
    queue.waits.add(third)
    assert queue.waits.next() == 0.0
    assert queue.waits.due(10.0) == [first]
    assert queue.waits.due(10.0) == [second]
    turn(first, HELD)
    assert queue.waits.due(10.0) == []
    assert queue.waits.next() == 500
    assert queue.waits.due(500.0) == [third]
    assert third.state is WAITING


@pytest.mark.parametrize(("hop", "limit"), [(ISP, 40), (MAILBOX, 64), (SUBMISSION, 1 << 30)])
def test_how_many_may_be_out_depends_on_the_kind_of_queue(hop, limit):
    assert HopQueue(hop, 40, 0.0).limit == limit


# --- what it costs ----------------------------------------------------------------------------------------------------

MESSAGES = 100_000


def bytes_per_message(fill):
    desk = Desk()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        fill(desk)
        return (tracemalloc.get_traced_memory()[0] - before) / MESSAGES
    finally:
        tracemalloc.stop()


def accept(desk):
    for number in range(MESSAGES):
        desk.scheduler.accepted(desk.last << 32 | number, 1, desk.now)


def wait(desk):
    for number in range(MESSAGES):
        desk.load((1 << 32) + number, [((number % 3,), (ISP, DEAD)[number % 2], 2, desk.wall + 1.0 + number % 3600)])


def suspend(desk):
    accept(desk)
    for number in range(MESSAGES):
        desk.scheduler.verbs.suspend(number, desk.now)


def unreached(desk):
    for number in range(MESSAGES):
        desk.load((1 << 32) + number, [((0,), DEAD, 1, 0.0)])
    for given in desk.assign():
        desk.unavailable(given)
    while desk.scheduler.next_due(desk.now) == desk.now:
        desk.assign()


@pytest.mark.parametrize("fill", [accept, wait, suspend, unreached])
def test_a_queued_message_costs_at_most_250_bytes(fill):
    assert bytes_per_message(fill) <= 250


def test_sets_of_recipients_are_shared_between_messages():
    assert shared(tuple([0])) is shared(tuple([0])) is all_recipients(1)
    assert shared(tuple([3, 7])) is shared(tuple([3, 7]))
    assert all_recipients(50) is all_recipients(50)
    assert all_recipients(5000) == tuple(range(5000))
