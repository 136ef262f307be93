"""Connections to programs that look at mail: over a Unix socket, or TCP.

Promise:  that a program is not there is a value with words for people. Sockets are non-blocking; a small question
          leaves in one system call. Names are asked of the machine's resolver, beside the loop.
Limits:   of time are the caller's.
Callers:  phases.clamd; phases.rspamd for its words.
"""

import asyncio
import errno
import os
import socket
from typing import NamedTuple

from kmq.config.scanner import Peer

#: Seconds after which a Unix socket whose backlog is full is tried again (connect(2), EAGAIN).
_CROWDED = 0.05

#: What the system says of an address where nobody listens; errors of names have negative numbers.
_ABSENT = frozenset(
    (
        *(errno.ECONNREFUSED, errno.ENOENT, errno.ENOTDIR, errno.EACCES, errno.EPERM, errno.ENOTSOCK, errno.EPROTOTYPE),
        *(errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EHOSTDOWN, errno.ENETDOWN, errno.EADDRNOTAVAIL),
    )
)


class Unanswered(NamedTuple):
    """Nothing is known of the mail. why: without an end; absent: nobody listens there, whatever one would ask."""

    why: str
    absent: bool = False


def unanswered(error: OSError) -> Unanswered:
    """asyncio puts words of its own into errors; their number says what it was."""
    known = error.errno or 0
    why = os.strerror(known) if known > 0 else error.strerror or str(error) or type(error).__name__
    return Unanswered(why.lower(), known < 0 or known in _ABSENT)


async def connect(loop: asyncio.AbstractEventLoop, peer: Peer) -> socket.socket | Unanswered:
    """A connection; the caller closes it."""
    try:
        return await (_unix(peer) if isinstance(peer, str) else _tcp(loop, *peer))
    except OSError as error:
        return unanswered(error)


async def _unix(path: str) -> socket.socket:
    line = _nonblocking(socket.AF_UNIX)
    try:
        while True:
            try:
                line.connect(path)
                return line
            except BlockingIOError:
                await asyncio.sleep(_CROWDED)
    except BaseException:
        line.close()
        raise


async def _tcp(loop: asyncio.AbstractEventLoop, host: str, port: int) -> socket.socket:
    """To the first address of the name that answers."""
    last = OSError(errno.EADDRNOTAVAIL, os.strerror(errno.EADDRNOTAVAIL))
    for family, _, _, _, address in await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM):
        line = _nonblocking(family)
        try:
            line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await loop.sock_connect(line, address)
            return line
        except OSError as error:
            line.close()
            last = error
        except BaseException:
            line.close()
            raise
    raise last


def _nonblocking(family: int) -> socket.socket:
    return socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)


async def send(loop: asyncio.AbstractEventLoop, line: socket.socket, text: bytes) -> None:
    """All of it; ConnectionError when the other side has gone."""
    try:
        sent = line.send(text)
    except BlockingIOError:
        sent = 0
    if sent < len(text):
        await loop.sock_sendall(line, memoryview(text)[sent:] if sent else text)
