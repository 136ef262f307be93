"""Mail that flows at a steady rate: `python -m bench.flow PORT SINK_PORT RATE SECONDS`.

Source and sink are one process, so that one clock tells both times, and one that nothing else runs in. Messages go by
the clock over a few connections that stay open: a server that stalls for a second gets that second's messages late,
and each is counted. Prints one JSON list: seconds from the dot to the sink, of each message that had its turn; negative
where it did not arrive within ten seconds.
"""

import asyncio
import contextlib
import json
import os
import sys
import time

from bench.load import RECIPIENT, SENDER
from bench.probe import REFUSED, body
from bench.sink import Sink

CONNECTIONS = 10
LAST = 10.0


class Source:
    """One connection that stays open; the server speaks PIPELINING."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def open(cls, port: int) -> "Source":
        one = cls(*await asyncio.open_connection("127.0.0.1", port))
        await one._said(b"220")
        one._writer.write(b"EHLO flow.bench.test\r\n")
        await one._said(b"250")
        return one

    async def send(self, text: bytes) -> float:
        """One message; the moment of its dot, which is when its 250 is still to come."""
        self._writer.write(f"MAIL FROM:<{SENDER}>\r\nRCPT TO:<{RECIPIENT}>\r\nDATA\r\n".encode())
        for code in (b"250", b"250", b"354"):
            await self._said(code)
        dot = time.monotonic()
        self._writer.write(text)
        await self._said(b"250")
        return dot

    def close(self) -> None:
        self._writer.close()

    async def _said(self, code: bytes) -> None:
        line = await self._reader.readline()
        while line[3:4] == b"-":
            line = await self._reader.readline()
        if not line.startswith(code):
            raise ConnectionError(f"the server said {line!r}, not {code!r}")


async def run(port: int, sink_port: int, rate: float, seconds: float) -> list[float]:
    """Seconds from the dot to the sink."""
    sink = Sink()
    server = await asyncio.start_server(sink.serve, "127.0.0.1", sink_port)
    idle: asyncio.Queue[Source] = asyncio.Queue()
    for _ in range(CONNECTIONS):
        idle.put_nowait(await Source.open(port))

    async def one(number: int) -> float:
        source = await idle.get()
        token = f"flow-{number}"
        arrival = sink.expect(token)
        try:
            dot = await source.send(body(token))
        finally:
            idle.put_nowait(source)
        try:
            return await asyncio.wait_for(arrival, LAST) - dot
        except TimeoutError:
            return REFUSED

    begun = time.monotonic()
    tasks = []
    for number in range(int(rate * seconds)):
        pause = begun + number / rate - time.monotonic()
        if pause > 0:
            await asyncio.sleep(pause)
        tasks.append(asyncio.create_task(one(number)))
    found = await asyncio.gather(*tasks)
    while not idle.empty():
        idle.get_nowait().close()
    server.close()
    await sink.close()
    return found


def main() -> None:
    with contextlib.suppress(PermissionError):
        os.nice(-10)  # the MTA is measured, not how long the machine leaves the source waiting
    port, sink_port, rate, seconds = sys.argv[1:]
    json.dump(asyncio.run(run(int(port), int(sink_port), float(rate), float(seconds))), sys.stdout)


if __name__ == "__main__":
    main()
