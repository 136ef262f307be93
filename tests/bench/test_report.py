"""The benchmark's arithmetic: what it prints must be what it measured."""

import math

import pytest

from bench.report import Measure, lines, part, percentile, ratios, spread, table, times

NAN = float("nan")


def itself(run: float) -> float:
    return run


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
    assert spread([NAN, 2.0]) == "2"
    assert spread([NAN]) == spread([]) == ""


def test_ratios_are_taken_pair_by_pair():
    assert ratios([2600, 2000, 2800], [1000, 500, 1400], itself) == [2.6, 4.0, 2.0]
    assert ratios([NAN, 3, 3], [1, NAN, 0], itself) == [], "a pair that lacks one has none"


@pytest.mark.parametrize(("found", "met"), [(5.0, True), (4.99, False)])
def test_a_rate_is_held_against_the_median_of_the_pairs(found, met):
    goal = times(5, "messages/s", itself)([found * 100, 100, 900], [100, 100, 100])
    assert (goal.wish, goal.found, goal.met) == ("messages/s: at least 5 times Postfix's", f"{found:.2f} times", met)


@pytest.mark.parametrize(("whole", "cost", "met"), [(6, 0.5, True), (6, 0.51, False), (1, 2.9, True), (1, 3.0, False)])
def test_a_cost_is_a_part_of_postfix_s(whole, cost, met):
    goal = part(whole, "processor ms", itself)([cost], [3.0])
    assert goal.met is met
    assert goal.found == f"1/{3 / cost:.2f}"


def test_no_figures_reach_no_goal():
    assert not times(0.1, "messages/s", itself)([], []).met
    assert not part(1, "listing", itself)([NAN], [1.0]).met


def test_each_measure_is_a_line_with_a_ratio_for_each_other():
    measures = (Measure("messages/s", itself), Measure("lost", lambda run: NAN))
    (cells,) = lines(measures, {"kmq": [2600.0, 2000.0], "postfix": [1000.0, 1000.0], "exim": [500.0, 500.0]})
    assert cells == (
        "  messages/s",
        "2,300 [2,000..2,600]",
        *("1,000 [1,000..1,000]", "2.30 [2.00..2.60]"),
        *("500 [500..500]", "4.60 [4.00..5.20]"),
    )


def test_the_table_s_headings_push_no_column_aside():
    text = table(["kmq", "Postfix"], [("a heading that is longer than all of its lines",), ("  a", "1", "2", "0.50")])
    assert text.splitlines() == [
        "     kmq  Postfix  kmq / Postfix",
        "a heading that is longer than all of its lines",
        "  a  1    2        0.50",
    ]
