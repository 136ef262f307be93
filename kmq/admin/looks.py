"""The server for who may look and cannot read the files: a program of kmqd's own user looks for him.

What:     members of the two groups see the queue (`kmq mailq` and so on) though its files are closed to them. Each
          connection to look.sock gets one program (cli.behalf), which takes the command line, and the descriptors to
          write to, out of the connection itself, looks, and ends.
Promise:  nothing that a stranger sends is read here, and no descriptor of his is touched: what blocks on them is the
          program alone. Programs are bounded, in all and for each user, and end with the client, with this process, or
          when they take too much (behalf). Who may not look takes no place.
On crash: the programs end (PR_SET_PDEATHSIG); clients see the connection end and say so (75).
Callers:  run/indexer, by the wiring in cli.kmqd: looking is in nobody's way there, and as nice as that process.
"""

import asyncio
import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping

from kmq import log
from kmq.admin.rights import Caller, Refusals, Right, Rights, caller_of
from kmq.config import Settings
from kmq.model.frame import Answer, encode
from kmq.model.outcome import NOT_NOW, REFUSED
from kmq.run.inheritance import sealed

#: What begins a program. -P: no module of the current folder is taken for one of ours.
COMMAND = (sys.executable, "-P", "-m", "kmq.cli.behalf")

#: Programs at once, in all and of one user.
PROGRAMS, OF_ONE = 8, 4

#: Seconds between two looks at whether clients are still there, and that a program has when its client is gone.
SWEEP, GRACE = 1.0, 2.0

#: Seconds after which somebody is welcomed again, when there was no room for him.
_AGAIN = 1.0

#: What a program keeps of this process's environment.
_KEPT = ("PATH", "PYTHONPATH", "PYTHONHOME")

_TOO_MUCH = {
    signal.SIGXCPU: "this takes too much processor time",
    signal.SIGALRM: "this takes too long",
    signal.SIGKILL: "kmqd ended it",
}


class Looks:
    """Serves one listening socket until closed. settings: by which programs look."""

    def __init__(self, rights: Rights, settings: Settings) -> None:
        self.settings = settings
        self._rights = rights
        self._refusals = Refusals(rights)
        self._listener: socket.socket | None = None
        self._programs: dict[asyncio.Task[None], int] = {}

    def serve(self, listener: socket.socket) -> None:
        """Begins to serve; returns at once."""
        self._listener = listener
        listener.setblocking(False)
        asyncio.get_running_loop().add_reader(listener.fileno(), self._welcome)

    async def close(self) -> None:
        """Nobody is welcome any more; programs end."""
        if self._listener is not None:
            asyncio.get_running_loop().remove_reader(self._listener.fileno())
            self._listener.close()
            self._listener = None
        for task in self._programs:
            task.cancel()
        if self._programs:
            await asyncio.wait(self._programs)

    def _welcome(self) -> None:
        if self._listener is None:
            return
        try:
            connection, _ = self._listener.accept()
        except (BlockingIOError, ConnectionError):
            return
        except OSError as error:  # no descriptor is left: they wait in the backlog
            log.warning("nobody can be shown the queue now", why=error.strerror)
            loop = asyncio.get_running_loop()
            loop.remove_reader(self._listener.fileno())
            loop.call_later(_AGAIN, self._serve_again)
            return
        connection.setblocking(False)
        self._meet(connection)

    def _serve_again(self) -> None:
        if self._listener is not None:
            self.serve(self._listener)

    def _meet(self, connection: socket.socket) -> None:
        """A program for who may look, a sentence for others."""
        try:
            caller = caller_of(connection.fileno())
        except OSError:
            connection.close()
            return
        refusal = self._refusal(caller)
        if refusal is not None:
            _end(connection, refusal)
            return
        task = asyncio.get_running_loop().create_task(self._show(connection))
        self._programs[task] = caller.uid
        task.add_done_callback(self._programs.pop)

    def _refusal(self, caller: Caller) -> Answer | None:
        if self._rights.of(caller) is Right.NOTHING:
            return Answer(status=REFUSED, text=self._refusals.refuse(caller, "anything"))
        if len(self._programs) >= PROGRAMS:
            return Answer(status=NOT_NOW, text="too many look at once, try again")
        if list(self._programs.values()).count(caller.uid) >= OF_ONE:
            return Answer(status=NOT_NOW, text=f"uid {caller.uid} looks {OF_ONE} times at once already")
        return None

    async def _show(self, connection: socket.socket) -> None:
        """One program from its beginning to its end."""
        try:
            program = begin(connection, self.settings)
        except OSError as error:
            _end(connection, Answer(status=NOT_NOW, text=f"kmqd cannot show anything now: {error.strerror}"))
            return
        try:
            status = await _until_ended(program, connection)
        finally:
            if program.poll() is None:
                program.kill()
                program.wait()
        _end(connection, _answer(status))


def begin(connection: socket.socket, settings: Settings) -> "subprocess.Popen[bytes]":
    """A program for the client of this connection; OSError when there is no room for one."""
    fd = sealed(settings)
    try:
        words = [str(os.getpid()), str(connection.fileno()), str(fd)]
        return subprocess.Popen(
            [*COMMAND, *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=_environment(os.environ),
            pass_fds=(connection.fileno(), fd),
            start_new_session=True,
        )
    finally:
        os.close(fd)


def _environment(ours: Mapping[str, str]) -> dict[str, str]:
    return {name: ours[name] for name in _KEPT if name in ours}


async def _until_ended(program: "subprocess.Popen[bytes]", connection: socket.socket) -> int:
    """Waits for its end; one whose client is gone ends by itself (behalf), or is killed."""
    loop = asyncio.get_running_loop()
    pidfd = os.pidfd_open(program.pid)
    ended = asyncio.Event()
    loop.add_reader(pidfd, ended.set)
    alone_since = 0.0
    try:
        while not ended.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(ended.wait(), SWEEP)
            if _is_there(connection):
                continue
            alone_since = alone_since or time.monotonic()
            if time.monotonic() - alone_since > GRACE:
                program.kill()
    finally:
        loop.remove_reader(pidfd)
        os.close(pidfd)
    return program.wait()


def _is_there(connection: socket.socket) -> bool:
    """Whether the client has not closed; nothing is read."""
    poll = select.poll()
    poll.register(connection, 0)
    return not any(event & (select.POLLHUP | select.POLLERR) for _, event in poll.poll(0))


def _answer(status: int) -> Answer:
    """How a program ended, as its client hears it."""
    if status >= 0:
        return Answer(status=status)
    why = _TOO_MUCH.get(signal.Signals(-status), f"signal {-status}")
    return Answer(status=REFUSED, text=f"broken off: {why}")


def _end(connection: socket.socket, answer: Answer) -> None:
    """The last word; a client that does not read does not hear it."""
    with connection, contextlib.suppress(OSError):
        connection.send(encode(answer), socket.MSG_DONTWAIT)
