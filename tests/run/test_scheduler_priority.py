"""Urgent mail goes first, has connections of its own, and its sender hears sooner; nobody is passed over for ever."""

from itertools import groupby

import pytest

from kmq.config.retries import RetrySection
from kmq.config.sections import ConnectorSection, QueueSection
from kmq.config.steps import Steps
from kmq.model.priority import HIGH, LOW, NORMAL
from kmq.run.schedule import Schedules
from tests.run.desk import ISP, MAILBOX, SUBMISSION, Desk, routed

MINUTE, HOUR, DAY = 60.0, 3600.0, 86400.0


def connector(name="isp", **options):
    return ConnectorSection(name=name, type="smarthost", address_spaces=("*",), helo="mx", **options)


def order(desk, expected):
    """Hands out one after the other, each delivered at once; by the priorities that `expected` knows."""
    found = []
    while given := desk.assign():
        for one in given:
            found.append(expected[one.mid])
            desk.delivered(one)
    return found


def runs(found):
    return [(priority, len(list(same))) for priority, same in groupby(found)]


def test_urgent_mail_goes_first_and_what_can_wait_last():
    desk = Desk(workers=(1,))
    known = {desk.queued(MAILBOX, priority=one): one for one in (LOW, NORMAL, HIGH, NORMAL, LOW, HIGH)}
    assert order(desk, known) == [HIGH, HIGH, NORMAL, NORMAL, LOW, LOW]


def test_without_priorities_mail_goes_as_it_came():
    desk = Desk(workers=(1,))
    mids = [desk.queued(MAILBOX) for _ in range(20)]
    assert order(desk, {mid: mid for mid in mids}) == mids


def test_endless_urgent_mail_starves_nobody():
    """Turns while all wait: four of five are urgent ones', and what can wait has one of seventeen."""
    desk = Desk(workers=(1,))
    known = {desk.queued(MAILBOX, priority=one): one for one in (HIGH, NORMAL, LOW) for _ in range(100)}
    found = order(desk, known)[:85]
    assert runs(found)[:4] == [(HIGH, 4), (NORMAL, 1), (HIGH, 4), (NORMAL, 1)]
    assert found.index(LOW) <= 17
    assert {one: found.count(one) for one in (HIGH, NORMAL, LOW)} == {HIGH: 64, NORMAL: 16, LOW: 5}


def test_fresh_urgent_mail_passes_what_waits_for_the_categorizer():
    desk = Desk(workers=(1,))
    slow = [desk.accept() for _ in range(5)]
    urgent = desk.accept(priority=HIGH)
    given = desk.one()
    assert (given.mid, given.hop) == (urgent, SUBMISSION)
    desk.done(given, [routed(given, MAILBOX)])
    assert desk.queue(MAILBOX).priorities == (1, 0, 0)
    assert desk.queue(SUBMISSION).priorities == (0, 5, 0)
    assert desk.one().mid in (urgent, slow[0])


def widened(desk, priority=NORMAL, times=60):
    """The hop has talked to us so often that its queue has its full width."""
    for _ in range(times):
        desk.queued(ISP, priority=priority)
        for one in desk.assign():
            desk.delivered(one)


#: Messages that wait, by priority -> how many of each go out at once, of 20 connections (40 assignments).
CONNECTIONS = [
    ((100, 100, 100), (6, 30, 4)),
    ((100, 0, 0), (6, 0, 0)),
    ((0, 100, 0), (0, 30, 0)),
    ((0, 0, 100), (0, 0, 4)),
    ((2, 100, 1), (2, 30, 1)),
]


@pytest.mark.parametrize(("waiting", "out"), CONNECTIONS)
def test_each_priority_has_its_part_of_the_connections(waiting, out):
    desk = Desk(workers=(1000,), priority_queuing=True)
    widened(desk)
    known = {desk.queued(ISP, priority=one): one for one in (HIGH, NORMAL, LOW) for _ in range(waiting[one])}
    found = [known[one.mid] for one in desk.assign()]
    assert tuple(found.count(one) for one in (HIGH, NORMAL, LOW)) == out


def test_a_slow_hop_full_of_ordinary_mail_takes_the_urgent_message_at_once():
    desk = Desk(workers=(1000,), priority_queuing=True)
    widened(desk)
    for _ in range(100):
        desk.queued(ISP)
    assert len(desk.assign()) == 30
    urgent = desk.queued(ISP, priority=HIGH)
    assert desk.one().mid == urgent


def test_the_parts_are_those_of_the_configuration():
    desk = Desk(workers=(1000,), priority_queuing=True, priority_connections=(100, 50, 1))
    widened(desk)
    known = {desk.queued(ISP, priority=one): one for one in (LOW, NORMAL) for _ in range(100)}
    found = [known[one.mid] for one in desk.assign()]
    assert (found.count(NORMAL), found.count(LOW)) == (20, 1)
    desk.scheduler.configure(QueueSection())
    assert len(desk.assign()) == 19, "without priority queuing all 40 are everybody's"


def test_a_hop_that_came_back_is_probed_by_what_is_there():
    """A probe is one connection, whatever part its priority has."""
    desk = Desk(workers=(10,), priority_queuing=True)
    low = desk.queued(ISP, priority=LOW)
    desk.unavailable(desk.one())
    desk.wait(MINUTE)
    given = desk.one()
    assert given.mid == low
    desk.delivered(given)
    assert desk.queue(ISP).priorities == (0, 0, 0)


# --- how long --------------------------------------------------------------------------------------------------------

#: [queue] -> (lifetime, warning) of high, normal and low priority.
TIMES = [
    ({}, ((5 * DAY, 4 * HOUR),) * 3),
    ({"priority_queuing": True}, ((8 * HOUR, 30 * MINUTE), (5 * DAY, 4 * HOUR), (5 * DAY, 8 * HOUR))),
    (
        {"priority_queuing": True, "retry_profile": "exchange", "low_priority_lifetime": 4 * DAY},
        ((8 * HOUR, 30 * MINUTE), (2 * DAY, 4 * HOUR), (4 * DAY, 8 * HOUR)),
    ),
    (
        {"priority_queuing": True, "message_lifetime": HOUR, "delay_warning": 10 * MINUTE},
        ((HOUR, 10 * MINUTE), (HOUR, 10 * MINUTE), (HOUR, 8 * HOUR)),
    ),
    ({"priority_queuing": True, "delay_warning": 0.0}, ((8 * HOUR, 0.0), (5 * DAY, 0.0), (5 * DAY, 0.0))),
    (
        {"priority_queuing": True, "high_priority_delay_warning": 0.0, "low_priority_delay_warning": 0.0},
        ((8 * HOUR, 0.0), (5 * DAY, 4 * HOUR), (5 * DAY, 0.0)),
    ),
]


@pytest.mark.parametrize(("options", "times"), TIMES)
def test_times_by_priority(options, times):
    schedules = Schedules(QueueSection(**options))
    for priority, expected in zip((HIGH, NORMAL, LOW), times, strict=True):
        found = schedules.of("", priority)
        assert (found.lifetime, found.warn_after) == expected


def test_a_connector_s_own_profile_counts_for_all_priorities():
    own = RetrySection(name="own", steps=Steps((), 300.0), warn_after=20 * MINUTE, bounce_after=6 * HOUR)
    schedules = Schedules(QueueSection(priority_queuing=True), [connector(retry_profile="own")], [own])
    assert [(one.lifetime, one.warn_after) for one in schedules.each("isp")] == [
        (6 * HOUR, 20 * MINUTE),
        (6 * HOUR, 20 * MINUTE),
        (6 * HOUR, 8 * HOUR),
    ]
    assert schedules.soonest_warning == 20 * MINUTE


def test_urgent_mail_is_warned_of_and_given_up_while_other_mail_waits_on():
    desk = Desk(workers=(10,), priority_queuing=True, mass_expiry=0)
    urgent, plain = desk.queued(ISP, priority=HIGH), desk.queued(ISP)
    told = {"warn": {}, "expire": {}, "delay": {}}

    def answer(one):
        for kind, known in told.items():
            if getattr(one, kind):
                known.setdefault(one.mid, desk.now)
        if one.expire:
            desk.failed(one)
        elif one.delay:
            desk.delayed(one)
        else:
            desk.unavailable(one)

    desk.run_until(9 * HOUR, answer)
    assert 30 * MINUTE < told["delay"][urgent] < 2 * HOUR
    assert 4 * HOUR < told["delay"][plain] < 6 * HOUR
    assert list(told["expire"]) == [urgent]
    assert 8 * HOUR < told["expire"][urgent] < 9.5 * HOUR
    assert not desk.scheduler.has(urgent)
    assert desk.scheduler.has(plain)
