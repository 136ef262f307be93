"""Schedules: which waits, warnings and ends count for what goes which way, and that the core keeps to them."""

import pytest

from kmq.config.connector import ConnectorSection
from kmq.config.retries import RetrySection
from kmq.config.sections import QueueSection
from kmq.config.steps import Steps
from kmq.run.backoff import Jitter
from kmq.run.schedule import Schedules
from tests.run.desk import BEGIN, DEAD, ISP, Desk, deferred, routed

MINUTE = 60.0
HOUR = 3600.0
DAY = 86400.0


def connector(name, **more):
    return ConnectorSection(name=name, type="smarthost", helo="here.test", **more)


def waits(steps, count):
    return [steps.after(n) / MINUTE for n in range(1, count + 1)]


# --- what counts for whom ---------------------------------------------------------------------------------------------


def test_the_profile_rfc_doubles_and_gives_up_after_five_days():
    """RFC 5321 4.5.4.1: 4-5 days, and at least 30 minutes between attempts on the average."""
    schedule = Schedules(QueueSection()).of("isp")
    assert waits(schedule.deferral, 7) == [5, 10, 20, 40, 60, 60, 60]
    assert waits(schedule.connection, 9) == [1, 2, 4, 8, 16, 32, 60, 60, 60]
    assert (schedule.lifetime, schedule.warn_after, schedule.attempts) == (5 * DAY, 4 * HOUR, 0)
    tried, at = 0, 0.0
    while at < schedule.lifetime:
        tried += 1
        at += schedule.deferral.after(tried)
    assert at / tried > 30 * MINUTE


def test_the_profile_exchange_is_the_table_of_exchange_server():
    schedule = Schedules(QueueSection(retry_profile="exchange")).default
    assert waits(schedule.deferral, 12) == [1, 1, 1, 1, 5, 5, 5, 5, 5, 5, 10, 10]
    assert schedule.connection == schedule.deferral
    assert (schedule.warn_after, schedule.lifetime) == (4 * HOUR, 2 * DAY)


def test_the_profile_kerio_has_one_interval():
    schedule = Schedules(QueueSection(retry_profile="kerio")).default
    assert waits(schedule.deferral, 3) == [30, 30, 30]


OWN = RetrySection(name="own", steps=Steps((), 7.0), warn_after=60.0, bounce_after=HOUR, attempts=9)


@pytest.mark.parametrize(
    ("queue", "at_connector", "lifetime", "warn_after", "first"),
    [
        ({}, {}, 5 * DAY, 4 * HOUR, 300.0),
        ({"message_lifetime": DAY}, {}, DAY, 4 * HOUR, 300.0),
        ({"delay_warning": 0.0}, {}, 5 * DAY, 0.0, 300.0),
        ({"retry_profile": "kerio", "message_lifetime": DAY}, {}, DAY, 4 * HOUR, 1800.0),
        ({"message_lifetime": DAY}, {"retry_profile": "exchange"}, 2 * DAY, 4 * HOUR, 60.0),
        ({"message_lifetime": DAY}, {"message_lifetime": HOUR}, HOUR, 4 * HOUR, 300.0),
        ({}, {"retry_profile": "own"}, HOUR, 60.0, 7.0),
        ({}, {"retry_profile": "own", "delay_warning": 5.0, "message_lifetime": 10.0}, 10.0, 5.0, 7.0),
        ({"retry_profile": "own"}, {"retry_profile": "rfc"}, 5 * DAY, 4 * HOUR, 300.0),
    ],
)
def test_what_stands_nearer_wins(queue, at_connector, lifetime, warn_after, first):
    schedules = Schedules(QueueSection(**queue), [connector("isp", **at_connector)], [OWN])
    schedule = schedules.of("isp")
    assert (schedule.lifetime, schedule.warn_after, schedule.deferral.after(1)) == (lifetime, warn_after, first)


def test_what_goes_by_no_connector_follows_the_queue():
    schedules = Schedules(QueueSection(message_lifetime=DAY), [connector("isp", retry_profile="own")], [OWN])
    assert schedules.of("") == schedules.of("unknown") == schedules.default
    assert schedules.default.lifetime == DAY
    assert schedules.longest == HOUR
    assert schedules.soonest_warning == 60.0


def test_chance_moves_a_wait_a_tenth_and_never_takes_it_away():
    for chance, seconds in ((0.5, 300.0), (0.0, 270.0), (1.0, 330.0)):
        assert Jitter(0.1, lambda chance=chance: chance).spread(300.0) == pytest.approx(seconds)
    assert Jitter(1.0, lambda: 0.0).spread(10.0) == 1.0


# --- the core keeps to them -------------------------------------------------------------------------------------------


def exchange_and_own(**settings):
    connectors = [connector("isp", retry_profile="exchange"), connector("dead", retry_profile="own")]
    return Desk(connectors=connectors, retries=[OWN], **settings)


def test_a_message_follows_the_schedule_of_its_connector():
    desk = exchange_and_own()
    desk.queued(ISP)
    minutes = []
    for _ in range(12):
        desk.deferred(desk.one())
        due = desk.scheduler.next_due(desk.now)
        minutes.append((due - desk.now) / MINUTE)
        desk.wait(due - desk.now)
    assert minutes == [1, 1, 1, 1, 5, 5, 5, 5, 5, 5, 10, 10]


def test_a_queue_in_retry_follows_it_as_well():
    desk = exchange_and_own()
    desk.queued(DEAD)
    seconds = []
    for _ in range(3):
        desk.unavailable(desk.one())
        assert desk.assign() == []
        due = desk.scheduler.next_due(desk.now)
        seconds.append(due - desk.now)
        desk.wait(due - desk.now)
    assert seconds == [7.0, 7.0, 7.0]


def test_a_fresh_message_that_is_deferred_in_one_go_waits_by_the_schedule_of_its_hop():
    desk = exchange_and_own()
    desk.accept()
    given = desk.one()
    ruling = desk.done(given, [routed(given, DEAD), deferred(given)])
    assert ruling.until.startswith("2023-11-14T22:13:27")  # BEGIN + 7 s
    assert BEGIN % 60 == 20


def test_a_new_configuration_counts_from_the_next_failure_on():
    desk = Desk()
    desk.queued(ISP)
    desk.deferred(desk.one())
    assert desk.scheduler.next_due(desk.now) == 300.0
    desk.wait(300)
    section = QueueSection(retry_profile="exchange")
    desk.scheduler.configure(section, Schedules(section))
    desk.deferred(desk.one())
    assert desk.scheduler.next_due(desk.now) == 360.0


# --- attempts ---------------------------------------------------------------------------------------------------------


def three(**more):
    own = RetrySection(name="own", steps=Steps((), MINUTE), warn_after=0.0, attempts=3)
    return Desk(retries=[own], retry_profile="own", **more)


def test_after_so_many_attempts_the_last_one_is_told_to_the_sender():
    desk = three()
    desk.queued(ISP)
    for _ in range(2):
        assert desk.deferred(desk.one()).until
        desk.wait(60)
    assert desk.deferred(desk.one(), "450 4.2.0 the third").until == ""
    assert desk.one().expire == "450 4.2.0 the third"


def test_an_attempt_to_reach_the_hop_is_one_of_all_that_wait_since():
    desk = three()
    old = desk.queued(DEAD)
    for _ in range(2):
        desk.unavailable(desk.one())
        desk.wait(60)
    late = desk.queued(DEAD)
    desk.unavailable(desk.one(), "421 4.4.1 the third")
    last = desk.one()
    assert (last.mid, last.expire) == (old, "421 4.4.1 the third")
    desk.failed(last)
    for _ in range(2):
        assert desk.scheduler.has(late)
        desk.wait(60)
        desk.unavailable(desk.one())
    assert desk.one().mid == late


def test_without_a_limit_no_failures_are_kept():
    desk = Desk()
    desk.queued(DEAD)
    for _ in range(3):
        desk.unavailable(desk.one())
        desk.wait(HOUR + 1)
    assert desk.scheduler._lines.queues[DEAD].silences == []
