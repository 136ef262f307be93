"""The cord between supervisor and child: what is offered over it counts when it is said to, or leaves no trace."""

import asyncio
import os
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import cast

import pytest

from kmq.config import Settings, read
from kmq.errors import ConfigError
from kmq.model.frame import AnyFrame, Assign, Beat, Cancel, Commit, Frame, Prepared, Reload, Reloaded
from kmq.run.cord import Cord, Gift, Ward
from kmq.run.inheritance import Estate, Inheritance
from kmq.run.job import Job
from kmq.run.walk import Walk
from kmq.run.worker import Worker
from kmq.spool.status import StatusFile
from tests.waiting import free_port

DEADLINE = 20


def settings(level: str) -> Settings:
    text = f"[kmq]\nhostname = mx.example.org\nspool = spool\nlog_level = {level}\n"
    return read(f"{text}[smtp : receiver]\nlisten = 127.0.0.1:2525\n", "kmq.conf", "/nowhere")


class Supervisor:
    """Our end of a ward's cord. made: what the ward was offered, by log level; counts: what came to count."""

    def __init__(self) -> None:
        self.cord, theirs = Cord.pair()
        self.made: list[str] = []
        self.counts: list[str] = []
        self.gifts: list[Gift] = []
        self.refuse: Exception | None = None
        self.slowly: asyncio.Event | None = None
        self.ward = Ward(theirs, 1, self.make, lambda: 42)
        self.ward.begin()
        self.estate = Estate(settings("info"), {})

    def make(self, gift: Gift) -> Callable[[], Awaitable[None] | None]:
        level = gift.settings.kmq.log_level
        self.made.append(level)
        self.gifts.append(gift)
        if self.refuse:
            raise self.refuse

        async def slowly(gate: asyncio.Event) -> None:
            await gate.wait()
            self.counts.append(level)

        if self.slowly is not None:
            return lambda: slowly(self.slowly)  # type: ignore[arg-type]
        return lambda: self.counts.append(level)

    async def offer(self, level: str, *sockets: socket.socket) -> Prepared:
        """What the ward says to a configuration with this log level."""
        self.estate = Estate(settings(level), {f"smtp#{n}": one for n, one in enumerate(sockets)}, self.estate)
        frame, descriptors = self.estate.offer("receiver")
        assert self.cord.send(frame, descriptors)
        return await self.hears(Prepared)

    async def hears(self, kind: type[Frame]) -> AnyFrame:
        async with asyncio.timeout(DEADLINE):
            while True:
                try:
                    received = self.cord.receive()
                except BlockingIOError:
                    await asyncio.sleep(0.001)
                    continue
                assert received is not None
                if isinstance(received[0], kind):
                    return received[0]

    async def counted(self, number: int) -> None:
        while True:
            beat = await self.hears(Beat)
            assert isinstance(beat, Beat)
            if beat.configuration == number:
                return


def listening() -> socket.socket:
    return socket.create_server(("127.0.0.1", free_port()))


def held_by_nobody(port: int) -> bool:
    try:
        socket.create_server(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True


def run(story: Callable[[], Awaitable[None]]) -> None:
    async def told() -> None:
        await story()

    asyncio.run(told())


def test_a_ward_beats_and_says_when_it_serves() -> None:
    async def story() -> None:
        one = Supervisor()
        assert await one.hears(Beat) == Beat(1, False, 42)
        one.ward.serves()
        assert await one.hears(Beat) == Beat(1, True, 42)
        assert await one.hears(Beat) == Beat(1, True, 42), "and again, by itself"
        one.ward.close()
        assert one.cord.receive() is None

    run(story)


def test_a_ward_says_what_is_new_and_does_not_repeat_it() -> None:
    async def story() -> None:
        one = Supervisor()
        one.ward.closed = lambda: "takes no mail in"
        one.ward.tell_news()
        one.ward.tell_news()
        one.ward.serves()
        assert await one.hears(Beat) == Beat(1, False, 42)
        assert await one.hears(Beat) == Beat(1, False, 42, "takes no mail in")
        assert await one.hears(Beat) == Beat(1, True, 42, "takes no mail in"), "what was said before is not said again"
        one.ward.close()

    run(story)


def test_what_is_offered_counts_when_it_is_said_to() -> None:
    async def story() -> None:
        one = Supervisor()
        assert await one.offer("debug") == Prepared(2)
        assert (one.made, one.counts, one.ward.number) == (["debug"], [], 1)
        one.cord.send(Commit(2))
        await one.counted(2)
        assert (one.counts, one.ward.number) == (["debug"], 2)

    run(story)


def test_one_that_is_told_by_somebody_else_is_ahead_of_the_supervisors_word() -> None:
    """The scheduler process gives out work under a number that our own commit is still on its way for."""

    async def story() -> None:
        one = Supervisor()
        assert not one.ward.catch_up(2), "what was never offered cannot count"
        await one.offer("debug")
        assert one.ward.catch_up(1) and one.counts == []
        assert one.ward.catch_up(2) and one.counts == ["debug"]
        one.cord.send(Commit(2))
        await one.counted(2)
        assert one.counts == ["debug"], "once"
        assert not one.ward.catch_up(3)

    run(story)


@pytest.mark.parametrize("how", ["cancelled", "another comes", "refused", "the child ends"])
def test_what_does_not_come_to_count_leaves_no_port_open(how: str) -> None:
    async def story() -> None:
        one, ours = Supervisor(), listening()
        port = ours.getsockname()[1]
        one.refuse = ConfigError("no") if how == "refused" else None
        answer = await one.offer("debug", ours)
        assert answer == Prepared(2, "no" if how == "refused" else "")
        ours.close()
        assert held_by_nobody(port) == (how == "refused")
        one.refuse = None
        if how == "cancelled":
            one.cord.send(Cancel(2))
            await one.hears(Beat)
        elif how == "another comes":
            await one.offer("info")
        elif how == "the child ends":
            one.ward.close()
        assert held_by_nobody(port)
        assert one.counts == []

    run(story)


def test_what_nobody_takes_of_a_gift_is_closed_when_it_counts() -> None:
    async def story() -> None:
        one, kept, left = Supervisor(), listening(), listening()
        await one.offer("debug", kept, left)
        mine = one.gifts[0].sockets.pop("smtp#0")
        ports = [one.getsockname()[1] for one in (kept, left)]
        kept.close()
        left.close()
        one.cord.send(Commit(2))
        await one.counted(2)
        assert [held_by_nobody(port) for port in ports] == [False, True]
        mine.close()

    run(story)


def test_one_that_takes_its_time_counts_when_it_is_through() -> None:
    async def story() -> None:
        one = Supervisor()
        one.slowly = asyncio.Event()
        await one.offer("debug")
        one.cord.send(Commit(2))
        beat = await one.hears(Beat)
        assert isinstance(beat, Beat) and beat.configuration == 1
        one.slowly.set()
        await one.counted(2)
        assert one.counts == ["debug"]

    run(story)


def test_our_own_mistake_with_a_configuration_is_a_refusal() -> None:
    async def story() -> None:
        one = Supervisor()
        one.refuse = KeyError("mistake")
        assert await one.offer("debug") == Prepared(2, "our program failed on it: KeyError")

    run(story)


def test_an_operators_wish_is_passed_on_and_answered() -> None:
    async def story() -> None:
        one = Supervisor()
        asked = [asyncio.ensure_future(one.ward.reload()) for _ in range(2)]
        tokens = []
        for _ in asked:
            frame = await one.hears(Reload)
            assert isinstance(frame, Reload)
            tokens.append(frame.token)
        assert len(set(tokens)) == 2
        for token in reversed(tokens):
            one.cord.send(Reloaded(token, 2, f"no {token}", 78))
        answers = [await one for one in asked]
        assert [answer.problem for answer in answers] == [f"no {token}" for token in tokens]
        one.ward.close()
        assert (await one.ward.reload()).status == 75

    run(story)


def test_a_side_that_does_not_read_holds_nobody_up() -> None:
    async def story() -> None:
        one = Supervisor()
        while one.cord.send(Cancel(1)):
            pass
        assert not one.cord.send(Cancel(1))

    run(story)


def test_what_was_handed_over_can_be_changed_by_nobody(tmp_path: Path) -> None:
    """All children work by the very same bytes."""
    estate = Estate(settings("info"), {})
    _, descriptors = estate.offer("worker")
    for deed in (
        lambda fd: os.pwrite(fd, b"x", 0),
        lambda fd: os.ftruncate(fd, 0),
        lambda fd: os.ftruncate(fd, 1 << 20),
    ):
        with pytest.raises(PermissionError):
            deed(descriptors[0])


def test_a_worker_holds_work_until_it_has_the_configuration_of_it(tmp_path: Path) -> None:
    """Whatever the order in which it hears of both: from the supervisor, and from the scheduler process."""

    class Worked(Walk):
        begun: list[int] = []  # noqa: RUF012

        def begin(self, assign: Assign, raw: bytes) -> None:
            self.begun.append(assign.n)

    async def story() -> None:
        ours, theirs = Cord.pair()
        old = settings("info")
        worker = Worker(Inheritance(old, -1, cord=theirs), 1, StatusFile(tmp_path, "worker", 1), 0.0)
        worker.walk.__class__ = Worked
        worker.ward.begin()
        for number, configuration in ((7, 1), (8, 2), (9, 1)):
            worker._on_frame(None, Assign(number, "", "", "0", 1, configuration=configuration), b"")  # type: ignore[arg-type]
        assert Worked.begun == [7, 9]
        offered, descriptors = Estate(settings("debug"), {}, Estate(old, {})).offer("worker")
        ours.send(offered, descriptors)
        ours.send(Commit(2))
        async with asyncio.timeout(DEADLINE):
            while Worked.begun != [7, 9, 8]:
                await asyncio.sleep(0.001)
        assert worker.walk.configuration == 2
        await worker.walk.close()

    run(story)


def test_a_worker_that_ends_what_it_has_in_hand_shows_that_it_lives(tmp_path: Path) -> None:
    """Else it would seem to stand still, to whoever looks why kmqd does not end."""

    class Alone(Worker):
        async def connect(self) -> None:
            """There is no scheduler process."""

    async def story() -> None:
        _, theirs = Cord.pair()
        status = StatusFile(tmp_path, "worker", 1)
        worker = Alone(Inheritance(settings("info"), -1, cord=theirs), 1, status, 0.0)
        worker.jobs[1] = cast(Job, None)
        running = asyncio.create_task(worker.run(DEADLINE))
        worker.stop()
        seen: set[bytes] = set()
        async with asyncio.timeout(DEADLINE):
            while len(seen) < 3:
                seen.update(file.read_bytes() for file in tmp_path.glob("*.status"))
                await asyncio.sleep(0.01)
        assert not running.done()
        worker.jobs.clear()
        worker.stop()
        async with asyncio.timeout(DEADLINE):
            await running

    run(story)
