"""Looking without the right to read the files: kmqd has a program of its own user look, which writes to our terminal.

What:     a user who may not read the queue, but is in one of the two groups, sees what root sees with the same words
          (cli.behalf, admin.looks). What is written to a file, a device or a socket goes through a pipe and through us.
Promise:  Ctrl-C and a new size of the terminal reach who looks; when this process ends, he does. While kmqd does not
          run, or has no such socket, nothing is different from before: the files are tried, and why not is said.
On crash: of kmqd: Unreachable.
Callers:  kmq.cli.kmq, kmq.cli.act, kmq.cli.replay.
"""

import contextlib
import os
import signal
import socket
import stat
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from kmq.admin.client import LOOK_SOCKET, connected, explained
from kmq.cli.call import DONE, REFUSED, Call
from kmq.cli.only_looking import objection
from kmq.errors import KmqError, SpoolError, Unreachable, UsageError
from kmq.model.frame import Answer, Look, Reader, encode

if TYPE_CHECKING:
    from kmq.admin.choice import Named

#: Seconds until a program has begun.
_PATIENCE = 60.0

_ENVIRONMENT = ("TERM", "TZ")

#: Options of verbs that say what is meant, or that have to be said.
_VALUED = ("queue", "filter", "since", "until", "to-connector")
_FLAGS = ("messages", "again")


def is_needed(call: Call) -> bool:
    """Whether this only looks, at files that this user may not read."""
    if objection(call.arguments):
        return False
    section = call.settings.kmq
    match call.arguments.verb:  # these may be open to a group to which the queue is closed
        case "processes":
            return _is_closed(section.spool / "status")
        case "track":
            from kmq.log.tracking import folder_of

            where = folder_of(section)
            return where is not None and _is_closed(where)
    return is_closed(call)


def is_closed(call: Call) -> bool:
    """Whether this user may not read the queue's files."""
    return _is_closed(call.settings.kmq.spool / "queue")


def _is_closed(folder: Path) -> bool:
    try:
        os.scandir(folder).close()
    except PermissionError:
        return True
    except OSError:
        return False
    return False


def look(call: Call, words: Sequence[str]) -> int | None:
    """Has kmqd do what these words say; -> the exit status, None when it does not serve this user."""
    connection = _reached(call)
    if connection is None:
        return None
    call.out.flush()
    with connection, contextlib.ExitStack() as pipes:
        out, err = (pipes.enter_context(_place(stream.fileno())) for stream in (call.out, sys.stderr))
        answer = _ask(connection, words, out, err)
    if answer.text:
        print(f"kmq: {answer.text}", file=sys.stderr)
    return answer.status


def names(call: Call) -> "list[Named] | None":
    """What a filter or a queue of a verb means, as `--what-if` has it; None when kmqd does not serve this user.

    KmqError, in the words of who looked, when it cannot be told.
    """
    import json

    from kmq.admin.choice import Named

    connection = _reached(call)
    if connection is None:
        return None
    out, said = bytearray(), bytearray()
    with connection, _Pipe(out.extend) as first, _Pipe(said.extend) as second:
        answer = _ask(connection, _foreseen(call), first, second)
    if answer.text or answer.status not in (DONE, REFUSED):  # refused without a word: nothing matches
        text = answer.text or said.decode(errors="replace").strip().removeprefix("kmq: ")
        raise _ACCIDENTS.get(answer.status, KmqError)(text)
    objects = map(json.loads, out.splitlines())
    return [Named(one["NextHop"], one["Identity"].rpartition("\\")[2]) for one in objects]


_ACCIDENTS: dict[int, type[KmqError]] = {one.exit_status: one for one in (UsageError, Unreachable, SpoolError)}


def _foreseen(call: Call) -> list[str]:
    """The same selection with --what-if and --json."""
    said = vars(call.arguments)
    valued = ((name, said.get(name.replace("-", "_"))) for name in _VALUED)
    options = [f"--{name}={value}" for name, value in valued if value is not None]
    flags = [f"--{name}" for name in _FLAGS if said.get(name)]
    return [call.arguments.verb, "--json", "--what-if", *options, *flags]


# --- the talk ---------------------------------------------------------------------------------------------------------


def _reached(call: Call) -> socket.socket | None:
    try:
        return connected(call.settings.kmq.run_directory / LOOK_SOCKET)
    except OSError:
        return None


def _ask(connection: socket.socket, words: Sequence[str], out: "_Place", err: "_Place") -> Answer:
    """The last word about it; out, err: where it writes."""
    with explained(Path(connection.getpeername())), _standard_input() as keys:
        _send(connection, words, [keys, out.fd, err.fd])
        out.given()
        err.given()
        answers = _answers(connection)
        connection.settimeout(_PATIENCE)
        first = next(answers)
        if first.status >= 0:
            return first
        connection.settimeout(None)
        with _passing_on(connection):
            return next(answers)


def _send(connection: socket.socket, words: Sequence[str], descriptors: list[int]) -> None:
    environment = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
    if os.environ.get("NO_COLOR"):
        environment["NO_COLOR"] = "1"
    try:
        text = encode(Look(list(words), environment, sys.stdout.encoding or "ascii"))
    except UnicodeError:
        raise UsageError("kmqd understands no words that are not UTF-8") from None
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it said first why not, which can be read
        sent = socket.send_fds(connection, [text], descriptors)
        connection.sendall(text[sent:])


def _answers(connection: socket.socket) -> Iterator[Answer]:
    frames = Reader()
    while received := connection.recv(1 << 16):
        yield from (frame for frame, _ in frames.feed(received) if isinstance(frame, Answer))
    raise Unreachable("kmqd broke off; ask again")


@contextlib.contextmanager
def _passing_on(connection: socket.socket) -> Iterator[None]:
    """Signals go to who looks. Ctrl-Z does nothing: he would go on drawing on a terminal that is another's by then."""

    def pass_on(number: int, _: object) -> None:
        connection.send(bytes([number]), socket.MSG_DONTWAIT)
        if number == signal.SIGINT:
            signal.signal(number, signal.default_int_handler)  # the second one ends us, and so him

    before = {number: signal.signal(number, pass_on) for number in (signal.SIGINT, signal.SIGWINCH)}
    before[signal.SIGTSTP] = signal.signal(signal.SIGTSTP, signal.SIG_IGN)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


# --- descriptors ------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _standard_input() -> Iterator[int]:
    """Keys, when they come to us; else nothing."""
    if _is_in_front():
        yield 0
        return
    fd = os.open(os.devnull, os.O_RDONLY)
    try:
        yield fd
    finally:
        os.close(fd)


def _is_in_front() -> bool:
    try:
        return os.isatty(0) and os.tcgetpgrp(0) == os.getpgrp()
    except OSError:
        return False


class _Place:
    """What kmqd may write to: a terminal or a pipe of ours."""

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def __enter__(self) -> "_Place":
        return self

    def __exit__(self, kind: type | None, *_: object) -> None:
        pass

    def given(self) -> None:
        """Whoever writes has it."""


class _Pipe(_Place):
    """A pipe whose bytes a thread hands to a sink, until who was given it is gone."""

    def __init__(self, sink: Callable[[bytes], object]) -> None:
        self._reading, end = os.pipe()
        super().__init__(end)
        self._sink = sink
        self._error: OSError | None = None
        self._thread = threading.Thread(target=self._carry, daemon=True)
        self._thread.start()

    def __exit__(self, kind: type | None, *_: object) -> None:
        self.given()
        if kind is not None:  # who writes may go on until our connection is closed
            return
        self._thread.join()
        if self._error is not None:
            raise KmqError(f"what kmqd shows cannot be written: {self._error.strerror}")

    def given(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def _carry(self) -> None:
        try:
            while text := os.read(self._reading, 1 << 16):
                self._sink(text)
        except OSError as error:
            self._error = error
        finally:
            os.close(self._reading)


def _place(fd: int) -> _Place:
    """For a descriptor of ours."""
    if os.isatty(fd) or stat.S_ISFIFO(os.fstat(fd).st_mode):
        return _Place(fd)
    return _Pipe(lambda text: _write(fd, text))


def _write(fd: int, text: bytes) -> None:
    while text:
        text = text[os.write(fd, text) :]
