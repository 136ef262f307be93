"""The cord between the supervisor and a child: frames, and descriptors beside them, in whole messages.

What:     `Cord` is either end. `Ward` is the child's side of what is said over it: it beats each five seconds, so that
          the supervisor knows that the child's loop runs, and when there is news; and it takes a new configuration in
          two steps: it is made ready, then, when all children are, it counts.
Promise:  a message comes whole or not at all, and in order; nobody waits for an other side that does not read. What was
          prepared and then cancelled leaves no open descriptor, and so no port that is bound by nobody's wish.
On crash: of either side: the other one reads the end. A child that is born is given the configuration that counts.
Callers:  the supervisor and its children, each in its loop; a child without a supervisor (in a test) has no cord.
"""

import asyncio
import os
import socket
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import NamedTuple, NoReturn

from kmq import log
from kmq.config import Settings
from kmq.errors import KmqError
from kmq.model.frame import (
    AnyFrame,
    Beat,
    Cancel,
    Commit,
    Frame,
    Prepare,
    Prepared,
    Reader,
    Reload,
    Reloaded,
    encode,
)
from kmq.run.inheritance import read_settings
from kmq.spool.rhythm import REST, until_next

#: Descriptors that one message can bear (the kernel's SCM_MAX_FD), and bytes.
DESCRIPTORS = 253
_BYTES = 1 << 17

#: Characters of a child's complaint.
_COMPLAINT = 4000


class Cord:
    """One end. The other one is dead when `receive` says so."""

    def __init__(self, end: socket.socket) -> None:
        self._end = end
        end.setblocking(False)

    @classmethod
    def pair(cls) -> tuple["Cord", socket.socket]:
        """(our end, the child's)."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        return cls(ours), theirs

    def fileno(self) -> int:
        return self._end.fileno()

    def send(self, frame: Frame, descriptors: Iterable[int] = ()) -> bool:
        """False when the other side is dead, or has not read for long."""
        try:
            socket.send_fds(self._end, [encode(frame)], list(descriptors), socket.MSG_NOSIGNAL)
        except OSError:
            return False
        return True

    def receive(self) -> tuple[AnyFrame, list[int]] | None:
        """One message and its descriptors, ours from here; None at the end. BlockingIOError when nothing is there."""
        try:
            text, descriptors, _, _ = socket.recv_fds(self._end, _BYTES, DESCRIPTORS, socket.MSG_CMSG_CLOEXEC)
        except ConnectionError:
            return None
        if not text:
            return None
        [(frame, _)] = Reader().feed(text)
        return frame, descriptors

    def close(self) -> None:
        self._end.close()


class Gift(NamedTuple):
    """What a child is to work with: settings, and by name the listeners and the memory of limits that are its share.

    Whoever takes something out of the dictionaries owns it; what is left is closed.
    """

    settings: Settings
    sockets: dict[str, socket.socket]
    tallies: dict[str, int]

    def close(self) -> None:
        """Closes what nobody took."""
        while self.sockets:
            self.sockets.popitem()[1].close()
        while self.tallies:
            os.close(self.tallies.popitem()[1])


#: What makes a configuration count, at once or as soon as it has run to its end.
Count = Callable[[], Awaitable[None] | None]

#: Looks whether a gift can be worked with (KmqError when not), changes nothing, and returns what makes it count.
Make = Callable[[Gift], Count]


class Ward:
    """A child's side. number: of the configuration that counts; make: prepares another; queued, closed: what beats
    tell."""

    def __init__(
        self, end: socket.socket | None, number: int, make: Make, queued: Callable[[], int] = lambda: -1
    ) -> None:
        self.number = self._counted = number
        self.ready = False
        self._cord = Cord(end) if end is not None else None
        self._make = make
        self._queued = queued
        self.closed: Callable[[], str] = lambda: ""
        self._prepared: tuple[int, Gift, Count] | None = None
        self._asked: dict[int, asyncio.Future[Reloaded]] = {}
        self._told: Beat | None = None
        self._loop = asyncio.get_running_loop()

    def begin(self) -> None:
        """Begins to listen and to beat."""
        if self._cord is not None:
            self._loop.add_reader(self._cord.fileno(), self._readable)
            self._beat()

    def serves(self) -> None:
        """This process does its work from now on."""
        self.ready = True
        self._tell()

    def catch_up(self, number: int) -> bool:
        """Whether the configuration of this number, or a later one, counts here; one that is prepared does from now on.

        Others were told already that it counts: our own word is on its way.
        """
        if self._prepared is not None and self._prepared[0] == number:
            self._commit(number)
        return self.number >= number

    async def reload(self) -> Reloaded:
        """Asks the supervisor to read the configuration again; -> what became of it."""
        token = max(self._asked, default=0) + 1
        if self._cord is None or not self._cord.send(Reload(token)):
            return Reloaded(token, self.number, "kmqd does not hear", 75)
        self._asked[token] = self._loop.create_future()
        try:
            return await self._asked[token]
        finally:
            del self._asked[token]

    def close(self) -> None:
        """The process ends, and says nothing more."""
        self._forget()
        if self._cord is not None:
            self._loop.remove_reader(self._cord.fileno())
            self._cord.close()
            self._cord = None

    # --- what comes --------------------------------------------------------------------------------------------------

    def _readable(self) -> None:
        while self._cord is not None:
            try:
                received = self._cord.receive()
            except BlockingIOError:
                return
            if received is None:  # the supervisor is dead; the pipe of its life ends us in order (family)
                self._loop.remove_reader(self._cord.fileno())
                return
            self._heard(*received)

    def _heard(self, frame: AnyFrame, descriptors: list[int]) -> None:
        match frame:
            case Prepare():
                self._prepare(frame, descriptors)
            case Commit() if frame.n > self.number:
                self._commit(frame.n)
            case Cancel():
                self._forget()
            case Reloaded() if frame.token in self._asked:
                self._asked[frame.token].set_result(frame)
            case _:
                pass  # a commit that we were ahead of

    def _prepare(self, frame: Prepare, descriptors: list[int]) -> None:
        self._forget()
        sockets = [socket.socket(fileno=fd) for fd in descriptors[1 : 1 + len(frame.sockets)]]
        tallies = descriptors[1 + len(frame.sockets) :]
        gift = Gift(
            read_settings(descriptors[0]),
            dict(zip(frame.sockets, sockets, strict=True)),
            dict(zip(frame.tallies, tallies, strict=True)),
        )
        try:
            self._prepared = (frame.n, gift, self._make(gift))
        except KmqError as error:
            self._refuse(gift, frame.n, str(error))
        except Exception as error:
            log.error("our program failed on a configuration", trace=log.traced(error))
            self._refuse(gift, frame.n, f"our program failed on it: {type(error).__name__}")
        else:
            self._say(Prepared(frame.n))

    def _refuse(self, gift: Gift, number: int, why: str) -> None:
        gift.close()
        self._say(Prepared(number, why[:_COMPLAINT]))

    def _commit(self, number: int) -> None:
        """It counts from here on. A process that fails at that ends: the next one is born with what counts."""
        prepared, self._prepared = self._prepared, None
        try:
            assert prepared is not None and prepared[0] == number, "nobody commits what we have not prepared"
            _, gift, count = prepared
            self.number = number
            counting = count()
        except Exception as error:
            _fail(error)
        if counting is None:
            self._counts(gift)
        else:
            self._counting = self._loop.create_task(self._wait(counting, gift))

    async def _wait(self, counting: Awaitable[None], gift: Gift) -> None:
        try:
            await counting
        except Exception as error:
            _fail(error)
        self._counts(gift)

    def _counts(self, gift: Gift) -> None:
        gift.close()
        self._counted = self.number
        self._tell()

    def _forget(self) -> None:
        if self._prepared is not None:
            self._prepared[1].close()
            self._prepared = None

    # --- what goes ---------------------------------------------------------------------------------------------------

    def tell_news(self) -> None:
        """What the supervisor tells of us is not so any more: it hears so now."""
        if self._news() != self._told:
            self._tell()

    def _beat(self) -> None:
        self._tell()
        self._loop.call_later(until_next(REST, time.monotonic()), self._beat)

    def _tell(self) -> None:
        self._told = self._news()
        self._say(self._told)

    def _news(self) -> Beat:
        return Beat(self._counted, self.ready, self._queued(), self.closed())

    def _say(self, frame: Frame) -> None:
        if self._cord is not None:
            self._cord.send(frame)


def _fail(error: Exception) -> NoReturn:
    log.error("our program failed on a configuration, and this process ends", trace=log.traced(error))
    log.flush()
    os._exit(os.EX_SOFTWARE)
