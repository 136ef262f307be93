"""What a connection says of itself: how it is protected, why that failed, and what its client has sent already.

Promise:  looks only.
Callers:  intake.carrier.
"""

import fcntl
import termios
from typing import Any

from kmq.errors import openssl_text

_NOTHING = bytes(4)  #: no bytes, as FIONREAD counts them


def tls_name(transport: Any) -> str | None:
    """Protocol and cipher, as the mail log names them."""
    used = transport.get_extra_info("ssl_object")
    cipher = used.cipher() if used is not None else None
    return f"{used.version()} {cipher[0]}" if cipher else None


def handshake_trouble(error: BaseException) -> str:
    """Why a handshake failed; a connection that just ends comes without a word."""
    return openssl_text(error) or "the client ended the connection during the handshake"


def unread(transport: Any) -> bool:
    """Whether the client sent something already."""
    found = transport.get_extra_info("socket")
    return found is not None and fcntl.ioctl(found.fileno(), termios.FIONREAD, _NOTHING) != _NOTHING
