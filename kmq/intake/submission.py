"""Handing mail to the scheduler process: the Door that receivers bring it through.

A put's life: waiting (no connection, or a full one) -> sent -> answered. A put that was sent over a connection which
              ended is asked for over the next one by its token (J10): durable -> its ID, unknown -> 451.
Promise:      every put and reservation is answered once. What waits is bounded in number, bytes and time: beyond that
              the client hears 451 at once and keeps his message. A large body's file is removed here only when its put
              was refused or never sent; from the sending on it is the scheduler process's.
On crash:     clients whose puts were not answered hear nothing and send again; what was durable is delivered once.
Callers:      run.doorway, which owns the connection and hands in `send`; all in the loop's thread.
"""

import os
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from kmq import log
from kmq.intake.door import FREE, Answer, DroppedFile, LargeBody, Pressed
from kmq.intake.etrn import UNREACHABLE
from kmq.intake.large import Large
from kmq.model import reply
from kmq.model.frame import AnyFrame, Ask, Etrn, Etrned, Frame, Intake, Put, Refused, Reserve, Reserved, Stored
from kmq.model.reply import Reply
from kmq.spool import incoming
from kmq.spool.disk import Disk

#: What may wait for a connection: puts and reservations, their bytes, and how long.
WAITING = 10_000
WAITING_BYTES = 32 << 20
PATIENCE = 60.0
#: Tokens in one frame, whose head is bounded.
ASKED = 10_000
#: Threads that write large bodies: as many syncs may be under way at once.
THREADS = 8

UNAVAILABLE = Reply(451, "4.3.0", "Queue is not available, try again later")


class Waiting(NamedTuple):
    """A frame that could not be sent yet."""

    since: float
    frame: Put | Reserve
    raw: bytes


class Submission:
    """The door of one receiver process.

    send:    sends a frame over the present connection; False when there is none, or it is full.
    refusal: what clients hear while nothing may come in.
    stored, refused: puts that were answered so, for the status file.
    """

    def __init__(
        self, send: Callable[[Frame, bytes], bool], disk: Disk, number: int, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._send = send
        self._disk = disk
        self._now = now
        self._maker = incoming.maker_here(number)
        self._serial = 0
        self._threads = ThreadPoolExecutor(THREADS, "large-body")
        self._series = os.urandom(12).hex()
        self._tokens = 0
        self._puts: dict[str, Answer] = {}
        self._reserving: dict[str, Answer] = {}
        self._etrns: dict[str, Answer] = {}
        self._waiting: deque[Waiting] = deque()
        self._waiting_bytes = 0
        self._closed: Reply | None = None
        self.refusal: Reply | None = None
        self._pressed = (FREE, FREE)  # other servers, users
        self.stored = 0
        self.refused = 0

    # --- the door ----------------------------------------------------------------------------------------------------

    def pressed(self, user: bool) -> Pressed:
        """What the scheduler process said last."""
        return self._pressed[user]

    def put(
        self, raw: bytes, tail: int, count: int, stamp: int, answer: Answer, dropped: DroppedFile | None = None
    ) -> None:
        """A whole message, small enough for one frame."""
        token = self._token()
        self._puts[token] = answer
        self._post(Put(token, tail, count, stamp, dropped=dropped), raw)

    def reserve(self, answer: Answer) -> None:
        """The ID for a large body. It is good for this run of the scheduler process; a later one refuses it (451)."""
        token = self._token()
        self._reserving[token] = answer
        self._post(Reserve(token), b"")

    def etrn(self, node: str, answer: Answer) -> None:
        """Asked of the scheduler process that is there now; nobody waits for the next one."""
        token = self._token()
        self._etrns[token] = answer
        if not self._send(Etrn(token, node), b""):
            self._tell(self._etrns.pop(token), "", UNREACHABLE)

    def open_large(self, on_room: Callable[[], None], dropped: DroppedFile | None = None) -> Large:
        """A new file in incoming/, made when its first bytes are written."""
        self._serial += 1
        return Large(incoming.name(self._maker, self._serial), self._disk, self._threads, on_room, dropped)

    def put_large(self, queue_id: str, tail: bytes, count: int, sha256: str, large: LargeBody, answer: Answer) -> None:
        """The put follows the sync of file and name (J6)."""
        assert isinstance(large, Large), "a body of this door"

        def answered(queue_id: str, refused: Reply | None) -> None:
            if refused is not None:
                large.discard()
            answer(queue_id, refused)

        def finished(trouble: Reply | None) -> None:
            if trouble is not None:
                self.refused += 1
                answer("", trouble)
                return
            token = self._token()
            self._puts[token] = answered
            self._post(Put(token, len(tail), count, -1, queue_id, sha256, large.name, large.dropped), tail)

        large.finish(finished)

    # --- the connection ----------------------------------------------------------------------------------------------

    def heard(self, frame: AnyFrame) -> bool:
        """A frame from the scheduler process; False when it is none for us."""
        match frame:
            case Stored():
                self.stored += len(frame.puts)
                for token, queue_id in frame.puts:
                    self._tell(self._puts.pop(token, None), queue_id, None)
            case Refused():
                self._refuse(frame.token, reply.parse(frame.reply))
            case Reserved():
                self._tell(self._reserving.pop(frame.token, None), frame.m, None)
            case Etrned():
                self._tell(self._etrns.pop(frame.token, None), "", reply.parse(frame.reply))
            case Intake():
                self._closed = _reply(frame.reply)
                self._judge()
                servers = Pressed(_reply(frame.servers), frame.servers_wait)
                self._pressed = (servers, Pressed(_reply(frame.users), frame.users_wait))
            case _:
                return False
        return True

    def reconnected(self) -> None:
        """There is a connection, perhaps to a new scheduler process: asks what became of puts that the old one got."""
        unsent = {one.frame.token for one in self._waiting}
        tokens = [token for token in self._puts if token not in unsent]
        for first in range(0, len(tokens), ASKED):
            self._send(Ask(tokens[first : first + ASKED]), b"")
        for token in self._reserving.keys() - unsent:
            self._send(Reserve(token), b"")
        for token in [*self._etrns]:
            self._tell(self._etrns.pop(token), "", UNREACHABLE)
        self.resume()

    def resume(self) -> None:
        """The connection has room: sends what waits, the oldest first."""
        while self._waiting and self._send(self._waiting[0].frame, self._waiting[0].raw):
            self._waiting_bytes -= len(self._waiting.popleft().raw)
        self._judge()

    def tick(self) -> None:
        """Each second, or each five at rest: who has waited too long hears 451."""
        late = self._now() - PATIENCE
        while self._waiting and self._waiting[0].since < late:
            one = self._waiting.popleft()
            self._waiting_bytes -= len(one.raw)
            self._refuse(one.frame.token, UNAVAILABLE)
        self._judge()

    @property
    def unanswered(self) -> int:
        """Puts and reservations that wait for their answer."""
        return len(self._puts) + len(self._reserving)

    def close(self) -> None:
        """The process ends: lets the threads finish what they have begun."""
        self._threads.shutdown(wait=True)

    # --- inside ------------------------------------------------------------------------------------------------------

    def _token(self) -> str:
        """32 hex digits that nobody else has: random for this process, then counted."""
        self._tokens += 1
        return f"{self._series}{self._tokens:08x}"

    @property
    def _overfull(self) -> bool:
        return len(self._waiting) >= WAITING or self._waiting_bytes > WAITING_BYTES

    def _post(self, frame: Put | Reserve, raw: bytes) -> None:
        if not self._waiting and self._send(frame, raw):
            return
        if self._overfull:
            self._refuse(frame.token, UNAVAILABLE)
            return
        self._waiting.append(Waiting(self._now(), frame, raw))
        self._waiting_bytes += len(raw)
        self._judge()

    def _judge(self) -> None:
        """Whether anything may come in, after each change."""
        self.refusal = self._closed or (UNAVAILABLE if self._overfull else None)

    def _refuse(self, token: str, why: Reply) -> None:
        self.refused += 1
        self._tell(self._puts.pop(token, None) or self._reserving.pop(token, None), "", why)

    def _tell(self, answer: Answer | None, queue_id: str, refused: Reply | None) -> None:
        """Answers once; a second word about the same token is nobody's. One session's mistake is not another's."""
        if answer is None:
            return
        try:
            answer(queue_id, refused)
        except Exception as error:
            log.error("our program failed on an answer", id=queue_id, trace=log.traced(error))


def _reply(text: str) -> Reply | None:
    return reply.parse(text) if text else None
