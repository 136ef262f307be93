"""An Smtpd on a loopback port, and clients that talk to it over real sockets, in one loop."""

import asyncio
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

import uvloop

from kmq.intake.smtpd import Sizes, Smtpd
from tests.intake.doors import MemoryDoor, Routes, receiver

LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "asyncio": asyncio.new_event_loop,
    "uvloop": uvloop.new_event_loop,
}


def run(loop: str, story: Callable[[], Awaitable[Any]]) -> Any:
    """Runs a test's story to its end in that kind of loop; 30 s are more than any of them takes."""
    troubles: list[str] = []

    async def limited() -> Any:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: troubles.append(str(context)))
        return await asyncio.wait_for(story(), 30)

    with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
        found = runner.run(limited())
    assert not troubles
    return found


@asynccontextmanager
async def serving(door: MemoryDoor | None = None, **options: Any) -> AsyncIterator[Smtpd]:
    """An Smtpd that looks at its sessions twenty times a second; `smtpd.port` is where."""
    small_body = options.pop("small_body", 64 * 1024)
    options.setdefault("relay_from", ())
    smtpd = Smtpd(receiver(**options), "mx.us.test", Routes(), door or MemoryDoor(), Sizes(small_body))
    smtpd.tick = 0.05
    listener = socket.create_server(("127.0.0.1", 0))
    smtpd.port = listener.getsockname()[1]
    await smtpd.serve([listener])
    try:
        yield smtpd
    finally:
        await smtpd.close(0)
        assert smtpd.sessions == 0


async def until(true: Callable[[], object], what: str, seconds: float = 10) -> None:
    """Lets the loop run until `true()` is."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, f"waited {seconds} s in vain: {what}"
        await asyncio.sleep(0.002)


class Peer:
    """A client: says lines, hears replies."""

    def __init__(self, port: int) -> None:
        self.port = port

    async def __aenter__(self) -> "Peer":
        self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self.port)
        return self

    async def __aexit__(self, kind: type | None, error: BaseException | None, where: TracebackType | None) -> None:
        self.writer.close()

    async def hear(self) -> str:
        """One reply, its last line; "" when the connection is closed."""
        while True:
            line = (await self.reader.readline()).decode()
            if line[3:4] != "-":
                return line.rstrip("\r\n")

    async def say(self, text: str | bytes, replies: int = 1) -> list[str]:
        self.writer.write(text if isinstance(text, bytes) else text.encode())
        await self.writer.drain()
        return [await self.hear() for _ in range(replies)]

    async def begin(self) -> None:
        """As far as behind 354."""
        assert (await self.hear())[:4] == "220 "
        text = "EHLO client.test\r\nMAIL FROM:<a@a.test>\r\nRCPT TO:<bob@us.test>\r\nDATA\r\n"
        assert [reply[:3] for reply in await self.say(text, 4)] == ["250", "250", "250", "354"]

    async def ended(self) -> bytes:
        """What is said until the connection is closed."""
        return await self.reader.read()


def certificate(folder: Path) -> tuple[str, str]:
    """A certificate for mx.us.test and its key, made by openssl."""
    made, key = folder / "certificate.pem", folder / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-days", "2", "-subj", "/CN=mx.us.test", "-out", str(made), "-keyout", str(key)]
    subprocess.run(command, check=True, capture_output=True)
    return str(made), str(key)
