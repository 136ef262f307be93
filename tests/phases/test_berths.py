"""Who gets a connection to a server that many domains share."""

import asyncio
from dataclasses import dataclass

import pytest

from kmq.phases.berths import Berth, Berths

A, B = (("192.0.2.1", 25), ""), (("192.0.2.2", 25), "")


@dataclass(eq=False)
class Kept:
    """A connection without a wire."""

    usable: bool = True

    def quit(self) -> None:
        self.usable = False


async def waiting(berth: Berth, fresh: bool = False) -> "asyncio.Task[object]":
    task: asyncio.Task[object] = asyncio.create_task(berth.take(fresh))  # type: ignore[arg-type]
    await asyncio.sleep(0)
    return task


def test_so_many_may_be_opened_then_one_waits_for_its_turn() -> None:
    async def play() -> None:
        berth = Berth(2)
        assert [await berth.take(), await berth.take()] == [None, None]
        first, second = await waiting(berth), await waiting(berth)
        assert berth.wanted
        kept = Kept()
        berth.rest(kept)
        assert await first is kept, "in the order of asking"
        berth.leave()
        assert await second is None, "the place of one that ended"
        assert (berth.open, berth.wanted) == (2, False)
        berth.leave()
        berth.leave()
        assert berth.unused

    asyncio.run(play())


def test_a_kept_connection_is_taken_before_one_is_opened() -> None:
    async def play() -> None:
        berth, dead, kept = Berth(5), Kept(), Kept()
        for one in (await berth.take(), await berth.take()):
            assert one is None
        berth.rest(kept)
        berth.rest(dead)
        dead.usable = False
        assert await berth.take() is kept
        assert await berth.take() is None
        assert berth.open == 3

    asyncio.run(play())


def test_one_that_is_busy_again_is_nobody_elses() -> None:
    async def play() -> None:
        berth, kept = Berth(1), Kept()
        await berth.take()
        berth.rest(kept)
        berth.busy(kept)
        turn = await waiting(berth)
        assert not turn.done()
        berth.rest(kept)
        assert await turn is kept

    asyncio.run(play())


def test_a_fresh_one_takes_the_place_of_an_idle_one() -> None:
    async def play() -> None:
        berth, kept = Berth(1), Kept()
        await berth.take()
        berth.rest(kept)
        turn = await waiting(berth, fresh=True)
        assert not kept.usable, "it was told to go"
        berth.leave()
        assert await turn is None
        assert berth.open == 1

    asyncio.run(play())


def test_a_fresh_one_leaves_idle_ones_alone_while_there_is_room() -> None:
    async def play() -> None:
        berth, kept = Berth(2), Kept()
        await berth.take()
        berth.rest(kept)
        assert await berth.take(fresh=True) is None
        assert kept.usable
        assert await berth.take() is kept

    asyncio.run(play())


def test_a_fresh_one_sends_away_what_it_is_given() -> None:
    async def play() -> None:
        berth, kept = Berth(1), Kept()
        await berth.take()
        turn = await waiting(berth, fresh=True)
        berth.rest(kept)
        await asyncio.sleep(0)
        assert not kept.usable and not turn.done()
        berth.leave()
        assert await turn is None

    asyncio.run(play())


@pytest.mark.parametrize("what", ["connection", "place"])
def test_who_gives_up_in_the_moment_of_his_turn_gives_it_back(what: str) -> None:
    async def play() -> None:
        berth, kept = Berth(1), Kept()
        await berth.take()
        first, second = await waiting(berth), await waiting(berth)
        if what == "connection":
            berth.rest(kept)
        else:
            berth.leave()
        first.cancel()
        assert await second is (kept if what == "connection" else None)
        assert berth.open == 1
        with pytest.raises(asyncio.CancelledError):
            await first

    asyncio.run(play())


def test_a_turn_that_was_given_up_is_passed_over() -> None:
    async def play() -> None:
        berth = Berth(1)
        await berth.take()
        first, second = await waiting(berth), await waiting(berth)
        first.cancel()
        await asyncio.sleep(0)
        berth.leave()
        assert await second is None
        assert not berth.wanted

    asyncio.run(play())


def test_servers_without_connections_are_forgotten() -> None:
    async def play() -> None:
        berths = Berths(lambda server: 1)
        one = berths.at(A)
        assert berths.at(A) is one
        await one.take()
        berths.tidy()
        assert berths.at(A) is one
        one.leave()
        berths.tidy()
        assert berths.at(A) is not one

    asyncio.run(play())


def test_another_limit_counts_at_once() -> None:
    async def play() -> None:
        limits = {A: 1, B: 2}
        berths = Berths(limits.__getitem__)
        one = berths.at(A)
        await one.take()
        limits[A] = 2
        berths.measure()
        assert await one.take() is None
        assert berths.at(B).limit == 2

    asyncio.run(play())
