"""The table of the very long queue, and the spool that it is filled with."""

from dataclasses import replace
from pathlib import Path

from bench.filling import Waiting, fill
from bench.fresh import Fresh
from bench.million_report import Known, Run, Start, goals, table
from kmq.model import queue_id
from kmq.spool import layout, loading
from kmq.spool.disk import Disk

QUIET = {"receiver": 20.0, "scheduler": 30.0}
FIRST = Start("first start", 0.8, 3.0, 70.0, 200.0, Known(1000, 0), 300_000_000, QUIET)
AGAIN = replace(FIRST, name="after SIGKILL", loaded=22.0, known=Known(1000, 900))
RUN = Run(1000, [FIRST, AGAIN], Fresh([2.0, 3.0]), Fresh([2.2, 3.3]), 20_000, 320_000, 310_000_000, QUIET)


def missed(run: Run) -> list[str]:
    return [goal.wish for goal in goals(run) if not goal.met]


def test_what_is_good_is_good() -> None:
    """A first start has no index: how long that takes is told, and is no goal."""
    assert missed(RUN) == []
    assert "300" in table(RUN) and "900" in table(RUN)


def test_each_goal_is_missed_by_its_own_figure() -> None:
    late = replace(AGAIN, loaded=31.0)
    assert missed(replace(RUN, starts=[FIRST, late])) == ["after SIGKILL: all known within 30 s"]
    short = replace(AGAIN, known=Known(999, 900))
    assert missed(replace(RUN, starts=[FIRST, short])) == ["after SIGKILL: all known within 30 s"]
    silent = replace(FIRST, greeted=2.1)
    assert missed(replace(RUN, starts=[silent, AGAIN])) == ["first start: SMTP answers within 2 s"]
    stalled = replace(AGAIN, stalls={"receiver": 20.0, "scheduler": 201.0})
    assert missed(replace(RUN, starts=[FIRST, stalled])) == ["after SIGKILL: no stall above 200 ms"]
    assert missed(replace(RUN, full=421_000)) == ["at most 400 bytes a message in the scheduler"]
    fat = replace(FIRST, pss=501_000_000)
    assert missed(replace(RUN, starts=[fat, AGAIN])) == ["at most 500 MB in all processes"]
    assert missed(replace(RUN, crowded=Fresh([2.2, 6.5]))) == [
        "fresh mail, median: at most 1.2 times",
        "fresh mail, p99: at most 2 times",
    ]


def test_a_loop_that_was_never_asked_is_no_quiet_one() -> None:
    unasked = {"receiver": float("nan"), "scheduler": float("nan")}
    assert missed(replace(RUN, stalls=unasked)) == ["at rest: no stall above 200 ms"]


def test_a_spool_is_filled_with_mail_that_kmq_can_read(tmp_path: Path) -> None:
    spool = tmp_path / "spool"
    (spool / "queue").mkdir(parents=True)
    ids = fill(spool, Waiting(500, lambda n: f"d{n % 7}.test", lambda n: 60 if n % 2 else 0))
    disk = Disk(spool)
    layout.prepare(disk)
    found = [one for some in loading.everything(disk) for one in some]
    disk.close()
    assert [queue_id.text(one.id) for one in found] == ids
    assert all(isinstance(one, loading.Loaded) and one.state.results == [1] for one in found)
