"""How long the loops of a kmqd keep somebody waiting who asks them next to nothing, again and again.

`python -m bench.pulse PORT CONTROL_SOCKET`: a process of its own. It says NOOP to the receiver and asks the scheduler
process how it is (`pressure`), each by its own clock, fifty times a second, until SIGTERM; then it prints one JSON
object: process -> seconds of each answer. What stands still for a fifth of a second cannot be missed between two
questions. What comes before the first answer is a start, and not counted.
"""

import asyncio
import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable

from kmq.model.frame import Answer, Reader, Verb, encode

#: Seconds between two questions.
PAUSE = 0.02
#: Seconds after which an answer does not count as one.
PATIENCE = 30.0
#: Questions of one connection: a receiver ends a session that does nothing else.
SESSION = 90

Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def receiver(port: int) -> Stream:
    """A session, greeted."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    await reader.readline()
    return reader, writer


async def noop(stream: Stream) -> None:
    """One command that does nothing."""
    reader, writer = stream
    writer.write(b"NOOP\r\n")
    if not (await reader.readline()).startswith(b"250"):
        raise ConnectionError("the receiver has ended the session")


async def question(stream: Stream) -> None:
    """One question of an operator, and the whole answer."""
    reader, writer = stream
    writer.write(encode(Verb(verb="pressure", arguments={})))
    frames = Reader()
    while received := await reader.read(1 << 16):
        if any(isinstance(frame, Answer) and frame.status >= 0 for frame, _ in frames.feed(received)):
            return
    raise ConnectionError("kmqd broke off its answer")


async def pulse(begin: Callable[[], Awaitable[Stream]], ask: Callable[[Stream], Awaitable[None]]) -> list[float]:
    """Seconds of each answer, until it is cancelled; of the one that is under way then as long as it took so far."""
    found: list[float] = []
    asked = 0.0
    with contextlib.suppress(asyncio.CancelledError):
        while True:
            with contextlib.suppress(OSError, EOFError):
                stream = await begin()
                for _ in range(SESSION):
                    asked = time.monotonic()
                    await asyncio.wait_for(ask(stream), PATIENCE)
                    found.append(time.monotonic() - asked)
                    asked = 0.0
                    await asyncio.sleep(PAUSE)
                stream[1].close()
            asked = 0.0
            await asyncio.sleep(PAUSE)
    return [*found, time.monotonic() - asked][1:] if asked else found[1:]


async def run(port: int, control: str) -> dict[str, list[float]]:
    """Both, until SIGTERM."""
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    tasks = {
        "receiver": asyncio.create_task(pulse(lambda: receiver(port), noop)),
        "scheduler": asyncio.create_task(pulse(lambda: asyncio.open_unix_connection(control), question)),
    }
    await stopped.wait()
    for task in tasks.values():
        task.cancel()
    return {name: await task for name, task in tasks.items()}


def main() -> None:
    with contextlib.suppress(PermissionError):
        os.nice(-10)  # kmqd's answer is measured, not how long the machine leaves us waiting
    port, control = sys.argv[1:]
    json.dump(asyncio.run(run(int(port), control)), sys.stdout)


if __name__ == "__main__":
    main()
