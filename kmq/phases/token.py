"""The access token of a connector: out of its file, or printed by its program.

Promise:  read anew for each connection; a program runs once for the connections that are opened at the same time, is
          ended with all that it began when its time is over, and what it prints is bounded. The token is in no message.
          What is wrong is a ValueError or OSError with words for the postmaster.
On crash: a program that was begun ends by itself, or with its output's pipe.
Callers:  phases.smtp_opening.
"""

import asyncio
import contextlib
import os
import signal
from subprocess import DEVNULL, PIPE

from kmq.config.client_tls import TOKEN_LIMIT, read_token, token_in
from kmq.config.sections import ConnectorSection
from kmq.phases.replies import printable

_running: dict[tuple[str, ...], asyncio.Task[str]] = {}


async def token_of(section: ConnectorSection) -> str:
    """The token; ValueError, OSError or TimeoutError when there is none."""
    if section.token_file:
        return await asyncio.to_thread(read_token, section)
    task = _running.get(section.token_command)
    if task is None or task.get_loop() is not asyncio.get_running_loop():
        task = asyncio.create_task(_printed(section.token_command, section.token_timeout))
        _running[section.token_command] = task
        task.add_done_callback(lambda done: _forget(section.token_command, done))
    return await asyncio.shield(task)


def _forget(command: tuple[str, ...], done: asyncio.Task[str]) -> None:
    if _running.get(command) is done:
        del _running[command]
    if not done.cancelled():
        done.exception()  # whoever waited has been told


async def _printed(command: tuple[str, ...], patience: float) -> str:
    """The first line that the program prints."""
    transport, talk = await _begun(command)
    try:
        async with asyncio.timeout(patience):
            await talk.ended
    except TimeoutError:
        raise ValueError(f"it was not done within {patience:g} s") from None
    finally:
        if not talk.over:
            _end(transport.get_pid())
        transport.close()
    status = transport.get_returncode()
    if status != 0:
        why = printable(bytes(talk.said[2]).strip().partition(b"\n")[0][:200])
        raise ValueError(f"it ended with status {status}" + (f": {why}" if why else ""))
    return token_in(bytes(talk.said[1]))


async def _begun(command: tuple[str, ...]) -> tuple[asyncio.SubprocessTransport, "_Talk"]:
    """Who is cancelled while it begins ends it with all that it has begun by then."""
    beginning = asyncio.ensure_future(
        asyncio.get_running_loop().subprocess_exec(
            _Talk, *command, stdin=DEVNULL, stdout=PIPE, stderr=PIPE, start_new_session=True
        )
    )
    try:
        return await asyncio.shield(beginning)
    except asyncio.CancelledError:
        with contextlib.suppress(OSError):
            transport, _ = await beginning
            _end(transport.get_pid())
            transport.close()
        raise


class _Talk(asyncio.SubprocessProtocol):
    """What a program says, as far as it is of interest. over: it has ended, and nobody holds its output any more."""

    def __init__(self) -> None:
        self.said = {1: bytearray(), 2: bytearray()}
        self.over = False
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def pipe_data_received(self, fd: int, said: bytes) -> None:
        if self.ended.done():
            return
        self.said[fd] += said
        if len(self.said[fd]) > TOKEN_LIMIT:
            self.ended.set_exception(ValueError("it says more than any token is long"))

    def connection_lost(self, error: Exception | None) -> None:
        self.over = True
        if not self.ended.done():
            self.ended.set_result(None)


def _end(pid: int) -> None:
    """The program, and whatever it has begun."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)
