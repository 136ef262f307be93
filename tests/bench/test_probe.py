"""The probe's clock: it counts the wait after the dot, all of it, and a refusal as a refusal."""

import asyncio

import pytest

from bench.load import MESSAGE_SIZE, PROBED
from bench.probe import REFUSED, Prober, body, send
from bench.sink import Sink


class Server:
    """An SMTP server that keeps the 250 after the dot to itself until `release` is set."""

    def __init__(self, final: bytes = b"250 2.0.0 Ok\r\n") -> None:
        self.release = asyncio.Event()
        self.dots = 0
        self._final = final

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220-two lines\r\n220 hello\r\n")
        while line := await reader.readline():
            if line.startswith(b"DATA"):
                writer.write(b"354 go on\r\n")
                await reader.readuntil(b"\r\n.\r\n")
                self.dots += 1
                await self.release.wait()
                writer.write(self._final)
            else:
                writer.write(b"221 bye\r\n" if line.startswith(b"QUIT") else b"250-and\r\n250 Ok\r\n")
        writer.close()


async def against(server: Server, probes: int, stalled: float) -> list[tuple[float, float]]:
    """That many probes at once, all of them stalled for so many seconds after their dots."""
    listener = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    port = listener.sockets[0].getsockname()[1]
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(send(port, body("probe"))) for _ in range(probes)]
        while server.dots < probes:
            await asyncio.sleep(0.001)
        await asyncio.sleep(stalled)
        server.release.set()
    listener.close()
    return [task.result() for task in tasks]


def test_every_probe_that_meets_a_stall_counts_all_of_it():
    async def run():
        return await against(Server(), probes=5, stalled=0.2)

    waits = [wait for _, wait in asyncio.run(run())]
    assert len(waits) == 5
    assert all(0.2 <= wait < 10 for wait in waits)


@pytest.mark.parametrize("final", [b"451 4.3.0 later\r\n", b"550 5.7.1 never\r\n"])
def test_a_refusal_is_no_wait(final):
    async def run():
        return await against(Server(final), probes=1, stalled=0)

    assert [wait for _, wait in asyncio.run(run())] == [REFUSED]


def test_a_probe_has_the_size_of_the_load():
    text = body("probe")
    assert MESSAGE_SIZE - 100 < len(text) <= MESSAGE_SIZE
    assert text.endswith(b"\r\n.\r\n")
    assert text.count(b"\r\n.\r\n") == 1
    assert b"\n" not in text.replace(b"\r\n", b"")


def test_the_sink_tells_each_message_by_its_token():
    async def run():
        sink = Sink()
        listener = await asyncio.start_server(sink.serve, "127.0.0.1", 0)
        port = listener.sockets[0].getsockname()[1]
        first, second = sink.expect("one"), sink.expect("two")
        dot, _ = await send(port, body("two"))
        assert not first.done()
        assert await second >= dot
        await send(port, body("one"))
        assert await first > await second
        listener.close()

    asyncio.run(run())


@pytest.mark.parametrize("final", [b"250 2.0.0 Ok\r\n", b"451 4.3.0 later\r\n"])
def test_a_probe_tells_both_of_its_waits_or_that_it_was_refused(final):
    async def run():
        sink = Sink()
        there = await asyncio.start_server(sink.serve, "127.0.0.1", 0)
        server = Server(final)
        here = await asyncio.start_server(server.serve, "127.0.0.1", 0)
        probe = asyncio.create_task(Prober(port(here), sink).one("probe-7"))
        while not server.dots:
            await asyncio.sleep(0.001)
        server.release.set()
        await asyncio.sleep(0.05)  # so that arrived is later than answered for certain
        await send(port(there), body("probe-7", PROBED), PROBED)
        found = await asyncio.wait_for(probe, 10)
        there.close(), here.close()
        return found

    def port(listener):
        return listener.sockets[0].getsockname()[1]

    probe = asyncio.run(run())
    if final.startswith(b"250"):
        assert 0 <= probe.answered < probe.arrived - 0.04
    else:
        assert (probe.answered, probe.arrived) == (REFUSED, REFUSED)
