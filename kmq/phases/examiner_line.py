"""What an examiner says, as its worker hears it: the answers to what was asked, whole, or why there are none.

Promise:  a reader of the loop stays in place between two questions, so what is asked together costs one system call to
          be told and one to be heard. What nobody asked for, and what is larger than an answer may be, ends the line:
          an examiner that was taken over fills no memory.
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
        self._heard: list[bytes] = []
        self.expect(1)

    def expect(self, count: int) -> None:
        """So many questions are about to be asked."""
        self._count = count
        self._answers: asyncio.Future[list[bytes]] = asyncio.get_running_loop().create_future()

    async def answers(self, seconds: float) -> list[bytes]:
        """What is said next, or was just said: as many as are expected, fewer when it ends behind them. TimeoutError;
        EOFError when it ends without one; Nonsense."""
        late = asyncio.get_running_loop().call_later(seconds, self._end, TimeoutError())
        try:
            return await self._answers
        finally:
            late.cancel()

    def close(self) -> None:
        """It is of no use any more; who waits for an answer hears that it ends."""
        self.gone = True
        if self._transport is not None:
            self._transport.close()
        self._end(EOFError())

    # --- told by the loop --------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        if self._answers.done():
            self.close()
            return
        text = self._text
        text += data
        while len(text) >= LENGTH.size:
            length = LENGTH.size + int(LENGTH.unpack_from(text)[0])
            if length > ANSWER_LIMIT or len(self._heard) == self._count:
                self._end(Nonsense(f"an answer of {length - LENGTH.size} bytes, which is {len(self._heard) + 1}."))
                self.close()
                return
            if len(text) < length:
                return
            self._heard.append(bytes(memoryview(text)[LENGTH.size : length]))
            del text[:length]
        if len(self._heard) == self._count and not text:
            heard, self._heard = self._heard, []
            self._answers.set_result(heard)

    def connection_lost(self, exc: Exception | None) -> None:
        self.gone = True
        if self._heard and not self._answers.done():
            self._answers.set_result(self._heard)
        self._end(EOFError())

    def _end(self, why: Exception) -> None:
        if not self._answers.done():
            self._answers.set_exception(why)
            self._answers.exception()  # nobody need wait for it
