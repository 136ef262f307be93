"""A loop in a thread beside the test, for servers that whole processes, or code that blocks, talk to."""

import asyncio
import threading
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, Protocol, TypeVar

T = TypeVar("T")

PATIENCE = 10.0


class Server(Protocol):
    """What is started and stopped within a loop."""

    async def start(self) -> Any: ...

    async def stop(self) -> None: ...


S = TypeVar("S", bound=Server)


class Beside:
    """See above."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Waits for what it comes to."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(PATIENCE)


@contextmanager
def beside(loop: asyncio.AbstractEventLoop | None = None) -> Iterator[Beside]:
    """It runs while the block does. loop: a new one that is to be used."""
    one = Beside(loop or asyncio.new_event_loop())
    thread = threading.Thread(target=one.loop.run_forever, name="beside", daemon=True)
    thread.start()
    try:
        yield one
    finally:
        one.loop.call_soon_threadsafe(one.loop.stop)
        thread.join(PATIENCE)
        one.loop.close()


@contextmanager
def served(server: S) -> Iterator[S]:
    """The server in a thread with a loop of its own, for tests that run whole processes against it."""
    with beside() as thread:
        thread.run(server.start())
        try:
            yield server
        finally:
            thread.run(server.stop())
