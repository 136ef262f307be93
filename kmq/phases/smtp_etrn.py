"""Asking servers for the mail that they keep for us (ETRN, RFC 1985, the client's side).

Promise:  every server that a connector names is asked for every one of its domains, one after the other; what each
          said comes back, and a server that is not to be had is told as such. Each step has its deadline.
On crash: nothing is kept; the next time of the timetable asks again, and to ask twice does no harm.
Callers:  run.upstream.
"""

import asyncio
from contextlib import aclosing
from dataclasses import replace
from typing import NamedTuple

from kmq.config.kinds import write_endpoint
from kmq.config.sections import ConnectorSection
from kmq.model.reply import Reply
from kmq.phases.hosts import Host, Hosts
from kmq.phases.replies import Replies, as_reply
from kmq.phases.smtp_opening import NotOpened, Opened, open_connection
from kmq.phases.targets import configured

_NO_ADDRESS = Reply(451, "4.4.3", "the server has no address")
_LOST = Reply(451, "4.4.2", "the server ended the connection")
_SILENT = Reply(451, "4.4.2", "the server did not answer in time")


class Said(NamedTuple):
    """server: `host[address]:port`, or as the configuration has it; node: the domain; tls: as phases.tls tells it."""

    server: str
    node: str
    reply: Reply
    tls: str = ""


async def ask(section: ConnectorSection, hostname: str) -> list[Said]:
    """Asks all servers of the connector for the mail of its `etrn_domains`. hostname: what EHLO says without `helo`."""
    found: list[Said] = []
    for host in section.etrn_servers or section.hosts:
        opened = await _reach(section, host, section.helo or hostname)
        if isinstance(opened, Reply):
            found += [Said(write_endpoint(*host), node, opened) for node in section.etrn_domains]
        else:
            found += await _ask(section, opened)
    return found


async def _reach(section: ConnectorSection, host: Host, helo: str) -> Opened | Reply:
    """A connection to the first address that will talk."""
    alone = replace(section, hosts=(host,))
    verdict = _NO_ADDRESS
    async with aclosing(configured(alone, Hosts(alone))) as targets:
        async for target in targets:
            if isinstance(target, Reply):
                verdict = target
                continue
            opened = await open_connection(alone, target, helo, section.tls in ("may", "must"))
            if isinstance(opened, Opened):
                return opened
            assert isinstance(opened, NotOpened)
            verdict = opened.reply
    return verdict


async def _ask(section: ConnectorSection, opened: Opened) -> list[Said]:
    talk = _Talk(opened.transport)
    try:
        found = []
        for node in section.etrn_domains:
            reply = await talk.say(f"ETRN {node}", section.mail_timeout)
            found.append(Said(opened.label, node, reply, opened.tls))
        await talk.say("QUIT", section.ehlo_timeout)
        return found
    finally:
        opened.transport.close()


class _Talk(asyncio.Protocol):
    """One command after the other; after a lost connection each is answered as such."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._replies = Replies()
        self._due: asyncio.Future[Reply] | None = None
        transport.set_protocol(self)

    async def say(self, line: str, patience: float) -> Reply:
        """The reply to a command."""
        if self._transport.is_closing():
            return _LOST
        self._due = asyncio.get_running_loop().create_future()
        self._transport.write(f"{line}\r\n".encode())
        try:
            async with asyncio.timeout(patience):
                return await self._due
        except TimeoutError:
            self._transport.close()
            return _SILENT

    def data_received(self, data: bytes) -> None:
        replies = self._replies.feed(data)
        if self._replies.broken:
            self._answer(Reply(451, "4.5.0", self._replies.broken))
            self._transport.close()
        for code, text in replies[:1]:
            self._answer(as_reply(code, text))

    def connection_lost(self, error: Exception | None) -> None:
        self._answer(_LOST)

    def _answer(self, reply: Reply) -> None:
        if self._due is not None and not self._due.done():
            self._due.set_result(reply)
