"""What an examiner says, as its worker hears it: one answer at a time, whole, or why there is none.

Promise:  a reader of the loop stays in place between two questions, so a question costs one system call to be told and
          one to be heard. What nobody asked for, and what is larger than an answer may be, ends the line: an examiner
          that was taken over fills no memory.
On crash: nothing is kept.
Callers:  phases.examiner_child.
"""

import asyncio

from kmq.phases.examiner_frames import ANSWER_LIMIT, LENGTH


class Nonsense(Exception):
    """An examiner says what no examiner of ours says."""


class Line(asyncio.Protocol):
    """A connection to one; its greeting is the first answer."""

    def __init__(self) -> None:
        self.gone = False
        self._transport: asyncio.BaseTransport | None = None
        self._text = bytearray()
        self._answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    async def answer(self, seconds: float) -> bytes:
        """What is said next, or was just said. TimeoutError; EOFError when it ends; Nonsense."""
        late = asyncio.get_running_loop().call_later(seconds, self._end, TimeoutError())
        try:
            return await self._answer
        finally:
            late.cancel()

    def expect(self) -> None:
        """A question is about to be asked."""
        self._answer = asyncio.get_running_loop().create_future()

    def close(self) -> None:
        """Nobody listens any more."""
        self.gone = True
        if self._transport is not None:
            self._transport.close()
        self._answer.cancel()

    # --- told by the loop --------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        if self._answer.done():
            self.close()
            return
        text = self._text
        text += data
        if len(text) < LENGTH.size:
            return
        length = LENGTH.size + int(LENGTH.unpack_from(text)[0])
        if len(text) == length:
            self._text = bytearray()
            self._answer.set_result(bytes(memoryview(text)[LENGTH.size :]))
        elif len(text) > length or length > ANSWER_LIMIT:
            self._end(Nonsense(f"an answer of {length - LENGTH.size} bytes"))
            self.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self.gone = True
        self._end(EOFError())

    def _end(self, why: Exception) -> None:
        if not self._answer.done():
            self._answer.set_exception(why)
