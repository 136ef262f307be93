"""A next hop of our own that knows each message by the token in its subject, and notes when it was whole.

For few messages whose way is timed; the load itself has a next hop in C (bench.load).
"""

import asyncio
import time


class Sink:
    """A next hop that notes when each message was whole, by the token in its subject."""

    def __init__(self) -> None:
        self._arrivals: dict[bytes, asyncio.Future[float]] = {}
        self._open: dict[asyncio.StreamWriter, asyncio.Task[None]] = {}

    def expect(self, token: str) -> asyncio.Future[float]:
        """The moment at which the message with this token will have arrived."""
        future = asyncio.get_running_loop().create_future()
        self._arrivals[token.encode()] = future
        return future

    async def close(self) -> None:
        """Ends the connections that are kept open."""
        ends = list(self._open.values())
        for writer in self._open:
            writer.close()
        await asyncio.gather(*ends)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        task = asyncio.current_task()
        assert task is not None
        self._open[writer] = task
        try:
            await self._converse(reader, writer)
        finally:
            del self._open[writer]
            writer.close()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 sink.bench.test ESMTP\r\n")
        while line := await reader.readline():
            verb = line[:4].upper().strip()
            match verb:
                case b"EHLO":
                    writer.write(b"250-sink.bench.test\r\n250-PIPELINING\r\n250 8BITMIME\r\n")
                case b"DATA":
                    writer.write(b"354 go on\r\n")
                    self._arrived(await reader.readuntil(b"\r\n.\r\n"), time.monotonic())
                    writer.write(b"250 2.0.0 Ok\r\n")
                case b"QUIT":
                    writer.write(b"221 bye\r\n")
                    break
                case _:
                    writer.write(b"250 2.0.0 Ok\r\n")

    def _arrived(self, text: bytes, at: float) -> None:
        subject = text.partition(b"\nSubject: ")[2].partition(b"\r\n")[0]
        future = self._arrivals.pop(subject, None)
        if future is not None and not future.done():
            future.set_result(at)
