"""The scheduler's core with a crowd in it, by counts: lines of program that run, bytes that stay.

Twice the crowd is twice the work for what is done to all of it, and none more for what is done to one.
"""

import gc
import random
import sys
import tracemalloc
from collections.abc import Callable, Iterable
from types import FrameType
from typing import Any

import pytest

from kmq.config.sections import QueueSection
from kmq.run.assignment import Start
from kmq.run.numbers import Numbers
from kmq.run.scheduler import Scheduler
from kmq.run.share import Part
from tests.run.desk import BEGIN, Desk, remote

#: A message may cost so many bytes of the scheduler process.
BYTES = 400

FEW, MANY = 800, 2400


def lines_run(act: Callable[[], object]) -> int:
    """How many lines of Python ran: what does the same for three times as many takes three times as many."""
    count = 0

    def local(_: FrameType, event: str, __: Any) -> Any:
        nonlocal count
        if event == "line":
            count += 1
        return local

    before = sys.gettrace()
    gc.collect()
    gc.disable()  # else what other tests left may be finalized here, in lines of its own
    sys.settrace(lambda *_: local)
    try:
        act()
    finally:
        sys.settrace(before)
        gc.enable()
    return count


def crowd(messages: int, domains: int, wait: float = 600.0) -> tuple[Desk, list[int]]:
    """Mail over these domains whose first attempt has failed, and that waits for the next for `wait` seconds."""
    desk = Desk()
    mids = [desk.mid(BEGIN - 60) for _ in range(messages)]
    for n, mid in enumerate(mids):
        desk.load(mid, [((0,), remote(n % domains), 2, desk.wall + wait if wait else 0.0)])
    return desk, mids


def each(desk: Desk, verb: str, mids: Iterable[int]) -> None:
    act = getattr(desk.scheduler.verbs, verb)
    for mid in mids:
        act(mid, desk.now)


@pytest.mark.parametrize("domains", [1, 5])
@pytest.mark.parametrize("wait", [0.0, 600.0])
@pytest.mark.parametrize("verbs", [("suspend", "resume"), ("retry",), ("resubmit",), ("remove", "removed")])
def test_a_verb_on_everything_costs_as_much_for_each_message_of_many_as_of_few(
    verbs: tuple[str, ...], wait: float, domains: int
) -> None:
    def cost(messages: int) -> float:
        desk, mids = crowd(messages, domains, wait)
        return lines_run(lambda: [each(desk, verb, mids) for verb in verbs]) / messages

    assert cost(MANY) < 1.3 * cost(FEW)


def test_what_is_tried_again_and_again_does_not_look_through_its_queue_each_time() -> None:
    def cost(messages: int) -> int:
        desk, mids = crowd(messages, 1, wait=0.0)

        def dead(assignment: Any) -> None:
            desk.unavailable(assignment)

        desk.run_until(desk.now, dead)

        def try_each() -> None:
            for mid in mids[:100]:
                desk.scheduler.verbs.retry(mid, desk.now)
                while given := desk.assign():
                    for assignment in given:
                        dead(assignment)

        return lines_run(try_each)

    assert cost(MANY) < 1.3 * cost(FEW)


def test_whose_time_has_come_is_found_by_a_look_after_the_pause() -> None:
    desk, _ = crowd(5, 1, wait=0.0)
    desk.run_until(desk.now, desk.unavailable)
    desk.wait(30 * 86400)
    given = []
    while not given:
        desk.wait(60)
        for assignment in desk.assign():
            if assignment.expire:
                given.append(assignment)
            else:
                desk.unavailable(assignment)
    assert given


def test_fresh_mail_is_handed_out_in_the_turn_in_which_it_comes_whatever_waits() -> None:
    desk, mids = crowd(MANY, 50, wait=0.0)
    healthy = desk.queued(remote(9999))
    first = [one.mid for one in desk.assign()]
    assert healthy in first, "the dead and the doubtful do not take all workers"
    assert len(first) < len(mids)


def test_one_message_costs_the_same_beside_a_crowd() -> None:
    def cost(messages: int) -> int:
        desk, _ = crowd(messages, 50)

        def one() -> None:
            mid = desk.accept()
            for assignment in desk.assign():
                assert assignment.mid == mid
                desk.delivered(assignment)

        one()
        return lines_run(one)

    assert cost(MANY) == cost(FEW)


@pytest.mark.parametrize("domains", [1, 200])
def test_a_message_costs_at_most_400_bytes(domains: int) -> None:
    messages = 20_000
    start = Start(0.0, BEGIN, 1 << 60, frozenset(), 1)
    hops = [remote(n) for n in range(domains)]
    tracemalloc.start()
    try:
        core, numbers = Scheduler(QueueSection(), random.random, start), Numbers()
        for n in range(messages):
            mid = (BEGIN - 3600 + n // 100) << 32 | n
            core.loaded(mid, [Part((0,), hops[n % domains], 2, BEGIN + 600 + n % 600)], 0.0)
            numbers.begin(mid, 3)
        used, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(core) == messages
    assert used / messages < BYTES
