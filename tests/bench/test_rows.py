"""The rows of the benchmark: what each holds kmq to, by figures that just reach it and just miss it."""

import argparse
from dataclasses import replace

import pytest

from bench.__main__ import by_turns, chosen, judged
from bench.draining import Drain
from bench.idle import Idle
from bench.load import Load
from bench.report import lines
from bench.rows import FIRST, ROWS
from bench.steady import Steady


def run(**more) -> Steady:
    facts = {
        "mta": "kmq",
        "seconds": 60.0,
        "messages": 60_000,
        "rate": 1000.0,
        "rate_loaded": 1010.0,
        "cpu": {"one": 0.5, "two": 1.5},
        "waits": [5.0, 9.0],
        "during_checkpoint": [],
        "unanswered": 0,
        "checkpoints": 0,
        "sink_waits": [8.0, 12.0],
        "astray": 0,
        "memory": 100_000_000,
        "sync": 1.0,
    }
    return Steady(**(facts | more))


POSTFIX = {
    "steady": run(mta="Postfix"),
    "idle": Idle("Postfix", [2.0, 3.0, 4.0]),
    "drain": Drain("Postfix", 20_000, 1200.0, 2.0, [0.5, 0.6, 0.4]),
}
GOOD = {
    "steady": run(rate=6000.0, cpu={"one": 0.1, "two": 0.2}, during_checkpoint=[9.0, 50.0], checkpoints=5, sync=10.0),
    "idle": Idle("kmq", [1.0, 2.9, 9.0]),
    "drain": Drain("kmq", 20_000, 3600.0, 0.3, [0.3, 0.4, 0.49]),
}


def kind(row: str) -> str:
    return row if row in ("idle", "drain") else "steady"


def missed(row: str, ours: object) -> list[str]:
    goals = judged(ROWS[row], {"kmq": [ours], "postfix": [POSTFIX[kind(row)]]})
    return [goal.wish.removeprefix(ROWS[row].title + ": ") for goal in goals if not goal.met]


@pytest.mark.parametrize("row", ROWS)
def test_what_is_fast_enough_reaches_every_goal(row):
    assert missed(row, GOOD[kind(row)]) == []


@pytest.mark.parametrize(
    ("row", "change", "wish"),
    [
        ("one", {"rate": 4999.0}, "messages/s: at least 5 times Postfix's"),
        ("one", {"cpu": {"one": 0.34}}, "processor ms: at most 1/6 of Postfix's"),
        ("one", {"during_checkpoint": [50.1]}, "dot to 250 in a checkpoint, p99: at most 50 ms"),
        ("one", {"during_checkpoint": []}, "dot to 250 in a checkpoint, p99: at most 50 ms"),
        ("one", {"checkpoints": 4}, "at least 5 checkpoints in every run"),
        ("kept", {"rate": 5999.0}, "messages/s: at least 6 times Postfix's"),
        ("large", {"rate": 2999.0}, "messages/s: at least 3 times Postfix's"),
        ("recipients", {"rate": 1999.0}, "messages/s: at least 2 times Postfix's"),
        ("accept", {"checkpoints": 4}, "at least 5 checkpoints in every run"),
        ("idle", {"waits": [3.0]}, "one message while idle, median: less than Postfix's"),
        ("drain", {"rate": 3599.0}, "drain, messages/s: at least 3 times Postfix's"),
        ("drain", {"listings": [0.3, 0.5, 0.6]}, "listing: less than Postfix's"),
        ("slow200", {"rate": 2999.0}, "messages/s: at least 3 times Postfix's"),
    ],
)
def test_a_goal_is_missed_when_its_figure_is(row, change, wish):
    assert missed(row, replace(GOOD[kind(row)], **change)) == [wish]


@pytest.mark.parametrize(("rate", "wishes"), [(1067.0, 0), (1066.0, 1)])
def test_twenty_connections_are_held_against_the_disk_s_own_syncs(rate, wishes):
    found = missed("slow20", run(rate=rate, sync=10.0))
    assert len(found) == wishes
    assert all("at least 0.8 of what syncs allow (1,067/s)" in wish for wish in found)


@pytest.mark.parametrize("row", ROWS)
def test_every_row_tells_its_runs(row):
    ours, theirs = GOOD[kind(row)], POSTFIX[kind(row)]
    assert ROWS[row].tell(ours).startswith("kmq ")
    found = {cells[0].strip(): cells[1:] for cells in lines(ROWS[row].measures, {"kmq": [ours], "postfix": [theirs]})}
    assert "probes without 250" not in found, "nothing went wrong"
    if kind(row) == "steady":
        assert found["messages/s"] == ("6,000", "1,000", "6.00")
        assert found["dot to 250 in a checkpoint, p99 ms"] == ("50.0", "", "")
        assert ("dot to sink, p99 ms" in found) == (row != "accept"), "nothing arrives while the next hop is down"


def test_who_is_first_changes_from_pair_to_pair():
    order: list[str] = []

    class Deaf:
        def __getattr__(self, name):
            raise AssertionError(name)

    row = replace(ROWS["one"], measure=lambda ground, name: order.append(name) or run(mta=name))
    runs = by_turns(Deaf(), row, ["kmq", "postfix", "exim"], 2)
    assert order == ["exim", "postfix", "kmq", "kmq", "postfix", "exim"]
    assert {name: len(of) for name, of in runs.items()} == {"kmq": 2, "postfix": 2, "exim": 2}


def test_most_rows_know_postfix_alone():
    row = replace(ROWS["drain"], measure=lambda ground, name: GOOD["drain"])
    assert list(by_turns(None, row, ["kmq", "postfix", "exim"], 1)) == ["kmq", "postfix"]


@pytest.mark.parametrize(
    ("rows", "only", "single", "found"),
    [
        ("", None, 50, list(FIRST)),
        ("", "kmq", 50, ["one", "idle"]),
        ("", "kmq", 0, ["one"]),
        ("drain,slow20", None, 50, ["drain", "slow20"]),
        ("all", None, 50, list(ROWS)),
    ],
)
def test_rows_are_chosen(rows, only, single, found):
    options = argparse.Namespace(rows=rows, only=only, idle=single)
    assert chosen(argparse.ArgumentParser(), options) == found


def test_an_unknown_row_is_refused():
    with pytest.raises(SystemExit):
        chosen(argparse.ArgumentParser(), argparse.Namespace(rows="two", only=None, idle=50))


def test_a_load_is_what_smtp_source_takes():
    assert Load(size=512, connections=3, recipients=50, kept=True).options() == [
        *("-s", "3", "-l", "512", "-r", "50"),
        "-d",
    ]
    assert "-d" not in Load().options()
