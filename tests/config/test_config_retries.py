"""Retry profiles as the file says them: tables of waits, names, and the mistakes in them."""

import re

import pytest

from kmq.config import Settings, read, show
from kmq.config.retries import BUILT_IN
from kmq.config.steps import Steps, doubling
from kmq.errors import ConfigError

ISP = "[isp : connector]\ntype = smarthost\naddress_spaces = *\nhosts = smtp.isp.example\n"
OWN = "[patient : retry]\nsteps = 4 x 1m, 6 x 5m, 10m\nwarn_after = 1h\nbounce_after = 3d\nattempts = 50\n"


def settings(text: str) -> Settings:
    return read(text, "kmq.conf", "/etc/kmq", "mx1.example.org")


def test_a_table_of_waits_is_read_and_goes_on_with_the_last_one() -> None:
    (own,) = settings(OWN).retries
    assert own.steps == Steps(((4, 60.0), (6, 300.0)), 600.0)
    assert [own.steps.after(n) for n in (1, 4, 5, 10, 11, 12, 10_000)] == [60, 60, 300, 300, 600, 600, 600]
    assert (own.warn_after, own.bounce_after, own.attempts) == (3600.0, 259200.0, 50)
    assert own.steps.longest == 600.0


def test_a_wait_without_number_is_one_and_one_wait_alone_is_all() -> None:
    text = "[a : retry]\nsteps = 1m, 3x 5m, 1h\n[b : retry]\nsteps = 30m\n"
    first, second = settings(text).retries
    assert first.steps == Steps(((1, 60.0), (3, 300.0)), 3600.0)
    assert second.steps == Steps((), 1800.0)
    assert second.steps.after(1) == second.steps.after(99) == 1800.0


def test_the_table_of_exchange() -> None:
    """Exchange Server's worked schedule: 4 x 1 min, 6 x 5 min (34 minutes by then), then every 10 minutes."""
    exchange = BUILT_IN["exchange"]
    waits = [exchange.steps.after(n) for n in range(1, 13)]
    assert sum(waits[:10]) == 34 * 60
    assert waits[10:] == [600.0, 600.0]
    assert (exchange.warn_after, exchange.bounce_after) == (4 * 3600.0, 2 * 86400.0)


def test_waits_that_double_end_at_the_longest() -> None:
    steps = doubling(300.0, 3600.0)
    assert [steps.after(n) / 60 for n in range(1, 8)] == [5, 10, 20, 40, 60, 60, 60]
    assert doubling(60.0, 60.0) == Steps((), 60.0)


def test_profiles_are_chosen_for_all_and_for_a_connector() -> None:
    found = settings(
        "[queue]\nretry_profile = kerio\nmessage_lifetime = 1d\n" + ISP + "retry_profile = patient\n" + OWN
    )
    assert (found.queue.retry_profile, found.queue.message_lifetime, found.queue.delay_warning) == (
        "kerio",
        86400,
        None,
    )
    (isp,) = found.connectors
    assert (isp.retry_profile, isp.message_lifetime, isp.delay_warning) == ("patient", None, None)


def test_a_profile_may_inherit_from_another() -> None:
    found = settings(OWN + "[quick : patient]\nbounce_after = 1d\n")
    quick = next(one for one in found.retries if one.name == "quick")
    assert (quick.steps.last, quick.bounce_after) == (600.0, 86400.0)


def test_what_is_shown_can_be_read_again() -> None:
    found = settings(ISP + OWN)
    again = read(show(found), "kmq.conf", "/etc/kmq", "mx1.example.org")
    assert (again.retries, again.queue, again.connectors) == (found.retries, found.queue, found.connectors)


@pytest.mark.parametrize(
    ("text", "line", "told"),
    [
        ("[queue]\nretry_profile = exchnge\n", 2, r"no retry profile 'exchnge': .*; did you mean 'exchange'"),
        (ISP + "retry_profile = patent\n" + OWN, 5, r"no retry profile 'patent': .*patient.*did you mean 'patient'"),
        ("[queue]\nretry_profile = a b\n", 2, r"'a b' is no name of a profile"),
        ("[queue]\nmessage_lifetime = never\n", 2, r"'never' is no duration"),
        ("[queue]\nmessage_lifetime = 0\n", 2, r"too little: at least 1s"),
        ("[own : retry]\nsteps = 4 x 1m\n", 2, r"'4 x 1m' stands last: .* such as 4 x 1m, 6 x 5m, 10m"),
        ("[own : retry]\nsteps =\n", 2, r"there is no wait: write them as 4 x 1m"),
        ("[own : retry]\nsteps = 0 x 1m, 5m\n", 2, r"0 is too little: at least 1"),
        ("[own : retry]\nsteps = x 1m, 5m\n", 2, r"'' is no whole number"),
        ("[own : retry]\nsteps = 1m, 60d\n", 2, r"60d is too much: at most 30d"),
        ("[own : retry]\nwarn_after = 5d\n", 2, r"warn_after is not before bounce_after"),
        ("[kerio : retry]\nattempts = 5\n", 1, r"the profile kerio is built in: give this one another name"),
        ("[queue]\nundeliverable_notices = bounce\n", 2, r"'bounce' is not one of postmaster, poison, drop"),
        ("[queue]\nbounce_size_limit = 20M\n", 2, r"too much: at most 512K"),
    ],
)
def test_a_mistake_is_told_with_its_line_and_what_would_be_right(text: str, line: int, told: str) -> None:
    with pytest.raises(ConfigError) as wrong:
        settings(text)
    assert wrong.value.exit_status == 78
    assert str(wrong.value).startswith(f"kmq.conf:{line}: ")
    assert re.search(told, str(wrong.value)), str(wrong.value)
