"""The control socket's server: operators ask, the scheduler process answers.

What:     frames (model/frame) over the Unix socket that the supervisor bound; each Verb is checked against the table
          of verbs and handed to `ask` with the asking user as the kernel says it (SO_PEERCRED).
Promise:  no question, however broken, and no client, however slow or gone, stops the server or the asked: connections,
          waiting times and frames are bounded. A question that broke us is answered with status 1 and reported to the
          loop's exception handler.
On crash: the client sees the connection end and says so (75); what was answered before was durable.
Callers:  run/queue, with a callable.
"""

import asyncio
import socket
import struct
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping

import msgspec

from kmq.admin import verbs
from kmq.admin.verbs import Arguments
from kmq.errors import KmqError
from kmq.model.frame import Answer, BrokenFrame, Reader, Verb, encode

#: One line of an answer: anything that JSON can hold, by name.
Line = Mapping[str, object]

#: verb, arguments, uid -> an Answer at once, or lines and perhaps an Answer at last (without one: status 0).
Ask = Callable[[str, Arguments, int], Answer | AsyncIterator[Line | Answer]]

CONNECTIONS = 64
#: Seconds: a client may be silent for so long between questions, or take so long to read an answer.
IDLE = 60.0
SLOW = 30.0

_CREDENTIALS = struct.Struct("3i")
_json = msgspec.json.Encoder().encode


class _Gone(Exception):
    """The client does not read any more; whoever makes the answer may stop."""


class Control:
    """Serves one listening socket until closed."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask
        self._server: asyncio.Server | None = None
        self._talks: set[asyncio.Task[None]] = set()

    async def serve(self, listener: socket.socket) -> None:
        """Begins to serve; returns at once."""
        self._server = await asyncio.start_unix_server(self._welcome, sock=listener)

    async def close(self) -> None:
        """No new questions; those that are being answered are cut off."""
        if self._server:
            self._server.close()
        for talk in self._talks:
            talk.cancel()
        if self._talks:
            await asyncio.wait(self._talks)

    def _welcome(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._talks) >= CONNECTIONS:
            writer.write(encode(Answer(status=verbs.NOT_NOW, text="too many operators at once, try again")))
            writer.close()
            return
        talk = asyncio.ensure_future(self._talk(reader, writer))
        self._talks.add(talk)
        talk.add_done_callback(self._talks.discard)

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        frames = Reader()
        try:
            uid = _uid_of(writer)
            while received := await asyncio.wait_for(reader.read(1 << 16), IDLE):
                for frame, _ in frames.feed(received):
                    if not isinstance(frame, Verb):
                        return
                    await self._answer(frame, uid, writer)
        except (OSError, TimeoutError, _Gone, BrokenFrame):
            pass  # the client is gone, or speaks another language: nobody is left to tell
        finally:
            writer.close()

    async def _answer(self, frame: Verb, uid: int, writer: asyncio.StreamWriter) -> None:
        problem = verbs.trouble(frame.verb, frame.arguments)
        if problem:
            last = Answer(status=verbs.USAGE, text=problem)
        else:
            try:
                last = await self._asked(frame, uid, writer)
            except _Gone:
                raise
            except KmqError as error:
                last = Answer(status=error.exit_status, text=str(error))
            except Exception as error:
                asyncio.get_running_loop().call_exception_handler(
                    {"message": f"the verb {frame.verb} failed", "exception": error}
                )
                last = Answer(status=verbs.REFUSED, text=f"kmqd made a mistake ({type(error).__name__}); see its log")
        await _send(writer, last)

    async def _asked(self, frame: Verb, uid: int, writer: asyncio.StreamWriter) -> Answer:
        """Sends the lines as they come; returns the end of the answer."""
        answer = self._ask(frame.verb, frame.arguments, uid)
        if isinstance(answer, Answer):
            return answer
        try:
            async for line in answer:
                if isinstance(line, Answer):
                    return line
                await _send(writer, Answer(line={name: msgspec.Raw(_json(value)) for name, value in line.items()}))
        finally:
            if isinstance(answer, AsyncGenerator):
                await answer.aclose()
        return Answer(status=verbs.DONE)


async def _send(writer: asyncio.StreamWriter, answer: Answer) -> None:
    writer.write(encode(answer))
    try:
        await asyncio.wait_for(writer.drain(), SLOW)
    except (OSError, TimeoutError):
        raise _Gone from None


def _uid_of(writer: asyncio.StreamWriter) -> int:
    """The user at the other end. The loop's socket object may be a stand-in (uvloop), so its descriptor is asked."""
    stand_in = writer.get_extra_info("socket")
    with socket.fromfd(stand_in.fileno(), socket.AF_UNIX, socket.SOCK_STREAM) as peer:
        _, uid, _ = _CREDENTIALS.unpack(peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
    return int(uid)
