"""How long a client waits for `250` after its final dot, and its mail for the next hop, while others pour mail in.

`python -m bench.probe PORT SINK_PORT RATE`: a process of its own, so that nobody else's work delays its clock. Probes
start by the clock, not after each other: a server that stalls for a second meets all probes of that second, and each is
counted. They go to a domain of their own, whose next hop is this process, so that one clock tells all three moments.
Says `ready` first. Runs until SIGTERM, finishes the probes under way, then prints one JSON list of probes.
"""

import asyncio
import contextlib
import json
import os
import signal
import sys
import time
from typing import NamedTuple

from bench.load import MESSAGE_SIZE, PROBED, RECIPIENT, SENDER
from bench.sink import Sink

PATIENCE = 30.0
REFUSED = -1.0
#: Said when a SIGTERM is heard, and the sink listens.
READY = "ready"


def body(token: str, recipient: str = RECIPIENT) -> bytes:
    """A message of the load's size that bears the token in its subject, with the final dot."""
    header = f"From: <{SENDER}>\r\nTo: <{recipient}>\r\nSubject: {token}\r\n\r\n"
    line = "x" * 76 + "\r\n"
    filling = line * ((MESSAGE_SIZE - len(header)) // len(line))
    return f"{header}{filling}.\r\n".encode()


async def send(port: int, text: bytes, recipient: str = RECIPIENT) -> tuple[float, float]:
    """One message over one connection: (moment at which the dot was written, seconds until its 250 or REFUSED)."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)

    async def said(code: bytes, command: str = "") -> bool:
        if command:
            writer.write(command.encode() + b"\r\n")
        line = await reader.readline()
        while line[3:4] == b"-":
            line = await reader.readline()
        return line.startswith(code)

    dot = time.monotonic()
    try:
        if not (await said(b"220") and await said(b"250", "EHLO probe.bench.test")):
            return dot, REFUSED
        if not (await said(b"250", f"MAIL FROM:<{SENDER}>") and await said(b"250", f"RCPT TO:<{recipient}>")):
            return dot, REFUSED
        if not await said(b"354", "DATA"):
            return dot, REFUSED
        dot = time.monotonic()
        writer.write(text)
        answered = time.monotonic() - dot if await said(b"250") else REFUSED
        await said(b"221", "QUIT")
        return dot, answered
    finally:
        writer.close()


class Probe(NamedTuple):
    """One message. dot: CLOCK_MONOTONIC; answered, arrived: seconds from then to the 250 and to the sink, REFUSED for
    never."""

    dot: float
    answered: float
    arrived: float


class Prober:
    """Sends probes, and waits for them at a sink of its own."""

    def __init__(self, port: int, sink: Sink | None) -> None:
        self._port = port
        self._sink = sink

    async def one(self, token: str) -> Probe:
        """A whole probe: it ends with the arrival, or when patience does."""
        arrival = self._sink.expect(token) if self._sink else None
        begun = time.monotonic()
        try:
            dot, answered = await asyncio.wait_for(send(self._port, body(token, PROBED), PROBED), PATIENCE)
        except (TimeoutError, OSError):
            return Probe(begun, REFUSED, REFUSED)
        if arrival is None or answered == REFUSED:
            return Probe(dot, answered, REFUSED)
        try:
            return Probe(dot, answered, await asyncio.wait_for(arrival, PATIENCE) - dot)
        except TimeoutError:
            return Probe(dot, answered, REFUSED)


async def run(port: int, sink_port: int, rate: float) -> list[Probe]:
    """Probes at `rate` per second until SIGTERM. sink_port: 0 where none is to arrive."""
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    sink = Sink()
    server = await asyncio.start_server(sink.serve, "127.0.0.1", sink_port) if sink_port else None
    prober = Prober(port, sink if server else None)
    print(READY, flush=True)
    due = time.monotonic()
    async with asyncio.TaskGroup() as group:
        tasks: list[asyncio.Task[Probe]] = []
        while not stopped.is_set():
            tasks.append(group.create_task(prober.one(f"probe-{len(tasks)}")))
            due += 1 / rate
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stopped.wait(), max(0.0, due - time.monotonic()))
    if server:
        server.close()
        await sink.close()
    return [task.result() for task in tasks]


def main() -> None:
    with contextlib.suppress(PermissionError):
        os.nice(-10)  # the MTA's answer is measured, not how long the machine leaves the probe unread
    port, sink_port, rate = sys.argv[1:]
    json.dump(asyncio.run(run(int(port), int(sink_port), float(rate))), sys.stdout)


if __name__ == "__main__":
    main()
