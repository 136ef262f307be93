"""Connections to clamd that are kept: one small text after the other over each (clamd(8), IDSESSION).

Why:      a connection for each message costs a worker a dozen system calls and 60 µs; clamd itself it costs nothing.
          What is large has one of its own (phases.clamd), since clamd may break off in the middle of it.
Promise:  a connection has one question at a time, and its answer is known by the number that clamd puts ahead of it.
          One on which anything else was heard, or on which nobody waits any more for the answer, is closed. clamd ends
          those that nobody uses; where it does so at the very moment of a question, that is asked once more.
Limits:   of time are the caller's.
Callers:  phases.antivirus_scanner; admin.check_scanners.
"""

import asyncio
from typing import cast

from kmq.config.scanner import Peer
from kmq.phases.clamd import REPLY_LIMIT, Verdict, instream, verdict_of
from kmq.phases.peers import Unanswered, connect

#: What is said to a question; None: nothing, the connection has ended.
Said = Verdict | Unanswered | None

_BEGIN = b"zIDSESSION\0"


class Sessions:
    """Those with one clamd. There are never more than questions at one time."""

    def __init__(self, peer: Peer) -> None:
        self._peer = peer
        self._idle: list[Session] = []

    async def scan(self, text: bytes) -> Verdict | Unanswered:
        """What clamd says of a text."""
        kept = self._kept()
        said = await self._asked(kept, text) if kept is not None else None
        if said is None:
            session = await self._begun()
            if isinstance(session, Unanswered):
                return session
            said = await self._asked(session, text)
        return verdict_of(b"") if said is None else said

    def close(self) -> None:
        """Nobody asks any more."""
        while self._idle:
            self._idle.pop().close()

    def _kept(self) -> "Session | None":
        while self._idle:
            session = self._idle.pop()
            if not session.gone:
                return session
        return None

    async def _begun(self) -> "Session | Unanswered":
        loop = asyncio.get_running_loop()
        line = await connect(loop, self._peer)
        if isinstance(line, Unanswered):
            return line
        opened = loop.create_unix_connection if isinstance(self._peer, str) else loop.create_connection
        _, session = await opened(Session, sock=line)
        return session

    async def _asked(self, session: "Session", text: bytes) -> Said:
        try:
            said = await session.ask(text)
        except BaseException:  # the time is over: what comes now is no answer to the next question
            session.close()
            raise
        if not session.gone:
            self._idle.append(session)
        return said


class Session(asyncio.Protocol):
    """One of them. gone: it is of no use any more."""

    def __init__(self) -> None:
        self.gone = False
        self._asked = 0
        self._number = b""  #: what an answer begins with
        self._heard = b""
        self._answer: asyncio.Future[Said] | None = None
        self._transport: asyncio.Transport | None = None

    async def ask(self, text: bytes) -> Said:
        """The answer."""
        assert self._transport is not None, "who asks has waited for the connection"
        self._asked += 1
        self._number = b"%d: " % self._asked
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(instream(text))
        return await self._answer

    def close(self) -> None:
        self.gone = True
        if self._transport is not None:
            self._transport.abort()

    # --- told by the loop --------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.write(_BEGIN)

    def data_received(self, data: bytes) -> None:
        if self._answer is None:  # nobody asked
            self.close()
            return
        heard = self._heard = self._heard + data if self._heard else data
        end = heard.find(b"\0")
        if end < 0 and len(heard) < REPLY_LIMIT:
            return
        self._heard = b""
        if end < len(heard) - 1 or not heard.startswith(self._number):  # too much, or something else than was asked
            self.gone = True
        self._told(heard[:end] if end >= 0 else heard)
        if self.gone:
            self.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self.gone = True
        # "COMMAND READ TIMED OUT\n", without a zero byte, is no answer: the question crossed it.
        self._told(self._heard if self._heard.startswith(self._number) else b"")

    def _told(self, reply: bytes) -> None:
        answer, self._answer = self._answer, None
        if answer is None or answer.done():  # nobody asked
            self.gone = True
        elif reply:
            answer.set_result(self._meant(reply))
        else:
            answer.set_result(None)

    def _meant(self, reply: bytes) -> Verdict | Unanswered:
        """A verdict without the number of its question is none about our text."""
        said = verdict_of(reply.removeprefix(self._number))
        if isinstance(said, Verdict) and not reply.startswith(self._number):
            return Unanswered("it answers without the number of the question")
        return said
