"""How long a client waits for `250` after its final dot, while others pour mail in: `python -m bench.probe PORT RATE`.

A process of its own, so that nobody else's work delays its clock. Probes start by the clock, not after each other: a
server that stalls for a second meets all probes of that second, and each is counted. Runs until SIGTERM, finishes the
probes under way, then prints one JSON list: [moment of the dot (CLOCK_MONOTONIC), seconds until the 250] each; seconds
are negative where the server did not say 250.
"""

import asyncio
import contextlib
import json
import os
import signal
import sys
import time

from bench.load import MESSAGE_SIZE, RECIPIENT, SENDER

PATIENCE = 30.0
REFUSED = -1.0


def body(token: str) -> bytes:
    """A message of the load's size that bears the token in its subject, with the final dot."""
    header = f"From: <{SENDER}>\r\nTo: <{RECIPIENT}>\r\nSubject: {token}\r\n\r\n"
    line = "x" * 76 + "\r\n"
    filling = line * ((MESSAGE_SIZE - len(header)) // len(line))
    return f"{header}{filling}.\r\n".encode()


async def send(port: int, text: bytes) -> tuple[float, float]:
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
        if not (await said(b"250", f"MAIL FROM:<{SENDER}>") and await said(b"250", f"RCPT TO:<{RECIPIENT}>")):
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


async def _probe(port: int, text: bytes) -> tuple[float, float]:
    begun = time.monotonic()
    try:
        return await asyncio.wait_for(send(port, text), PATIENCE)
    except (TimeoutError, OSError):
        return begun, REFUSED


async def run(port: int, rate: float) -> list[tuple[float, float]]:
    """Probes at `rate` per second until SIGTERM."""
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    text = body("probe")
    due = time.monotonic()
    async with asyncio.TaskGroup() as group:
        tasks = []
        while not stopped.is_set():
            tasks.append(group.create_task(_probe(port, text)))
            due += 1 / rate
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stopped.wait(), max(0.0, due - time.monotonic()))
    return [task.result() for task in tasks]


def main() -> None:
    with contextlib.suppress(PermissionError):
        os.nice(-10)  # the MTA's answer is measured, not how long the machine leaves the probe unread
    json.dump(asyncio.run(run(int(sys.argv[1]), float(sys.argv[2]))), sys.stdout)


if __name__ == "__main__":
    main()
