"""When a connector sends, as a pure function: tables, and the two days of the year on which the clock jumps."""

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kmq.config.sections import ConnectorSection, QueueSection
from kmq.run.timetable import Rule, instant, last_time, machine_zone, next_opening, next_time, open_until, rule_of

BERLIN = ZoneInfo("Europe/Berlin")  # 2026-03-29 02:00 -> 03:00, 2026-10-25 03:00 -> 02:00
YORK = ZoneInfo("America/New_York")  # 2026-03-08, 2026-11-01
SAMOA = ZoneInfo("Pacific/Apia")  # 2011-12-30 did not take place
HAVANA = ZoneInfo("America/Havana")  # the clock jumps at midnight

NIGHT = 2 * 60 + 30


def at(text: str, zone: ZoneInfo = BERLIN) -> float:
    """`2026-03-29 01:59`; what has an offset is what it says."""
    found = datetime.fromisoformat(text)
    return (found if found.tzinfo else found.replace(tzinfo=zone)).timestamp()


def shown(moment: float | None, zone: ZoneInfo = BERLIN) -> str:
    """`03-29 03:00+02`, or `never`."""
    if moment is None:
        return "never"
    return datetime.fromtimestamp(moment, zone).strftime("%m-%d %H:%M%z")[:-2]


def coming(rule: Rule, begin: str, count: int, zone: ZoneInfo = BERLIN) -> list[str]:
    """The next times, one after the other."""

    def each() -> "list[str]":
        now, found = at(begin, zone), []
        for _ in range(count):
            following = next_time(rule, now, zone)
            assert following is not None
            assert following > now
            now = following
            found.append(shown(now, zone))
        return found

    return each()


def daily(*minutes: int, **more: object) -> Rule:
    return Rule(True, at=minutes, **more)  # type: ignore[arg-type]


def every(minutes: float, *between: tuple[int, int], days: tuple[int, ...] = ()) -> Rule:
    return Rule(True, every=minutes * 60.0, between=between, days=days)


# --- ordinary days ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rule", "now", "following"),
    [
        (daily(480, 750), "2026-06-10 07:59", "06-10 08:00+02"),
        (daily(480, 750), "2026-06-10 08:00", "06-10 12:30+02"),
        (daily(480, 750), "2026-06-10 12:30", "06-11 08:00+02"),
        (daily(0), "2026-06-10 00:00", "06-11 00:00+02"),
        (daily(0), "2026-12-31 23:59", "01-01 00:00+01"),
        (daily(480, days=(0,)), "2026-06-10 07:00", "06-15 08:00+02"),  # from a Wednesday to the next Monday
        (daily(480, days=(2,)), "2026-06-10 08:00", "06-17 08:00+02"),  # a week
        (every(30), "2026-06-10 12:10", "06-10 12:30+02"),
        (every(45), "2026-06-10 23:20", "06-11 00:00+02"),  # a day begins anew
        (every(1440), "2026-06-10 12:00", "06-11 00:00+02"),
        (every(30, (420, 1140)), "2026-06-10 06:00", "06-10 07:00+02"),
        (every(30, (420, 1140)), "2026-06-10 18:30", "06-11 07:00+02"),  # 19:00 does not belong to it
        (every(50, (420, 540)), "2026-06-10 07:55", "06-10 08:40+02"),  # counted from the beginning of the range
        (every(60, (1320, 360)), "2026-06-10 23:30", "06-11 00:00+02"),
        (every(60, (1320, 360)), "2026-06-11 05:00", "06-11 22:00+02"),
        (every(60, (1320, 360), days=(4,)), "2026-06-13 04:30", "06-13 05:00+02"),  # the night from Friday
        (every(60, (1320, 360), days=(4,)), "2026-06-13 05:00", "06-19 22:00+02"),
        (every(60, (1320, 360), (60, 90)), "2026-06-11 00:30", "06-11 01:00+02"),  # two ranges at one time
        (daily(60, between=((1320, 360),)), "2026-06-10 23:00", "06-11 01:00+02"),
        (Rule(True, every=1800.0, at=(615,)), "2026-06-10 10:01", "06-10 10:15+02"),
    ],
)
def test_the_next_time(rule: Rule, now: str, following: str) -> None:
    assert shown(next_time(rule, at(now), BERLIN)) == following


def test_without_times_there_is_none() -> None:
    assert next_time(Rule(True), at("2026-06-10 12:00"), BERLIN) is None
    assert last_time(Rule(True), at("2026-06-10 12:00"), BERLIN) is None


@pytest.mark.parametrize(
    ("rule", "now", "before"),
    [
        (daily(480, 750), "2026-06-10 12:29", "06-10 08:00+02"),
        (daily(480, 750), "2026-06-10 12:30", "06-10 12:30+02"),
        (daily(480, 750), "2026-06-10 07:00", "06-09 12:30+02"),
        (daily(480, days=(0,)), "2026-06-10 07:00", "06-08 08:00+02"),
        (every(60, (1320, 360)), "2026-06-10 12:00", "06-10 05:00+02"),
        (every(60, (1320, 360), days=(4,)), "2026-06-12 21:00", "06-06 05:00+02"),
    ],
)
def test_the_last_time(rule: Rule, now: str, before: str) -> None:
    assert shown(last_time(rule, at(now), BERLIN)) == before


# --- the skipped hour -------------------------------------------------------------------------------------------------


def test_a_time_that_is_skipped_counts_in_the_moment_of_the_jump() -> None:
    assert coming(daily(NIGHT), "2026-03-28 00:00", 3) == ["03-28 02:30+01", "03-29 03:00+02", "03-30 02:30+02"]


def test_several_that_are_skipped_count_once() -> None:
    rule = daily(120, 135, NIGHT, 179, 180)
    assert coming(rule, "2026-03-29 01:00", 2) == ["03-29 03:00+02", "03-30 02:00+02"]


def test_an_interval_knows_no_skipped_hour() -> None:
    found = coming(every(30), "2026-03-29 01:15", 4)
    assert found == ["03-29 01:30+01", "03-29 03:00+02", "03-29 03:30+02", "03-29 04:00+02"]


def test_a_range_that_begins_in_the_skipped_hour_begins_with_the_jump() -> None:
    assert coming(every(20, (NIGHT, 240)), "2026-03-29 00:00", 2) == ["03-29 03:00+02", "03-29 03:20+02"]


def test_a_range_that_is_skipped_does_not_take_place() -> None:
    assert coming(every(10, (120, 180)), "2026-03-28 23:00", 1) == ["03-30 02:00+02"]
    rule = Rule(False, between=((120, 180),))
    assert shown(next_opening(rule, at("2026-03-28 12:00"), BERLIN)) == "03-30 02:00+02"
    assert not open_until(rule, at("2026-03-29 03:00"), BERLIN)


# --- the doubled hour -------------------------------------------------------------------------------------------------


def test_a_time_that_comes_twice_counts_the_first_time() -> None:
    assert coming(daily(NIGHT), "2026-10-24 12:00", 2) == ["10-25 02:30+02", "10-26 02:30+01"]


def test_an_interval_counts_both_hours() -> None:
    found = coming(every(30), "2026-10-25 01:45", 5)
    assert found == ["10-25 02:00+02", "10-25 02:30+02", "10-25 02:00+01", "10-25 02:30+01", "10-25 03:00+01"]


def test_a_range_begins_and_ends_the_first_time() -> None:
    found = coming(every(30, (NIGHT, 180)), "2026-10-24 23:00", 4)
    assert found == ["10-25 02:30+02", "10-25 02:00+01", "10-25 02:30+01", "10-26 02:30+01"]
    # 03:00 comes once, so the range that ends there has both hours in it; one that ends at 02:45 ends the first time.
    rule = Rule(False, between=((60, 165),))
    assert shown(open_until(rule, at("2026-10-25 01:30"), BERLIN)) == "10-25 02:45+02"
    assert not open_until(rule, at("2026-10-25 02:30+01:00"), BERLIN)


def test_a_day_has_23_or_25_hours() -> None:
    spring = coming(every(60), "2026-03-28 23:59", 24)
    assert spring[0] == "03-29 00:00+01"
    assert spring[-1] == "03-30 00:00+02"
    autumn = coming(every(60), "2026-10-24 23:59", 26)
    assert autumn[-1] == "10-26 00:00+01"


# --- elsewhere --------------------------------------------------------------------------------------------------------


def test_other_zones_jump_at_other_times() -> None:
    assert coming(daily(NIGHT), "2026-03-07 12:00", 2, YORK) == ["03-08 03:00-04", "03-09 02:30-04"]
    assert coming(daily(90), "2026-10-31 12:00", 2, YORK) == ["11-01 01:30-04", "11-02 01:30-05"]
    assert coming(daily(30), "2026-03-07 12:00", 2, HAVANA) == ["03-08 01:00-04", "03-09 00:30-04"]


def test_a_day_may_be_skipped_as_a_whole_and_does_not_take_place() -> None:
    assert coming(daily(720), "2011-12-28 13:00", 2, SAMOA) == ["12-29 12:00-10", "12-31 12:00+14"]
    assert coming(every(720), "2011-12-29 01:00", 2, SAMOA) == ["12-29 12:00-10", "12-31 00:00+14"]


@given(
    minute=st.integers(0, 1439),
    day=st.dates(datetime(2025, 1, 1).date(), datetime(2027, 12, 31).date()),
    zone=st.sampled_from([BERLIN, YORK, HAVANA]),
)
def test_a_minute_is_shown_when_it_comes_or_was_jumped_over(minute: int, day: "datetime", zone: ZoneInfo) -> None:
    found = instant(day, minute, zone)
    clock = datetime.fromtimestamp(found, zone)
    if (clock.hour * 60 + clock.minute, clock.date()) != (minute, day):
        before = datetime.fromtimestamp(found - 1, zone)
        assert before.utcoffset() != clock.utcoffset()
        assert (before.hour * 60 + before.minute) < minute < (clock.hour * 60 + clock.minute)
    elif clock.fold:
        raise AssertionError("the second time of two")


@given(
    minutes=st.lists(st.integers(0, 1439), min_size=1, max_size=4),
    pause=st.sampled_from([0.0, 60.0 * 7, 60.0 * 45, 3600.0 * 5]),
    between=st.lists(
        st.tuples(st.integers(0, 1439), st.integers(0, 1439)).filter(lambda one: one[0] != one[1]), max_size=2
    ),
    days=st.sets(st.integers(0, 6)),
    now=st.integers(1_740_000_000, 1_800_000_000),
)
def test_next_and_last_enclose_every_moment(
    minutes: list[int], pause: float, between: list[tuple[int, int]], days: set[int], now: int
) -> None:
    """From the last time before a moment the next one is behind it: nothing is left out, nothing comes twice."""
    rule = Rule(True, pause, tuple(minutes), tuple(between), tuple(sorted(days)))
    following = next_time(rule, now, BERLIN)
    before = last_time(rule, now, BERLIN)
    assert (following is None) == (before is None)
    if following is not None and before is not None:
        assert before <= now < following
        assert next_time(rule, before, BERLIN) == following
        assert last_time(rule, following, BERLIN) == following
        assert last_time(rule, following - 1, BERLIN) in (before, following - 1)


# --- hours ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("between", "days", "now", "until", "opens"),
    [
        (((420, 1140),), (), "2026-06-10 12:00", "06-10 19:00+02", "06-11 07:00+02"),
        (((420, 1140),), (), "2026-06-10 19:00", "", "06-11 07:00+02"),
        (((420, 1140),), (), "2026-06-10 06:59", "", "06-10 07:00+02"),
        (((1320, 360),), (), "2026-06-10 03:00", "06-10 06:00+02", "06-10 22:00+02"),
        (((1320, 360),), (4,), "2026-06-13 03:00", "06-13 06:00+02", "06-19 22:00+02"),
        (((0, 1440),), (), "2026-06-10 12:00", "06-11 00:00+02", "06-11 00:00+02"),
        ((), (0, 1, 2, 3, 4), "2026-06-13 12:00", "", "06-15 00:00+02"),
        (((420, 720), (780, 1140)), (), "2026-06-10 12:30", "", "06-10 13:00+02"),
    ],
)
def test_hours(between: tuple[tuple[int, int], ...], days: tuple[int, ...], now: str, until: str, opens: str) -> None:
    rule = Rule(False, between=between, days=days)
    found = open_until(rule, at(now), BERLIN)
    assert (shown(found) if found else "") == until
    assert shown(next_opening(rule, at(now), BERLIN)) == opens


# --- what the configuration says --------------------------------------------------------------------------------------


def connector(**options: object) -> ConnectorSection:
    return ConnectorSection(name="isp", helo="mx.test", **({"type": "smarthost"} | options))  # type: ignore[arg-type]


def test_most_connectors_have_no_rule() -> None:
    assert rule_of(connector(), QueueSection()) is None
    assert rule_of(connector(delivery="online", send_at=(480,)), QueueSection(delivery="offline")) is None
    assert rule_of(connector(type="mailbox", delivery="offline"), QueueSection()) is None


def test_offline_is_said_by_the_connector_or_for_all() -> None:
    assert rule_of(connector(send_at=(480,)), QueueSection(delivery="offline")) == Rule(True, at=(480,))
    assert rule_of(connector(delivery="offline"), QueueSection()) == Rule(True)
    assert rule_of(connector(between=((0, 60),)), QueueSection()) == Rule(False, between=((0, 60),))


def test_a_rule_in_words() -> None:
    rule = Rule(True, 1800.0, (480, 750), ((420, 1140), (1320, 1440)), (0, 4))
    assert str(rule) == "every 30m and at 08:00, 12:30, between 07:00-19:00, 22:00-24:00, on mon, fri"
    assert str(Rule(True)) == ""


def test_the_zone_is_that_of_tz_or_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "America/New_York")
    assert machine_zone() == YORK
    monkeypatch.setenv("TZ", "Nowhere/Land")
    assert machine_zone().utcoffset(datetime(2026, 6, 1)) == datetime(2026, 6, 1, tzinfo=ZoneInfo("UTC")).utcoffset()
    monkeypatch.delenv("TZ")
    local = datetime(2026, 6, 1, 12).astimezone()
    assert datetime(2026, 6, 1, 12, tzinfo=machine_zone()).utcoffset() == local.utcoffset()
