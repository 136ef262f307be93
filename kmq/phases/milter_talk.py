"""One message shown to a milter: what it is told, in which order, and what it says.

Law:      CONNECT, HELO, MAIL, RCPT for each recipient, DATA, each header field, EOH, the body, the end; steps that the
          milter does not want are left out, and those that it does not answer are not waited for. What it says ends
          the talk (accept, reject, discard, try later), or concerns one recipient, or changes the message at the end.
Promise:  every answer is waited for as long as the section says, PROGRESS prolongs it; what is no answer is Garbage.
          Memory: a header, a piece, and the first part of a new body, whose rest lies in a file without a name.
On crash: nothing is kept.
Callers:  phases.milter.
"""

import asyncio
import socket
import tempfile
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import IO, NamedTuple

from kmq.model.event import HeaderEdit
from kmq.model.fields import Field
from kmq.model.reply import Reply, parse
from kmq.phases import milter_packets as packets
from kmq.phases.milter_packets import Garbage, Options, Packet, Step, packet, strings, words_of
from kmq.phases.peers import send

_READ = 1 << 16
#: Bytes of a new body that stay in memory.
_IN_MEMORY = 256 << 10
#: Changes of the header, of recipients, and of other things that one message may get.
_MOST = 2000

REJECTED = Reply(550, "5.7.1", "Command rejected")
LATER = Reply(451, "4.7.1", "Service unavailable - try again later")


class Shown(NamedTuple):
    """What a milter is told. client: name, family (`4`, `6`) and address; sender, recipients: as on the wire, in <>;
    fields: of the header, in order; body: what follows the empty line, anew.
    """

    id: str
    hostname: str
    client: tuple[str, str, str]
    helo: str
    user: str
    sender: str
    recipients: dict[int, str]
    fields: list[Field]
    body: Callable[[], AsyncIterator[bytes]]


@dataclass(slots=True)
class Said:
    """What came of it. reply: of all of the message, None when it goes on; discard: nobody is told.

    refused:  index of a recipient -> why. headers: changes, in order; places of fields are those of what was shown.
    text:     a file with a new body; sender: a new one, as it was written; added, removed: addresses, likewise.
    held:     the reason for a quarantine.
    """

    reply: Reply | None = None
    discard: bool = False
    refused: dict[int, Reply] = field(default_factory=dict)
    headers: list[HeaderEdit] = field(default_factory=list)
    text: IO[bytes] | None = None
    sender: str | None = None
    added: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    held: str | None = None


class _Over(Exception):
    """The milter has decided; nothing more is to be said."""


class Talk:
    """The talk over one connection. Garbage, TimeoutError, OSError: nothing is known of the message."""

    def __init__(self, line: socket.socket, reply_timeout: float, body_limit: int) -> None:
        self._line = line
        self._loop = asyncio.get_running_loop()
        self._timeout = reply_timeout
        self._body_limit = body_limit
        self._reader = packets.Reader()
        self._waiting: list[Packet] = []
        self._options = Options(packets.VERSION, packets.ALL_ACTIONS, Step(0))
        self._said = Said()
        self._changes = self._text_bytes = 0

    async def about(self, shown: Shown) -> Said:
        """What the milter says of the message."""
        await self._send(packets.offer())
        self._options = packets.agreed(await self._next())
        try:
            await self._envelope(shown)
            await self._header(shown)
            await self._body(shown)
            await self._end(shown)
        except _Over:
            pass
        await self._send(packet(packets.QUIT))
        return self._said

    # --- what it is told ---------------------------------------------------------------------------------------------

    async def _envelope(self, shown: Shown) -> None:
        name, family, address = shown.client
        host = [("j", shown.hostname), ("{daemon_name}", "kmq"), ("v", "kmq")]
        client = [("_", f"{name} [{address}]"), ("{client_name}", name), ("{client_addr}", address)]
        connect = name.encode() + b"\0" + family.encode() + b"\0\0" + strings([address])
        await self._command(packets.CONNECT, connect, host + client, Step.NO_CONNECT, Step.SILENT_CONNECT)
        await self._command(packets.HELO, strings([shown.helo]), [], Step.NO_HELO, Step.SILENT_HELO)
        mail = [("i", shown.id), ("{auth_authen}", shown.user), ("{mail_addr}", shown.sender[1:-1])]
        await self._command(packets.MAIL, strings([shown.sender]), mail, Step.NO_MAIL, Step.SILENT_MAIL)
        await self._recipients(shown)
        await self._command(packets.DATA, b"", [("i", shown.id)], Step.NO_DATA, Step.SILENT_DATA, since=4)

    async def _recipients(self, shown: Shown) -> None:
        if Step.NO_RCPT in self._options.steps:
            return
        for index, address in shown.recipients.items():
            await self._send(packets.macros(packets.RCPT, [("{rcpt_addr}", address[1:-1])]))
            await self._send(packet(packets.RCPT, strings([address])))
            if Step.SILENT_RCPT not in self._options.steps:
                said = await self._answer()
                refusal = _refusal(said)
                if refusal is not None:
                    self._said.refused[index] = refusal
                else:
                    self._decided(said)
        if len(self._said.refused) == len(shown.recipients):
            await self._abort()

    async def _header(self, shown: Shown) -> None:
        options = self._options
        if Step.NO_HEADERS not in options.steps:
            for one in shown.fields:
                name, value = split(one, Step.LEADING_SPACE in options.steps)
                await self._command(packets.HEADER, strings([name, value]), None, Step.NO_HEADERS, Step.SILENT_HEADER)
        await self._command(packets.EOH, b"", [("i", shown.id)], Step.NO_EOH, Step.SILENT_EOH)

    async def _body(self, shown: Shown) -> None:
        if Step.NO_BODY in self._options.steps:
            return
        async for piece in _chunks(shown.body()):
            await self._send(packet(packets.BODY, piece))
            if Step.SILENT_BODY not in self._options.steps:
                said = await self._answer()
                if said.kind == packets.SKIP:
                    return
                self._decided(said)

    async def _end(self, shown: Shown) -> None:
        """The end of the message: now it may be changed."""
        await self._send(packets.macros(packets.END, [("i", shown.id)]) + packet(packets.END))
        while True:
            said = await self._answer()
            if said.kind not in packets.CHANGES:
                self._decided(said)
                return
            self._changes += 1
            if self._changes > _MOST + self._body_limit // packets.CHUNK:
                raise Garbage(f"more than {_MOST} changes of one message")
            _CHANGES[said.kind](self, said.text)

    # --- what it says ------------------------------------------------------------------------------------------------

    async def _command(
        self,
        kind: bytes,
        text: bytes,
        macros: list[tuple[str, str]] | None,
        unwanted: Step,
        silent: Step,
        since: int = 2,
    ) -> None:
        """One command, if the milter wants it, and its answer, if it gives one."""
        if unwanted in self._options.steps or self._options.version < since:
            return
        ahead = packets.macros(kind, macros) if macros is not None else b""
        await self._send(ahead + packet(kind, text))
        if silent not in self._options.steps:
            self._decided(await self._answer())

    def _decided(self, said: Packet) -> None:
        """Goes on, or ends the talk with what is known then."""
        if said.kind == packets.CONTINUE:
            return
        refusal = _refusal(said)
        if refusal is not None:
            self._said.reply = refusal
        elif said.kind == packets.DISCARD:
            self._said.discard = True
        elif said.kind != packets.ACCEPT:
            raise Garbage(f"it answered {said.kind!r}")
        raise _Over

    async def _abort(self) -> None:
        await self._send(packet(packets.ABORT))
        raise _Over

    async def _answer(self) -> Packet:
        """The next packet that is more than a sign of life."""
        while True:
            said = await self._next()
            if said.kind != packets.PROGRESS:
                return said

    async def _next(self) -> Packet:
        while not self._waiting:
            async with asyncio.timeout(self._timeout):
                piece = await self._loop.sock_recv(self._line, _READ)
            if not piece:
                raise ConnectionResetError("it closed the connection")
            self._waiting += self._reader.feed(piece)
        return self._waiting.pop(0)

    async def _send(self, text: bytes) -> None:
        async with asyncio.timeout(self._timeout):
            await send(self._loop, self._line, text)

    # --- changes -----------------------------------------------------------------------------------------------------

    def _add_header(self, text: bytes) -> None:
        self._said.headers.append(HeaderEdit("append", *_named(text)))

    def _insert_header(self, text: bytes) -> None:
        place, (name, value) = _number(text), _named(text[4:])
        self._said.headers.append(HeaderEdit("add", name, value, place))

    def _change_header(self, text: bytes) -> None:
        place, (name, value) = _number(text), _named(text[4:])
        self._said.headers.append(HeaderEdit("replace", name, value, max(1, place)))

    def _replace_body(self, text: bytes) -> None:
        self._text_bytes += len(text)
        if self._text_bytes > self._body_limit:
            raise Garbage(f"a new body of more than {self._body_limit} bytes (body_limit)")
        if self._said.text is None:
            self._said.text = tempfile.SpooledTemporaryFile(_IN_MEMORY)  # noqa: SIM115 (it outlives the talk)
        self._said.text.write(text)

    def _add_recipient(self, text: bytes) -> None:
        self._said.added += words_of(text)[:1]

    def _delete_recipient(self, text: bytes) -> None:
        self._said.removed += words_of(text)[:1]

    def _change_sender(self, text: bytes) -> None:
        self._said.sender = next(iter(words_of(text)), "")

    def _quarantine(self, text: bytes) -> None:
        self._said.held = next(iter(words_of(text)), "") or "quarantined"

    def _symbols(self, text: bytes) -> None:
        """Macros that it wants; ours are few, and it gets them all."""


_CHANGES: dict[bytes, Callable[[Talk, bytes], None]] = {
    packets.ADDHEADER: Talk._add_header,
    packets.INSHEADER: Talk._insert_header,
    packets.CHGHEADER: Talk._change_header,
    packets.REPLBODY: Talk._replace_body,
    packets.ADDRCPT: Talk._add_recipient,
    packets.ADDRCPT_PAR: Talk._add_recipient,
    packets.DELRCPT: Talk._delete_recipient,
    packets.CHGFROM: Talk._change_sender,
    packets.QUARANTINE: Talk._quarantine,
    packets.SETSYMLIST: Talk._symbols,
}


def _refusal(said: Packet) -> Reply | None:
    """What it refuses with; None when it does not."""
    match said.kind:
        case packets.REJECT:
            return REJECTED
        case packets.TEMPFAIL | packets.CONNFAIL | packets.SHUTDOWN:
            return LATER
        case packets.REPLYCODE:
            words = " ".join(said.text.rstrip(b"\0").decode("utf-8", "replace").split())
            return parse(words)
        case _:
            return None


def _number(text: bytes) -> int:
    if len(text) < 4:
        raise Garbage("a change of a header without its place")
    return int.from_bytes(text[:4], "big")


def _named(text: bytes) -> tuple[str, str]:
    """Name and value of a field, as it goes on the wire: milters know LF alone."""
    words = words_of(text)
    if len(words) < 2:
        raise Garbage("a change of a header without name and value")
    name, value = words[:2]
    return name, value.replace("\r\n", "\n").replace("\n", "\r\n").strip(" ")


def split(one: Field, leading: bool) -> tuple[bytes, bytes]:
    """Name and value as a milter hears them: folds by LF, without the last line end."""
    name, _, value = one.text.partition(b":")
    value = value.replace(b"\r\n", b"\n").removesuffix(b"\n")
    return name.rstrip(b" \t"), value if leading else value.removeprefix(b" ")


async def _chunks(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Pieces as long as a packet of the body may be."""
    async for piece in pieces:
        for at in range(0, len(piece), packets.CHUNK):
            yield piece[at : at + packets.CHUNK]
