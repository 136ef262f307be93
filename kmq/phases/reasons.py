"""Errors of the system, of name lookups and of TLS in words that a postmaster reads.

Promise:  one printable line of at most 300 characters, whatever a peer had its hand in.
Callers:  phases.targets, phases.smtp_opening.
"""

import os
import socket
import ssl

from kmq.errors import openssl_text
from kmq.phases.replies import printable


def reason(error: BaseException) -> str:
    """`Connection refused`, `timed out`, `certificate verify failed: self-signed certificate`."""
    if isinstance(error, TimeoutError):
        text = "timed out"
    elif isinstance(error, ssl.SSLError | socket.gaierror):
        text = openssl_text(error) or type(error).__name__
    elif isinstance(error, OSError) and error.errno:
        text = os.strerror(error.errno)
    else:
        text = str(error) or type(error).__name__
    return printable(text.encode("utf-8", "surrogateescape"))[:300]
