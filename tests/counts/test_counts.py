"""What an ordinary message costs each process, by counts: a change that makes it dearer is seen here.

Bounds are a tenth above what was counted. Who makes a message cheaper lowers them; who has a reason to make it dearer
raises them, and says why in the change. Load does not matter: each message is gone before the next begins, so nothing
is gathered, and these counts are the most that a message costs.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.counts.counting import Counted, Counts, calls, counted
from tests.run.desk import ISP, Desk, delivered, routed
from tests.run.test_scheduler_scale import lines_run

MESSAGES = 60


@dataclass(frozen=True)
class Bound:
    """The most that a message may cost a role: functions of Python and C called, system calls, turns of its loops,
    syncs, bytes written; each_second: the functions and system calls that are there without mail too."""

    functions: float
    calls: float
    wakes: float
    syncs: float
    written: float
    each_second: float


#: What comes alone, as here, has a head start: one turn more of the scheduler process, and one of the worker, where the
#: server's replies come in pieces when others are at work beside (6.5 of them were seen, 5.3 alone).
BOUNDS = {
    "receiver": Bound(functions=345, calls=37, wakes=10.5, syncs=0, written=6_000, each_second=600),
    "scheduler": Bound(functions=450, calls=50, wakes=9.5, syncs=2.5, written=20_000, each_second=8_000),
    "worker": Bound(functions=300, calls=15, wakes=7, syncs=0, written=6_200, each_second=600),
    "index": Bound(functions=2, calls=1, wakes=0.5, syncs=0, written=100, each_second=300),
}

#: Lines of Python that the pure core runs for a message, from `accepted` to `settled`.
LINES = 368


@pytest.fixture(scope="module")
def kmqd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Counted]:
    with counted(tmp_path_factory.mktemp("counts")) as one:
        yield one


@pytest.fixture(scope="module")
def untraced(kmqd: Counted) -> dict[str, Counts]:
    return kmqd.costs(MESSAGES, traced=False)


@pytest.fixture(scope="module")
def traced(kmqd: Counted, untraced: dict[str, Counts]) -> dict[str, Counts]:
    return kmqd.costs(MESSAGES, traced=True)


@pytest.mark.parametrize("role", BOUNDS)
def test_a_message_calls_no_more_functions(untraced: dict[str, Counts], role: str) -> None:
    found, bound = untraced[role], BOUNDS[role]
    assert found.python + found.c <= bound.functions * MESSAGES + bound.each_second * found.seconds


@pytest.mark.parametrize("role", BOUNDS)
def test_a_message_writes_no_more_bytes(untraced: dict[str, Counts], role: str) -> None:
    assert 0 <= untraced[role].written <= BOUNDS[role].written * (MESSAGES + untraced[role].seconds)


@pytest.mark.parametrize("role", BOUNDS)
def test_a_message_makes_no_more_system_calls(traced: dict[str, Counts], role: str) -> None:
    found, bound = traced[role], BOUNDS[role]
    assert sum(found.calls.values()) <= bound.calls * MESSAGES + bound.each_second * found.seconds, found.calls


@pytest.mark.parametrize("role", BOUNDS)
def test_a_message_wakes_no_loop_more_often(traced: dict[str, Counts], role: str) -> None:
    found, bound = traced[role], BOUNDS[role]
    assert found.wakes <= bound.wakes * MESSAGES + 30 * found.seconds


def test_a_message_is_synced_when_it_came_and_when_it_went(traced: dict[str, Counts]) -> None:
    """Twice, as nobody shares the batch here, unless a result is so late that the next message is there; and a
    checkpoint each second has some syncs of its own."""
    found = traced["scheduler"]
    assert MESSAGES < found.syncs <= BOUNDS["scheduler"].syncs * MESSAGES + 10 * found.seconds
    assert not traced["receiver"].syncs + traced["worker"].syncs


def test_what_is_counted_is_the_message_s_own_work(untraced: dict[str, Counts], traced: dict[str, Counts]) -> None:
    """A count of nothing would keep every bound."""
    for role in ("receiver", "scheduler", "worker"):
        assert untraced[role].python > 30 * MESSAGES
        assert untraced[role].written > 200 * MESSAGES
        assert traced[role].calls["epoll_pwait"] + traced[role].calls["epoll_wait"] > MESSAGES


def test_the_core_runs_no_more_lines_for_a_message() -> None:
    desk = Desk()

    def through() -> None:
        mid = desk.accept()
        assignment = desk.one()
        assert assignment.mid == mid
        desk.done(assignment, [routed(assignment, ISP), delivered(assignment)])

    through()
    assert lines_run(lambda: [through() for _ in range(20)]) / 20 <= LINES


def test_a_table_of_strace_is_read_as_it_prints_it() -> None:
    table = (
        "% time     seconds  usecs/call     calls    errors syscall\n"
        "------ ----------- ----------- --------- --------- ----------------\n"
        " 61.54    0.000008           4         2         1 read\n"
        " 38.46    0.000005           5         1           epoll_pwait\n"
        "------ ----------- ----------- --------- --------- ----------------\n"
        "100.00    0.000013           4         3         1 total\n"
    )
    assert calls(table) == {"read": 2, "epoll_pwait": 1}
