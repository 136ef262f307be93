"""One examiner as its worker sees it: a process, a socket, a scratch file.

Promise:  `ask` gives an answer or a Trouble: a process that died of the question is a crash of it, one that somebody
          else ended, or that does not answer, is temporary. It is of no use then. Nothing blocks the loop but opening
          files of our own.
On crash: of ours: the process ends by itself.
Callers:  phases.examining.
"""

import asyncio
import contextlib
import errno
import os
import signal
import socket
import sys
from asyncio.subprocess import DEVNULL, Process
from collections.abc import Sequence

import msgspec

from kmq import log
from kmq.phases.examiner_frames import LENGTHS, MODULE, Answer, Question, Ready
from kmq.phases.examiner_line import Line, Nonsense
from kmq.phases.facts import Cause, Trouble

#: Seconds until a process that was begun has to be there, and that one which is to end is given.
_BEGIN, _END = 60.0, 5.0
#: Bytes of its standard error that are told.
_TRACE = 20_000
#: Signals that come from elsewhere: they say nothing about the message.
_FOREIGN = frozenset((signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT))
#: What of our surroundings it is given.
_SURROUNDINGS = ("PATH", "PYTHONPATH", "PYTHONHOME", "LD_LIBRARY_PATH")

_ENDED = "the examiner ended before it was asked"

_answers: msgspec.json.Decoder[Answer] = msgspec.json.Decoder(Answer)
_told: set[str] = set()


class NotBegun(Exception):
    """No examiner could be begun; the text says why."""


class Child:
    """One examiner. scratch, trace: descriptors of files that have no name; lacking: of its confinement."""

    def __init__(self, process: Process, link: socket.socket, line: Line, scratch: int, trace: int) -> None:
        self._process = process
        self._link = link
        self._line = line
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
        _, line = await asyncio.get_running_loop().create_unix_connection(Line, sock=link)
        child = cls(process, link, line, scratch, trace)
        await child._greeted()
        return child

    async def _greeted(self) -> None:
        try:
            (ready,) = await self._answers(_BEGIN)
        except (OSError, EOFError, TimeoutError, Nonsense, msgspec.MsgspecError):
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

    async def ask(
        self, questions: Sequence[tuple[Question, bytes]], descriptors: Sequence[int], seconds: float
    ) -> list[Answer] | Trouble:
        """Some questions, each with a small body or b"". The answers to the first of them, mostly to all; Trouble where
        there is none at all. OSError: they could not be asked."""
        if self._line.gone:
            return Trouble(Cause.UNAVAILABLE, _ENDED)
        self._line.expect(len(questions))
        try:
            self._tell(b"".join([piece for asked in questions for piece in _framed(*asked)]), descriptors)
        except ConnectionError:
            return Trouble(Cause.UNAVAILABLE, _ENDED)
        try:
            return await self._answers(seconds)
        except TimeoutError:
            return Trouble(Cause.UNAVAILABLE, f"the examiner did not answer within {seconds:g} s")
        except (EOFError, ConnectionError):
            return await self._died()
        except (Nonsense, msgspec.MsgspecError) as error:
            return Trouble(Cause.CRASHED, f"the examiner talks nonsense: {error}"[:1000])

    def _tell(self, text: bytes, descriptors: Sequence[int]) -> None:
        """A socket that holds nothing takes all that is asked together, with its small bodies."""
        sent = socket.send_fds(self._link, [text], list(descriptors)) if descriptors else self._link.send(text)
        if sent != len(text):
            raise OSError(errno.ENOBUFS, "the system took a part of a question only")

    async def _answers(self, seconds: float) -> list[Answer]:
        return [_answers.decode(one) for one in await self._line.answers(seconds)]

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
        if self._scratch >= 0:
            self._line.close()
            os.close(self._scratch)
            os.close(self._trace)
            self._scratch = self._trace = -1
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()

    async def end(self) -> None:
        """Until it is gone, or its disk does not let it go."""
        self.kill()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._process.wait(), _END)


def _framed(question: Question, body: bytes) -> tuple[bytes, bytes, bytes]:
    text = msgspec.json.encode(question)
    return LENGTHS.pack(len(text), len(body)), text, body
