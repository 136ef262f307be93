"""`retry` and `flush` say of every message whether it is tried, and if not, what holds it."""

import pytest

from kmq.model import queue_id
from kmq.run.tried import Outcome, Tally, closed_queues, outcome
from tests.run.desk import DEAD, ISP, UNREACHABLE, Desk


@pytest.fixture
def desk():
    return Desk()


def found(desk, mid):
    return outcome(desk.scheduler.state_of(mid), closed_queues(desk.scheduler, desk.now))


def test_what_stands_in_line_waits_or_is_out_is_tried(desk):
    out = desk.queued(ISP)
    given = desk.one()
    assert found(desk, out) is Outcome.TRIED
    desk.deferred(given)
    assert desk.status(out) == ["Retry"]
    desk.scheduler.verbs.flush(desk.now)
    assert found(desk, out) is Outcome.TRIED
    assert desk.one().mid == out


def test_what_a_suspension_holds_is_not(desk):
    held, closed = desk.queued(ISP, suspended=True), desk.queued(DEAD)
    desk.scheduler.verbs.suspend_queue(DEAD, desk.now)
    desk.scheduler.verbs.flush(desk.now)
    assert [found(desk, mid) for mid in (held, closed)] == [Outcome.SUSPENDED, Outcome.CLOSED]
    assert desk.assign() == []


def test_what_no_connector_serves_is_not(desk):
    mid = desk.queued(UNREACHABLE)
    desk.scheduler.verbs.flush(desk.now)
    assert found(desk, mid) is Outcome.UNSERVED
    assert desk.assign() == []


def test_a_message_of_which_a_part_goes_is_tried(desk):
    mid = desk.mid()
    desk.load(mid, [((0,), UNREACHABLE, 1, 0.0), ((1,), ISP, 1, 0.0)])
    assert found(desk, mid) is Outcome.TRIED


def test_the_sentence_counts_and_names_one_that_is_alone():
    tally = Tally()
    assert str(tally) == "there is nothing to try"
    name = "69212ad0-0000a1f3"
    tally.add(Outcome.SUSPENDED, queue_id.parse(name))
    assert (tally.tried, str(tally)) == (0, f"1 is suspended, not tried: kmq resume {name}")
    tally.add(Outcome.TRIED, 1)
    tally.add(Outcome.UNSERVED, 2)
    tally.add(Outcome.UNSERVED, 3)
    assert str(tally) == (
        f"1 message is tried now; 1 is suspended, not tried: kmq resume {name}; 2 wait for a connector"
    )
    tally.add(Outcome.TRIED, 4)
    assert (tally.tried, str(tally).split(";")[0]) == (2, "2 messages are tried now")
