"""The address that a connection comes from (`source_address`).

Promise:  a socket is bound to the address of its family, if one is named, and to no port: the system takes one when it
          connects, so that ports run out no sooner than without. An address that this machine has not is a temporary
          trouble that says so.
On crash: nothing is kept.
Callers:  phases.smtp_opening.
"""

import contextlib
import socket
from collections.abc import Iterable

from kmq.model.reply import Reply
from kmq.phases.reasons import reason

#: ip(7): the port is chosen by connect, by both ends' addresses. Python 3.11 does not name it.
_BIND_ADDRESS_NO_PORT = 24


def source_for(family: int, addresses: Iterable[str]) -> str:
    """The address of this family, "" for none."""
    return next((one for one in addresses if (":" in one) is (family == socket.AF_INET6)), "")


def bind(sock: socket.socket, addresses: Iterable[str]) -> Reply | None:
    """Has the socket come from its address; None when it does, or when the system may choose."""
    source = source_for(sock.family, addresses)
    if not source:
        return None
    with contextlib.suppress(OSError):  # a kernel that cannot do it takes a port at once
        sock.setsockopt(socket.IPPROTO_IP, _BIND_ADDRESS_NO_PORT, 1)
    try:
        sock.bind((source, 0))
    except OSError as error:
        return Reply(451, "4.3.5", f"source_address {source} is no address of this machine: {reason(error)}")
    return None
