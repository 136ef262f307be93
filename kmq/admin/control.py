"""The control socket's server: operators ask, the scheduler process answers.

What:     frames (model/frame) over the Unix socket that the supervisor bound; each Verb is checked against the table
          of verbs and against the rights of the asking user, as the kernel says who it is (admin/rights), and handed
          to `ask`. What changes something is told in the mail log (admin/deeds).
Promise:  no question, however broken, and no client, however slow or gone, stops the server or the asked: connections,
          waiting times and frames are bounded, and who may ask nothing, or only look, takes no place from those who may
          more (admin/room). A question that broke us is answered with status 1 and reported to the loop's exception
          handler.
On crash: the client sees the connection end and says so (75); what was answered before was durable.
Callers:  run/queue, by the wiring in cli.kmqd.
"""

import asyncio
import os
import socket
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping

import msgspec

from kmq.admin import verbs
from kmq.admin.deeds import Deeds
from kmq.admin.rights import Caller, Refusals, Right, Rights, caller_of
from kmq.admin.room import Room
from kmq.admin.verbs import VERBS, Arguments
from kmq.errors import KmqError
from kmq.model.frame import Answer, BrokenFrame, Reader, Verb, encode
from kmq.model.outcome import DONE, NOT_NOW, REFUSED, USAGE

#: One line of an answer: anything that JSON can hold, by name.
Line = Mapping[str, object]

#: verb, arguments, uid -> an Answer at once, or lines and perhaps an Answer at last (without one: status 0).
Ask = Callable[[str, Arguments, int], Answer | AsyncIterator[Line | Answer]]

#: Seconds: a client may be silent for so long between questions, or take so long to read an answer.
IDLE = 60.0
SLOW = 30.0
#: Bytes of lines that are sent in one go: a bulk verb answers a line for each message.
GATHERED = 1 << 16

_json = msgspec.json.Encoder().encode


class _Gone(Exception):
    """The client does not read any more; whoever makes the answer may stop."""


class Control:
    """Serves one listening socket until closed. rights: without them root and this user may ask, and nobody else."""

    def __init__(self, ask: Ask, rights: Rights | None = None) -> None:
        self._ask = ask
        self._rights = rights or Rights(None, None, os.geteuid())
        self._refusals = Refusals(self._rights)
        self._server: asyncio.Server | None = None
        self._room = Room()
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
        try:
            caller = caller_of(writer.get_extra_info("socket").fileno())
        except OSError:
            writer.close()
            return
        right = self._rights.of(caller)
        if right is Right.NOTHING:
            _dismiss(writer, REFUSED, self._refusals.refuse(caller, "anything"))
        elif problem := self._room.enter(caller, right):
            _dismiss(writer, NOT_NOW, problem)
        else:
            talk = asyncio.ensure_future(self._talk(reader, writer, caller, right))
            self._talks.add(talk)
            talk.add_done_callback(lambda ended: self._leave(ended, caller, right))

    def _leave(self, talk: "asyncio.Task[None]", caller: Caller, right: Right) -> None:
        self._talks.discard(talk)
        self._room.leave(caller, right)

    async def _talk(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, caller: Caller, right: Right
    ) -> None:
        frames = Reader()
        deeds = Deeds(caller.uid)
        try:
            while received := await asyncio.wait_for(reader.read(1 << 16), IDLE):
                for frame, _ in frames.feed(received):
                    if not isinstance(frame, Verb):
                        return
                    async with self._room.turn(caller, right):
                        await self._answer(frame, caller, deeds, writer)
        except (OSError, TimeoutError, _Gone, BrokenFrame):
            pass  # the client is gone, or speaks another language: nobody is left to tell
        finally:
            deeds.tell()
            writer.close()

    async def _answer(self, frame: Verb, caller: Caller, deeds: Deeds, writer: asyncio.StreamWriter) -> None:
        problem = verbs.trouble(frame.verb, frame.arguments)
        if problem:
            await _send(writer, Answer(status=USAGE, text=problem))
            return
        looks = VERBS[frame.verb].looks
        if not looks and self._rights.of(caller) is not Right.OPERATE:
            await _send(writer, Answer(status=REFUSED, text=self._refusals.refuse(caller, frame.verb)))
            return
        if not looks:
            deeds.begin(frame.verb, frame.arguments)
        try:
            last = await self._asked(frame, caller.uid, None if looks else deeds, writer)
        except _Gone:
            raise
        except KmqError as error:
            last = Answer(status=error.exit_status, text=str(error))
        except Exception as error:
            asyncio.get_running_loop().call_exception_handler(
                {"message": f"the verb {frame.verb} failed", "exception": error}
            )
            last = Answer(status=REFUSED, text=f"kmqd made a mistake ({type(error).__name__}); see its log")
        deeds.end(last.status)
        await _send(writer, last)

    async def _asked(self, frame: Verb, uid: int, deeds: Deeds | None, writer: asyncio.StreamWriter) -> Answer:
        """Sends the lines, many in one go; returns the end of the answer."""
        answer = self._ask(frame.verb, frame.arguments, uid)
        if isinstance(answer, Answer):
            return answer
        gathered = bytearray()
        try:
            async for line in answer:
                if isinstance(line, Answer):
                    return line
                if deeds is not None:
                    deeds.heard(line)
                gathered += encode(Answer(line=msgspec.Raw(_json(line))))
                if len(gathered) >= GATHERED:
                    await _write(writer, bytes(gathered))
                    gathered.clear()
        finally:
            if isinstance(answer, AsyncGenerator):
                await answer.aclose()
            if not writer.is_closing():
                writer.write(bytes(gathered))
        return Answer(status=DONE)


def _dismiss(writer: asyncio.StreamWriter, status: int, text: str) -> None:
    """One sentence, and the end."""
    writer.write(encode(Answer(status=status, text=text)))
    writer.close()


async def _send(writer: asyncio.StreamWriter, answer: Answer) -> None:
    await _write(writer, encode(answer))


async def _write(writer: asyncio.StreamWriter, text: bytes) -> None:
    if writer.is_closing():  # uvloop takes it for a mistake of ours to write there
        raise _Gone
    writer.write(text)
    try:
        await asyncio.wait_for(writer.drain(), SLOW)
    except (OSError, TimeoutError):
        raise _Gone from None
