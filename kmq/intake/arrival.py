"""A message on its way in: from the first byte after DATA or BDAT to what the door is given.

What:     small content is collected and handed over in one Put. When it grows beyond `small_body` an ID is reserved,
          and from then on the bytes are written to a file as they come, with our `Received:` line ahead of them.
Promise:  memory per message is `small_body` and one piece; a file that was opened ends in PutLarge or Discard.
On crash: nothing was promised yet; what lies in incoming/ is swept by recovery.
Callers:  `session`, which knows the conversation; nothing here speaks SMTP.
"""

from enum import Enum, auto
from hashlib import sha256
from typing import NamedTuple

from kmq.intake import trace
from kmq.intake.content import Content
from kmq.intake.deeds import AnyDeed, Discard, Open, Put, PutLarge, Reserve, Write
from kmq.intake.parameters import Sender
from kmq.model import moment
from kmq.model.envelope import Head, Recipient, Source, head_tail


class Way(Enum):
    """Where the bytes go."""

    COLLECTED = auto()  #: kept until the end: the message is small so far
    ASKED = auto()  #: it is large, and its ID not known yet
    WRITTEN = auto()  #: to a file
    NOWHERE = auto()  #: the message is refused already


class Transaction(NamedTuple):
    """What MAIL and RCPT said. origin: our `Received:` line up to the ID; began: Unix time of MAIL."""

    sender: Sender
    recipients: list[Recipient]
    source: Source
    origin: bytes
    began: float


class Arrival:
    """One message between the first byte of its content and the door."""

    __slots__ = ("_hash", "_id", "_remainder", "_small_body", "_transaction", "_verdict", "_way", "content")

    def __init__(self, transaction: Transaction, content: Content, small_body: int) -> None:
        self.content = content
        self._transaction = transaction
        self._small_body = small_body
        self._way = Way.COLLECTED
        self._verdict: bytes | None = None
        self._id = ""
        self._remainder = b""

    @property
    def asking(self) -> bool:
        """Nothing can go on before `reserved` or `refused`."""
        return self._way is Way.ASKED

    def go_on(self) -> list[AnyDeed]:
        """To be called after each piece that the content took."""
        if self._way is Way.COLLECTED:
            if self.content.size <= self._small_body or self.content.spoiled:
                return []
            self._way = Way.ASKED
            return [Reserve()]
        if self._way is Way.WRITTEN:
            return self.drop() if self.content.spoiled else self._write(self.content.take())
        return []

    def reserved(self, queue_id: str, at: float) -> list[AnyDeed]:
        """The ID is known: the file begins with our `Received:` line."""
        self._way = Way.WRITTEN
        self._hash = sha256()
        self._id = queue_id
        self._remainder = self._rest_of_trace(at)
        head = self._transaction.origin + queue_id.encode() + self._remainder
        return [Open(), *self._write(head + self.content.take())]

    def refused(self, reply: bytes) -> None:
        """The door gives no ID; the client hears it at the end."""
        self._way = Way.NOWHERE
        self._verdict = reply
        self.content.discard()

    def drop(self) -> list[AnyDeed]:
        """The message will not come."""
        opened = self._way is Way.WRITTEN
        self._way = Way.NOWHERE
        self.content.discard()
        return [Discard()] if opened else []

    def fault(self) -> bytes | None:
        """The reply that refuses what has come so far."""
        return self.content.fault() or self._verdict

    def hand_over(self, at: float) -> Put | PutLarge:
        """The content has ended without fault: the deed that gives it to the door."""
        count = len(self._transaction.recipients)
        if self._way is Way.WRITTEN:
            self._way = Way.NOWHERE
            head = len(self._transaction.origin) + len(trace.STAMP) + len(self._remainder)
            return PutLarge(self._id, self._tail(at, self._remainder, head), count, self._hash.hexdigest())
        remainder = self._rest_of_trace(at)
        origin = self._transaction.origin
        body = b"".join((origin, trace.STAMP, remainder, self.content.take()))
        return Put(self._tail(at, remainder, len(body) - self.content.size), count, body, len(origin))

    def _write(self, piece: bytes) -> list[AnyDeed]:
        if not piece:
            return []
        self._hash.update(piece)
        return [Write(piece)]

    def _rest_of_trace(self, at: float) -> bytes:
        recipients = self._transaction.recipients
        return trace.remainder(recipients[0].address if len(recipients) == 1 else "", at)

    def _tail(self, at: float, remainder: bytes, trace_size: int) -> bytes:
        """What delivery needs to know, our own `Received:` line included."""
        sender, content = self._transaction.sender, self.content
        longest = max(content.longest, trace.longest(self._transaction.origin, remainder))
        return head_tail(
            Head(
                id="",
                sha256="",
                created=moment.as_text(at),
                sender=sender.address,
                recipients=self._transaction.recipients,
                size=trace_size + content.size,
                source=self._transaction.source,
                eight_bit=content.eight_bit,
                smtputf8=sender.utf8,
                dots=content.dots,
                longest=longest,
                hops=content.hops,
                ret=sender.ret,
                envid=sender.envid,
                took=max(0, int((at - self._transaction.began) * 1000)),
            )
        )
