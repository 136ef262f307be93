"""A door in memory, and a client that talks to a session without sockets."""

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network

from kmq.config.sections import ReceiverSection
from kmq.intake import deeds
from kmq.intake.door import FREE, Answer, DroppedFile, Pressed
from kmq.intake.priority import NOT_ASKED
from kmq.intake.rates import Rates
from kmq.intake.rules import Client, Rules
from kmq.intake.session import Session
from kmq.model import queue_id
from kmq.model.envelope import Head, head_line, read_head
from kmq.model.reply import Reply

NOW = 0x69212AD0 + 0.25
NO_USER = Reply(550, "5.1.1", "No such user here")
NO_STORAGE = Reply(452, "4.3.1", "Insufficient system storage")


@dataclass
class Message:
    """What the door was given, as it would lie in the queue."""

    id: str
    head: Head
    body: bytes

    @property
    def content(self) -> bytes:
        """What the client sent: all but our own Received: line."""
        assert self.body.startswith(b"Received: from ")
        at = self.body.find(b"\r\n\tby ")
        at = self.body.find(b"+0000\r\n", at) + 7
        return self.body[at:]

    @property
    def trace(self) -> bytes:
        return self.body[: len(self.body) - len(self.content)]


class LargeInMemory:
    """A body on its way; `full` is what the disk that is behind says."""

    def __init__(self, name: str, on_room: Callable[[], None]) -> None:
        self.name = name
        self.on_room = on_room
        self.pieces: list[bytes] = []
        self.state = "open"
        self.full = False

    def write(self, piece: bytes) -> bool:
        assert self.state == "open", f"written when {self.state}"
        self.pieces.append(piece)
        return not self.full

    def discard(self) -> None:
        assert self.state == "open", f"discarded when {self.state}"
        self.state = "discarded"


class MemoryDoor:
    """Takes everything at once; or, when `slow`, keeps the answers until `open_up`; or refuses with `refuses`."""

    def __init__(self) -> None:
        self.refusal: Reply | None = None
        self.refuses: Reply | None = None
        self.servers = self.users = FREE
        self.slow = False
        self.messages: list[Message] = []
        self.bodies: list[LargeInMemory] = []
        self.reserved: set[str] = set()
        self.asked: list[str] = []
        self.etrned = Reply(250, "2.0.0", "OK, queuing for node started")
        self.disk_full = False
        self._last = queue_id.parse("69212ad0-00000000")
        self._due: list[Callable[[], None]] = []

    def pressed(self, user: bool) -> Pressed:
        return self.users if user else self.servers

    def put(
        self, raw: bytes, tail: int, count: int, stamp: int, answer: Answer, dropped: DroppedFile | None = None
    ) -> None:
        head, body = raw[:tail], raw[tail:]

        def take(name: str) -> None:
            assert body[stamp : stamp + 17] == b"00000000-00000000"
            stamped = body[:stamp] + name.encode() + body[stamp + 17 :]
            self._take(name, head, count, stamped, hashlib.sha256(stamped).hexdigest())

        self._answer(answer, take)

    def reserve(self, answer: Answer) -> None:
        self._answer(answer, self.reserved.add)

    def etrn(self, node: str, answer: Answer) -> None:
        self.asked.append(node)
        self._due.append(lambda: answer("", self.etrned)) if self.slow else answer("", self.etrned)

    def open_large(self, on_room: Callable[[], None], dropped: DroppedFile | None = None) -> LargeInMemory:
        large = LargeInMemory(f"body-{len(self.bodies)}", on_room)
        large.full = self.disk_full
        self.bodies.append(large)
        return large

    def put_large(self, queue_id: str, tail: bytes, count: int, sha256: str, large, answer: Answer) -> None:
        assert large.state == "open"
        large.state = "handed over"
        self.reserved.remove(queue_id)

        def take(_: str) -> None:
            self._take(queue_id, tail, count, b"".join(large.pieces), sha256)

        self._answer(lambda name, refused: answer(queue_id if name else "", refused), take)

    def open_up(self) -> None:
        """Gives the answers that are due."""
        due, self._due = self._due, []
        for one in due:
            one()

    @property
    def due(self) -> int:
        return len(self._due)

    def _answer(self, answer: Answer, take: Callable[[str], None]) -> None:
        def now() -> None:
            if self.refuses is not None:
                return answer("", self.refuses)
            self._last = queue_id.following(self._last, NOW)
            name = queue_id.text(self._last)
            take(name)
            return answer(name, None)

        if self.slow:
            self._due.append(now)
        else:
            now()

    def _take(self, name: str, tail: bytes, count: int, body: bytes, sha256: str) -> None:
        head = read_head(head_line(name, sha256, tail))
        assert head is not None
        assert len(head.recipients) == count > 0
        assert head.size == len(body)
        assert head.sha256 == hashlib.sha256(body).hexdigest()
        assert body.startswith(b"Received: from ")
        assert body.split(b"\r\n", 2)[1].endswith((name.encode(), name.encode() + b";"))
        self.messages.append(Message(name, head, body))


class Routes:
    """us.test is ours: everybody has a mailbox there but `nobody`."""

    def __init__(self, domains: Iterable[str] = ("us.test",)) -> None:
        self.domains = set(domains)
        self.home = min(self.domains, default="mx.us.test")

    def is_local(self, domain: str) -> bool:
        return domain in self.domains

    def accepts(self, address: str) -> Reply | None:
        return NO_USER if address.startswith("nobody@") else None


def receiver(**options) -> ReceiverSection:
    options.setdefault("relay_from", (ip_network("127.0.0.0/8"), ip_network("::1/128")))
    return ReceiverSection(name="mx", **options)


@dataclass
class Talk:
    """A client's conversation. Each `send` is one read of the server; what it says is the result."""

    ip: str = "192.0.2.7"
    door: MemoryDoor = field(default_factory=MemoryDoor)
    section: ReceiverSection = field(default_factory=receiver)
    small_body: int = 64 * 1024
    starttls: bool = False
    greeted: bool = False
    urgent_size: int = NOT_ASKED
    rates: Rates | None = None

    def __post_init__(self) -> None:
        rules = Rules(
            *(self.section, "mx.us.test", Routes(), self.door, lambda: NOW, self.small_body),
            *(self.starttls, self.rates or Rates(self.section), self.urgent_size),
        )
        trusted = any(ip_address(self.ip) in network for network in self.section.relay_from)
        may_etrn = any(ip_address(self.ip) in network for network in self.section.etrn_from)
        self.session = Session(rules, Client(self.ip, trusted, may_etrn=may_etrn))
        self.done: list[deeds.AnyDeed] = []
        self.said = b""
        self._large: LargeInMemory | None = None
        self.perform(self.session.greet(False))
        if self.greeted:
            self.send(b"EHLO client.test\r\n")

    def send(self, *reads: bytes) -> list[str]:
        """The lines that the server says to these reads."""
        before = len(self.said)
        for read in reads:
            self.perform(self.session.receive(read))
        return self.said[before:].decode().splitlines()

    def codes(self, *reads: bytes) -> list[int]:
        """The codes of the replies (a multi-line reply is one)."""
        return [int(line[:3]) for line in self.send(*reads) if line[3] == " "]

    def mail(self, content: bytes, *reads: bytes, to: tuple[str, ...] = ("bob@us.test",)) -> list[str]:
        """A whole transaction; content (in one read or several) as it goes over the wire, with the final dot."""
        lines = ["MAIL FROM:<alice@client.test>", *(f"RCPT TO:<{one}>" for one in to), "DATA"]
        codes = self.codes("".join(f"{line}\r\n" for line in lines).encode())
        assert codes == [250, *[250] * len(to), 354]
        return self.send(content, *reads)

    def perform(self, turn: deeds.Turn) -> None:
        said, found = turn
        self.said += said
        for deed in found:
            self.done.append(deed)
            match deed:
                case deeds.Put(raw, tail, count, stamp):
                    self.door.put(raw, tail, count, stamp, self._answered)
                case deeds.Reserve():
                    self.door.reserve(self._answered)
                case deeds.Etrn(node):
                    self.door.etrn(node, self._answered)
                case deeds.Open():
                    self._large = self.door.open_large(lambda: None)
                case deeds.Write(piece):
                    self._large.write(piece)
                case deeds.PutLarge(name, tail, count, sha256):
                    self.door.put_large(name, tail, count, sha256, self._large, self._answered)
                case deeds.Discard():
                    self._large.discard()

    def _answered(self, name: str, refused: Reply | None) -> None:
        self.perform(self.session.answered(name, refused))

    @property
    def closed(self) -> bool:
        return any(isinstance(deed, deeds.Close) for deed in self.done)

    @property
    def notes(self) -> list[deeds.Note]:
        return [deed for deed in self.done if isinstance(deed, deeds.Note)]

    @property
    def accepted(self) -> list[deeds.NoteAccepted]:
        return [deed for deed in self.done if isinstance(deed, deeds.NoteAccepted)]
