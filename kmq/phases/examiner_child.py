"""One examiner as its worker sees it: a process, a socket, a scratch file.

Promise:  `ask` gives an answer or a Trouble: a process that died of the question is a crash of it, one that somebody
          else ended, or that does not answer, is temporary. It is of no use then. Nothing blocks the loop but opening
          files of our own.
On crash: of ours: the process ends by itself.
Callers:  phases.examining.
"""

import asyncio
import contextlib
import os
import signal
import socket
import sys
from asyncio.subprocess import DEVNULL, Process
from collections.abc import Sequence

import msgspec

from kmq import log
from kmq.phases.examiner_frames import ANSWER_LIMIT, LENGTH, MODULE, Answer, Question, Ready
from kmq.phases.facts import Cause, Trouble

#: Seconds until a process that was begun has to be there, and that one which is to end is given.
_BEGIN, _END = 60.0, 5.0
#: Bytes of its standard error that are told.
_TRACE = 20_000
#: Signals that come from elsewhere: they say nothing about the message.
_FOREIGN = frozenset((signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT))
#: What of our surroundings it is given.
_SURROUNDINGS = ("PATH", "PYTHONPATH", "PYTHONHOME", "LD_LIBRARY_PATH")

_answers: msgspec.json.Decoder[Answer] = msgspec.json.Decoder(Answer)
_told: set[str] = set()


class NotBegun(Exception):
    """No examiner could be begun; the text says why."""


class Child:
    """One examiner. scratch, trace: descriptors of files that have no name; lacking: of its confinement."""

    def __init__(self, process: Process, link: socket.socket, scratch: int, trace: int) -> None:
        self._process = process
        self._link = link
        self._scratch = scratch
        self._trace = trace
        self.lacking: tuple[str, ...] = ()

    @property
    def lives(self) -> bool:
        return self._process.returncode is None

    @property
    def pid(self) -> int:
        return self._process.pid

    @classmethod
    async def begin(cls, folder: str, memory: int) -> "Child":
        """A new one. folder: of the spool, for the scratch file. NotBegun."""
        link, its = socket.socketpair()
        scratch = trace = -1
        try:
            scratch = os.open(folder, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
            trace = os.memfd_create("kmq-trace")
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-P", "-m", MODULE, str(its.fileno()), str(scratch), str(memory)),
                pass_fds=(its.fileno(), scratch),
                stdin=DEVNULL,
                stdout=DEVNULL,
                stderr=trace,
                start_new_session=True,
                env={name: os.environ[name] for name in _SURROUNDINGS if name in os.environ},
            )
        except OSError as error:
            for fd in (scratch, trace):
                if fd >= 0:
                    os.close(fd)
            link.close()
            raise NotBegun(error.strerror or str(error)) from None
        finally:
            its.close()
        link.setblocking(False)
        child = cls(process, link, scratch, trace)
        await child._greeted()
        return child

    async def _greeted(self) -> None:
        try:
            ready = await asyncio.wait_for(self._answer(), _BEGIN)
        except (OSError, EOFError, TimeoutError, msgspec.MsgspecError):
            why = self._traced().strip().rpartition("\n")[2]
            await self.end()
            raise NotBegun(why or "it does not come up") from None
        except BaseException:
            await self.end()
            raise
        self.lacking = tuple(ready.lacking) if isinstance(ready, Ready) else ()
        for lacking in self.lacking:
            if lacking not in _told:
                _told.add(lacking)
                log.warning("examiners are confined less than they could be", lacking=lacking)

    async def ask(self, question: Question, descriptors: Sequence[int], seconds: float) -> Answer | Trouble:
        """One question. OSError: it could not be asked."""
        text = msgspec.json.encode(question)
        try:
            # A socket that holds nothing takes a question of some hundred bytes whole.
            socket.send_fds(self._link, [LENGTH.pack(len(text)) + text], list(descriptors))
        except ConnectionError:
            return Trouble(Cause.UNAVAILABLE, "the examiner ended before it was asked")
        try:
            return await asyncio.wait_for(self._answer(), seconds)
        except TimeoutError:
            return Trouble(Cause.UNAVAILABLE, f"the examiner did not answer within {seconds:g} s")
        except (EOFError, ConnectionError):
            return await self._died()
        except msgspec.MsgspecError as error:
            return Trouble(Cause.CRASHED, f"the examiner talks nonsense: {error}"[:1000])

    async def _answer(self) -> Answer:
        (length,) = LENGTH.unpack(await self._exactly(LENGTH.size))
        if length > ANSWER_LIMIT:
            raise msgspec.MsgspecError(f"an answer of {length} bytes")
        return _answers.decode(await self._exactly(length))

    async def _exactly(self, count: int) -> bytes:
        loop = asyncio.get_running_loop()
        found = bytearray()
        while len(found) < count:
            piece = await loop.sock_recv(self._link, min(count - len(found), 1 << 18))
            if not piece:
                raise EOFError
            found += piece
        return bytes(found)

    async def _died(self) -> Trouble:
        """Why it is gone."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._process.wait(), _END)
        status = self._process.returncode
        if status is None:
            return Trouble(Cause.UNAVAILABLE, "the examiner does not answer any more")
        ended = signal.Signals(-status) if status < 0 else None
        if ended in _FOREIGN:
            return Trouble(Cause.UNAVAILABLE, f"somebody ended the examiner ({ended.name})")
        why = "it takes too much of the processor's time" if ended is signal.SIGXCPU else "it dies"
        by = ended.name if ended else f"exit status {status}"
        return Trouble(Cause.CRASHED, f"{why} ({by})", self._traced())

    def _traced(self) -> str:
        with contextlib.suppress(OSError):
            return os.pread(self._trace, _TRACE, 0).decode("utf-8", "replace")
        return ""

    def clear(self) -> None:
        """The scratch file holds nothing any more."""
        with contextlib.suppress(OSError):
            os.ftruncate(self._scratch, 0)

    def kill(self) -> None:
        """At once; what the system keeps for it goes when it is reaped."""
        if self._link.fileno() >= 0:
            self._link.close()
            os.close(self._scratch)
            os.close(self._trace)
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()

    async def end(self) -> None:
        """Until it is gone, or its disk does not let it go."""
        self.kill()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._process.wait(), _END)
