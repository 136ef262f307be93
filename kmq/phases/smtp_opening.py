"""Opening a connection to an SMTP server: TCP, greeting, EHLO or HELO, STARTTLS, AUTH; or to one that speaks LMTP,
which hears LHLO. aiosmtplib speaks here, nobody else.

Promise:  what comes out is a transport at a command boundary with nothing unread, or the reply that says why not; the
          library's exceptions and the system's errors end here, and what is not known is temporary.
          Every step has its deadline, so an opening ends. A password goes over TLS only. What the server says behind
          the text `said:` is its own word.
On crash: a connection that was not handed over is closed by the kernel.
Callers:  phases.smtp_hop.
"""

import asyncio
import socket
from typing import NamedTuple, TypeGuard, cast

import aiosmtplib
from aiosmtplib import SMTP

from kmq.config.client_tls import password
from kmq.config.sections import ConnectorSection
from kmq.model.reply import Reply
from kmq.phases import tls
from kmq.phases.commands import Offers
from kmq.phases.mechanisms import Secret
from kmq.phases.reasons import reason
from kmq.phases.replies import as_reply
from kmq.phases.smtp_login import Wish, log_in
from kmq.phases.smtp_source import bind
from kmq.phases.targets import Address, Target
from kmq.phases.token import token_of


class Opened(NamedTuple):
    """A connection that can take MAIL. label: `host[address]:port`; tls: as phases.tls describes it, "" in clear."""

    transport: asyncio.Transport
    offers: Offers
    label: str
    tls: str = ""


class NotOpened(NamedTuple):
    """Why not. tls: it was STARTTLS that failed, so that without it there might be a connection."""

    reply: Reply
    tls: bool = False


class _Refusal(Exception):
    """The server will not talk to us: the reply that says so."""

    def __init__(self, reply: Reply) -> None:
        self.reply = reply


async def open_connection(section: ConnectorSection, target: Target, helo: str, starttls: bool) -> Opened | NotOpened:
    """A connection to one address. starttls: STARTTLS if offered.

    With `tls = must` in the section a server without STARTTLS is refused.
    """
    return await _Opening(section, target, helo, starttls).open(target)


class _Opening:
    """One address."""

    def __init__(self, section: ConnectorSection, target: Target, helo: str, starttls: bool) -> None:
        self._section = section
        self._starttls = (starttls or section.tls == "must") and target.family != socket.AF_UNIX
        self._label = target.label
        self._client = SMTP(hostname=target.name, local_hostname=helo, start_tls=False)
        self._securing = False

    async def open(self, target: Target) -> Opened | NotOpened:
        """The steps in their order."""
        try:
            await self._connect(target.family, target.address)
            await self._greet()
            if self._starttls and (self._section.tls == "must" or self._client.supports_extension("starttls")):
                await self._secure()
            if self._section.auth_user:
                await self._log_in()
            return self._take_over()
        except Exception as error:  # whatever the library, TLS or the system raise: the next host may do better
            self._client.close()
            return NotOpened(_as_reply(error, self._label), tls=self._securing)
        except BaseException:
            self._client.close()
            raise

    async def _connect(self, family: int, address: Address) -> None:
        context = await self._context() if self._section.tls == "implicit" else None
        sock = await self._connected(family, address)
        patience = self._section.greeting_timeout
        try:
            if context is None:
                await self._client.connect(sock=sock, timeout=patience)
            else:
                await self._client.connect(sock=sock, timeout=patience, use_tls=True, tls_context=context)
        except BaseException:
            sock.close()
            raise

    async def _connected(self, family: int, address: Address) -> socket.socket:
        sock = socket.socket(family, socket.SOCK_STREAM)
        try:
            sock.setblocking(False)
            if family != socket.AF_UNIX:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.setsockopt(
                socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1
            )  # ten minutes of silence after the dot are allowed
            if self._section.source_address:
                self._bind(sock)
            async with asyncio.timeout(self._section.connect_timeout):
                await asyncio.get_running_loop().sock_connect(sock, address)
        except BaseException:
            sock.close()
            raise
        return sock

    def _bind(self, sock: socket.socket) -> None:
        refusal = bind(sock, self._section.source_address)
        if refusal is not None:
            raise _Refusal(refusal)

    async def _greet(self) -> None:
        """EHLO; HELO for a server that does not know it (RFC 5321 3.2); LHLO (RFC 2033 4.1)."""
        if self._section.type == "lmtp":
            return await self._greet_lmtp()
        try:
            await self._client.ehlo(timeout=self._section.ehlo_timeout)
        except aiosmtplib.SMTPHeloError as error:
            if error.code < 500 or not self._client.is_connected:
                raise
            await self._client.helo(timeout=self._section.ehlo_timeout)

    async def _greet_lmtp(self) -> None:
        name = self._client.local_hostname or ""
        said = await self._client.execute_command(b"LHLO", name.encode(), timeout=self._section.ehlo_timeout)
        if said.code != aiosmtplib.SMTPStatus.completed:
            raise aiosmtplib.SMTPHeloError(said.code, said.message)
        self._client.last_ehlo_response = said

    async def _secure(self) -> None:
        if not self._client.supports_extension("starttls"):
            raise _Refusal(Reply(451, "4.7.4", "TLS is required and the server does not offer STARTTLS"))
        context = await self._context()
        self._securing = True
        await self._client.starttls(tls_context=context, timeout=self._section.ehlo_timeout)
        await self._greet()  # who does not like our certificate says so here (TLS 1.3)
        self._securing = False

    async def _context(self) -> tls.SSLContext:
        try:
            return await asyncio.to_thread(tls.context, self._section)
        except (OSError, ValueError) as error:
            raise _Refusal(Reply(451, "4.3.5", f"the connector's TLS files cannot be used: {reason(error)}")) from None

    async def _log_in(self) -> None:
        client, section = self._client, self._section
        secured = client.get_transport_info("ssl_object") is not None
        secret = Secret(section.auth_user, await self._password(), await self._token())
        refusal = await log_in(client, Wish(section.auth, secret, secured, section.ehlo_timeout))
        if refusal is not None:
            raise _Refusal(refusal)

    async def _password(self) -> str:
        section = self._section
        if not section.password_file:
            return ""
        try:
            return await asyncio.to_thread(password, section)
        except (OSError, ValueError) as error:
            raise _Refusal(Reply(451, "4.3.5", f"password_file {section.password_file}: {reason(error)}")) from None

    async def _token(self) -> str:
        section = self._section
        named = section.token_file or " ".join(section.token_command)
        if not named:
            return ""
        try:
            return await token_of(section)
        except (OSError, ValueError) as error:
            option = "token_file" if section.token_file else "token_command"
            raise _Refusal(Reply(451, "4.3.5", f"{option} {named}: {reason(error)}")) from None

    def _take_over(self) -> Opened:
        """The transport at a command boundary. Bytes that nobody asked for would be taken for the reply to MAIL."""
        client = self._client
        if client.protocol is None or client.transport is None:
            raise _Refusal(Reply(451, "4.4.2", "lost connection after EHLO"))
        if client.protocol._buffer:
            raise _Refusal(Reply(451, "4.5.0", "the server sent more than it was asked for"))
        transport = cast(asyncio.Transport, client.transport)
        secured = tls.described(transport, self._section)
        return Opened(transport, _offers(client.esmtp_extensions), self._label, secured)


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
        text = error.reply.text
        return error.reply._replace(text=f"{label} {text}" if text.startswith("said: ") else f"{label}: {text}")
    if isinstance(error, aiosmtplib.SMTPTimeoutError):
        return Reply(451, "4.4.2", f"{label} did not answer in time")
    if isinstance(error, aiosmtplib.SMTPConnectError) and _of_the_system(error.__cause__):
        return Reply(451, "4.4.1", f"connect to {label}: {reason(error.__cause__)}")
    if isinstance(error, aiosmtplib.SMTPException):
        return Reply(451, "4.4.2", f"{label} ended the connection before it would talk")
    return Reply(451, "4.4.1", f"connect to {label}: {reason(error)}")


def _of_the_system(error: BaseException | None) -> TypeGuard[OSError]:
    return isinstance(error, OSError) and not isinstance(error, aiosmtplib.SMTPException)
