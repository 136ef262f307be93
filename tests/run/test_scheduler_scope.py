"""Verbs on some recipients of a message: those that wait for one next hop; and what is owed to what is in hand."""

import pytest

from kmq.model import priority
from kmq.run.assignment import Held
from kmq.run.share import NDR, REMOVING, SUSPENDED, TAKEN_OUT, WAITING
from tests.run.desk import DEAD, ISP, MAILBOX, SUBMISSION, UNREACHABLE, Desk, delivered, routed


@pytest.fixture
def desk():
    return Desk(workers=(50,))


def apart(desk, *hops):
    """A message with one recipient in each of these queues, all of them waiting for their turn."""
    mid = desk.accept(count=len(hops))
    desk.routed(desk.one(), *[((index,), hop) for index, hop in enumerate(hops)])
    return mid


def where(desk, mid):
    return {facts.rcpt: (facts.hop, facts.status.value) for facts in desk.scheduler.state_of(mid)}


# --- suspend, resume --------------------------------------------------------------------------------------------------


def test_only_the_recipients_of_that_queue_are_suspended(desk):
    mid = apart(desk, ISP, MAILBOX)
    (share,) = desk.scheduler.verbs.suspend(mid, desk.now, ISP)
    assert share.rcpt == (0,)
    assert desk.one().hop == MAILBOX
    assert where(desk, mid) == {(0,): (ISP, "Suspended"), (1,): (MAILBOX, "Active")}
    assert desk.scheduler.verbs.suspend(mid, desk.now, DEAD) == []


def test_of_a_message_that_is_suspended_one_queue_may_go_on(desk):
    mid = apart(desk, ISP, MAILBOX)
    desk.scheduler.verbs.suspend(mid, desk.now)
    assert [share.rcpt for share in desk.scheduler.verbs.resume(mid, desk.now, MAILBOX)] == [(1,)]
    assert desk.one().rcpt == (1,)
    assert desk.assign() == []
    assert desk.scheduler.verbs.resume(mid, desk.now, MAILBOX) == [], "it is not suspended any more"


def test_what_comes_back_of_a_part_that_was_suspended_in_hand_is_held(desk):
    mid = apart(desk, ISP, MAILBOX)
    given = {one.hop: one for one in desk.assign()}
    desk.scheduler.verbs.suspend(mid, desk.now, ISP)
    assert where(desk, mid)[0,] == (ISP, "PendingSuspend")
    desk.deferred(given[ISP])
    desk.deferred(given[MAILBOX])
    desk.wait(1000)
    assert desk.one().hop == MAILBOX
    assert where(desk, mid)[0,] == (ISP, "Suspended")


# --- recipients taken out ---------------------------------------------------------------------------------------------


def test_the_recipients_of_one_queue_are_taken_out_and_the_rest_is_delivered(desk):
    mid = apart(desk, ISP, MAILBOX)
    assert desk.scheduler.verbs.take_out(mid, desk.now, ISP)
    (one,) = desk.scheduler.verbs.taken_out()
    assert (one.mid, one.rcpt, one.last) == (mid, (0,), False)
    given = desk.one()
    assert desk.delivered(given, settle=False).complete, "the other part is being recorded as removed"
    desk.scheduler.verbs.out(one, desk.now)
    desk.settle(given)
    assert not desk.scheduler.has(mid)
    assert desk.queue(ISP).messages == 0


def test_what_is_taken_out_last_ends_the_message(desk):
    mid = apart(desk, ISP, MAILBOX)
    given = {one.hop: one for one in desk.assign()}
    desk.scheduler.verbs.take_out(mid, desk.now, ISP)
    desk.delivered(given[MAILBOX])
    assert desk.scheduler.verbs.taken_out() == [], "somebody has it in hand"
    desk.deferred(given[ISP], settle=False)
    assert desk.scheduler.verbs.taken_out() == [], "its result waits for the sync"
    desk.settle(given[ISP])
    (one,) = desk.scheduler.verbs.taken_out()
    assert (one.rcpt, one.last) == ((0,), True)
    desk.scheduler.verbs.out(one, desk.now)
    assert not desk.scheduler.has(mid)


def test_nothing_is_taken_out_before_every_worker_has_reported():
    desk = Desk(living=(1,))
    mid = desk.mid()
    desk.load(mid, [((0,), ISP, 1, 0.0, False, REMOVING), ((1,), MAILBOX, 1, 0.0, False, REMOVING)])
    assert desk.scheduler.verbs.taken_out() == []
    desk.scheduler.holding(1, [Held(5, mid, ISP, (0,), 1)], desk.now)
    (one,) = desk.scheduler.verbs.taken_out()
    assert (one.rcpt, one.last) == ((1,), False)


@pytest.mark.parametrize("end", ["dies", "defers"])
def test_what_a_worker_holds_with_others_is_taken_out_without_them(end):
    """The word was said before a crash; the worker of the earlier run has both as one (J10)."""
    desk = Desk(living=(1,))
    mid = desk.mid()
    desk.load(mid, [((0,), ISP, 1, 0.0), ((1,), ISP, 1, 0.0, False, REMOVING)])
    held = Held(5, mid, ISP, (0, 1), 1)
    desk.scheduler.holding(1, [held], desk.now)
    assert desk.scheduler.verbs.taken_out() == []
    if end == "dies":
        desk.scheduler.worker_gone(1, desk.now)
    else:
        desk.deferred(held)
    (one,) = desk.scheduler.verbs.taken_out()
    assert (one.mid, one.rcpt, one.last) == (mid, (1,), False)
    desk.scheduler.verbs.out(one, desk.now)
    assert [share.rcpt for share in desk.scheduler.verbs.scope(mid)] == [(0,)]


def test_a_notice_is_made_at_once_of_what_waits_is_suspended_or_stands_in_a_suspended_queue(desk):
    waiting, held, closed = desk.queued(MAILBOX), desk.queued(ISP, suspended=True), desk.queued(DEAD)
    desk.scheduler.verbs.suspend_queue(DEAD, desk.now)
    desk.deferred(desk.one())
    for mid in (waiting, held, closed):
        assert desk.scheduler.verbs.take_out(mid, desk.now, ndr=True)
    given = desk.assign()
    assert {one.mid for one in given} == {waiting, held, closed}
    assert {one.expire for one in given} == {TAKEN_OUT}
    for one in given:
        desk.failed(one)
    assert len(desk.scheduler) == 0


def test_what_comes_back_from_delivery_gets_its_notice_and_is_not_tried_again(desk):
    mid = desk.queued(ISP)
    given = desk.one()
    desk.scheduler.verbs.take_out(mid, desk.now, ndr=True)
    assert desk.status(mid) == ["PendingRemove"]
    desk.deferred(given)
    desk.wait(2)
    assert desk.one().expire == TAKEN_OUT


def test_a_notice_that_could_not_be_made_is_tried_again_but_not_for_ever_at_once(desk):
    mid = desk.queued(ISP)
    desk.scheduler.verbs.take_out(mid, desk.now, ndr=True)
    desk.done(desk.one())
    assert desk.assign() == []
    assert desk.scheduler.state_of(mid)
    desk.wait(2)
    assert desk.one().expire == TAKEN_OUT


def test_what_is_loaded_on_its_way_out_goes_on_its_way(desk):
    plain, told = desk.mid(), desk.mid()
    desk.load(plain, [((0,), ISP, 1, 0.0, False, REMOVING | SUSPENDED), ((1,), ISP, 1, 0.0, False, SUSPENDED)])
    desk.load(told, [((0,), UNREACHABLE, 1, desk.wall + 700, False, REMOVING | NDR)])
    (one,) = desk.scheduler.verbs.taken_out()
    assert (one.mid, one.rcpt, one.last) == (plain, (0,), False)
    desk.wait(2)
    assert desk.one().mid == told


# --- back to the categorizer ------------------------------------------------------------------------------------------


def test_what_is_resubmitted_is_routed_anew_with_its_attempts_and_the_suspended_is_passed_over(desk):
    mid, held = desk.queued(MAILBOX), desk.queued(MAILBOX, suspended=True)
    desk.deferred(desk.one())
    assert desk.scheduler.verbs.resubmit(mid, desk.now)
    assert desk.scheduler.verbs.resubmit(held, desk.now) == []
    given = desk.one()
    assert (given.mid, given.hop, given.attempt) == (mid, SUBMISSION, 2)
    assert desk.scheduler.verbs.resubmit(mid, desk.now) == [], "it is in Submission"


def test_what_is_redirected_keeps_its_connector_wherever_it_goes(desk):
    mid = desk.queued(ISP)
    given = desk.one()
    desk.scheduler.verbs.redirect(mid, "relay", desk.now)
    desk.deferred(given)
    again = desk.one()
    assert (again.hop, again.share.forced, again.attempt) == (SUBMISSION, "relay", 2)
    desk.routed(again, DEAD)
    assert desk.scheduler.verbs.reroute(desk.now, DEAD) == 1
    assert desk.one().share.forced == "relay"


def test_a_suspended_message_is_redirected_and_stays_suspended(desk):
    mid = desk.queued(ISP, suspended=True)
    desk.scheduler.verbs.redirect(mid, "relay", desk.now)
    assert where(desk, mid) == {(0,): (SUBMISSION, "Suspended")}
    desk.scheduler.verbs.resume(mid, desk.now)
    assert desk.one().share.forced == "relay"


# --- queues under another name ----------------------------------------------------------------------------------------

NEW = ISP.removesuffix("isp") + "line"


def test_a_connector_that_is_renamed_keeps_messages_times_and_suspension(desk):
    ready, waits = desk.queued(ISP), desk.queued(ISP)
    first, second = desk.assign()
    desk.deferred(second)
    desk.unavailable(first)
    desk.scheduler.verbs.suspend_queue(ISP, desk.now, "uid 0: a look")
    before = desk.queue(ISP)
    assert desk.scheduler.verbs.rename_connector("isp", "line", desk.now) == [NEW]
    after = desk.queue(NEW)
    assert desk.queue(ISP) is None
    assert after == before._replace(hop=NEW)
    assert desk.scheduler.closed() == [NEW]
    desk.scheduler.verbs.resume_queue(NEW, desk.now)
    desk.wait(1000)
    assert {one.mid for one in (*desk.assign(),)} <= {ready, waits}
    assert where(desk, waits)[0,][0] == NEW


def test_a_former_name_leads_to_the_queue_whoever_says_it(desk):
    mid = desk.queued(ISP)
    given = desk.one()
    desk.scheduler.verbs.rename_connector("isp", "line", desk.now)
    desk.scheduler.verbs.formerly({"isp": "line"})
    desk.unavailable(given)
    assert desk.queue(ISP) is None
    assert desk.queue(NEW).status.value == "Retry"
    late = desk.accept()
    desk.routed(desk.one(), ISP)
    assert where(desk, late)[0,][0] == where(desk, mid)[0,][0] == NEW


# --- facts of queues --------------------------------------------------------------------------------------------------


def test_rates_are_of_the_last_minute(desk):
    for _ in range(12):
        desk.wait(5)
        for _ in range(10):
            desk.delivered(desk.assign()[0]) if desk.accept() else None
    facts = desk.queue(SUBMISSION)
    assert facts.incoming == pytest.approx(2.0, abs=0.2)
    assert facts.outgoing == pytest.approx(facts.incoming)
    for _ in range(13):
        desk.wait(5)
    facts = desk.queue(SUBMISSION)
    assert (facts.incoming, facts.outgoing) == (0.0, 0.0)
    assert desk.scheduler._lines.submission.pace is None, "a queue that stands still costs nothing"


def test_what_was_here_before_a_start_has_not_just_come_in(desk):
    for _ in range(100):
        desk.queued(MAILBOX)
    assert desk.queue(MAILBOX).incoming == 0.0
    assert desk.queue(MAILBOX).messages == 100


def test_a_queue_in_retry_knows_when_it_failed_first_and_last(desk):
    desk.queued(ISP)
    desk.wait(5)
    desk.unavailable(desk.one())
    facts = desk.queue(ISP)
    assert (facts.first_retry, facts.last_retry, facts.why, facts.failures) == (5, 5, "retry", 1)
    desk.wait(60)
    desk.unavailable(desk.one(), "421 4.4.2 gone")
    facts = desk.queue(ISP)
    assert (facts.first_retry, facts.last_retry, facts.failures) == (5, 65, 2)
    desk.wait(120)
    desk.delivered(desk.one())
    facts = desk.queue(ISP)
    assert (facts.first_retry, facts.last_retry, facts.next_retry, facts.failures) == (None, 65, None, 0)
    assert facts.last_error == "421 4.4.2 gone", "the last error is kept"


def test_why_a_queue_sends_nothing_is_told(desk):
    desk.queued(UNREACHABLE)
    assert desk.queue(UNREACHABLE).why == "no-connector"
    desk.queued(ISP)
    desk.scheduler.verbs.suspend_queue(ISP, desk.now, "grace hold: wrong password")
    assert (desk.queue(ISP).why, desk.queue(ISP).held_by) == ("grace-hold", "grace hold: wrong password")
    desk.scheduler.verbs.suspend_queue(ISP, desk.now, "uid 0")
    assert desk.queue(ISP).why == "suspended"
    assert desk.scheduler.verbs.resume_queue(ISP, desk.now)
    assert not desk.scheduler.verbs.resume_queue(ISP, desk.now), "nobody holds it"


def test_messages_are_counted_by_priority(desk):
    desk.scheduler.accepted(desk.mid(), 1, desk.now, priority.HIGH)
    desk.accept()
    desk.accept()
    assert desk.queue(SUBMISSION).priorities == (1, 2, 0)
    desk.routed(next(one for one in desk.assign() if one.share.priority == priority.HIGH), ISP)
    assert desk.queue(SUBMISSION).priorities == (0, 2, 0)
    assert desk.queue(ISP).priorities == (1, 0, 0)


def test_what_the_categorizer_put_off_is_counted_as_deferred(desk):
    desk.accept()
    desk.deferred(desk.one())
    assert desk.queue(SUBMISSION).deferred == 1
    desk.queued(ISP)
    desk.deferred(desk.one())
    assert desk.queue(ISP).deferred == 0


def test_a_queue_that_is_to_be_suspended_before_there_is_one_is_made(desk):
    verbs = desk.scheduler.verbs
    assert verbs.suspend_queue(ISP, desk.now, "uid 0", make=True)
    assert not verbs.suspend_queue("no;hop", desk.now, "uid 0", make=True)
    assert verbs.held_queues() == {ISP: "uid 0"}
    mid = desk.accept()
    desk.routed(desk.one(), ISP)
    assert desk.assign() == []
    assert desk.status(mid) == ["Ready"]


def test_words_about_a_share_go_with_its_parts(desk):
    mid = desk.queued(ISP, count=3)
    given = desk.one()
    desk.scheduler.verbs.suspend(mid, desk.now)
    desk.done(given, [routed(given, ((0,), DEAD)), delivered(given, (1,))])
    assert where(desk, mid) == {(0,): (DEAD, "Suspended"), (2,): (ISP, "Suspended")}
    assert all(share.state is not WAITING for share in desk.scheduler.verbs.scope(mid))
