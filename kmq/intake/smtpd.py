"""The receiver's SMTP server: who is let in, by which rules, and which connections there are.

Promise:  a session costs no timer and no task: one look at all of them each second finds those that are too slow.
          The connections themselves: intake.carrier.
On crash: connections are gone, clients send again; what had its 250 is durable.
Callers:  run.gates, in a loop of asyncio or uvloop.
"""

import asyncio
import socket
import ssl
import time
from asyncio import sslproto
from collections.abc import Sequence
from functools import lru_cache, partial
from ipaddress import IPv6Address, ip_address
from typing import Any, NamedTuple

from kmq.config.certificates import context_of
from kmq.config.sections import ReceiverSection
from kmq.config.unusable import Unusable
from kmq.errors import ConfigError
from kmq.intake import replies
from kmq.intake.carrier import Carrier
from kmq.intake.door import Door
from kmq.intake.priority import NOT_ASKED
from kmq.intake.rates import Rates
from kmq.intake.rules import Client, Routes, Rules
from kmq.intake.session import Session
from kmq.intake.tally import Tally

TLS_READ = 64 * 1024  #: asyncio's TLS layer keeps a buffer of this size for each session; 256 KiB if nobody says so


class Sizes(NamedTuple):
    """Of messages, as Rules have them: larger bodies go to a file; larger ones are not urgent."""

    small_body: int = 64 * 1024
    urgent: int = NOT_ASKED


class Counted(NamedTuple):
    """Clients at once, and what they do in a minute."""

    tally: Tally
    rates: Rates


SIZES = Sizes()


class Smtpd:
    """One receiver section, served by this process.

    counts: how many messages were accepted, how many things refused, how many clients turned away, how
            often somebody asked for mail (ETRN), since the start.
    """

    carrier: type[Carrier] = Carrier  #: made for a connection that is about to be made
    tick = 1.0  #: seconds between two looks at the sessions
    clock = staticmethod(time.time)

    def __init__(
        self,
        section: ReceiverSection,
        hostname: str,
        routes: Routes,
        door: Door,
        sizes: Sizes = SIZES,
        counted: Counted | None = None,
    ) -> None:
        """ConfigError when the certificate cannot be used. counted: shared with other processes, or this one's own."""
        self.door = door
        self.counts = {"accepted": 0, "refused": 0, "turned-away": 0, "etrn": 0}
        self.now = 0.0
        self.tally, self.rates = counted or (Tally(section.sessions, section.sessions_per_client), Rates(section))
        self._carriers: set[Carrier] = set()
        self._servers: dict[object, asyncio.AbstractServer] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._empty = asyncio.Event()
        self._closing = False
        self.adopt(section, hostname, routes, tls_context(section), sizes)

    def reload(self, section: ReceiverSection, hostname: str, routes: Routes) -> None:
        """A new configuration, for sessions that begin from now on; ConfigError when its certificate cannot be used."""
        rules = self.rules
        self.rates.configure(section)
        self.adopt(section, hostname, routes, tls_context(section), Sizes(rules.small_body, rules.urgent_size))

    def adopt(
        self,
        section: ReceiverSection,
        hostname: str,
        routes: Routes,
        context: ssl.SSLContext | None,
        sizes: Sizes,
    ) -> None:
        """The same, with the section's context, which was made before; nothing of this fails."""
        self.tls_context = context
        self.rules = Rules(
            section,
            hostname,
            routes,
            self.door,
            clock=self.clock,
            small_body=sizes.small_body,
            starttls=self.tls_context is not None,
            rates=self.rates,
            urgent_size=sizes.urgent,
        )
        self.tally.total, self.tally.per_client = section.sessions, section.sessions_per_client
        self.client = lru_cache(4096)(self._recognize)

    def _recognize(self, ip: str) -> Client:
        try:
            address = ip_address(ip)
        except ValueError:
            return Client(ip, False)
        if isinstance(address, IPv6Address) and address.ipv4_mapped:
            address = address.ipv4_mapped
        trusted = any(address in network for network in self.rules.section.relay_from)
        unlimited = any(address in network for network in self.rules.section.unlimited_clients)
        may_etrn = any(address in network for network in self.rules.section.etrn_from)
        return Client(str(address), trusted, unlimited=unlimited, may_etrn=may_etrn)

    async def serve(self, sockets: Sequence[socket.socket]) -> None:
        """Serves these listening sockets, which are ours from here, and no others; sessions go on. Returns at once."""
        loop = asyncio.get_running_loop()
        self.now = loop.time()
        sslproto.SSLProtocol.max_size = TLS_READ
        wanted = {one.getsockname(): one for one in sockets}
        for address in self._servers.keys() - wanted.keys():
            self._servers.pop(address).close()
        for address, listener in wanted.items():
            if address in self._servers:
                listener.close()  # another descriptor of what we have
                continue
            begin = loop.create_unix_server if listener.family == socket.AF_UNIX else loop.create_server
            self._servers[address] = await begin(partial(self.carrier, self, loop), sock=listener, backlog=512)

    async def close(self, grace: float) -> None:
        """Takes nobody in any more and lets messages on their way come to their end, for `grace` seconds at most."""
        self._closing = True
        for server in self._servers.values():
            server.close()
        for carrier in list(self._carriers):
            carrier.stop()
        await self._wait_until_empty(grace)
        for carrier in list(self._carriers):
            carrier.expel()
        await self._wait_until_empty(0.2)
        for carrier in list(self._carriers):
            carrier.abort()
        await self._wait_until_empty(0.2)
        if self._timer is not None:
            self._timer.cancel()

    async def _wait_until_empty(self, limit: float) -> None:
        if not self._carriers:
            return
        self._empty.clear()
        try:
            await asyncio.wait_for(self._empty.wait(), limit)
        except TimeoutError:
            pass

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        self.now = loop.time()
        for carrier in list(self._carriers):
            carrier.look(self.now)
        self._timer = loop.call_later(self.tick, self._look, loop) if self._carriers else None

    # --- what carriers ask ---

    def recognize(self, transport: Any) -> Client:
        """Who is there."""
        peer = transport.get_extra_info("peername")
        return self.client(peer[0] if isinstance(peer, tuple) else "")

    def session(self, client: Client) -> Session:
        """A conversation with him."""
        return Session(self.rules, client)

    def admit(self, carrier: Carrier, client: Client) -> bytes | None:
        """Lets a connection in, or says why not."""
        if self._closing:
            return replies.SHUTTING_DOWN
        refusal = self.rates.turns_away(client, self.clock())
        if refusal is None and not self.tally.enter(carrier.key, client.unlimited):
            refusal = replies.TOO_MANY_CONNECTIONS
        if refusal:
            self.counts["turned-away"] += 1
        else:
            self._carriers.add(carrier)
            if self._timer is None:  # nobody was here, so nobody's time was looked at
                loop = asyncio.get_running_loop()
                self.now = loop.time()
                self._timer = loop.call_later(self.tick, self._look, loop)
        return refusal

    def dismiss(self, carrier: Carrier) -> None:
        """The connection is gone."""
        self.tally.leave(carrier.key)
        self._carriers.discard(carrier)
        if self._closing and not self._carriers:
            self._empty.set()

    @property
    def sessions(self) -> int:
        """Of this process."""
        return len(self._carriers)


def tls_context(section: ReceiverSection) -> ssl.SSLContext | None:
    """What STARTTLS of a section works with; ConfigError when its certificate cannot be used."""
    found = context_of(section)
    if isinstance(found, Unusable):
        raise ConfigError(f"[{section.name}] {found.text}: {found.remedy}")
    return found
