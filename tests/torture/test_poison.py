"""A message that kills workers is found among hundreds, and set aside; it is never one of the others."""

import asyncio
import itertools
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from random import Random

import pytest

from kmq.model.envelope import fold
from kmq.model.event import Crashed, Moved
from kmq.model.moment import from_text
from tests.postfix import Postfix
from tests.torture.hops import FAR, LATE, World, world
from tests.torture.kmqd import Kmqd
from tests.torture.ledger import Death, Ledger
from tests.torture.senders import Mix, Senders
from tests.waiting import until

pytestmark = pytest.mark.postfix

_ENDED = re.compile(r"^(\S+) .*ended child=(worker-\d) pid=(\d+)", re.MULTILINE)


class Evil(Mix):
    """Letters to hops that take their time; one of them, in the midst, does `deed` to the worker that looks at it."""

    def __init__(self, deed: str, after: int) -> None:
        super().__init__(Random(1), large=0.0)
        self._deed = deed
        self._left = after
        self.token = ""

    def recipients(self, token: str) -> list[str]:
        self._left -= 1
        if self._left == 0:
            self.token = token
            return [f"{self._deed}-{token}@{FAR}"]
        return [f"good-{token}@{LATE if self._left % 4 == 0 else FAR}"]


class Lingering(Mix):
    """Of all kinds; every fourth is in a worker's hands for a second, long enough to be shown there."""

    def __init__(self) -> None:
        super().__init__(Random(3))
        self._count = itertools.count(1)

    def recipients(self, token: str) -> list[str]:
        found = super().recipients(token)
        return [f"one-{token}@{LATE}"] if next(self._count) % 4 == 0 else found


@pytest.fixture
def around(postfix: Postfix) -> Iterator[World]:
    with world(postfix) as one:
        yield one


def flow(kmqd: Kmqd, ledger: Ledger, mix: Mix, letters: int) -> None:
    """So many letters are sent, and acknowledged."""

    async def send() -> None:
        senders = Senders(kmqd.port, ledger, mix)
        senders.go(letters)
        await senders.done()

    asyncio.run(send())
    assert ledger.answered == letters


def judge(kmqd: Kmqd, around: World, ledger: Ledger, evil: str) -> list[str]:
    """What is wrong, the evil one beside."""
    ledger.queued.add(evil)
    for at, name, pid in _ENDED.findall(kmqd.log):
        ledger.deaths.append(Death(name, from_text(at), from_text(at), frozenset({int(pid)})))
    around.gather(kmqd, ledger)
    assert all(copy.token != evil for copy in ledger.copies), "the evil one was delivered"
    return ledger.judge().wrong


def story(kmqd: Kmqd) -> list[object]:
    """The events of the one message in poison/."""
    (path,) = kmqd.poison()
    folded = fold(path.read_bytes())
    assert folded is not None
    assert path.with_suffix(".eml").stat().st_size == folded[0].size
    return list(folded[2])


@pytest.mark.parametrize("workers", [1, 2])
def test_one_in_two_hundred_kills_its_worker(workers: int, tmp_path: Path, around: World) -> None:
    kmqd = Kmqd(tmp_path / "k", around.hops, workers=workers, within={"KMQ_EVIL": "1"})
    ledger, evil = Ledger(), Evil("abort", 100)
    try:
        kmqd.start()
        flow(kmqd, ledger, evil, 200)
        until(kmqd.poison, "the evil one is set aside", 60)
        kmqd.drain()
        assert judge(kmqd, around, ledger, evil.token) == []
        events = story(kmqd)
        crashes = [one for one in events if isinstance(one, Crashed)]
        assert [(one.count, one.phase) for one in crashes] == [(1, "Executing"), (2, "Executing")]
        moved = events[-1]
        assert isinstance(moved, Moved) and moved.home == "poison" and "Executing" in moved.reason
        assert len(_ENDED.findall(kmqd.log)) == 3, "once among others, twice alone"
        assert kmqd.stop() == 0
    finally:
        kmqd.close()


def test_our_own_exception_costs_no_worker(tmp_path: Path, around: World) -> None:
    kmqd = Kmqd(tmp_path / "k", around.hops, within={"KMQ_EVIL": "1"})
    ledger, evil = Ledger(), Evil("raise", 50)
    try:
        kmqd.start()
        flow(kmqd, ledger, evil, 100)
        until(kmqd.poison, "the evil one is set aside", 60)
        kmqd.drain()
        assert judge(kmqd, around, ledger, evil.token) == []
        crashes = [one for one in story(kmqd) if isinstance(one, Crashed)]
        assert [one.count for one in crashes] == [1, 2]
        assert all("a mistake in a phase" in one.trace and "categorize" in one.trace for one in crashes)
        assert not _ENDED.findall(kmqd.log), "the workers live"
        assert kmqd.stop() == 0
    finally:
        kmqd.close()


def test_a_worker_that_stands_still_is_ended_and_that_counts(tmp_path: Path, around: World) -> None:
    queue = "phase_limit = 2500ms\npoison_threshold = 1"
    kmqd = Kmqd(tmp_path / "k", around.hops, queue=queue, within={"KMQ_EVIL": "1"})
    ledger, evil = Ledger(), Evil("hang", 30)
    try:
        kmqd.start()
        flow(kmqd, ledger, evil, 60)
        until(kmqd.poison, "the evil one is set aside", 60)
        kmqd.drain()
        wrong = judge(kmqd, around, ledger, evil.token)
        assert [one for one in wrong if not one.startswith("TWICE")] == [], "it had mail behind the final dot in hand"
        (crash,) = [one for one in story(kmqd) if isinstance(one, Crashed)]
        assert (crash.count, crash.phase) == (1, "Executing")
        assert "stood still" in kmqd.log and 'File "' in kmqd.log, "and where it stood"
        assert kmqd.stop() == 0
    finally:
        kmqd.close()


def test_a_worker_killed_from_outside_accuses_nobody(tmp_path: Path, around: World) -> None:
    kmqd = Kmqd(tmp_path / "k", around.hops, workers=1)
    ledger, mix = Ledger(), Lingering()
    try:
        kmqd.start()

        async def send() -> None:
            senders = Senders(kmqd.port, ledger, mix)
            for _ in range(5):
                senders.go(40)
                await asyncio.to_thread(until, partial(in_hand, kmqd), "the worker has mail")
                pid = kmqd.kill("worker-1")
                await asyncio.to_thread(until, lambda: kmqd.children().get("worker-1") != pid, "it is dead")  # noqa: B023
                await asyncio.to_thread(kmqd.ready)
            await senders.done()

        asyncio.run(send())
        kmqd.drain()
        assert judge(kmqd, around, ledger, "none") == []
        assert not kmqd.poison()
        assert "a worker died" not in kmqd.log and "a worker failed" not in kmqd.log
        assert len(_ENDED.findall(kmqd.log)) == 5
        assert kmqd.stop() == 0
    finally:
        kmqd.close()


def in_hand(kmqd: Kmqd) -> bool:
    """Whether the only worker has something."""
    status = kmqd.status("worker-1")
    return status is not None and bool(status.in_hand)
