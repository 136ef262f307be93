"""A message on its way in: from the first byte after DATA or BDAT to what the door is given.

What:     small content is collected and handed over in one Put. When it grows beyond `small_body` an ID is reserved,
          and from then on the bytes are written to a file as they come, with our `Received:` line ahead of them.
          Where users' programs send, the header is completed as soon as it is there; what follows it streams on.
Promise:  memory per message is `small_body` and one piece, or the header if that is larger (its limit is 100 kB); a
          file that was opened ends in PutLarge or Discard.
On crash: nothing was promised yet; what lies in incoming/ is swept by recovery.
Callers:  `session`, which knows the conversation; nothing here speaks SMTP.
"""

from collections.abc import Sequence
from enum import Enum, auto
from hashlib import sha256

from kmq.intake import replies, trace
from kmq.intake.completion import BadHeader, Completion
from kmq.intake.content import Content
from kmq.intake.deeds import AnyDeed, Discard, Open, Put, PutLarge, Reserve, Write
from kmq.intake.identity import identify
from kmq.intake.transaction import Transaction
from kmq.model import fields, moment
from kmq.model.envelope import Head, head_tail
from kmq.model.priority import WORDS


class Course(Enum):
    """Where the bytes go."""

    COLLECTED = auto()  #: kept until the end: the message is small so far
    ASKED = auto()  #: it is large, and its ID not known yet
    WRITTEN = auto()  #: to a file
    NOWHERE = auto()  #: the message is refused already


class Arrival:
    """One message between the first byte of its content and the door. course: ASKED: nothing can go on before
    `reserved` or `refused`."""

    __slots__ = (
        "_beginning", "_completion", "_grown", "_hash", "_id", "_remainder", "_small_body", "_transaction", "_verdict",
        "content", "course",
    )  # fmt: skip

    def __init__(
        self, transaction: Transaction, content: Content, small_body: int, completion: Completion | None = None
    ) -> None:
        """completion: of the header; None when it is taken as it is."""
        self.content = content
        self._transaction = transaction
        self._small_body = small_body
        self._completion = completion
        self._beginning = b""  # what the completed header and the text that came with it are
        self._grown = 0  # bytes that completing has added
        self.course = Course.COLLECTED
        self._verdict: bytes | None = None
        self._id = ""
        self._remainder = b""

    def go_on(self) -> Sequence[AnyDeed]:
        """To be called after each piece that the content took."""
        if self.course is Course.COLLECTED:
            if self._completion is not None and self.content.header_over:
                self._complete(self._completion)
            waits = self._completion is not None or self.content.size <= self._small_body
            if waits or self.content.spoiled:
                return ()
            self.course = Course.ASKED
            return [Reserve()]
        if self.course is Course.WRITTEN:
            return self.drop() if self.content.spoiled else self._write(self.content.take())
        return ()

    def _complete(self, completion: Completion) -> None:
        """The header is here, and may be larger than it should be for a moment: nothing of it was written yet."""
        self._completion = None
        if self.content.spoiled:
            return None
        text = self.content.take()
        header, rest = fields.split(text)
        what = self._transaction
        try:
            header = completion.complete(header, what.way, sender=what.sender.address, name=what.name, now=what.began)
        except BadHeader as wrong:
            return self.refused(replies.bad_header(str(wrong)))
        self._beginning = b"%b\r\n%b" % (header, rest)
        whole = b"\r\n%b" % header
        self.content.message_id, self.content.subject = identify(whole, whole.lower())
        self._grown = len(self._beginning) - len(text)
        self.content.longest = max(self.content.longest, fields.longest(header))
        self.content.eight_bit = self.content.eight_bit or not header.isascii()
        return None

    def _take(self) -> bytes:
        """What is there and was not taken."""
        beginning, self._beginning = self._beginning, b""
        return beginning + self.content.take()

    def reserved(self, queue_id: str, at: float) -> list[AnyDeed]:
        """The ID is known: the file begins with our `Received:` line."""
        self.course = Course.WRITTEN
        self._hash = sha256()
        self._id = queue_id
        self._remainder = self._rest_of_trace(at)
        head = self._transaction.origin + queue_id.encode() + self._remainder
        return [Open(), *self._write(head + self._take())]

    def refused(self, reply: bytes) -> None:
        """The door gives no ID; the client hears it at the end."""
        self.course = Course.NOWHERE
        self._verdict = reply
        self.content.discard()

    def drop(self) -> Sequence[AnyDeed]:
        """The message will not come."""
        opened = self.course is Course.WRITTEN
        self.course = Course.NOWHERE
        self.content.discard()
        return [Discard()] if opened else ()

    def fault(self) -> bytes | None:
        """The reply that refuses what has come so far."""
        return self.content.fault() or self._verdict

    def hand_over(self, at: float) -> Put | PutLarge:
        """The content has ended without fault: the deed that gives it to the door."""
        count = len(self._transaction.recipients)
        if self.course is Course.WRITTEN:
            self.course = Course.NOWHERE
            head = len(self._transaction.origin) + len(trace.STAMP) + len(self._remainder) + self._grown
            return PutLarge(self._id, self._tail(at, self._remainder, head), count, self._hash.hexdigest())
        remainder = self._rest_of_trace(at)
        origin = self._transaction.origin
        added = len(origin) + len(trace.STAMP) + len(remainder) + self._grown
        tail = self._tail(at, remainder, added)
        raw = b"".join((tail, origin, trace.STAMP, remainder, self._take()))
        return Put(raw, len(tail), count, len(origin))

    def _write(self, piece: bytes) -> Sequence[AnyDeed]:
        if not piece:
            return ()
        self._hash.update(piece)
        return [Write(piece)]

    def _rest_of_trace(self, at: float) -> bytes:
        recipients = self._transaction.recipients
        only = recipients[0].address if len(recipients) == 1 else ""
        return trace.remainder(only, at) + self._transaction.beneath

    def _tail(self, at: float, remainder: bytes, added: int) -> bytes:
        """What delivery needs to know, our own `Received:` line included. added: bytes that the client did not send."""
        sender, content = self._transaction.sender, self.content
        beneath = self._transaction.beneath
        ours = trace.longest(self._transaction.origin, remainder.removesuffix(beneath))
        longest = max(content.longest, ours, len(beneath) - 2)
        return head_tail(
            Head(
                id="",
                sha256="",
                created=moment.as_text(at),
                sender=sender.address,
                recipients=self._transaction.recipients,
                size=added + content.size,
                source=self._transaction.source,
                eight_bit=content.eight_bit,
                smtputf8=sender.utf8,
                dots=content.dots,
                longest=longest,
                hops=content.hops,
                ret=sender.ret,
                envid=sender.envid,
                took=max(0, int((at - self._transaction.began) * 1000)),
                priority=WORDS[content.priority],
            )
        )
