"""Connectors with hours, at the scheduler's desk: what is shut, what is sent when, and what people see of it."""

import pytest

from kmq.config.sections import ConnectorSection
from kmq.model.priority import HIGH, NORMAL
from kmq.run.schedule import Schedules
from tests.run.desk import BEGIN, DEAD, ISP, Desk, remote

#: The desk begins at 22:13:20 UTC on a Tuesday.
QUARTER = 100.0  #: seconds until 22:15
HALF = 1000.0  #: until 22:30
HOUR = 3600.0


@pytest.fixture(autouse=True)
def utc(monkeypatch):
    monkeypatch.setenv("TZ", "UTC")


def connector(name="isp", **options):
    return ConnectorSection(name=name, type="smarthost", helo="mx.test", **{"delivery": "offline"} | options)


def desk(*connectors, **options):
    return Desk(connectors=connectors, **options)


def tick(one, seconds):
    """Time goes on second by second, as the scheduler process has it."""
    for _ in range(int(seconds)):
        one.wait(1.0)


# --- offline ----------------------------------------------------------------------------------------------------------


def test_mail_waits_for_its_time_and_then_all_of_it_goes():
    one = desk(connector(send_every=900.0))
    for _ in range(3):
        one.queued(ISP)
    assert one.assign() == []
    one.wait(QUARTER - 1)
    assert one.assign() == []
    one.wait(1)
    given = one.assign()
    assert len(given) == 3
    for assignment in given:
        one.delivered(assignment)
    one.wait(1)
    one.queued(ISP)
    assert one.assign() == [], "what comes when all is sent waits for the next time"
    one.wait(899)
    assert len(one.assign()) == 1


def test_other_connectors_do_not_wait():
    one = desk(connector(send_every=900.0))
    one.queued(remote(1))
    assert len(one.assign()) == 1


def test_what_comes_while_the_queue_is_sent_goes_along():
    one = desk(connector(send_every=900.0), per_hop=1)
    for _ in range(3):
        one.queued(ISP)
    one.wait(QUARTER)
    first, second = one.assign()
    one.queued(ISP)
    tick(one, 5)
    one.delivered(first)
    one.delivered(second)
    assert len(one.assign()) == 2


def test_what_was_put_off_waits_for_the_next_time_whatever_its_profile():
    one = desk(connector(send_every=900.0), retry_interval=300.0)
    mid = one.queued(ISP)
    one.wait(QUARTER)
    ruling = one.deferred(one.one())
    assert ruling.until.startswith("2023-11-14T22:30:00")
    tick(one, 899)
    assert one.assign() == []
    one.wait(1)
    assert (again := one.one()).mid == mid
    assert again.attempt == 2


def test_what_would_wait_longer_is_tried_all_the_same():
    one = desk(connector(send_every=900.0))
    one.load(one.mid(), [((0,), ISP, 3, one.wall + 2 * HOUR, False, 0, "", NORMAL)])
    one.wait(QUARTER)
    assert len(one.assign()) == 1


def test_a_hop_that_cannot_be_reached_ends_it_until_the_next_time():
    one = desk(connector(send_every=900.0), connection_retry_interval=60.0)
    for _ in range(3):
        one.queued(ISP)
    one.wait(QUARTER)
    for assignment in one.assign():
        one.unavailable(assignment)
    tick(one, 300)
    assert one.assign() == []
    facts = one.queue(ISP)
    assert (facts.status.value, facts.why, facts.failures) == ("Ready", "scheduled", 1)
    assert facts.opens == pytest.approx(HALF)
    tick(one, 600)
    probe = one.one()
    one.delivered(probe)
    assert len(one.assign()) == 2, "it is there again, so all goes"


def test_a_hop_that_is_still_away_is_tried_once_at_each_time():
    one = desk(connector(send_every=900.0), connection_retry_interval=60.0)
    one.queued(ISP)
    tried = []
    one.wait(QUARTER - 1)
    for _ in range(2 * 900):
        one.wait(1.0)
        for assignment in one.assign():
            tried.append(one.now)
            one.unavailable(assignment)
    assert tried == [QUARTER, QUARTER + 900]


def test_a_free_worker_is_waited_for_before_the_queue_is_shut():
    """The time comes while all workers are busy, and the hop failed before."""
    one = desk(connector(send_every=900.0), workers=(1,))
    one.queued(ISP)
    one.wait(QUARTER)
    one.unavailable(one.one())
    tick(one, 890)
    one.queued(remote(1))
    busy = one.one()
    tick(one, 60)
    assert one.assign() == []
    one.delivered(busy)
    assert len(one.assign()) == 1


def test_what_a_worker_gave_back_goes_in_the_same_round():
    one = desk(connector(send_every=900.0))
    one.queued(ISP)
    one.wait(QUARTER)
    assignment = one.one()
    one.scheduler.returned(assignment.n, one.now)
    tick(one, 2)
    assert len(one.assign()) == 1


def test_a_queue_without_mail_is_not_opened_by_its_time():
    one = desk(connector(send_every=900.0))
    one.queued(ISP)
    one.wait(QUARTER)
    one.delivered(one.one())
    one.wait(900)
    one.queued(ISP)
    assert one.assign() == []


def test_mail_of_high_priority_dials():
    one = desk(connector(send_every=900.0, dial_on_high=True), priority_queuing=True)
    one.queued(ISP)
    assert one.assign() == []
    one.queued(ISP, priority=HIGH)
    assert len(one.assign()) == 2, "the line is open for all"


def test_mail_of_high_priority_waits_where_nobody_said_otherwise():
    one = desk(connector(send_every=900.0), priority_queuing=True)
    one.queued(ISP, priority=HIGH)
    assert one.assign() == []


def test_high_priority_dials_a_hop_that_failed():
    one = desk(connector(send_every=900.0, dial_on_high=True), priority_queuing=True)
    one.queued(ISP)
    one.wait(QUARTER)
    one.unavailable(one.one())
    tick(one, 5)
    one.queued(ISP, priority=HIGH)
    assert len(one.assign()) == 1


def test_on_demand_never_goes_by_itself():
    one = desk(connector())
    one.queued(ISP)
    tick(one, 10)
    one.wait(20 * HOUR)
    assert one.assign() == []
    facts = one.queue(ISP)
    assert (facts.why, facts.opens) == ("on-demand", None)


def test_what_nobody_asks_for_is_given_up_in_its_time():
    one = desk(connector(), message_lifetime=2 * HOUR, delay_warning=HOUR, mass_expiry=0)
    one.queued(ISP)
    one.wait(HOUR + 60)
    one.scheduler.expire_unreachable(one.now)
    warning = one.one()
    assert "nobody has asked for the mail" in warning.delay
    one.delayed(warning)
    assert one.assign() == []
    one.wait(HOUR)
    one.scheduler.expire_unreachable(one.now)
    assert "nobody has asked for the mail" in one.one().expire


# --- operators --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("word", ["queue", "message", "flush"])
def test_an_operator_sends_at_once(word):
    one = desk(connector(send_every=900.0))
    mid = one.queued(ISP)
    verbs = one.scheduler.verbs
    if word == "queue":
        assert verbs.retry_queue(ISP, one.now)
    elif word == "message":
        verbs.retry(mid, one.now)
    else:
        verbs.flush(one.now)
    one.delivered(one.one())
    one.wait(1)
    one.queued(ISP)
    assert one.assign() == [], "shut again"


def test_a_suspended_queue_is_not_sent_by_its_time():
    one = desk(connector(send_every=900.0))
    one.queued(ISP)
    one.scheduler.verbs.suspend_queue(ISP, one.now)
    one.wait(QUARTER)
    assert one.assign() == []
    assert one.queue(ISP).status.value == "Suspended"
    one.scheduler.verbs.resume_queue(ISP, one.now)
    assert one.assign() == [], "its time is over"
    one.wait(900)
    assert len(one.assign()) == 1


def test_what_is_suspended_while_it_is_sent_is_not_sent_on_when_it_is_resumed_much_later():
    one = desk(connector(send_every=900.0), per_hop=1)
    for _ in range(4):
        one.queued(ISP)
    one.wait(QUARTER)
    given = one.assign()
    one.scheduler.verbs.suspend_queue(ISP, one.now)
    for assignment in given:
        one.delivered(assignment)
    tick(one, 10)
    one.scheduler.verbs.resume_queue(ISP, one.now)
    assert one.assign() == []


def test_a_suspect_waits_for_the_hours_too():
    one = desk(connector(send_every=900.0))
    mid = one.queued(ISP)
    one.scheduler.suspect([mid], one.now)
    assert one.assign() == []
    one.wait(QUARTER)
    assert one.one().alone


# --- hours ------------------------------------------------------------------------------------------------------------


def working(**options):
    """Online, from 22:15 to 22:30."""
    return connector(delivery="online", between=((1335, 1350),), **options)


def test_outside_of_its_hours_nothing_leaves_and_within_them_it_is_ordinary_mail():
    one = desk(working(), retry_interval=60.0)
    one.queued(ISP)
    assert one.assign() == []
    facts = one.queue(ISP)
    assert (facts.why, facts.opens, facts.timetable) == ("out-of-hours", pytest.approx(QUARTER), "between 22:15-22:30")
    one.wait(QUARTER)
    one.deferred(one.one())
    one.wait(60)
    one.delivered(one.one())
    tick(one, 3)
    one.queued(ISP)
    assert len(one.assign()) == 1, "as it comes"


def test_what_is_on_its_way_ends_as_it_ends_when_the_hours_are_over():
    one = desk(working(), per_hop=1)
    for _ in range(3):
        one.queued(ISP)
    one.wait(QUARTER)
    first, second = one.assign()
    one.wait(900)
    one.delivered(first)
    one.delivered(second)
    assert one.assign() == []
    assert one.queue(ISP).messages == 1


def test_a_retry_falls_into_the_hours():
    """A hop that failed before is tried when they begin, not before."""
    one = desk(working(), connection_retry_interval=60.0)
    one.queued(ISP)
    one.wait(QUARTER)
    one.unavailable(one.one())
    one.wait(899)
    tried = one.one()
    one.unavailable(tried)
    one.wait(1)
    assert one.assign() == []
    one.wait(20 * HOUR)
    assert one.assign() == []
    one.wait(4 * HOUR - HALF + QUARTER)
    assert len(one.assign()) == 1


def test_an_operator_sends_outside_of_the_hours():
    one = desk(working())
    one.queued(ISP)
    one.scheduler.verbs.flush(one.now)
    assert len(one.assign()) == 1


def test_a_start_within_the_hours_needs_no_other_time():
    one = desk(connector(delivery="online", between=((1320, 1350),)))
    one.queued(ISP)
    assert len(one.assign()) == 1


# --- clocks, configurations, starts -----------------------------------------------------------------------------------


def test_a_clock_that_jumps_over_the_time_does_not_pass_it_over():
    one = desk(connector(send_every=900.0))
    one.queued(ISP)
    one.jumped = 300.0
    one.wait(1)
    assert len(one.assign()) == 1


def test_a_clock_that_is_put_back_finds_the_next_time_anew():
    one = desk(connector(send_at=(1335,)))  # 22:15
    one.wait(QUARTER)
    one.queued(ISP)
    one.wait(1)
    assert one.queue(ISP).opens == pytest.approx(QUARTER + 24 * HOUR)
    one.jumped = -600.0
    one.wait(1)
    assert one.queue(ISP).opens == pytest.approx(QUARTER + 600)
    one.wait(600)
    assert len(one.assign()) == 1


def test_a_new_configuration_counts_at_once():
    one = desk(connector(send_every=900.0))
    one.queued(ISP)
    one.scheduler.configure(one.section, Schedules(one.section, [connector(delivery="online")]))
    one.wait(1)
    assert len(one.assign()) == 1


def test_a_configuration_that_changes_nothing_does_not_end_what_is_sent():
    one = desk(connector(send_every=900.0), per_hop=1)
    for _ in range(4):
        one.queued(ISP)
    one.wait(QUARTER)
    first, second = one.assign()
    one.scheduler.configure(one.section, Schedules(one.section, [connector(send_every=900.0)]))
    one.delivered(first)
    one.delivered(second)
    one.wait(1)
    assert len(one.assign()) == 2


def test_an_online_connector_becomes_offline():
    one = desk(connector(delivery="online"))
    one.scheduler.configure(one.section, Schedules(one.section, [connector(send_at=(0,))]))
    one.wait(1)
    one.queued(ISP)
    assert one.assign() == []


def test_after_a_start_what_should_have_been_sent_goes_at_once_and_the_rest_waits():
    """22:00 was a time; kmqd began at 22:13:20."""
    one = desk(connector(send_every=900.0), connector("dead", send_every=900.0))
    old = one.queued(ISP, created=BEGIN - HOUR)
    one.queued(DEAD, created=BEGIN - 60)
    assert one.one().mid == old


# --- for tables -------------------------------------------------------------------------------------------------------


def test_a_queue_that_waits_for_its_time_says_so():
    one = desk(connector(send_every=1800.0, between=((420, 1380),), days=(1, 2)))
    one.queued(ISP)
    facts = one.queue(ISP)
    assert (facts.status.value, facts.why, facts.next_retry) == ("Ready", "scheduled", None)
    assert (facts.timetable, facts.opens) == ("every 30m, between 07:00-23:00, on tue, wed", pytest.approx(HALF))
    one.wait(HALF)
    assert one.queue(ISP).why == ""
    one.assign()
    assert one.queue(ISP).timetable == ""


def test_an_ordinary_queue_has_no_hours():
    one = desk(connector("dead"))
    one.queued(ISP)
    facts = one.queue(ISP)
    assert (facts.why, facts.timetable, facts.opens) == ("", "", None)
