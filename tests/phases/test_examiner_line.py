"""What a worker hears of its examiner: answers in pieces, none at all, and what nobody asked for."""

import asyncio
import socket
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
import uvloop

from kmq.phases.examiner_frames import ANSWER_LIMIT, LENGTH
from kmq.phases.examiner_line import Line, Nonsense

Story = Callable[[Line, socket.socket], Coroutine[Any, Any, None]]
LONG = 30.0


def told(story: Story) -> None:
    """A story with both ends of a line, in the loop that workers have."""

    async def whole() -> None:
        ours, its = socket.socketpair()
        its.settimeout(LONG)
        with its:
            _, line = await asyncio.get_running_loop().create_unix_connection(Line, sock=ours)
            await story(line, its)
            line.close()

    uvloop.run(asyncio.wait_for(whole(), LONG))


def framed(text: bytes) -> bytes:
    return LENGTH.pack(len(text)) + text


def test_an_answer_is_whole_however_it_comes() -> None:
    async def story(line: Line, its: socket.socket) -> None:
        its.sendall(framed(b"hello"))
        assert await line.answers(LONG) == [b"hello"], "the greeting needs no question"
        line.expect(1)
        answer = asyncio.ensure_future(line.answers(LONG))
        for sign in framed(b"piece by piece"):
            its.sendall(bytes([sign]))
            await asyncio.sleep(0)
        assert await answer == [b"piece by piece"]

    told(story)


def test_what_was_asked_together_is_heard_together() -> None:
    async def story(line: Line, its: socket.socket) -> None:
        its.sendall(framed(b"hello"))
        await line.answers(LONG)
        line.expect(3)
        answers = asyncio.ensure_future(line.answers(LONG))
        said = framed(b"one") + framed(b"") + framed(b"three")
        for piece in (said[:6], said[6:13], said[13:]):
            its.sendall(piece)
            await asyncio.sleep(0)
        assert await answers == [b"one", b"", b"three"]
        line.expect(3)
        its.sendall(framed(b"the first") + framed(b"the second")[:-1])
        its.close()
        assert await line.answers(LONG) == [b"the first"], "what was whole ahead of the end"

    told(story)


def test_the_end_is_no_answer_and_known_to_whoever_asks_later() -> None:
    async def story(line: Line, its: socket.socket) -> None:
        its.sendall(framed(b"half")[:-1])
        its.close()
        with pytest.raises(EOFError):
            await line.answers(LONG)
        assert line.gone

    told(story)


def test_who_waits_hears_that_it_is_closed() -> None:
    """And is not cancelled: that would end what he does."""

    async def story(line: Line, its: socket.socket) -> None:
        waiting = asyncio.ensure_future(line.answers(LONG))
        await asyncio.sleep(0)
        line.close()
        with pytest.raises(EOFError):
            await waiting

    told(story)


def test_one_who_says_nothing_is_not_waited_for() -> None:
    async def story(line: Line, its: socket.socket) -> None:
        with pytest.raises(TimeoutError):
            await line.answers(0.01)

    told(story)


@pytest.mark.parametrize("said", [LENGTH.pack(ANSWER_LIMIT + 1), framed(b"one") + framed(b"two")])
def test_what_is_no_answer_ends_the_line(said: bytes) -> None:
    async def story(line: Line, its: socket.socket) -> None:
        its.sendall(said)
        with pytest.raises(Nonsense):
            await line.answers(LONG)
        assert line.gone

    told(story)


def test_who_speaks_unasked_fills_no_memory() -> None:
    async def story(line: Line, its: socket.socket) -> None:
        its.sendall(framed(b"hello"))
        await line.answers(LONG)
        its.sendall(b"x" * 1000)
        while not line.gone:
            await asyncio.sleep(0)
        assert not line._text

    told(story)


def test_a_large_answer_is_put_together_in_time_that_follows_its_size() -> None:
    """Ten megabytes in pieces of a hundred bytes: a copy of all at each piece would be a terabyte."""

    async def story(line: Line, its: socket.socket) -> None:
        said = framed(b"x" * 10_000_000)
        for at in range(0, len(said), 100):
            line.data_received(said[at : at + 100])
        assert await line.answers(LONG) == [said[LENGTH.size :]]

    told(story)
