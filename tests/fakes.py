"""The world around kmq, as bad as it can be: servers that tests talk to.

EvilHop is an SMTP server whose faults are chosen by the address: `drop-after-dot-2@...` makes it take the message and
drop the connection instead of answering, the first two times. It writes down every copy that it was given, so a test
can count what reached the other side whatever the client believes.
"""

import asyncio
import base64
import hmac
import re
from collections import Counter
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from email.parser import BytesHeaderParser
from hashlib import sha256
from ssl import SSLContext
from typing import cast

from tests.beside import served

EXTENSIONS = ("PIPELINING", "SIZE 100000000", "8BITMIME", "SMTPUTF8", "DSN", "ENHANCEDSTATUSCODES")

#: what-at-stage[-times][.anything]: 450-at-rcpt, 421-at-mail (in the sender), drop-after-dot-2.x7, hang-at-data.
#: drop: close; rst: reset; hang: no answer; garbage: no SMTP; twice: the reply and one more; NNN: that reply;
#: multi: a reply of 100 lines; slow: the reply byte by byte; plain: a reply without text and with LF alone.
FAULT = re.compile(
    r"(drop|rst|hang|garbage|twice|multi|slow|plain|mixed|\d{3})-(?:at|after)-(mail|rcpt|data|body|dot)(?:-(\d+))?(?:[.@]|$)"
)


@dataclass
class Received:
    """One message that the hop has whole: sender, recipients as they stood on the wire, body with its dots undone;
    client: the address that it came from."""

    sender: str
    recipients: list[str]
    body: bytes
    lines: list[bytes]
    answered: bool = False
    client: str = ""

    @property
    def key(self) -> str:
        """What tells messages apart: the Message-ID, or a digest of the body when there is none."""
        found = BytesHeaderParser().parsebytes(self.body[:65536])["Message-ID"]
        return str(found) if found else sha256(self.body).hexdigest()


#: What a server says to each mechanism before it decides; the one of CRAM-MD5 is that of RFC 2195.
CHALLENGES: dict[str, list[bytes]] = {
    "PLAIN": [b""],
    "LOGIN": [b"Username:", b"Password:"],
    "CRAM-MD5": [b"<1896.697170952@postoffice.reston.mci.net>"],
    "XOAUTH2": [b""],
}
#: How a large provider tells what is wrong with a token.
NO_TOKEN = b'{"status":"400","schemes":"Bearer","scope":"https://mail.google.com/"}'


class Dropped(Exception):
    """The hop ends a connection."""


@dataclass
class EvilHop:
    """An SMTP server on loopback. The fields say how it is evil whatever the address; change them while it runs.

    banner, ehlo, helo: replies instead of the ordinary ones; "" drops, "hang" says nothing.
    extensions:         what EHLO offers. tls: a context to offer STARTTLS with; starttls: a reply instead of it.
    implicit:           TLS from the first byte. handshake: "rst" resets the connection behind 220 to STARTTLS.
    users:              name -> password; then EHLO offers AUTH with `mechanisms`, and MAIL needs it.
    auth:               mechanism -> reply instead of an exchange. etrn: node -> reply.
    recipients_limit:   RCPTs above it are answered with too_many. data: reply instead of 354.
    refusals:           recipient -> reply instead of ours.
    connections_limit:  connections above it hear 421. messages_limit: closes after so many messages, unasked.
    behind:             what becomes of commands that come with a text, behind its dot: "deaf" they are not read, "drop"
                        the connection ends once the text is answered, NNN the first of them is answered so.
    reading:            False: what comes behind 354 is not read.
    lmtp:               it speaks LMTP (RFC 2033): a reply for each recipient behind the dot.
    """

    banner: str = "220 evil.test ESMTP"
    ehlo: str = ""
    helo: str = "250 evil.test"
    extensions: tuple[str, ...] = EXTENSIONS
    tls: SSLContext | None = None
    starttls: str = "220 2.0.0 go ahead"
    implicit: bool = False
    handshake: str = ""
    users: dict[str, str] = field(default_factory=dict)
    mechanisms: str = "PLAIN LOGIN"
    auth: dict[str, str] = field(default_factory=dict)
    etrn: dict[str, str] = field(default_factory=dict)
    recipients_limit: int = 10_000
    too_many: str = "452 4.5.3 too many recipients"
    data: str = ""
    refusals: dict[str, str] = field(default_factory=dict)
    connections_limit: int = 10_000
    messages_limit: int = 1_000_000
    behind: str = ""
    reading: bool = True
    lmtp: bool = False
    host: str = "127.0.0.1"
    port: int = 0
    messages: list[Received] = field(default_factory=list)
    #: (recipient, message key) -> how often the hop was given this message for it, answered or not
    copies: Counter[tuple[str, str]] = field(default_factory=Counter)
    connections: int = 0  #: opened so far
    open: int = 0  #: open now
    most: int = 0  #: open at one time
    quits: int = 0  #: said goodbye in good order
    commands: list[bytes] = field(default_factory=list)  #: every line that was no message text
    writes: list[bytes] = field(default_factory=list)  #: what came in one read while commands were expected
    announced: list[bytes] = field(default_factory=list)  #: commands that came in one read with a text, behind its dot
    _times: Counter[str] = field(default_factory=Counter)
    _server: asyncio.Server | None = None
    _sessions: set["_Session"] = field(default_factory=set)

    async def start(self) -> "EvilHop":
        loop = asyncio.get_running_loop()
        tls = self.tls if self.implicit else None
        self._server = await loop.create_server(lambda: _Session(self), self.host, self.port, ssl=tls)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
        for session in list(self._sessions):
            session.end(abort=True)
        await asyncio.sleep(0)

    async def __aenter__(self) -> "EvilHop":
        return await self.start()

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    def threaded(self) -> AbstractContextManager["EvilHop"]:
        """The hop in a thread with a loop of its own, for tests that run whole processes against it."""
        return served(self)

    @property
    def address(self) -> tuple[str, int]:
        return self.host, self.port

    def delivered(self, recipient: str) -> int:
        """Copies of any message that this recipient was given."""
        return sum(count for (address, _), count in self.copies.items() if address == recipient)

    @property
    def silent(self) -> bool:
        """Somebody waits for an answer that does not come."""
        return any(session.mute for session in self._sessions)

    def fault(self, address: str, stage: str) -> str:
        """What is to go wrong for this address now, "" for nothing; counts the times."""
        found = FAULT.match(address)
        if not found or found[2] != stage:
            return ""
        self._times[address] += 1
        return found[1] if not found[3] or self._times[address] <= int(found[3]) else ""

    def drop_idle(self) -> None:
        """Closes every connection that waits for a command."""
        for session in list(self._sessions):
            session.end(abort=False)


class _Session(asyncio.Protocol):
    """One connection."""

    def __init__(self, hop: EvilHop) -> None:
        self.hop = hop
        self.buffer = b""
        self.in_data = False
        self.mute = False
        self.waiting = False  # a reply goes out byte by byte, or TLS begins: what comes next is kept
        self.count = 0
        self.answers: list[str] | None = None  # to challenges of AUTH, while it goes on
        self.way = ""
        self.known = False
        self.sender = ""
        self.recipients: list[str] = []
        self.lines: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        hop, self.transport = self.hop, cast(asyncio.Transport, transport)
        if self in hop._sessions:
            return  # TLS
        hop._sessions.add(self)
        hop.connections += 1
        hop.open += 1
        hop.most = max(hop.most, hop.open)
        if hop.open > hop.connections_limit:
            self.say("421 4.3.2 too many connections")
            self.end(abort=False)
        else:
            self.instead(hop.banner)

    def connection_lost(self, exc: Exception | None) -> None:
        if self in self.hop._sessions:
            self.hop._sessions.discard(self)
            self.hop.open -= 1

    def end(self, abort: bool) -> None:
        self.mute = True
        if abort:
            self.transport.abort()
        else:
            self.transport.close()

    def say(self, reply: str) -> None:
        self.transport.write(reply.encode("utf-8", "surrogateescape") + b"\r\n")

    def instead(self, reply: str) -> bool:
        """A configured reply: "" drops, "hang" says nothing. True when there was something to say."""
        if reply == "hang":
            self.mute = True
        elif reply == "":
            self.end(abort=False)
        else:
            self.say(reply)
            return True
        return False

    def data_received(self, data: bytes) -> None:
        if self.mute:
            return
        self.buffer += data
        if not self.in_data and data:
            self.hop.writes.append(data)
        try:
            while not self.mute and not self.waiting and self.step():
                pass
        except Dropped:
            pass

    def step(self) -> bool:
        """Takes one command, or the message's text; False when more must come."""
        if self.in_data:
            return self.text()
        line, found, rest = self.buffer.partition(b"\r\n")
        if not found:
            return False
        self.buffer = rest
        self.hop.commands.append(line)
        if self.answers is not None:
            if line == b"*":
                self.answers = None
                self.say("501 5.7.0 given up")
                return True
            self.answers.append(base64.b64decode(line).decode())
            self.ask()
            return True
        verb = line.split(b" ")[0].upper().decode("ascii", "replace")
        getattr(self, f"on_{verb.lower()}", self.unknown)(line)
        return True

    def unknown(self, line: bytes) -> None:
        self.say("500 5.5.2 what?")

    def on_lhlo(self, line: bytes) -> None:
        self.greet() if self.hop.lmtp else self.unknown(line)

    def on_ehlo(self, line: bytes) -> None:
        self.unknown(line) if self.hop.lmtp else self.greet()

    def greet(self) -> None:
        if self.hop.ehlo:
            self.instead(self.hop.ehlo)
            return
        offers = list(self.hop.extensions)
        if self.hop.tls and self.transport.get_extra_info("sslcontext") is None:
            offers.append("STARTTLS")
        if self.hop.users:
            offers.append(f"AUTH {self.hop.mechanisms}")
        words = ["evil.test", *offers]
        self.say("\r\n".join(f"250{'-' if n < len(words) - 1 else ' '}{word}" for n, word in enumerate(words)))

    def on_helo(self, line: bytes) -> None:
        self.instead(self.hop.helo)

    def on_starttls(self, line: bytes) -> None:
        if not self.instead(self.hop.starttls) or not self.hop.starttls.startswith("220"):
            return
        self.waiting, self.buffer = True, b""
        if self.hop.handshake == "rst":
            self.end(abort=True)
            return
        self.transport.pause_reading()  # what comes now is the handshake
        self.task = asyncio.ensure_future(self.secure())

    async def secure(self) -> None:
        assert self.hop.tls is not None
        loop = asyncio.get_running_loop()
        try:
            transport = await loop.start_tls(self.transport, self, self.hop.tls, server_side=True)
        except (OSError, ConnectionError):
            return
        assert transport is not None
        self.transport, self.waiting = transport, False
        self.data_received(b"")

    def on_auth(self, line: bytes) -> None:
        """In one line, or in several; with `auth` the hop says that instead of taking anything by that mechanism."""
        _, way, *words = line.decode().split(" ")
        self.way = way.upper()
        if self.way in self.hop.auth:
            self.say(self.hop.auth[self.way])
            return
        self.answers = [base64.b64decode(word).decode() for word in words]
        self.ask()

    def ask(self) -> None:
        """The next challenge, or what became of it."""
        assert self.answers is not None
        challenges = CHALLENGES[self.way]
        if len(self.answers) < len(challenges):
            self.say(f"334 {base64.b64encode(challenges[len(self.answers)]).decode()}")
            return
        answers, self.answers = self.answers, None
        users = self.hop.users
        if self.way == "PLAIN":
            _, name, password = answers[0].split("\0")
            self.let_in(name, password)
        elif self.way == "LOGIN":
            self.let_in(*answers)
        elif self.way == "CRAM-MD5":
            name, digest = answers[0].split(" ")
            right = hmac.new(users.get(name, "").encode(), challenges[0], "md5").hexdigest()
            self.let_in(name, users.get(name, "") if digest == right else "")
        else:
            self.bearer(answers)

    def bearer(self, answers: list[str]) -> None:
        """XOAUTH2: a wrong token is told in a challenge, and refused when that was answered."""
        name = answers[0].partition("user=")[2].partition("\1")[0]
        token = answers[0].partition("auth=Bearer ")[2].rstrip("\1")
        if self.hop.users.get(name) == token or answers[1:]:
            self.let_in(name, token)
        else:
            self.answers = answers
            self.say(f"334 {base64.b64encode(NO_TOKEN).decode()}")

    def let_in(self, name: str, password: str) -> None:
        self.known = self.hop.users.get(name) == password
        self.say("235 2.7.0 welcome" if self.known else "535 5.7.8 who are you?")

    def on_etrn(self, line: bytes) -> None:
        self.say(self.hop.etrn.get(line.partition(b" ")[2].decode(), "458 4.3.0 nobody here"))

    def on_mail(self, line: bytes) -> None:
        if self.hop.users and not self.known:
            self.say("530 5.7.0 log in first")
            return
        self.sender, self.recipients, self.lines = path(line), [], [line]
        self.judge("mail", self.sender, "250 2.1.0 ok")

    def on_rcpt(self, line: bytes) -> None:
        address = path(line)
        self.lines.append(line)
        if not self.lines[0].upper().startswith(b"MAIL"):
            self.say("503 5.5.1 MAIL first")
        elif len(self.recipients) >= self.hop.recipients_limit:
            self.say(self.hop.too_many)
        elif address in self.hop.refusals:
            self.say(self.hop.refusals[address])
        elif self.judge("rcpt", address, "250 2.1.5 ok"):
            self.recipients.append(address)

    def on_data(self, line: bytes) -> None:
        if self.hop.data:
            self.in_data = self.hop.data.startswith("354")
            self.instead(self.hop.data)
            return
        if not self.recipients:
            self.say("554 5.5.1 no valid recipients")
            return
        for address in self.recipients:
            if FAULT.match(address) and not self.judge("data", address, ""):
                return
        self.in_data = True
        self.say("354 go ahead")
        if not self.hop.reading:
            self.transport.pause_reading()

    def on_rset(self, line: bytes) -> None:
        self.sender, self.recipients, self.lines = "", [], []
        self.say("250 2.0.0 ok")

    def on_noop(self, line: bytes) -> None:
        self.say("250 2.0.0 ok")

    def on_quit(self, line: bytes) -> None:
        self.hop.quits += 1
        self.say("221 2.0.0 bye")
        self.end(abort=False)

    def text(self) -> bool:
        """The message's text up to the final dot."""
        for address in self.recipients:
            if FAULT.match(address) and len(self.buffer) > 1000 and not self.judge("body", address, ""):
                return False
        if self.buffer.startswith(b".\r\n"):
            body, rest = b"", self.buffer[3:]
        else:
            body, found, rest = self.buffer.partition(b"\r\n.\r\n")
            if not found:
                return False
            body += b"\r\n"
        self.buffer, self.in_data = rest, False
        self.whole(body)
        if rest:
            self.hop.announced.append(rest)
            self.mind()
        return True

    def mind(self) -> None:
        """Commands stand behind the dot."""
        if self.hop.behind == "deaf":
            self.buffer = b""
        elif self.hop.behind == "drop":
            self.end(abort=False)
        elif self.hop.behind:
            self.say(f"{self.hop.behind} {self.hop.behind[0]}.5.0 one after the other, please")
            self.buffer = self.buffer.partition(b"\r\n")[2]
            self.lines, self.recipients = [b""], []

    def whole(self, body: bytes) -> None:
        assert b"\n" not in body.replace(b"\r\n", b"") and b"\r" not in body.replace(b"\r\n", b""), "bare CR or LF"
        body = (b"\r\n" + body).replace(b"\r\n..", b"\r\n.")[2:]
        hop = self.hop
        if not self.recipients:
            self.say("554 5.5.1 no valid recipients")
            return
        peer = self.transport.get_extra_info("peername")  # a text where it came through a Unix socket
        client = peer[0] if isinstance(peer, tuple) else ""
        message = Received(self.sender, self.recipients, body, self.lines, client=client)
        if hop.lmtp:
            self.whole_for_each(message)
            return
        taken = not any((fault := FAULT.match(a)) and fault[2] == "dot" and fault[1].isdigit() for a in self.recipients)
        if taken:
            self.write_down(message)
        for address in self.recipients:
            if FAULT.match(address) and not self.judge("dot", address, ""):
                return
        if not taken:
            self.write_down(message)  # the refusals for this address are used up
        message.answered = True
        self.count += 1
        self.say(f"250 2.0.0 ok: queued as {len(hop.messages)}")
        self.sender, self.recipients, self.lines = "", [], []
        if self.count >= hop.messages_limit:
            self.end(abort=False)

    def whole_for_each(self, message: Received) -> None:
        """LMTP: who is answered with 250 has a copy."""
        self.hop.messages.append(message)
        for address in message.recipients:
            if self.judge("dot", address, f"250 2.1.5 <{address}> saved"):
                self.hop.copies[address, message.key] += 1
        message.answered = True
        self.count += 1
        self.sender, self.recipients, self.lines = "", [], []

    def write_down(self, message: Received) -> None:
        self.hop.messages.append(message)
        for address in message.recipients:
            self.hop.copies[address, message.key] += 1

    def judge(self, stage: str, address: str, good: str) -> bool:
        """Says the good reply, or does what the address asks for. True when the answer was good."""
        fault = self.hop.fault(address, stage)
        if fault.isdigit():
            about = "5.3" if fault == "552" else "2.0"
            self.say(f"{fault} {fault[0]}.{about} said so at {stage}")
            if fault == "421":
                self.end(abort=False)
                raise Dropped
            return False
        match fault:
            case "":
                if good:
                    self.say(good)
                return True
            case "drop" | "rst":
                self.end(abort=fault == "rst")
                raise Dropped
            case "hang":
                self.mute = True
                raise Dropped
            case "garbage":
                self.say("\x00\x1b[2J what is SMTP?")
                return False
        good = good or ("354 go ahead" if stage == "data" else "250 2.0.0 ok")
        self.odd(fault, good)
        if stage == "data":
            self.in_data = True
        return stage in ("mail", "rcpt")

    def odd(self, fault: str, good: str) -> None:
        """Good replies in forms that a client must cope with, and forms that look like good ones."""
        code = good[:3]
        match fault:
            case "twice":
                self.transport.write(f"{good}\r\n250 2.0.0 and another\r\n".encode())
            case "multi":
                self.say("\r\n".join(f"{code}-line {n}" for n in range(99)) + f"\r\n{code} line 99")
            case "plain":
                self.transport.write(f"{code}\n".encode())
            case "mixed":
                self.say(f"{code}-one\r\n550 two")
            case "slow":
                self.drip(f"{good}\r\n".encode())

    def drip(self, text: bytes) -> None:
        self.waiting = bool(text)
        if self.transport.is_closing():
            return
        if text:
            self.transport.write(text[:1])
            asyncio.get_running_loop().call_later(0.001, self.drip, text[1:])
        else:
            self.data_received(b"")


def path(line: bytes) -> str:
    """The address of a MAIL or RCPT line."""
    text = line.decode("utf-8", "surrogateescape")
    return text[text.index("<") + 1 : text.index(">")]
