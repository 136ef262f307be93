"""So many files a minute, in whatever minute."""

from hypothesis import given
from hypothesis import strategies as st

from kmq.run.drop_pace import MINUTE, Pace


def test_what_is_above_the_limit_waits_for_the_oldest_to_be_a_minute_old() -> None:
    pace = Pace(2)
    for now in (0.0, 10.0):
        assert pace.wait(now) == 0
        pace.count(now)
    assert pace.wait(10.0) == 50.0
    assert pace.wait(60.0) == 0
    pace.count(60.0)
    assert pace.wait(60.0) == 10.0


def test_one_that_was_none_does_not_count() -> None:
    pace = Pace(1)
    pace.count(0.0)
    pace.uncount()
    assert pace.wait(0.0) == 0


def test_a_new_limit_counts_at_once() -> None:
    pace = Pace(3)
    for now in (0.0, 1.0, 2.0):
        pace.count(now)
    pace.per_minute = 1
    assert pace.wait(2.0) == 60.0, "the last one is a minute old"
    pace.per_minute = 4
    assert pace.wait(2.0) == 0


@given(st.integers(1, 5), st.lists(st.floats(0, 40), max_size=60))
def test_no_minute_holds_more_than_the_limit(limit: int, pauses: list[float]) -> None:
    pace, now, taken = Pace(limit), 0.0, []
    for pause in pauses:
        now += pause
        if pace.wait(now) == 0:
            pace.count(now)
            taken.append(now)
    for first in taken:
        assert sum(first <= one < first + MINUTE for one in taken) <= limit
