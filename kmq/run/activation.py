"""Sockets that systemd bound for us (sd_listen_fds(3)): what the environment says, and what came with it.

Promise:  only descriptors that are meant for this very process are taken, and none that is no listening stream socket.
          The variables are gone afterwards: no child takes them for its own.
On crash: systemd holds the sockets too; whoever connects meanwhile waits there for the next kmqd.
Callers:  the supervisor, before it binds what is left to bind.
"""

import os
import socket
from collections.abc import MutableMapping
from typing import NamedTuple

from kmq.errors import ConfigError

#: The first descriptor that is handed over (SD_LISTEN_FDS_START).
FIRST = 3

_VARIABLES = ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES")


class Given(NamedTuple):
    """A listening socket and its FileDescriptorName=."""

    name: str
    socket: socket.socket


def received(environment: MutableMapping[str, str] = os.environ, first: int = FIRST) -> list[Given]:
    """What was handed over to this process; ConfigError when something of it cannot be served."""
    pid, count, names = (environment.pop(one, "") for one in _VARIABLES)
    if pid != str(os.getpid()) or not count.isdecimal():
        return []
    labels = names.split(":") if names else []
    labels += ["unknown"] * (int(count) - len(labels))
    found: list[Given] = []
    try:
        for fd, name in zip(range(first, first + int(count)), labels, strict=False):
            found.append(Given(name, _listening(fd, name)))
    except BaseException:
        for one in found:
            one.socket.close()
        raise
    return found


def _listening(fd: int, name: str) -> socket.socket:
    os.set_inheritable(fd, False)
    try:
        one = socket.socket(fileno=fd)
    except OSError:
        raise ConfigError(f"systemd handed over descriptor {fd} ({name}), which is no socket") from None
    kind = one.type == socket.SOCK_STREAM and one.family in (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX)
    if not kind or not one.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        one.close()
        raise ConfigError(
            f"systemd handed over descriptor {fd} ({name}), which does not listen for streams:"
            " kmq.socket needs ListenStream= and Accept=no"
        )
    one.setblocking(False)
    return one
