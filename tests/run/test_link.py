"""Frames between processes: they arrive whole, in order, and to the last one, whoever dies when."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import uvloop

from kmq.model.frame import LENGTHS, AnyFrame, Assign, Hello, Holding, Known, Reader, Stop, encode, laden, unladen
from kmq.run import link as links
from kmq.run.link import Link, unix_name

DEADLINE = 20


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Iterator[Callable[..., object]]:
    """Runs a coroutine to its end in a loop of each kind."""
    factory = uvloop.new_event_loop if request.param == "uvloop" else asyncio.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        yield lambda coroutine: runner.run(asyncio.wait_for(coroutine, DEADLINE))


class Side:
    """One end of a link that keeps what it hears, in order: ("frame", number, raw), then ("end",)."""

    def __init__(self) -> None:
        self.heard: list[tuple[object, ...]] = []
        self.ended = asyncio.Event()
        self.room = asyncio.Event()
        self.link = Link(self._frame, self._end, lambda _: self.room.set())

    def _frame(self, link: Link, frame: AnyFrame, raw: bytes) -> None:
        assert link is self.link
        self.heard.append(("frame", frame.numbers[0] if isinstance(frame, Known) else frame, raw))

    def _end(self, link: Link) -> None:
        self.heard.append(("end",))
        self.ended.set()

    @property
    def numbers(self) -> list[object]:
        return [one[1] for one in self.heard if one[0] == "frame"]

    async def hears(self, count: int) -> None:
        while len(self.heard) < count:
            await asyncio.sleep(0.001)


async def against_a_socket() -> tuple[Side, socket.socket]:
    """A link whose other side is a bare socket of the test."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    side = Side()
    await asyncio.get_running_loop().create_unix_connection(lambda: side.link, sock=ours)
    return side, theirs


def known(number: int) -> Known:
    return Known([number])


# --- the ordinary day -------------------------------------------------------------------------------------------------


def test_frames_arrive_in_order_with_their_raw_bytes(run: Callable[..., object], tmp_path: Path) -> None:
    async def story() -> None:
        server = Side()
        listener = await asyncio.get_running_loop().create_unix_server(lambda: server.link, tmp_path / "queue.sock")
        client = Side()
        await client.link.connect(tmp_path / "queue.sock")
        sizes = [0, 1, 5, 65536, 0, 3_000_000, 17]
        for number, size in enumerate(sizes):
            assert client.link.send(known(number), bytes([number]) * size)
        await server.hears(len(sizes))
        assert server.heard == [("frame", number, bytes([number]) * size) for number, size in enumerate(sizes)]
        server.link.send(Hello("scheduler", 0, 1, 2.5))
        await client.hears(1)
        assert client.numbers == [Hello("scheduler", 0, 1, 2.5)]
        assert server.link.peer == client.link.peer == os.getpid()
        client.link.close()
        await server.ended.wait()
        await client.ended.wait()
        listener.close()
        assert not server.link.send(Stop()), "there is nobody any more"
        assert server.link.peer == 0

    run(story())


def test_what_is_sent_in_one_turn_of_the_loop_leaves_in_one_write(run: Callable[..., object]) -> None:
    class Written(asyncio.Transport):
        def __init__(self) -> None:
            super().__init__({"socket": a})
            self.writes: list[bytes] = []

        def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
            pass

        def write(self, data: bytes | bytearray | memoryview) -> None:
            self.writes.append(bytes(data))

    async def story() -> None:
        side, transport = Side(), Written()
        side.link.connection_made(transport)
        for turn in range(2):
            for number in range(100):
                side.link.send(known(turn * 100 + number), b"body")
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        assert len(transport.writes) == 2
        frames = Reader().feed(b"".join(transport.writes))
        assert [frame.numbers[0] for frame, raw in frames if isinstance(frame, Known)] == list(range(200))
        side.link.connection_lost(None)

    a, b = socket.socketpair()
    with a, b:
        run(story())


@pytest.mark.parametrize("size", [0, 100, 50_000, 3_000_000])
def test_raw_bytes_in_two_parts_arrive_as_one_and_in_their_place(run: Callable[..., object], size: int) -> None:
    async def story() -> None:
        side, theirs = await against_a_socket()
        body = bytes(range(256)) * (size // 256)
        for number in range(3):
            side.link.send(known(number), b"head", body)
            side.link.send(known(number))
        theirs.setblocking(False)
        reader, heard = Reader(), []
        while len(heard) < 6:
            try:
                heard += reader.feed(theirs.recv(1 << 20))
            except BlockingIOError:
                await asyncio.sleep(0.001)
        assert heard == [(known(number), raw) for number in range(3) for raw in (b"head" + body, b"")]
        side.link.close()
        await side.ended.wait()
        theirs.close()

    run(story())


def test_close_sends_what_waits_and_hears_nothing_more(run: Callable[..., object]) -> None:
    async def story() -> None:
        side, theirs = await against_a_socket()
        theirs.sendall(encode(known(1)))
        for number in range(3):
            side.link.send(known(number), b"x" * 1000)
        side.link.close()
        assert not side.link.open
        await side.ended.wait()
        theirs.settimeout(DEADLINE)
        assert len(Reader().feed(theirs.recv(1 << 20))) == 3
        assert side.numbers == [], "what the other side still says is for nobody"
        theirs.close()

    run(story())


# --- finding the other side -------------------------------------------------------------------------------------------


def test_connect_waits_until_somebody_listens(run: Callable[..., object], tmp_path: Path) -> None:
    async def story() -> None:
        path = tmp_path / "queue.sock"
        client, server = Side(), Side()
        waiting = asyncio.ensure_future(client.link.connect(path))
        await asyncio.sleep(0.02)
        with socket.socket(socket.AF_UNIX) as nobody:
            nobody.bind(str(path))  # the name is there, and nobody listens
            await asyncio.sleep(0.02)
            assert not waiting.done()
            path.unlink()
        listener = await asyncio.get_running_loop().create_unix_server(lambda: server.link, path)
        await waiting
        client.link.send(known(7))
        await server.hears(1)
        assert server.numbers == [7]
        client.link.abort()
        await server.ended.wait()
        listener.close()

    run(story())


def test_connect_waits_while_the_backlog_is_full(run: Callable[..., object], tmp_path: Path) -> None:
    """A full backlog is EAGAIN for a Unix socket, which must not be taken for a connection under way."""

    async def story() -> None:
        path = str(tmp_path / "queue.sock")
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(path)
            listener.listen(0)
            others = []
            with pytest.raises(BlockingIOError):
                for _ in range(100):
                    others.append(socket.socket(socket.AF_UNIX))
                    others[-1].setblocking(False)
                    others[-1].connect(path)
            client = Side()
            waiting = asyncio.ensure_future(client.link.connect(path))
            await asyncio.sleep(0.05)
            assert not waiting.done()
            accepted = [listener.accept()[0] for _ in others[:-1]]
            await waiting
            client.link.send(known(9))
            with listener.accept()[0] as ours:
                ours.settimeout(DEADLINE)
                await asyncio.sleep(0.01)
                assert Reader().feed(ours.recv(1000)) == [(known(9), b"")]
            await client.ended.wait()
            for one in others + accepted:
                one.close()

    run(story())


def test_a_connection_in_the_backlog_is_taken_by_a_later_process(run: Callable[..., object], tmp_path: Path) -> None:
    """The supervisor holds the listening socket: what is sent before a scheduler process lives is not lost."""

    async def story() -> None:
        listening = socket.socket(socket.AF_UNIX)
        listening.bind(str(tmp_path / "queue.sock"))
        listening.listen(8)
        client, server = Side(), Side()
        await client.link.connect(tmp_path / "queue.sock")
        client.link.send(known(3), b"early")
        await asyncio.sleep(0.02)
        listener = await asyncio.get_running_loop().create_unix_server(lambda: server.link, sock=listening)
        await server.hears(1)
        assert server.heard == [("frame", 3, b"early")]
        client.link.abort()
        await server.ended.wait()
        listener.close()

    run(story())


def test_a_path_longer_than_the_kernel_takes(run: Callable[..., object], tmp_path: Path) -> None:
    async def story() -> None:
        deep = tmp_path / ("d" * 60) / ("e" * 60)
        deep.mkdir(parents=True)
        with unix_name(deep / "queue.sock") as name, socket.socket(socket.AF_UNIX) as listening:
            listening.bind(name)
            listening.listen(1)
            client = Side()
            await client.link.connect(deep / "queue.sock")
            assert client.link.open
            client.link.abort()
            await client.ended.wait()

    run(story())


# --- ends -------------------------------------------------------------------------------------------------------------


def test_all_is_read_before_the_end_although_a_write_fails_first(run: Callable[..., object]) -> None:
    """J9: the other side wrote results and died; we notice by a write of our own, and its results still count."""

    async def story() -> None:
        side, theirs = await against_a_socket()
        theirs.setblocking(False)
        theirs.sendall(b"".join(encode(known(number), b"r" * 1000) for number in range(100)))
        theirs.close()
        side.link.send(known(-1))  # its write comes before the loop looks at the socket again
        await side.ended.wait()
        assert side.numbers == list(range(100))
        assert side.heard[-1] == ("end",)
        assert side.heard.count(("end",)) == 1

    run(story())


def test_all_is_read_before_the_end_although_the_other_side_left_bytes_unread(run: Callable[..., object]) -> None:
    """The kernel then says ECONNRESET instead of the end of the file."""

    async def story() -> None:
        side, theirs = await against_a_socket()
        side.link.send(known(1), b"u" * 5000)
        await asyncio.sleep(0.01)
        theirs.sendall(b"".join(encode(known(number)) for number in range(50)))
        theirs.close()
        side.link.send(known(2))
        await side.ended.wait()
        assert side.numbers == list(range(50))

    run(story())


WRITES_FOR_EVER = """
import socket, sys
from kmq.model.frame import Known, encode
out = socket.socket(fileno=int(sys.argv[1]))
number = 0
while True:
    out.sendall(encode(Known([number]), b"z" * (number % 5000)))
    number += 1
"""


def test_a_killed_process_leaves_whole_frames_and_an_end(run: Callable[..., object]) -> None:
    async def story() -> None:
        side, theirs = await against_a_socket()
        child = subprocess.Popen(
            [sys.executable, "-c", WRITES_FOR_EVER, str(theirs.fileno())], pass_fds=[theirs.fileno()]
        )
        theirs.close()
        await side.hears(1000)
        child.send_signal(signal.SIGKILL)
        await side.ended.wait()
        assert child.wait() == -signal.SIGKILL
        assert side.numbers == list(range(len(side.numbers)))
        assert all(len(one[2]) == one[1] % 5000 for one in side.heard[:-1])  # type: ignore[operator,arg-type]

    run(story())


def test_who_does_not_speak_our_language_is_cut_off(run: Callable[..., object]) -> None:
    async def story() -> None:
        for nonsense in (b"EHLO there, is this SMTP?\r\n" * 10, LENGTHS.pack(3, 0) + b"{]}", LENGTHS.pack(2 << 20, 0)):
            side, theirs = await against_a_socket()
            theirs.sendall(encode(known(1)))
            await side.hears(1)
            theirs.sendall(nonsense)
            theirs.sendall(encode(known(2)))
            await side.ended.wait()
            assert side.heard == [("frame", 1, b""), ("end",)]
            theirs.settimeout(DEADLINE)
            with suppress(ConnectionResetError):  # what it said behind the nonsense was not read
                assert theirs.recv(10) == b""
            theirs.close()

    run(story())


def test_a_mistake_of_ours_ends_the_connection_and_nothing_comes_out_of_order(run: Callable[..., object]) -> None:
    heard: list[int] = []

    def frame(link: Link, frame: AnyFrame, raw: bytes) -> None:
        assert isinstance(frame, Known)
        heard.append(frame.numbers[0])
        if frame.numbers[0] == 2:
            raise LookupError("a mistake")

    async def story() -> None:
        accidents: list[object] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: accidents.append(context["exception"]))
        ended = asyncio.Event()
        link = Link(frame, lambda _: ended.set())
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        await asyncio.get_running_loop().create_unix_connection(lambda: link, sock=ours)
        theirs.sendall(b"".join(encode(known(number)) for number in range(5)))
        with pytest.raises(BrokenPipeError):
            while True:
                theirs.sendall(encode(known(9)))
                await asyncio.sleep(0)
        await ended.wait()
        assert heard == [0, 1, 2]
        assert [type(one) for one in accidents] == [LookupError]
        theirs.close()

    run(story())


# --- a side that does not read ----------------------------------------------------------------------------------------


def test_full_and_room_again(run: Callable[..., object]) -> None:
    async def story() -> None:
        side, theirs = await against_a_socket()
        sent = 0
        while sent * 60_000 < 2 * links.HIGH:
            side.link.send(known(sent), b"b" * 60_000)
            sent += 1
        assert side.link.full, "before anything was written"
        await asyncio.sleep(0.01)
        assert side.link.full, "nobody reads"
        assert not side.room.is_set()
        theirs.setblocking(False)
        reader, frames = Reader(), 0
        while frames < sent:
            try:
                frames += len(reader.feed(theirs.recv(1 << 20)))
            except BlockingIOError:
                await asyncio.sleep(0.001)
        await side.room.wait()
        assert not side.link.full
        side.link.close()
        await side.ended.wait()
        theirs.close()

    run(story())


def test_room_is_announced_also_when_one_write_took_it_all(run: Callable[..., object]) -> None:
    async def story() -> None:
        side, theirs = await against_a_socket()
        while not side.link.full:
            side.link.send(known(1), b"b" * 60_000)
        await side.room.wait()
        assert not side.link.full
        side.link.abort()
        await side.ended.wait()
        theirs.close()

    run(story())


def test_who_never_reads_is_cut_off(run: Callable[..., object], monkeypatch: pytest.MonkeyPatch) -> None:
    async def story() -> None:
        side, theirs = await against_a_socket()
        theirs.sendall(encode(known(42)))
        work = Assign(1, "69212ad0-0000a1f3", "hop", "0", 1, 0)
        while not side.ended.is_set():
            side.link.send(work, b"b" * 1_000_000)
            await asyncio.sleep(0)
        assert side.numbers == [42], "what it said counts all the same"
        theirs.close()

    run(story())


@pytest.mark.parametrize("count", [0, 200, 10_000])
def test_a_worker_can_say_all_that_it_holds_in_one_frame(count: int) -> None:
    """J10: as many assignments as it may have in hand, each with a hop of its own."""
    held = [
        (n, "69212ad0-0000a1f3", f"DnsConnectorDelivery;{n}.{'x' * 60}.{'y' * 60}.test;internet", "0,2,4-7", 1)
        for n in range(count)
    ]
    said, raw = laden(Holding(held))
    [(heard, heard_raw)] = Reader().feed(encode(said, raw))
    assert isinstance(heard, Holding)
    assert unladen(heard, heard_raw) == held
