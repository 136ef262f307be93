"""The receiver's SMTP: connections, limits, timeouts and TLS around the session, which does the talking.

What:     aiosmtpd's class carries a connection and its STARTTLS; all bytes go to our session and all deeds of the
          session are carried out here. Nothing of aiosmtpd's own conversation runs.
Promise:  a session costs no timer and no task: one look at all of them each second finds those that are too slow. A
          commit under way is waited for, whatever clocks and clients do. What a client may make us keep is bounded:
          while it is not its turn, or it does not read, nothing more is read from it.
On crash: connections are gone, clients send again; what had its 250 is durable.
Callers:  `run/receiver`, in a loop of asyncio or uvloop.
"""

import asyncio
import socket
import ssl
import time
from asyncio import sslproto
from collections.abc import Callable, Sequence
from enum import IntFlag
from functools import lru_cache
from ipaddress import IPv6Address, ip_address
from typing import Any, AnyStr, NamedTuple

from aiosmtpd.smtp import SMTP, TLSSetupException

from kmq.config.certificates import context_of
from kmq.config.sections import ReceiverSection
from kmq.config.unusable import Unusable
from kmq.errors import ConfigError
from kmq.intake import deeds, replies
from kmq.intake.door import Door, LargeBody
from kmq.intake.patience import Patience
from kmq.intake.priority import NOT_ASKED
from kmq.intake.rates import Rates
from kmq.intake.rules import Client, Routes, Rules
from kmq.intake.session import Session
from kmq.intake.tally import Tally
from kmq.intake.transports import handshake_trouble, tls_name, unread
from kmq.log import mail
from kmq.model.reply import Reply

WRITE_LIMIT = 64 * 1024  #: bytes of replies that a client may leave unread before it is read no further
LINGER = 2.0  #: seconds for a client to read our last word
LINGER_BYTES = 1 << 20  #: what it may send meanwhile
TLS_READ = 64 * 1024  #: asyncio's TLS layer keeps a buffer of this size for each session; 256 KiB if nobody says so


class Brake(IntFlag):
    """Why a client is not read from."""

    ANSWER = 1  #: it sent more while the door's answer was due
    READER = 2  #: it does not read our replies
    ROOM = 4  #: the disk is behind


class Carrier(SMTP):
    """One connection. The base gives `smtp_STARTTLS`; its constructor, which costs 100 µs, is not needed for that."""

    def __init__(self, smtpd: "Smtpd", loop: asyncio.AbstractEventLoop) -> None:
        self._smtpd = smtpd
        self._session: Session | None = None
        self.key = ""
        self._large: LargeBody | None = None
        self._queue: list[deeds.AnyDeed] = []
        self._performing = False
        self._brakes = Brake(0)
        self._half_closed = False
        self._lost = False
        self._patience = Patience(smtpd.rules.section, smtpd.now)
        self._drained = 0
        self._closing_since: float | None = None
        self._handshake: asyncio.Task[None] | None = None
        self._tls_name: str | None = None
        # What the base's smtp_STARTTLS needs.
        self.loop = loop
        self.tls_context = smtpd.tls_context
        self.transport: Any = None
        self._tls_protocol: Any = None
        self._original_transport: Any = None

    # --- what the loop calls --------------------------------------------------------------------------------------

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        if self._session is not None:  # again, as STARTTLS is through
            self._brakes = Brake(0)  # they were the clear transport's
            self._tls_name = tls_name(transport)
            transport.set_write_buffer_limits(high=WRITE_LIMIT)
            return self._perform(self._session.secured())
        client = self._smtpd.recognize(transport)
        self.key = client.key
        refusal = self._smtpd.admit(self, client)
        if refusal:
            transport.write(refusal)
            transport.close()
            return None
        transport.set_write_buffer_limits(high=WRITE_LIMIT)
        self._session = self._smtpd.session(client)
        return self._perform(self._session.greet(unread(transport) > 0))

    def data_received(self, read: bytes) -> None:
        session = self._session
        self._patience.received += len(read)
        if session is None or session.closed:
            return self._drain(len(read))
        if session.waiting:
            self._brake(Brake.ANSWER)
        found = session.receive(read)
        if found:
            self._perform(found)
        return None

    def eof_received(self) -> bool:
        """The client will send nothing more. Whoever waits for an answer gets it, where the transport can do that."""
        session = self._session
        self._half_closed = session is not None and session.waiting and self._tls_protocol is None
        return self._half_closed

    def connection_lost(self, error: Exception | None) -> None:
        if self._lost:
            return
        self._lost = True
        if self._session is not None:
            self._perform(self._session.gone())
            self._smtpd.dismiss(self)
        if self._original_transport is not None:
            self._original_transport.close()
        self.transport = None

    def pause_writing(self) -> None:
        self._brake(Brake.READER)

    def resume_writing(self) -> None:
        self._release(Brake.READER)

    # --- deeds ----------------------------------------------------------------------------------------------------

    def _perform(self, found: list[deeds.AnyDeed]) -> None:
        """Carries deeds out in order; a door that answers at once has its answer's deeds put behind them."""
        queue = self._queue
        queue.extend(found)
        if self._performing:
            return
        self._performing = True
        try:
            for deed in queue:
                DEEDS[type(deed)](self, deed)
        finally:
            self._performing = False
            queue.clear()

    def _say(self, deed: deeds.Say) -> None:
        if self.transport is not None:
            self.transport.write(deed.text)

    def _put(self, deed: deeds.Put) -> None:
        self._smtpd.door.put(deed.tail, deed.count, deed.body, deed.stamp, self._answered)

    def _reserve(self, deed: deeds.Reserve) -> None:
        self._smtpd.door.reserve(self._answered)

    def _open(self, deed: deeds.Open) -> None:
        self._large = self._smtpd.door.open_large(self._has_room)

    def _write(self, deed: deeds.Write) -> None:
        if self._large is not None and not self._large.write(deed.piece):
            self._brake(Brake.ROOM)

    def _put_large(self, deed: deeds.PutLarge) -> None:
        large, self._large = self._large, None
        assert large is not None
        self._smtpd.door.put_large(deed.queue_id, deed.tail, deed.count, deed.sha256, large, self._answered)

    def _discard(self, deed: deeds.Discard) -> None:
        large, self._large = self._large, None
        if large is not None:
            large.discard()

    def _note(self, deed: deeds.Note) -> None:
        self._smtpd.count(deed.event)
        mail.tell(deed.event, deed.queue_id, deed.keys, deed.besides, tls=self._tls_name)

    def _pause(self, deed: deeds.Pause) -> None:
        self.loop.call_later(deed.seconds, self._rested, self._session)

    def _start_tls(self, deed: deeds.StartTls) -> None:
        # Nothing is read before the TLS layer is there to read it: not even the first bytes of the handshake.
        self.transport.pause_reading()
        self._handshake = self.loop.create_task(self._secure())

    def _close(self, deed: deeds.Close) -> None:
        self._closing_since = self._smtpd.now
        transport = self.transport
        if transport is None or transport.is_closing():
            return
        if not deed.unread or not transport.can_write_eof():
            transport.close()
            return
        try:
            transport.write_eof()
            self._release(self._brakes)
        except OSError:  # the client has reset the connection, and we shall hear of it
            transport.abort()

    # --- the door's answers ---------------------------------------------------------------------------------------

    def _answered(self, queue_id: str, reply: Reply | None) -> None:
        session = self._session
        assert session is not None
        try:
            self._perform(session.answered(queue_id, reply))
        except Exception:
            if self.transport is not None:
                self.transport.abort()  # nobody would answer: better no connection than a silent one
            raise
        self._go_on(session)

    def _rested(self, session: Session | None) -> None:
        if session is not None and not self._lost:
            self._perform(session.rested())
            self._go_on(session)

    def _go_on(self, session: Session) -> None:
        """It is the client's turn again, unless it is not."""
        if not session.waiting:
            self._release(Brake.ANSWER)
            if self._half_closed and self.transport is not None:
                self.transport.close()

    def _has_room(self) -> None:
        self._release(Brake.ROOM)

    # --- flow -----------------------------------------------------------------------------------------------------

    def _brake(self, why: Brake) -> None:
        if not self._brakes and self.transport is not None and not self.transport.is_closing():
            self.transport.pause_reading()
        self._brakes |= why

    def _release(self, why: Brake) -> None:
        if not self._brakes & why:
            return
        self._brakes &= ~why
        if not self._brakes and self.transport is not None and not self.transport.is_closing():
            self.transport.resume_reading()

    def _drain(self, length: int) -> None:
        """Our last word is said; what the client sends on is thrown away, that it may read it."""
        self._drained += length
        if self._drained > LINGER_BYTES and self.transport is not None:
            self.transport.abort()

    # --- STARTTLS -------------------------------------------------------------------------------------------------

    async def _secure(self) -> None:
        try:
            await self.smtp_STARTTLS("")
        except (TLSSetupException, OSError) as error:
            mail.tell("tls-failed", client=self.key, reason=handshake_trouble(error.__cause__ or error))
        if self.transport is not None and not self._is_secure():
            self._original_transport.abort()
            self.connection_lost(None)  # the TLS layer tells nobody of a connection that it never made

    def _is_secure(self) -> bool:
        return self._session is not None and self._session.secure

    async def push(self, status: AnyStr) -> None:
        """The base's own 220: ours is on its way. From here to the TLS layer it does not come back to the loop."""
        self.transport.resume_reading()

    # --- time -----------------------------------------------------------------------------------------------------

    def look(self, now: float) -> None:
        """Once a second: is this one too slow?"""
        session = self._session
        if session is None:
            return
        if self._closing_since is None:
            if self._patience.is_over(session, now, bool(self._brakes & Brake.ROOM)):
                self._perform(session.timed_out())
        elif now - self._closing_since > LINGER:
            self.abort()

    def stop(self) -> None:
        if self._session is not None:
            self._perform(self._session.stop())

    def expel(self) -> None:
        if self._session is not None:
            self._perform(self._session.expelled())

    def abort(self) -> None:
        if self.transport is not None:
            self.transport.abort()


#: Who carries out what.
DEEDS: dict[type, Callable[[Carrier, Any], None]] = {
    deeds.Say: Carrier._say,
    deeds.Put: Carrier._put,
    deeds.Reserve: Carrier._reserve,
    deeds.Open: Carrier._open,
    deeds.Write: Carrier._write,
    deeds.PutLarge: Carrier._put_large,
    deeds.Discard: Carrier._discard,
    deeds.Pause: Carrier._pause,
    deeds.StartTls: Carrier._start_tls,
    deeds.Note: Carrier._note,
    deeds.Close: Carrier._close,
}


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

    counts: how many messages were accepted, how many things refused, how many clients turned away, since the start.
    """

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
        self.counts = {"accepted": 0, "refused": 0, "turned-away": 0}
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
            refusal=lambda: self.door.refusal,
            clock=self.clock,
            small_body=sizes.small_body,
            starttls=self.tls_context is not None,
            urgent_size=sizes.urgent,
            rates=self.rates,
            pressed=lambda: self.door.pressed(section.submission),
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
        return Client(str(address), trusted, unlimited=unlimited)

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
            self._servers[address] = await begin(lambda: self.carrier(loop), sock=listener, backlog=512)
        if self._timer is None:
            self._timer = loop.call_later(self.tick, self._look, loop)

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
        self._timer = loop.call_later(self.tick, self._look, loop)

    # --- what carriers ask ---

    def carrier(self, loop: asyncio.AbstractEventLoop) -> Carrier:
        """For a connection that is about to be made."""
        return Carrier(self, loop)

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
        return refusal

    def dismiss(self, carrier: Carrier) -> None:
        """The connection is gone."""
        self.tally.leave(carrier.key)
        self._carriers.discard(carrier)
        if not self._carriers:
            self._empty.set()

    def count(self, event: str) -> None:
        self.counts[event] += 1

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
