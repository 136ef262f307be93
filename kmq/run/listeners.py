"""The listening sockets: bound once by the supervisor, so that no connection is lost when a child dies.

Promise:  all or none: when one address cannot be bound, none stays bound and the error names the section and why.
          The sockets of the scheduler process are for this user alone (queue), and its group (control).
On crash: the names of the Unix sockets stay; the next supervisor, which holds kmqd's lock, replaces them.
Callers:  the supervisor; receivers find theirs by name.
"""

import errno
import os
import socket
from pathlib import Path

from kmq.config import Settings
from kmq.config.kinds import write_endpoint
from kmq.errors import ConfigError, ListenFailed
from kmq.run.link import unix_name

QUEUE = "queue"
CONTROL = "control"

BACKLOG = 1024

_HINTS = {
    errno.EADDRINUSE: "something else listens there",
    errno.EACCES: "not permitted; ports below 1024 need root or CAP_NET_BIND_SERVICE",
    errno.EADDRNOTAVAIL: "this machine does not have that address",
    errno.EAFNOSUPPORT: "this machine has no such protocol",
}
#: What another start, later, may find mended.
_TEMPORARY = frozenset({errno.EADDRINUSE, errno.EADDRNOTAVAIL, errno.EMFILE, errno.ENFILE, errno.ENOBUFS})


def name_of(section: str, place: int) -> str:
    """The name under which a receiver section's `place`th listener is handed down."""
    return f"{section}#{place}"


def of_section(sockets: dict[str, socket.socket], section: str) -> list[socket.socket]:
    """A section's listeners among those that were handed down."""
    return [one for name, one in sockets.items() if name.rpartition("#")[0] == section]


def bind(settings: Settings) -> dict[str, socket.socket]:
    """All listeners by name, listening. ListenFailed when a later start may succeed, else ConfigError."""
    bound: dict[str, socket.socket] = {}
    try:
        for section in settings.receivers:
            for place, (host, port) in enumerate(section.listen):
                where = f"[{section.name}] listen = {write_endpoint(host, port)}"
                bound[name_of(section.name, place)] = _tcp(host, port, where)
        bound[QUEUE] = _unix(settings.kmq.run_directory / "queue.sock", 0o600)
        bound[CONTROL] = _unix(settings.kmq.run_directory / "control.sock", 0o660)
    except BaseException:
        close(bound)
        raise
    return bound


def close(sockets: dict[str, socket.socket]) -> None:
    """Closes and forgets them."""
    while sockets:
        sockets.popitem()[1].close()


def _tcp(host: str, port: int, where: str) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        one = socket.socket(family, socket.SOCK_STREAM)
    except OSError as error:
        raise _failed(where, error) from None
    try:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)  # 0.0.0.0 beside [::], each for its own
        one.bind((host, port))
        one.listen(BACKLOG)
        one.setblocking(False)
    except OSError as error:
        one.close()
        raise _failed(where, error) from None
    return one


def _unix(path: Path, mode: int) -> socket.socket:
    """Replaces what an earlier kmqd left; whoever comes here holds kmqd's lock."""
    one = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    mask = os.umask(0o777 & ~mode)
    try:
        path.unlink(missing_ok=True)
        with unix_name(path) as name:
            one.bind(name)
        one.listen(BACKLOG)
        one.setblocking(False)
    except OSError as error:
        one.close()
        raise _failed(str(path), error) from None
    finally:
        os.umask(mask)
    return one


def _failed(where: str, error: OSError) -> ConfigError | ListenFailed:
    text = f"{where}: {_HINTS.get(error.errno or 0, error.strerror or str(error))}"
    return ListenFailed(text) if error.errno in _TEMPORARY else ConfigError(text)
