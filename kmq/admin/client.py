"""Asking kmqd: questions over its control socket, with a plain blocking socket.

Promise:  what a verb was answered was durable before the answer. Unreachable (exit status 75) says why kmqd does not
          answer and what to do; the queue on disk can be looked at all the same.
On crash: a question that was not answered may have been carried out or not; every verb can be asked again.
Callers:  kmq.cli, kmq.view. No asyncio here: the programs that ask live for milliseconds.
"""

import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from kmq.admin.verbs import VERBS, Arguments
from kmq.errors import Unreachable, UsageError
from kmq.model.frame import Answer, BrokenFrame, Reader, Verb, encode

SOCKET = "control.sock"
#: Where kmqd looks for who cannot read the files (admin.looks).
LOOK_SOCKET = "look.sock"

#: Seconds of silence after which kmqd counts as not answering.
PATIENCE = 15.0

#: Bytes of a path that fit into a Unix socket's address.
_ADDRESS = 107

#: Names in one question, and bytes of them (JSON may make six of one, and that fits into a frame's head); what JSON
#: adds to each.
_PART = 1000
_PART_BYTES = 160 * 1024
_QUOTES = 8

_line = msgspec.json.Decoder(dict[str, object]).decode

#: Whether this process asks only what changes nothing, whatever it may.
_looks = False


def only_look() -> None:
    """From now on this process asks for nothing that changes anything: it works for somebody else."""
    global _looks
    _looks = True


@dataclass(slots=True)
class Response:
    """What kmqd answered. status: as an exit status (0 done, 1 nothing matched or refused, 2 usage, 75 not now)."""

    status: int
    text: str
    lines: list[dict[str, object]] = field(default_factory=list)


def ask(run_directory: Path, verb: str, arguments: Arguments | None = None) -> Response:
    """One question and its whole answer; Unreachable when kmqd does not answer."""
    with Talk(run_directory) as talk:
        return talk.ask(verb, arguments or {})


class Talk:
    """One connection, for one question after the other. Unreachable when kmqd does not answer."""

    def __init__(self, run_directory: Path) -> None:
        self._path = run_directory / SOCKET
        with explained(self._path):
            self._connection = connected(self._path)

    def __enter__(self) -> "Talk":
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def ask(self, verb: str, arguments: Arguments) -> Response:
        """A question and its whole answer."""
        if _looks and not VERBS[verb].looks:
            raise UsageError(f"{verb} is not for who only looks")
        lines: list[dict[str, object]] = []
        with explained(self._path):
            _say(self._connection, Verb(verb=verb, arguments=dict(arguments)))
            for answer in _answers(self._connection):
                if answer.status >= 0:
                    return Response(answer.status, answer.text, lines)
                lines.append(_line(answer.line))
        raise Unreachable(f"kmqd broke off its answer on {self._path}; ask again")


def parts(names: Sequence[str]) -> Iterator[list[str]]:
    """Names of messages (`ids` of a verb) in portions, each of which is one question that is answered in a moment."""
    part: list[str] = []
    room = _PART_BYTES
    for name in names:
        room -= len(name.encode(errors="surrogatepass")) + _QUOTES
        if part and (len(part) == _PART or room < 0):
            yield part
            part, room = [], _PART_BYTES
        part.append(name)
    if part:
        yield part


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """What goes wrong with a connection, as a person is to hear it."""
    try:
        yield
    except TimeoutError:
        raise Unreachable(f"kmqd does not answer on {path}; `kmq processes` shows what it does") from None
    except (ConnectionRefusedError, FileNotFoundError):
        raise Unreachable(f"kmqd does not run (nobody listens on {path})") from None
    except PermissionError:
        raise Unreachable(f"this user may not ask kmqd on {path}: [kmq] operators_group says who may") from None
    except (OSError, BrokenFrame, msgspec.DecodeError) as error:
        raise Unreachable(f"kmqd broke off its answer on {path}: {error}") from None


def _say(connection: socket.socket, frame: Verb) -> None:
    try:
        connection.sendall(encode(frame))
    except (BrokenPipeError, ConnectionResetError):
        pass  # kmqd hung up before it listened; what it said first (too many operators) can still be read


def _answers(connection: socket.socket) -> Iterator[Answer]:
    frames = Reader()
    while received := connection.recv(1 << 16):
        for frame, _ in frames.feed(received):
            if not isinstance(frame, Answer):
                raise BrokenFrame(f"a frame {type(frame).__name__} instead of an answer")
            yield frame


def connected(path: Path) -> socket.socket:
    """A connection to a Unix socket, however long its path is; OSError."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.settimeout(PATIENCE)
    try:
        if len(os.fsencode(path)) <= _ADDRESS:
            connection.connect(str(path))
        else:
            _connect_far(connection, path)
    except BaseException:
        connection.close()
        raise
    return connection


def _connect_far(connection: socket.socket, path: Path) -> None:
    """A path longer than a socket's address can hold is reached through a descriptor of its folder."""
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        connection.connect(f"/proc/self/fd/{folder}/{path.name}")
    finally:
        os.close(folder)
