"""What runs short, and what is not done therefore: levels, hysteresis, measures, tarpit."""

from types import SimpleNamespace

import pytest

from kmq.config import BackPressureSection, QueueSection
from kmq.config.back_pressure import Thresholds
from kmq.run import watch
from kmq.run.metering import effect
from kmq.run.pressure import SHORT, Level, Measure, Pressure, Resource, after, fitted, thresholds_of

NORMAL, MEDIUM, HIGH = Level

MESSAGES = Thresholds(9999, 15000, 10000, 2000)
SPACE = Thresholds(1000, 600, 750, 1250, falling=True)


def pressure(**options: float) -> Pressure:
    section = BackPressureSection(**options)
    return Pressure(section, thresholds_of(section, QueueSection()), 0.0)


@pytest.mark.parametrize(
    ("before", "figure", "level"),
    [
        # Rising: messages that wait.
        (NORMAL, 9999, NORMAL),
        (NORMAL, 10000, MEDIUM),
        (NORMAL, 15000, MEDIUM),
        (NORMAL, 15001, HIGH),
        (MEDIUM, 9000, MEDIUM),
        (MEDIUM, 2001, MEDIUM),
        (MEDIUM, 2000, NORMAL),
        (MEDIUM, 15001, HIGH),
        (HIGH, 14000, HIGH),
        (HIGH, 10001, HIGH),
        (HIGH, 10000, MEDIUM),
        (HIGH, 2500, MEDIUM),
        (HIGH, 2000, NORMAL),
    ],
)
def test_many_messages(before: Level, figure: int, level: Level) -> None:
    assert after(before, figure, MESSAGES) is level


@pytest.mark.parametrize(
    ("before", "figure", "level"),
    [
        (NORMAL, 1000, NORMAL),
        (NORMAL, 999, MEDIUM),
        (NORMAL, 599, HIGH),
        (MEDIUM, 1249, MEDIUM),
        (MEDIUM, 1250, NORMAL),
        (MEDIUM, 600, MEDIUM),
        (HIGH, 749, HIGH),
        (HIGH, 750, MEDIUM),
        (HIGH, 1250, NORMAL),
    ],
)
def test_little_space(before: Level, figure: int, level: Level) -> None:
    assert after(before, figure, SPACE) is level


def test_a_figure_that_trembles_around_a_threshold_changes_nothing() -> None:
    level = NORMAL
    seen = [level := after(level, figure, SPACE) for figure in (1001, 999, 1001, 999, 1001, 599, 601, 599, 749)]
    assert seen == [NORMAL, MEDIUM, MEDIUM, MEDIUM, MEDIUM, HIGH, HIGH, HIGH, HIGH]


def test_without_figures_of_its_own_the_spool_follows_the_last_line() -> None:
    four = thresholds_of(BackPressureSection(), QueueSection(minimum_free=100 << 20, minimum_free_inodes=0))
    assert four[Resource.SPOOL_SPACE] == Thresholds(200 << 20, 120 << 20, 150 << 20, 250 << 20, True)
    assert Resource.SPOOL_INODES not in four, "where nothing has to be free nothing is short"


def test_a_small_log_disk_is_not_full_while_a_fifth_is_free() -> None:
    four = Thresholds(100, 20, 50, 150, falling=True)
    small = fitted(Resource.LOG_SPACE, four, size=75)
    assert small.normal_again == pytest.approx(15) and small.high == pytest.approx(2)
    assert fitted(Resource.LOG_SPACE, four, size=10_000) == four
    assert fitted(Resource.SPOOL_SPACE, four, size=75) == four, "the spool has absolute figures"


@pytest.mark.parametrize(
    "resource", [Resource.SPOOL_SPACE, Resource.SPOOL_INODES, Resource.LOG_SPACE, Resource.LOG_INODES]
)
def test_a_full_disk_stops_other_servers_first_and_users_last(resource: Resource) -> None:
    one = pressure()
    four = thresholds_of(BackPressureSection(), QueueSection())[resource]
    (change,) = one.meter({resource: four.medium - 1}, 1.0)
    assert (change.was, change.level, change.threshold) == (NORMAL, MEDIUM, four.medium)
    assert (one.refusal(user=False), one.refusal(user=True)) == (SHORT, None)
    assert Measure.PAUSE_DROPS in one.measures and one.tarpit(user=False) == 0
    (change,) = one.meter({resource: 0}, 3.0)
    assert (change.level, change.threshold, one.refusal(user=True)) == (HIGH, four.high, SHORT)
    assert one.meter({resource: four.medium_again - 1}, 5.0) == []
    (change,) = one.meter({resource: four.normal_again}, 7.0)
    assert (change.level, one.measures, one.refusal(user=False)) == (NORMAL, Measure.NONE, None)


def test_a_figure_that_is_not_known_changes_nothing() -> None:
    one = pressure()
    one.meter({Resource.SPOOL_SPACE: 0}, 1.0)
    assert one.meter({}, 3.0) == []
    assert one.level is HIGH and one.refusal(user=True) == SHORT
    assert next(it.figure for it in one.gauged() if it.resource is Resource.SPOOL_SPACE) is None


def test_the_tarpit_grows_and_gives_way_to_refusals() -> None:
    one = pressure(patience=60.0)
    waits = []
    for look in range(12):
        one.meter({Resource.SUBMISSION: 10_000}, 2.0 * look)
        waits.append(one.tarpit(user=False))
    assert waits == [10, 15, 20, 25, 30, 35, 40, 45, 50, 55, 55, 55]
    assert one.tarpit(user=True) == 0 and one.refusal(user=False) is None
    one.meter({Resource.SUBMISSION: 5000}, 59.0)
    assert one.refusal(user=False) is None
    one.meter({Resource.SUBMISSION: 5000}, 60.0)
    assert one.refusal(user=False) == SHORT and one.refusal(user=True) is None
    assert Measure.PAUSE_DROPS in one.measures
    one.meter({Resource.SUBMISSION: 2000}, 62.0)
    assert (one.tarpit(user=False), one.refusal(user=False)) == (0.0, None)
    one.meter({Resource.SUBMISSION: 10_000}, 64.0)
    assert one.tarpit(user=False) == 10, "the next time begins anew"


def test_far_too_many_messages_slow_users_too() -> None:
    one = pressure()
    one.meter({Resource.SUBMISSION: 15_001}, 0.0)
    assert one.refusal(user=False) == SHORT
    assert (one.refusal(user=True), one.tarpit(user=True)) == (None, 10.0)


def test_a_tarpit_that_is_switched_off() -> None:
    one = pressure(tarpit=0.0)
    one.meter({Resource.SUBMISSION: 10_000}, 0.0)
    one.meter({Resource.SUBMISSION: 10_000}, 2.0)
    assert one.tarpit(user=False) == 0 and one.level is MEDIUM


@pytest.mark.parametrize(("resource", "bad", "history"), [(Resource.JOURNAL, 5000, 20), (Resource.OWN_MEMORY, 73, 60)])
def test_a_burst_is_no_shortage(resource: Resource, bad: float, history: int) -> None:
    one = pressure()
    for second in range(0, history, 2):
        assert one.meter({resource: bad}, second) == []
    assert one.meter({resource: 0}, history) == []
    assert one.meter({resource: bad}, history + 2) == [], "its time begins anew"
    assert one.meter({resource: bad}, 2 * history) == []
    (change,) = one.meter({resource: bad}, 2 * history + 2)
    assert change.level is MEDIUM


def test_memory_of_the_machine_refuses_nobody_before_it_is_high() -> None:
    one = pressure()
    one.meter({Resource.SYSTEM_MEMORY: 91}, 0.0)
    assert one.measures == Measure.GIVE_BACK
    one.meter({Resource.SYSTEM_MEMORY: 97}, 2.0)
    assert one.refusal(user=False) == SHORT and one.refusal(user=True) is None


def test_a_new_configuration_counts_at_the_next_look() -> None:
    one = pressure()
    one.meter({Resource.SUBMISSION: 10_000}, 0.0)
    section = BackPressureSection(submission_queue=Thresholds(20_000, 30_000, 25_000, 10_000), spool_space=None)
    one.configure(section, thresholds_of(section, QueueSection()), 1.0)
    assert one.level is MEDIUM
    (change,) = one.meter({Resource.SUBMISSION: 10_000, Resource.SPOOL_SPACE: 0}, 2.0)
    assert change.level is NORMAL and one.level is NORMAL, "and what is off is not looked at"


def test_systemd_hears_what_is_not_taken_in() -> None:
    one = pressure()
    scheduler = SimpleNamespace(name="scheduler-1", ready=True, queued=3, closed="")
    receiver = SimpleNamespace(name="receiver-1", ready=True, queued=-1, closed="")
    assert watch.sentence([scheduler, receiver]) == "takes mail in; 3 messages queued"
    one.meter({Resource.SPOOL_SPACE: 0}, 1.0)
    scheduler.closed = f"back pressure: {effect(one)}"
    assert watch.sentence([scheduler, receiver]) == (
        "back pressure: nobody can hand in new mail (452); pickup/ and replay/ wait; what is queued goes on;"
        " 3 messages queued"
    )


@pytest.mark.parametrize(
    ("figures", "said"),
    [
        ({}, "mail is taken in"),
        ({Resource.SYSTEM_MEMORY: 91}, "mail is taken in"),
        ({Resource.SUBMISSION: 10_000}, "other servers wait 10 s at MAIL; what is queued goes on"),
        (
            {Resource.SUBMISSION: 20_000},
            "other servers hear 452; pickup/ and replay/ wait; users wait 10 s at MAIL; what is queued goes on",
        ),
    ],
)
def test_people_are_told_what_is_done(figures: dict[Resource, float], said: str) -> None:
    one = pressure()
    one.meter(figures, 1.0)
    assert effect(one) == said
