"""Asking kmqd: one question over its control socket, with a plain blocking socket.

Promise:  what a verb was answered was durable before the answer. Unreachable (exit status 75) says why kmqd does not
          answer and what to do; the queue on disk can be looked at all the same.
On crash: a question that was not answered may have been carried out or not; every verb can be asked again.
Callers:  kmq.cli, kmq.view. No asyncio here: the programs that ask live for milliseconds.
"""

import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from kmq.admin import verbs
from kmq.admin.verbs import Arguments
from kmq.errors import Unreachable
from kmq.model.frame import Answer, BrokenFrame, Reader, Verb, encode

SOCKET = "control.sock"

#: Seconds of silence after which kmqd counts as not answering.
PATIENCE = 15.0

#: Bytes of a path that fit into a Unix socket's address.
_ADDRESS = 107

_decode = msgspec.json.decode


@dataclass(slots=True)
class Response:
    """What kmqd answered. status: as an exit status (0 done, 1 nothing matched or refused, 2 usage, 75 not now)."""

    status: int
    text: str
    lines: list[dict[str, object]] = field(default_factory=list)


def ask(run_directory: Path, verb: str, arguments: Arguments | None = None) -> Response:
    """One question and its whole answer; Unreachable when kmqd does not answer."""
    frame = Verb(verb=verb, arguments=dict(arguments or {}))
    path = run_directory / SOCKET
    lines: list[dict[str, object]] = []
    try:
        with _connected(path) as connection:
            _say(connection, frame)
            for answer in _answers(connection):
                if answer.status >= 0:
                    return Response(answer.status, answer.text, lines)
                lines.append({name: _decode(value) for name, value in answer.line.items()})
    except TimeoutError:
        raise Unreachable(f"kmqd does not answer on {path}; `kmq processes` shows what it does") from None
    except (ConnectionRefusedError, FileNotFoundError):
        raise Unreachable(f"kmqd does not run (nobody listens on {path})") from None
    except PermissionError:
        raise Unreachable(f"this user may not ask kmqd on {path}; ask as root or as the user it runs as") from None
    except (OSError, BrokenFrame) as error:
        raise Unreachable(f"kmqd broke off its answer on {path}: {error}") from None
    raise Unreachable(f"kmqd broke off its answer on {path}; ask again")


def ask_in_parts(run_directory: Path, verb: str, ids: list[str], arguments: Arguments) -> Response:
    """The same for any number of IDs; the statuses' worst, all lines, the sentences of all parts."""
    whole = Response(verbs.DONE, "")
    said: list[str] = []
    for at in range(0, len(ids), verbs.IDS_LIMIT):
        part = ask(run_directory, verb, {**arguments, "ids": ids[at : at + verbs.IDS_LIMIT]})
        whole.status = max(whole.status, part.status)
        whole.lines += part.lines
        said.append(part.text)
    whole.text = "\n".join(text for text in said if text)
    return whole


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


def _connected(path: Path) -> socket.socket:
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
