"""Places at a scanner: who waits, who is told to come again, and how a scanner that is back is found."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import pytest

from kmq.phases.desk import Desk
from kmq.phases.peers import Unanswered

T = TypeVar("T")
Run = Callable[[Coroutine[Any, Any, T]], T]

REFUSED = Unanswered("connection refused", True)
MUTE = Unanswered("it closed the connection without an answer")


class Scanner:
    """Answers what it is told, when it is told; the clock stands still unless it is turned."""

    def __init__(self, places: int = 2, limit: float = 60.0) -> None:
        self.now = 100.0
        self.desk = Desk(places, limit, lambda: self.now)
        self.asked = 0
        self.hands: list[asyncio.Future[str | Unanswered]] = []

    async def question(self) -> str | Unanswered:
        self.asked += 1
        mine: asyncio.Future[str | Unanswered] = asyncio.get_running_loop().create_future()
        self.hands.append(mine)
        return await mine

    def ask(self) -> "asyncio.Task[str | Unanswered]":
        return asyncio.get_running_loop().create_task(self.desk.ask(self.question))

    async def say(self, answer: str | Unanswered) -> None:
        await turn()
        self.hands.pop(0).set_result(answer)
        await turn()


async def turn() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


def test_no_more_than_the_places_are_asked_and_the_others_in_their_order(loop_runner: Run[Any]) -> None:
    async def play() -> None:
        scanner = Scanner(places=2)
        asked = [scanner.ask() for _ in range(4)]
        await turn()
        assert scanner.asked == 2
        await scanner.say("one")
        assert scanner.asked == 3
        for answer in ("two", "three", "four"):
            await scanner.say(answer)
        assert [one.result() for one in asked] == ["one", "two", "three", "four"]

    loop_runner(play())


def test_nobody_there_closes_it_at_once_and_nobody_waits(loop_runner: Run[Any]) -> None:
    async def play() -> None:
        scanner = Scanner(places=1)
        first, second, third = scanner.ask(), scanner.ask(), scanner.ask()
        await scanner.say(REFUSED)
        assert [one.result() for one in (first, second, third)] == [REFUSED] * 3
        assert await scanner.desk.ask(scanner.question) == REFUSED
        assert scanner.asked == 1
        scanner.now += 1.0
        looking, other = scanner.ask(), scanner.ask()
        await turn()
        assert scanner.asked == 2, "one looks, the others do not"
        assert other.result() == REFUSED
        await scanner.say("here again")
        assert looking.result() == "here again"
        assert scanner.desk.closed is None

    loop_runner(play())


@pytest.mark.parametrize(
    ("trouble", "pauses"),
    [
        (MUTE, [1.0, 2.0, 5.0, 10.0, 20.0, 20.0]),
        (REFUSED, [1.0, 2.0, 2.0, 2.0, 2.0, 2.0]),  # to look costs next to nothing
    ],
)
def test_each_look_in_vain_makes_the_next_one_later(
    loop_runner: Run[Any], trouble: Unanswered, pauses: list[float]
) -> None:
    async def play() -> list[float]:
        scanner, waits = Scanner(places=1), []
        while scanner.desk.closed is None:
            scanner.ask()
            await scanner.say(trouble)
        for _ in range(6):
            since = scanner.now
            while scanner.desk.closed is not None:
                scanner.now += 0.5
            waits.append(scanner.now - since)
            scanner.ask()
            await scanner.say(trouble)
        return waits

    assert loop_runner(play()) == pauses


def test_one_message_that_a_scanner_chokes_on_keeps_no_other_from_it(loop_runner: Run[Any]) -> None:
    async def play() -> None:
        scanner = Scanner(places=3)
        for answer in (MUTE, MUTE, "fine", MUTE, MUTE):
            asked = scanner.ask()
            await scanner.say(answer)
            assert asked.result() == answer
            assert scanner.desk.closed is None
        scanner.ask()
        await scanner.say(MUTE)
        assert scanner.desk.closed == MUTE, "three in a row"

    loop_runner(play())


def test_a_scanner_that_hangs_is_left_at_the_limit_and_so_is_the_line(loop_runner: Run[Any]) -> None:
    async def play() -> list[str | Unanswered]:
        scanner = Scanner(places=2, limit=0.05)
        async with asyncio.timeout(20):
            return await asyncio.gather(*(scanner.ask() for _ in range(8)))

    said = loop_runner(play())
    whys = {one.why for one in said if isinstance(one, Unanswered)}
    assert len([one for one in said if isinstance(one, Unanswered)]) == 8
    assert whys <= {"no answer within 0.05 s", "all 2 connections of this worker are busy for 0.05 s"}


def test_what_was_asked_before_it_closed_tells_nothing_new(loop_runner: Run[Any]) -> None:
    async def play() -> None:
        scanner = Scanner(places=5)
        for _ in range(5):
            scanner.ask()
        for _ in range(5):
            await scanner.say(REFUSED)
        scanner.now += 1.0
        assert scanner.desk.closed is None, "five that failed together are one failure"

    loop_runner(play())


@pytest.mark.parametrize("waiting", [False, True])
def test_who_is_cancelled_leaves_his_place_to_others(loop_runner: Run[Any], waiting: bool) -> None:
    async def play() -> None:
        scanner = Scanner(places=1)
        first, second, third = scanner.ask(), scanner.ask(), scanner.ask()
        await turn()
        (second if waiting else first).cancel()
        await turn()
        if not waiting:
            scanner.hands.pop(0)
            await scanner.say("two")
            assert second.result() == "two"
        else:
            await scanner.say("one")
            assert first.result() == "one"
        await scanner.say("three")
        assert third.result() == "three"

    loop_runner(play())


def test_an_error_of_the_system_is_an_answer_and_another_one_is_not(loop_runner: Run[Any]) -> None:
    async def play() -> None:
        scanner = Scanner(places=1)

        async def refused() -> str:
            raise ConnectionResetError(104, "x")

        async def mistaken() -> str:
            raise KeyError("ours")

        assert await scanner.desk.ask(refused) == Unanswered("connection reset by peer")
        with pytest.raises(KeyError):
            await scanner.desk.ask(mistaken)
        asked = scanner.ask()
        await scanner.say("the place is free")
        assert asked.result() == "the place is free"

    loop_runner(play())
