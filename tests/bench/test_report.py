"""The benchmark's arithmetic: what it prints must be what it measured."""

import math

import pytest

from bench.report import Idle, goals, percentile, spread, table
from bench.steady import Steady


def run(mta: str, rate: float, cpu: float, waits: list[float], **more) -> Steady:
    facts = {"during_checkpoint": [], "unanswered": 0, "checkpoints": 0, "rate_loaded": rate, **more}
    parts = {"one": cpu / 4, "two": cpu * 3 / 4}
    return Steady(mta=mta, seconds=60, messages=int(60 * rate), rate=rate, cpu=parts, waits=waits, **facts)


@pytest.mark.parametrize(
    ("values", "share", "found"),
    [
        ([5.0], 0.99, 5),
        ([3.0, 1.0, 2.0], 0.5, 2),
        ([float(n) for n in range(1, 101)], 0.99, 99),
        ([float(n) for n in range(1, 101)], 0.5, 50),
        ([float(n) for n in range(1, 101)], 1.0, 100),
        ([float(n) for n in range(1, 102)], 0.99, 100),
    ],
)
def test_a_percentile_is_a_value_that_was_measured(values, share, found):
    assert percentile(values, share) == found


def test_of_nothing_there_is_no_percentile():
    assert math.isnan(percentile([], 0.99))


def test_a_spread_names_the_median_and_both_ends():
    assert spread([2500.4, 2400.0, 2600.0]) == "2,500 [2,400..2,600]"
    assert spread([0.5], 2) == "0.50"


OURS = [
    run("kmq", 2600, 0.4, [5.0, 9.0], during_checkpoint=[9.0], checkpoints=6),
    run("kmq", 2000, 0.5, [5.0], during_checkpoint=[80.0], checkpoints=5),
    run("kmq", 2800, 0.5, [5.0], during_checkpoint=[70.0], checkpoints=7),
]
THEIRS = [run("Postfix", 1000, 2.0, [20.0]), run("Postfix", 1000, 2.0, [30.0]), run("Postfix", 1000, 2.0, [40.0])]
IDLE = (Idle("kmq", [1.0, 3.0, 9.0]), Idle("Postfix", [1.5, 2.0, 2.5]))


def test_ratios_are_taken_pair_by_pair():
    lines = {line.split("  ")[0]: line for line in table(OURS, THEIRS, IDLE).splitlines()}
    assert "2,600 [2,000..2,800]" in lines["messages/s, end to end"]
    assert lines["messages/s, end to end"].endswith("2.60 [2.00..2.80]")
    assert lines["processor ms per message"].endswith("0.25 [0.20..0.25]")
    assert lines["one message while idle, dot to sink, ms"].endswith("1.50")
    assert "80.0" in lines["dot to 250 in a checkpoint, p99 ms of 3"]


def test_all_goals_are_reached_by_their_medians():
    assert [goal.met for goal in goals(OURS, THEIRS, IDLE)] == [True] * 5


@pytest.mark.parametrize(
    ("change", "missed"),
    [
        ({"rate": 2400}, "2.5 times Postfix's messages/s"),
        ({"cpu": 0.7}, "a third of Postfix's processor time per message"),
        ({"during_checkpoint": [101.0]}, "p99 of dot to 250 in a checkpoint at most 100 ms"),
        ({"during_checkpoint": []}, "p99 of dot to 250 in a checkpoint at most 100 ms"),
        ({"checkpoints": 4}, "at least 5 checkpoints in every run"),
    ],
)
def test_a_goal_is_missed_when_its_figure_is(change, missed):
    facts = {"rate": 2600, "cpu": 0.4, "waits": [5.0], "during_checkpoint": [9.0], "checkpoints": 6, **change}
    assert [goal.wish for goal in goals([run("kmq", **facts)], THEIRS[:1], IDLE) if not goal.met] == [missed]


def test_the_idle_goal_is_missed_above_twice_the_other_s_median():
    slow = (Idle("kmq", [4.1]), IDLE[1])
    assert [goal.met for goal in goals(OURS, THEIRS, slow)] == [True] * 4 + [False]
