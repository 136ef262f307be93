"""TLS of a client: what a connector speaks it with, and what came of it in words.

Policy:   a server is verified (`tls_verify`) or any certificate will do. Where any will do the alternative is no TLS at
          all, so old ciphers are taken too (RFC 7435 3); TLS 1.2 is the least in any case (RFC 8996).
Promise:  a context is made once and again when one of its files is another; files that cannot be used raise OSError or
          ssl.SSLError, as `config.client_tls` tells before anybody depends on them.
On crash: nothing is kept.
Callers:  phases.smtp_opening, which makes contexts in a thread: to read all authorities takes 20 ms.
"""

import asyncio
import os
from functools import lru_cache
from ssl import SSLContext as SSLContext

from kmq.config.client_tls import ClientTls, client_context, client_tls, verifies
from kmq.config.sections import ConnectorSection

Stamp = tuple[int, int, int]


def context(section: ConnectorSection) -> SSLContext:
    """The context of a connector, for a thread."""
    wanted = client_tls(section)
    return _context(wanted, _stamp(wanted.ca_file), _stamp(wanted.certificate), _stamp(wanted.key))


@lru_cache(64)
def _context(wanted: ClientTls, *stamps: Stamp) -> SSLContext:
    return client_context(wanted)


def _stamp(path: str) -> Stamp:
    if not path:
        return 0, 0, 0
    found = os.stat(path)
    return found.st_mtime_ns, found.st_ino, found.st_size


def described(transport: asyncio.BaseTransport, section: ConnectorSection) -> str:
    """`TLSv1.3 TLS_AES_256_GCM_SHA384 verified`; "" for a connection in clear."""
    found = transport.get_extra_info("ssl_object")
    if found is None:
        return ""
    cipher = found.cipher()
    trust = "verified" if verifies(section) else "unverified"
    return f"{found.version()} {cipher[0] if cipher else '?'} {trust}"
