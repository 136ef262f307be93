"""The way in for the programs of this machine: SMTP over submit.sock, with a client whom the kernel names.

What:     as on port 25, but: everybody may send anywhere; who it is stands in `Received:`, in the envelope, and above
          what he sends in a name that is not his own. Headers are completed, and addresses may be bare. A program may
          say all at once, without a wait for replies. VRFY answers what would become of mail.
Besides:  MAIL takes XNAME=<xtext>, the full name of who sends, and XBCC=REMOVE: the recipients were read from the
          header, so Bcc is not for them to see.
Promise:  limits of a user hold over all receiver processes. A slow directory of users keeps nobody else waiting.
On crash: as `smtpd`.
Callers:  run.gates; kmq.cli.handover is the other side.
"""

import asyncio
import os
import pwd
import re
import socket
import struct
from collections.abc import Callable
from typing import Any

from msgspec import structs

from kmq.config.sections import ReceiverSection, SendmailSection
from kmq.config.sendmail import RECEIVER
from kmq.intake import replies, trace
from kmq.intake.carrier import Carrier
from kmq.intake.completion import Way
from kmq.intake.deeds import Turn
from kmq.intake.introduction import Introduction, of_user
from kmq.intake.pace import Pace
from kmq.intake.rules import Client, Rules
from kmq.intake.session import COMMANDS, Session
from kmq.intake.smtpd import Smtpd
from kmq.intake.transaction import Transaction
from kmq.model.address import NotAnAddress, read_path
from kmq.model.envelope import Recipient
from kmq.model.hop import DeliveryType
from kmq.model.mailbox import user_of
from kmq.model.reply import Reply
from kmq.routing.expanding import Expansion

_CREDENTIALS = struct.Struct("3i")  #: struct ucred: pid, uid, gid
_NAMES_LIMIT = 1024
_NAMES_AGE = 60.0  #: seconds after which a user's name is looked up again

_BARE = re.compile(rb'((?:FROM:|TO:)? *)<((?:[^"<>@\s]|"(?:[^"\\]|\\.)*")+)>', re.IGNORECASE).match
_PRIVATE = re.compile(rb" (XNAME|XBCC)=([!-~]*)", re.IGNORECASE)
_HEX = re.compile(rb"\+([0-9A-F]{2})")


def as_receiver(section: SendmailSection) -> ReceiverSection:
    """The limits as those of any receiver."""
    return ReceiverSection(
        name=RECEIVER,
        submission=True,
        size_limit=section.size_limit,
        recipient_limit=section.recipient_limit,
        sessions=section.sessions,
        sessions_per_client=section.sessions_per_user,
        line_limit=section.line_limit,
        hop_limit=section.hop_limit,
        command_timeout=section.command_timeout,
    )


class LocalSession(Session):
    """A conversation with a program of this machine."""

    __slots__ = ("_name", "_pace", "_removes_bcc")

    def __init__(self, rules: Rules, client: Client, pace: Pace) -> None:
        super().__init__(rules, client)
        self._pace = pace
        self._name = ""  # said by MAIL
        self._removes_bcc = False

    def greet(self, early: bool) -> Turn:
        """A program that speaks early is nobody whom others made speak."""
        return super().greet(False)

    @property
    def _more(self) -> bool:
        return False

    def _mail_of_user(self, argument: bytes) -> bytes:
        if not self._pace.take(self._client.uid, self._rules.clock()):
            return self._refuse(replies.TOO_FAST)
        return self._mail(self._without_private(self._qualified(argument)))

    def _rcpt_of_user(self, argument: bytes) -> bytes:
        return self._rcpt(self._qualified(argument))

    def _without_private(self, argument: bytes) -> bytes:
        """Takes what is said beside SMTP out of a MAIL; an argument that is none of MAIL's is for others to refuse."""
        self._name, self._removes_bcc = "", False
        try:
            _, end = read_path(argument, argument.find(b"<"), True)
        except NotAnAddress:
            return argument
        said = {one[1].upper(): one[2] for one in _PRIVATE.finditer(argument, end)}
        octets = _HEX.sub(lambda found: bytes.fromhex(found[1].decode()), said.get(b"XNAME", b""))
        self._name = octets.decode("utf-8", "replace")
        self._removes_bcc = said.get(b"XBCC", b"").upper() == b"REMOVE"
        return argument[:end] + _PRIVATE.sub(b"", argument[end:])

    def _qualified(self, argument: bytes) -> bytes:
        """A bare address is one of this machine."""
        bare = _BARE(argument)
        if bare is None or bare[2].lower() == b"postmaster":
            return argument
        return b"%b<%b@%b>%b" % (bare[1], bare[2], self._rules.routes.home.encode(), argument[bare.end() :])

    def _verify(self, argument: bytes) -> bytes:
        return self._idle(self._verified(argument))

    def _verified(self, argument: bytes) -> bytes:
        try:
            path = argument.strip()
            address, _ = read_path(self._qualified(path if path[:1] == b"<" else b"<%b>" % path), 0, True)
            if not address:
                raise NotAnAddress("an address is needed")
        except NotAnAddress as wrong:
            return replies.bad_address(b"5.1.3", str(wrong))
        return self._judge(address) or self._fate(address)

    def _fate(self, address: str) -> bytes:
        """Of mail for an address that RCPT would take."""
        routes = self._rules.routes
        sender = f"{self._client.user}@{routes.home}"
        decision = routes.ways(sender, self._introduced.source).decide(Recipient(address))
        if isinstance(decision, Expansion):
            return replies.verified(address, "is an alias")
        if isinstance(decision, Reply):
            return replies.encoded(decision)
        if decision.hop.delivery_type is DeliveryType.UNREACHABLE:
            return replies.verified(address, "waits: no connector serves it")
        return replies.verified(address, f"goes to {decision.hop.name} by {decision.hop.connector}")

    # --- who it is ---

    def _introduction(self, utf8: bool) -> Introduction:
        protocol = trace.protocol(self._extended, utf8, False)
        return of_user(self._client, protocol, self._rules.hostname, self._rules.section.name)

    def _transaction(self) -> Transaction:
        way = Way.SENDMAIL_T if self._removes_bcc else Way.SENDMAIL
        beneath = self._authenticated_sender()
        return structs.replace(super()._transaction(), beneath=beneath, way=way, name=self._name)

    def _authenticated_sender(self) -> bytes:
        """Who it is, when the sender says otherwise (RFC 6409 8.1); above whatever he wrote himself."""
        client = self._client
        if client.trusted_sender or self._is_own(self._sender.address):
            return b""
        return trace.authenticated_sender(client.user, client.uid, self._rules.hostname)

    def _is_own(self, address: str) -> bool:
        local, _, domain = address.rpartition("@")
        here = domain in (self._rules.hostname, self._rules.routes.home) or self._rules.routes.is_local(domain)
        return here and user_of(local) == self._client.user.lower()


_OF_USERS: dict[bytes, Callable[[LocalSession, bytes], bytes]] = {
    b"MAIL": LocalSession._mail_of_user,
    b"RCPT": LocalSession._rcpt_of_user,
    b"VRFY": LocalSession._verify,
}
LocalSession.commands = {
    state: {verb: _OF_USERS.get(verb, command) for verb, command in commands.items()}
    for state, commands in COMMANDS.items()
}


class LocalCarrier(Carrier):
    """One connection. Who it is has to be known first; a name that is not at hand is looked up beside the loop."""

    def __init__(self, smtpd: "LocalSmtpd", loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(smtpd, loop)
        self._names = smtpd.names
        self._unnamed: Any = None
        self._early = b""

    def connection_made(self, transport: Any) -> None:
        uid = peer_of(transport.get_extra_info("socket"))
        if self._names.known(uid) is not None:
            return super().connection_made(transport)
        self._unnamed = transport
        transport.pause_reading()
        return self._names.look_up(uid, lambda: self._named(transport))

    def data_received(self, read: bytes) -> None:
        transport = self._unnamed
        if transport is None:
            return super().data_received(read)
        # uvloop, and asyncio of Debian's 3.11.2, begin to read after connection_made even so: this time pausing counts,
        # and what is kept is one read.
        self._early += read
        transport.resume_reading()
        transport.pause_reading()
        return None

    def _named(self, transport: Any) -> None:
        self._unnamed = None
        early, self._early = self._early, b""
        if not self._lost and not transport.is_closing():
            transport.resume_reading()
            super().connection_made(transport)
            if early:
                super().data_received(early)


class Names:
    """The names of users by their numbers, remembered for a while."""

    def __init__(self, loop: asyncio.AbstractEventLoop, find: Callable[[int], str]) -> None:
        self._loop = loop
        self._find = find
        self._known: dict[int, tuple[str, float]] = {}

    def known(self, uid: int) -> str | None:
        """The name that was looked up not long ago."""
        name, since = self._known.get(uid, ("", -_NAMES_AGE))
        return name if self._loop.time() - since < _NAMES_AGE else None

    def look_up(self, uid: int, then: Callable[[], None]) -> None:
        """Asks the machine, in a thread, and calls `then` in the loop when `known` knows."""

        def found(future: asyncio.Future[str]) -> None:
            if future.cancelled():
                return
            if len(self._known) >= _NAMES_LIMIT:
                self._known.clear()
            name = str(uid) if future.exception() else future.result()
            self._known[uid] = (name, self._loop.time())
            then()

        self._loop.run_in_executor(None, self._find, uid).add_done_callback(found)


def user_name(uid: int) -> str:
    """As the machine's directory of users has it; the number when it has none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def peer_of(connection: Any) -> int:
    """The uid of who connected, as the kernel noted it then (unix(7), SO_PEERCRED)."""
    with socket.socket(fileno=os.dup(connection.fileno())) as one:
        _, uid, _ = _CREDENTIALS.unpack(one.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
    return int(uid)


class LocalSmtpd(Smtpd):
    """The server behind submit.sock. `settle` and then `serve`."""

    carrier = LocalCarrier
    names: Names
    pace: Pace

    def settle(self, section: SendmailSection, pace: Pace) -> None:
        """What it needs beside other receivers, before it serves and at each reload."""
        self._trusted = frozenset(section.trusted_users)
        self.pace = pace
        pace.limit = section.messages_per_minute

    async def serve(self, sockets: Any) -> None:
        self.names = Names(asyncio.get_running_loop(), user_name)
        await super().serve(sockets)

    def recognize(self, transport: Any) -> Client:
        """Who is there. Everybody may send anywhere, and trusted users in any name."""
        uid = peer_of(transport.get_extra_info("socket"))
        user = self.names.known(uid) or str(uid)
        trusted = not self._trusted.isdisjoint((user, str(uid), "*"))
        return Client("", True, user, uid, trusted)

    def session(self, client: Client) -> Session:
        return LocalSession(self.rules, client, self.pace)
