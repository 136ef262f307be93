"""Opening a connection to an SMTP server: TCP, greeting, EHLO or HELO, STARTTLS. aiosmtplib speaks here, nobody else.

Promise:  what comes out is a transport at a command boundary with nothing unread, or the reply that says why not; the
          library's exceptions and the system's errors end here, and what is not known is temporary.
          Every step has its deadline, so an opening ends.
TLS:      `must` checks certificate and name; `may` takes any certificate, since the alternative is none at all.
On crash: a connection that was not handed over is closed by the kernel.
Callers:  phases.smtp.
"""

import asyncio
import os
import socket
import ssl
from functools import cache
from typing import NamedTuple, cast

import aiosmtplib
from aiosmtplib import SMTP

from kmq.config.sections import ConnectorSection
from kmq.errors import openssl_text
from kmq.model.reply import Reply
from kmq.phases.commands import Offers
from kmq.phases.hosts import Host
from kmq.phases.replies import as_reply, printable

ADDRESS_LIMIT = 5  #: addresses of one host that are tried

Address = tuple[str, int] | tuple[str, int, int, int]


class Opened(NamedTuple):
    """A connection that can take MAIL. label: `host[address]:port`."""

    transport: asyncio.Transport
    offers: Offers
    label: str


class NotOpened(NamedTuple):
    """Why not. tls: it was STARTTLS that failed, so that without it there might be a connection."""

    reply: Reply
    tls: bool = False


class _Refusal(Exception):
    """The server will not talk to us: the reply that says so."""

    def __init__(self, reply: Reply) -> None:
        self.reply = reply


async def open_connection(section: ConnectorSection, host: Host, helo: str, tls: bool) -> Opened | NotOpened:
    """A connection to one host of a smart-host connector; its addresses one after the other. tls: STARTTLS if offered.

    With `tls = must` in the section a server without STARTTLS is refused.
    """
    name, port = host
    try:
        addresses = await _addresses(section, host)
    except (OSError, UnicodeError) as error:
        shown = printable(name.encode("utf-8", "replace"))
        return NotOpened(Reply(451, "4.4.3", f"cannot find the address of {shown}: {_reason(error)}"))
    outcome: Opened | NotOpened = NotOpened(Reply(451, "4.4.3", f"{name} has no address"))
    for family, address in addresses[:ADDRESS_LIMIT]:
        opening = _Opening(section, name, helo, tls, f"{name}[{address[0]}]:{port}")
        outcome = await opening.open(family, address)
        if isinstance(outcome, Opened):
            break
    return outcome


async def _addresses(section: ConnectorSection, host: Host) -> list[tuple[int, Address]]:
    async with asyncio.timeout(section.connect_timeout):
        found = await asyncio.get_running_loop().getaddrinfo(*host, type=socket.SOCK_STREAM)
    return [(family, cast(Address, address)) for family, _, _, _, address in found]


class _Opening:
    """One address."""

    def __init__(self, section: ConnectorSection, host: str, helo: str, tls: bool, label: str) -> None:
        self._section = section
        self._tls = tls or section.tls == "must"
        self._label = label
        self._client = SMTP(hostname=host, local_hostname=helo, start_tls=False)
        self._securing = False

    async def open(self, family: int, address: Address) -> Opened | NotOpened:
        """The steps in their order."""
        try:
            await self._connect(family, address)
            await self._greet()
            if self._tls and (self._section.tls == "must" or self._client.supports_extension("starttls")):
                await self._secure()
                await self._greet()
            return self._take_over()
        except Exception as error:  # whatever the library, TLS or the system raise: the next host may do better
            self._client.close()
            return NotOpened(_as_reply(error, self._label), tls=self._securing)
        except BaseException:
            self._client.close()
            raise

    async def _connect(self, family: int, address: Address) -> None:
        sock = await _connected(self._section.connect_timeout, family, address)
        try:
            await self._client.connect(sock=sock, timeout=self._section.greeting_timeout)
        except BaseException:
            sock.close()
            raise

    async def _greet(self) -> None:
        """EHLO; HELO for a server that does not know it (RFC 5321 3.2)."""
        try:
            await self._client.ehlo(timeout=self._section.ehlo_timeout)
        except aiosmtplib.SMTPHeloError as error:
            if error.code < 500 or not self._client.is_connected:
                raise
            await self._client.helo(timeout=self._section.ehlo_timeout)

    async def _secure(self) -> None:
        self._securing = True
        if not self._client.supports_extension("starttls"):
            raise _Refusal(Reply(451, "4.7.4", "TLS is required and the server does not offer STARTTLS"))
        context = await asyncio.to_thread(_context, self._section.tls == "must")
        await self._client.starttls(tls_context=context, timeout=self._section.ehlo_timeout)

    def _take_over(self) -> Opened:
        """The transport at a command boundary. Bytes that nobody asked for would be taken for the reply to MAIL."""
        client = self._client
        if client.protocol is None or client.transport is None:
            raise _Refusal(Reply(451, "4.4.2", "lost connection after EHLO"))
        if client.protocol._buffer:
            raise _Refusal(Reply(451, "4.5.0", "the server sent more than it was asked for"))
        return Opened(cast(asyncio.Transport, client.transport), _offers(client.esmtp_extensions), self._label)


async def _connected(patience: float, family: int, address: Address) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)  # ten minutes of silence after the dot are allowed
        async with asyncio.timeout(patience):
            await asyncio.get_running_loop().sock_connect(sock, address)
    except BaseException:
        sock.close()
        raise
    return sock


@cache
def _context(checked: bool) -> ssl.SSLContext:
    context = ssl.create_default_context()
    if not checked:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _offers(extensions: dict[str, str]) -> Offers:
    limit = extensions.get("size", "").strip()
    return Offers(
        pipelining="pipelining" in extensions,
        eight_bit="8bitmime" in extensions,
        smtputf8="smtputf8" in extensions,
        dsn="dsn" in extensions,
        sized="size" in extensions,
        size=int(limit) if limit.isascii() and limit.isdigit() and len(limit) < 19 else 0,
    )


def _as_reply(error: Exception, label: str) -> Reply:
    """What happened, as a temporary reply that names the host: a host that will not talk says nothing about mail."""
    if isinstance(error, aiosmtplib.SMTPResponseException):
        said = as_reply(error.code, error.message.encode("utf-8", "surrogateescape"))
        return Reply(451, "4.4.0", f"{label} said: {said}")
    if isinstance(error, _Refusal):
        return error.reply._replace(text=f"{label}: {error.reply.text}")
    if isinstance(error, aiosmtplib.SMTPTimeoutError):
        return Reply(451, "4.4.2", f"{label} did not answer in time")
    if isinstance(error, aiosmtplib.SMTPException):
        return Reply(451, "4.4.2", f"{label} ended the connection before it would talk")
    return Reply(451, "4.4.1", f"connect to {label}: {_reason(error)}")


def _reason(error: BaseException) -> str:
    if isinstance(error, TimeoutError):
        return "timed out"
    if isinstance(error, ssl.SSLError | socket.gaierror):
        text = openssl_text(error) or type(error).__name__
    elif isinstance(error, OSError) and error.errno:
        text = os.strerror(error.errno)
    else:
        text = str(error) or type(error).__name__
    return printable(str(text).encode("utf-8", "surrogateescape"))[:300]
