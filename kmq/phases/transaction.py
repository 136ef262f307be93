"""One transaction of an SMTP client as a state machine without I/O: replies in, deeds and verdicts out.

Promise:  every recipient gets a verdict, and no reply is taken for another's: RFC 5321 4.3.2 says which reply may come
          when, TABLE below says what follows, and what is not there is a breach of the protocol. With pipelining
          (RFC 2920) the same table reads the replies of one write one after the other.
          A recipient that is one too many for the server (RFC 5321 4.5.3.1.10) gets no verdict: it is in `over`, for
          a further transaction.
On crash: nothing is kept. `uncertain` says whether the server may have the message though it did not say so.
Callers:  phases.connection.
"""

from collections.abc import Callable, Sequence
from enum import Enum

from kmq.model.reply import Reply
from kmq.phases.replies import as_reply


class Stage(Enum):
    """What is waited for; the value completes `lost connection while ...`."""

    RESET = "resetting the session"
    MAIL = "sending MAIL FROM"
    RCPT = "sending RCPT TO"
    SKIP = "skipping replies to RCPT TO"  #: MAIL was refused; the RCPTs had been sent already
    DATA = "sending DATA"
    BODY = "sending the message"
    DOT = "waiting for the reply to the final dot"
    EMPTY = "ending an empty DATA"  #: nobody was accepted, but DATA was
    OVER = "ending the transaction"

    __hash__ = object.__hash__  # members are single; Enum's own hash costs more than the look into TABLE


class Deed(Enum):
    """What the connection has to do now."""

    WAIT = 1  #: nothing; more replies are to come
    WRITE = 2  #: send `out`
    SEND = 3  #: send the body and the dot, tell `dot_sent`
    END = 4  #: the transaction is over, the connection can take the next one
    CLOSE = 5  #: the transaction is over and the connection is of no use any more


_OPENINGS = frozenset((Stage.RESET, Stage.MAIL, Stage.RCPT, Stage.DATA))

BAD_SEQUENCE = 503  #: never about a recipient

_FOREIGN = Reply(451, "4.5.0", "the server refused the sender, and took recipients")

LONE_DOT = b".\r\n"
RESET = b"RSET\r\n"
DATA = b"DATA\r\n"


class Transaction:
    """MAIL, RCPT for some recipients, DATA, body, dot.

    verdicts:  (index, reply) of every recipient that has got one.
    over:      recipients for a further transaction.
    farewell:  with CLOSE, why the connection is of no use any more.
    misplaced: MAIL or DATA was refused, or a command for its place in line: it need not be about the message.
    unclean:   the server may still have the sender in mind: RSET goes ahead of the next MAIL.
    """

    __slots__ = (
        "_at",
        "_foreign",
        "_mail",
        "_pipelining",
        "_rcpt",
        "accepted",
        "farewell",
        "misplaced",
        "out",
        "over",
        "stage",
        "unclean",
        "verdicts",
    )

    def __init__(self, mail: bytes, rcpt: list[tuple[int, bytes]], pipelining: bool, reset: bool = False) -> None:
        self.verdicts: list[tuple[int, Reply]] = []
        self.accepted: list[int] = []
        self.over: list[int] = []
        self.unclean = True
        self.misplaced = False
        self.farewell: Reply | None = None
        self.stage = Stage.RESET if reset else Stage.MAIL
        self._mail = mail
        self._rcpt = rcpt
        self._at = 0
        self._foreign = False  # recipients were accepted though MAIL was refused: those of an earlier transaction
        self._pipelining = pipelining
        if pipelining:
            lines = [RESET, mail] if reset else [mail]
            for _, line in rcpt:
                lines.append(line)
            lines.append(DATA)
            self.out = b"".join(lines)
        else:
            self.out = RESET if reset else mail

    @property
    def begun(self) -> bool:
        """The server has answered something of this transaction."""
        return self.stage is not Stage.RESET and self.stage is not Stage.MAIL

    @property
    def opening(self) -> bool:
        """The text is still to come."""
        return self.stage in _OPENINGS

    def final(self, left: Sequence[int]) -> bool:
        """One reply to its dot, and these recipients, who are left of the message, all have their verdicts."""
        return not self.over and len(left) <= len(self._rcpt)

    @property
    def uncertain(self) -> bool:
        """The final dot may be there and the reply is not."""
        return self.stage is Stage.DOT

    def replied(self, code: int, text: bytes) -> Deed:
        """The next reply; what to do now. 421 ends everything wherever it comes (RFC 5321 3.8)."""
        if code == 421:
            return self._close(as_reply(code, text))
        step = TABLE.get((self.stage, code // 100))
        if step is None:
            return self._close(
                Reply(451, "4.5.0", f"unexpected reply while {self.stage.value}: {as_reply(code, text)}")
            )
        return step(self, code, text)

    def dot_sent(self) -> None:
        """The last byte of the body and the dot are on their way."""
        self.stage = Stage.DOT

    def lost(self, reply: Reply) -> None:
        """The connection is gone, or of no use: this is the verdict for all who have none."""
        have = {index for index, _ in self.verdicts}
        self.verdicts.extend((index, reply) for index, _ in self._rcpt if index not in have)
        self.over = []

    def _close(self, why: Reply) -> Deed:
        self.farewell = why
        self.lost(why)
        return Deed.CLOSE

    # --- the steps of TABLE ------------------------------------------------------------------------------------------

    def _cleared(self, code: int, text: bytes) -> Deed:
        self.stage = Stage.MAIL
        return Deed.WAIT if self._pipelining else self._write(self._mail)

    def _sender_accepted(self, code: int, text: bytes) -> Deed:
        self.stage = Stage.RCPT
        return Deed.WAIT if self._pipelining else self._write(self._rcpt[0][1])

    def _sender_refused(self, code: int, text: bytes) -> Deed:
        reply = as_reply(code, text)
        self.verdicts.extend((index, reply) for index, _ in self._rcpt)
        self.misplaced = True
        self.stage = Stage.SKIP
        return Deed.WAIT if self._pipelining else self._end(Deed.END)

    def _accepted(self, code: int, text: bytes) -> Deed:
        self.accepted.append(self._rcpt[self._at][0])
        return self._after_rcpt()

    def _refused(self, code: int, text: bytes) -> Deed:
        index = self._rcpt[self._at][0]
        reply = as_reply(code, text)
        self.misplaced = self.misplaced or code == BAD_SEQUENCE
        if not _too_many(reply):
            self.verdicts.append((index, reply))
        elif self.accepted:
            self.over.append(index)
        else:  # nobody is there, so it is not one too many; RFC 5321 4.5.3.1.10: 552 is temporary here
            self.verdicts.append((index, reply._replace(code=452, enhanced="4.5.3") if reply.code == 552 else reply))
        return self._after_rcpt()

    def _skipped(self, code: int, text: bytes) -> Deed:
        self._foreign = self._foreign or code // 100 == 2
        self._at += 1
        if self._at == len(self._rcpt):
            self.stage = Stage.DATA
        return Deed.WAIT

    def _after_rcpt(self) -> Deed:
        self._at += 1
        more = self._at < len(self._rcpt)
        if not more:
            self.stage = Stage.DATA
        if self._pipelining:
            return Deed.WAIT
        if more:
            return self._write(self._rcpt[self._at][1])
        return self._write(DATA) if self.accepted else self._end(Deed.END)

    def _go_ahead(self, code: int, text: bytes) -> Deed:
        if self.accepted:
            self.stage = Stage.BODY
            return Deed.SEND
        if self._foreign:
            return self._close(_FOREIGN)  # a dot would send them nothing, in the name of somebody else
        self.stage = Stage.EMPTY  # RFC 2920 3.1: the server waits for text although it accepted nobody
        self.out = LONE_DOT
        return Deed.WRITE

    def _data_refused(self, code: int, text: bytes) -> Deed:
        self.misplaced = self.misplaced or bool(self.accepted)
        self._judge_accepted(code, text)
        return self._end(Deed.END)

    def _interrupted(self, code: int, text: bytes) -> Deed:
        """A refusal before the dot was sent: it counts, but the rest of the text cannot be taken back."""
        self._judge_accepted(code, text)
        self.farewell = Reply(451, "4.4.2", f"the server refused the rest: {as_reply(code, text)}")
        return self._end(Deed.CLOSE)

    def _answered(self, code: int, text: bytes) -> Deed:
        """A refusal ends the transaction as well (RFC 5321 4.1.1.4), but not with every server: Postfix that refuses
        by smtpd_end_of_data_restrictions answers 503 to the next MAIL."""
        self._judge_accepted(code, text)
        self.unclean = code // 100 != 2
        return self._end(Deed.END)

    def _emptied(self, code: int, text: bytes) -> Deed:
        self.unclean = False
        return self._end(Deed.END)

    def _judge_accepted(self, code: int, text: bytes) -> None:
        if self.accepted:
            reply = as_reply(code, text)
            for index in self.accepted:
                self.verdicts.append((index, reply))

    def _end(self, deed: Deed) -> Deed:
        self.stage = Stage.OVER
        return deed

    def _write(self, line: bytes) -> Deed:
        """The next command; with pipelining it has been sent with the others."""
        self.out = line
        return Deed.WRITE


def _too_many(reply: Reply) -> bool:
    """452 and 552 at RCPT mean too many recipients, unless the server says that it speaks of the mailbox (x.2.x)."""
    return (reply.code == 452 or reply.code == 552) and reply.enhanced[1:3] != ".2"


Step = Callable[[Transaction, int, bytes], Deed]

#: (what is waited for, first digit of the reply) -> step. What is not here is a breach of the protocol.
TABLE: dict[tuple[Stage, int], Step] = {
    (Stage.RESET, 2): Transaction._cleared,
    (Stage.MAIL, 2): Transaction._sender_accepted,
    (Stage.MAIL, 4): Transaction._sender_refused,
    (Stage.MAIL, 5): Transaction._sender_refused,
    (Stage.RCPT, 2): Transaction._accepted,
    (Stage.RCPT, 4): Transaction._refused,
    (Stage.RCPT, 5): Transaction._refused,
    (Stage.SKIP, 2): Transaction._skipped,
    (Stage.SKIP, 4): Transaction._skipped,
    (Stage.SKIP, 5): Transaction._skipped,
    (Stage.DATA, 3): Transaction._go_ahead,
    (Stage.DATA, 4): Transaction._data_refused,
    (Stage.DATA, 5): Transaction._data_refused,
    (Stage.BODY, 4): Transaction._interrupted,
    (Stage.BODY, 5): Transaction._interrupted,
    (Stage.DOT, 2): Transaction._answered,
    (Stage.DOT, 4): Transaction._answered,
    (Stage.DOT, 5): Transaction._answered,
    (Stage.EMPTY, 2): Transaction._emptied,
    (Stage.EMPTY, 4): Transaction._emptied,
    (Stage.EMPTY, 5): Transaction._emptied,
}
