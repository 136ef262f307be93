"""Processes look at themselves at the same moments: each second while something happens, each five at rest."""

import pytest

from kmq.spool.rhythm import QUIET, REST, pause, until_next


@pytest.mark.parametrize(
    ("now", "stirred", "next_look"),
    [
        (100.25, 100.0, 101.0),
        (100.0, 99.0, 101.0),
        (100.25, 100.25 - QUIET + 0.01, 101.0),
        (100.25, 100.25 - QUIET, 105.0),
        (104.999, 0.0, 110.0),
        (105.001, 0.0, 110.0),
    ],
)
def test_who_has_been_quiet_for_long_looks_less_often(now: float, stirred: float, next_look: float) -> None:
    assert now + pause(now, stirred) == pytest.approx(next_look)


def test_all_wake_up_together_whenever_they_began() -> None:
    assert {round(now + until_next(REST, now), 6) for now in (95.1, 97.0, 98.6, 99.5)} == {100.0}


def test_a_timer_that_came_a_little_early_does_not_come_twice() -> None:
    assert 99.9991 + until_next(REST, 99.9991) == pytest.approx(105.0)
