"""An open connection to an SMTP server that carries one transaction after the other.

Promise:  everything happens in callbacks: the reply to the last dot and the MAIL of the next message are in the same
          turn of the loop. To a server that offers PIPELINING a message that waits is announced together with the text
          of the one before (RFC 2920 3.1), so each costs one round trip.
          No reply is taken for another's: what comes unasked ends the connection. Each stage has its
          deadline, each message its verdicts, however the connection ends; memory is bounded by one piece of a body.
On crash: the server sees the connection end. Without a final dot it throws away what it has; after one, see
          Transaction.uncertain.
Callers:  phases.smtp_hop, which owns the connections and gives them messages.
"""

import asyncio
from concurrent.futures import Executor
from enum import Enum
from functools import partial
from typing import NamedTuple, Protocol, cast

from kmq.config.sections import ConnectorSection
from kmq.model.reply import Reply
from kmq.phases.berths import Berth
from kmq.phases.body import BodyDamaged, stuffed
from kmq.phases.commands import opening
from kmq.phases.delivery import Delivery
from kmq.phases.gate import Gate
from kmq.phases.lmtp import LmtpTransaction
from kmq.phases.patience import QUIT_PATIENCE, stage_limits
from kmq.phases.places import Places
from kmq.phases.rendering import Rendering
from kmq.phases.replies import Replies, as_reply
from kmq.phases.smtp_opening import Opened
from kmq.phases.transaction import Deed, Stage, Transaction
from kmq.phases.upload import Upload

_NOT_OURS = Reply(451, "4.3.0", "the message is not to be sent from here")
_SURPLUS = Reply(451, "4.5.0", "the server sent more than it was asked for")


class State(Enum):
    """What a connection does."""

    IDLE = 1
    BUSY = 2  #: a transaction runs
    LEAVING = 3  #: QUIT was sent
    GONE = 4


class Owner(Protocol):
    """Who gives messages to a connection."""

    def next(self, connection: "Connection") -> Delivery | None:
        """The next message that waits for this server, or None: then the connection is idle."""

    def following(self, connection: "Connection") -> Delivery | None:
        """A message that waits and may be announced while this connection sends another; None: it is not idle then."""

    def took(self, seconds: float) -> None:
        """A message with a small text took so long, from MAIL to the last reply."""

    def apart(self) -> None:
        """The server did not take well to a message that was announced behind another's text."""

    def gone(self, connection: "Connection", orphan: Delivery | None) -> None:
        """The connection ended. orphan: the message that it carried in vain, to be given to another one."""

    def part(self, connection: "Connection") -> None:
        """The connection is another's."""


class Follower(NamedTuple):
    """The next message of a connection. transaction: what the server has heard of it; None: nothing yet."""

    delivery: Delivery
    transaction: Transaction | None


class Connection(asyncio.Protocol):
    """See above. label: `host[address]:port`, as results name it; tls: as phases.tls describes it; berth: where it is
    counted, when queues share its server; places: where it is counted among those of its connector."""

    def __init__(
        self,
        opened: Opened,
        section: ConnectorSection,
        owner: Owner,
        threads: Executor,
        berth: Berth | None = None,
    ) -> None:
        self.label = opened.label
        self.tls = opened.tls
        self.berth = berth
        self.places: Places | None = None
        self.state = State.IDLE
        self.carried = 0  #: messages begun
        self._before = 0  # of these, for earlier owners
        self._most = section.messages_per_connection
        self._offers = opened.offers
        self._transport = opened.transport
        self._section = section
        self._limits = stage_limits(section)
        self._kind = LmtpTransaction if section.type == "lmtp" else Transaction
        self._owner = owner
        self._threads = threads
        self._clock = asyncio.get_running_loop().time
        self._replies = Replies()
        self._delivery: Delivery | None = None
        self._transaction: Transaction | None = None
        self._upload: Upload | None = None
        self._follower: Follower | None = None
        self._followed = False  # the transaction was announced behind another's dot, its text not yet asked for
        self._behind = 0  # bytes that were written behind the last dot
        self._unclean = False
        self._stuck = False  # something of the body, and so the dot, never left this machine
        self._since = self._began = self._clock()  # the last progress; the transaction
        opened.transport.set_protocol(self)

    @property
    def new(self) -> bool:
        """It has carried nothing for its present owner."""
        return self.carried == self._before

    @property
    def carries(self) -> tuple[Delivery, ...]:
        """The message that is on its way, and the one that follows it."""
        follows = () if self._follower is None else (self._follower.delivery,)
        return follows if self._delivery is None else (self._delivery, *follows)

    @property
    def usable(self) -> bool:
        return self.state is State.IDLE and not self._transport.is_closing()

    @property
    def announcing(self) -> bool:
        """It is about to send a small text, and could announce a further message with it."""
        transaction = self._transaction
        if transaction is None or not transaction.opening or not self._offers.pipelining or self.carried >= self._most:
            return False
        return cast(Delivery, self._delivery).work.body.text is not None

    def begin(self, delivery: Delivery) -> None:
        """Carries a message; only when idle."""
        assert self.state is State.IDLE, "a connection carries one message at a time"
        self.carried += 1
        self._advance(delivery)

    def hand_over(self, owner: Owner, label: str) -> None:
        """Another gives messages from now on, to whom the server has another name; only when idle."""
        self._owner, before = owner, self._owner
        self._before = self.carried
        self.label = label
        before.part(self)

    def retire(self) -> None:
        """It takes no further message: what it was opened by does not count any more."""
        self._most = 0

    def take_back(self, since: float) -> Delivery | None:
        """The message that follows one whose last reply is waited for since then or longer. Its text was not asked for,
        and will not be sent from here: what the server still says of it ends the connection."""
        follower = self._follower
        if follower is None or self._since > since:
            return None
        self._follower = None
        self.carried -= 1
        if follower.transaction is not None:
            self.retire()
        return follower.delivery

    def close(self) -> None:
        """Ends a connection that nobody was given."""
        self.state = State.GONE
        self._transport.abort()

    def quit(self) -> None:
        """Takes leave; only when idle. The owner hears `gone` when the server has answered, or did not in time."""
        self.state = State.LEAVING
        self._since = self._clock()
        self._transport.write(b"QUIT\r\n")

    def abandon(self, why: Reply) -> None:
        """Ends now, whatever is on the way; the recipients that have no verdict get this one."""
        if self.state is not State.GONE:
            self._lost(why, aborted=True)

    def expire(self, now: float) -> None:
        """Looks at the deadlines; called about once a second with the loop's time."""
        waited = now - self._since
        if self.state is State.IDLE and waited > self._section.connection_idle:
            self.quit()
        elif self.state is State.LEAVING and waited > QUIT_PATIENCE:
            self._lost(_lost_while("saying QUIT"), aborted=True)
        elif self._transaction is not None and waited > self._limits[self._transaction.stage]:
            stage = self._transaction.stage.value
            self._lost(Reply(451, "4.4.2", f"timed out after {waited:.0f} s while {stage}"), aborted=True)

    # --- what the loop calls -----------------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        if self.state is State.GONE:
            return None
        replies = self._replies.feed(data)
        if replies:
            self._since = self._clock()
        left = len(replies)
        for code, text in replies:
            left -= 1
            transaction = self._transaction
            if transaction is None:
                return self._unasked(code, text)
            deed = transaction.replied(code, text)
            if deed is Deed.END and self._follower is not None and self._follower.transaction is not None:
                self._end(transaction, early=False)  # what follows answers to the next message's commands
            elif deed is not Deed.WAIT:
                # What follows is the server's answer to something that it has not been asked yet.
                early = left > 0 or self._replies.pending or self._replies.broken != ""
                return self._do(transaction, deed, early)
        if self._replies.broken:
            self._lost(Reply(451, "4.5.0", self._replies.broken), aborted=True)
        return None

    def eof_received(self) -> None:
        self._stuck = self._unsent

    def connection_lost(self, exc: Exception | None) -> None:
        if self.state is not State.GONE:
            stage = self._transaction.stage.value if self._transaction else "waiting for work"
            self._lost(_lost_while(stage), aborted=False)

    def pause_writing(self) -> None:
        if self._upload is not None:
            self._upload.pause()

    def resume_writing(self) -> None:
        self._since = self._clock()
        if self._upload is not None:
            self._upload.resume()

    # --- one transaction after the other -----------------------------------------------------------------------------

    def _advance(self, delivery: Delivery | None) -> None:
        """Begins the next transaction: of this message while recipients are left, else of the next that waits."""
        while True:
            if delivery is None:
                full = self.carried >= self._most
                delivery = None if full else self._owner.next(self)
                if delivery is None:
                    self._transaction = self._delivery = None
                    self.state = State.IDLE
                    return self.quit() if full else None
                self.carried += 1
            if self._opens(delivery):
                return None
            # Nothing of it can go over this connection. Its report may bring the next message, which must not
            # find us half-way: so not here.
            asyncio.get_running_loop().call_soon(delivery.finish)
            delivery = None

    def _opens(self, delivery: Delivery) -> bool:
        """Writes the commands for the next recipients; False when none is left that this server could be told."""
        if delivery.left and delivery.unrendered(self._offers.eight_bit) and not self._renders(delivery):
            return True
        transaction = self._announced(delivery, self._unclean)
        if transaction is None:
            return False
        self._begin(delivery, transaction, followed=False)
        self._transport.write(transaction.out)
        return True

    def _announced(self, delivery: Delivery, unclean: bool) -> Transaction | None:
        """The transaction for the next recipients, whose commands are written now; None when there is none."""
        if delivery.work.gate is not None and delivery.work.gate.shut:
            delivery.judge_left(_NOT_OURS, "")
        while delivery.left:
            mail, rcpt, refused = opening(delivery.head, delivery.left[: delivery.limit], self._offers)
            if refused:
                delivery.judge(refused, "")
            if rcpt:
                delivery.begun = delivery.begun or self._clock()
                delivery.show(self.label, 0)
                return self._kind(mail, rcpt, self._offers.pipelining, unclean)
        return None

    def _begin(self, delivery: Delivery, transaction: Transaction, followed: bool) -> None:
        """The server answers to this from now on."""
        self._delivery, self._transaction, self.state = delivery, transaction, State.BUSY
        self._followed = followed
        self._since = self._began = self._clock()
        self._behind = 0

    def _follow(self, transaction: Transaction) -> bytes:
        """Takes up the next message, if one waits; -> its commands, to go behind the final dot of this one."""
        if not self._offers.pipelining or self.carried >= self._most:
            return b""
        if not transaction.final(cast(Delivery, self._delivery).left):
            return b""
        delivery = self._owner.following(self)
        if delivery is None:
            return b""
        self.carried += 1
        if delivery.unrendered(self._offers.eight_bit):
            self._follower = Follower(delivery, None)
            return b""
        found = self._announced(delivery, unclean=False)
        if found is None:
            asyncio.get_running_loop().call_soon(delivery.finish)
            return b""
        self._follower = Follower(delivery, found)
        self._behind = len(found.out)
        return found.out

    def _renders(self, delivery: Delivery) -> bool:
        """Finds out how a message is written for this server; False when a thread does, and it goes on in `_rendered`.

        The server has heard nothing of it yet: when the connection ends meanwhile, another one takes the message.
        """
        eight_bit = self._offers.eight_bit
        if delivery.work.body.text is not None:
            try:
                delivery.take(delivery.rendered(eight_bit))
            except Exception as error:  # a message that our program fails on must not take the connection with it
                delivery.take(_unwritten(error))
            return True
        self._delivery, self._transaction, self.state = delivery, None, State.BUSY
        rendering = asyncio.get_running_loop().run_in_executor(self._threads, delivery.rendered, eight_bit)
        rendering.add_done_callback(partial(self._rendered, delivery))
        return False

    def _rendered(self, delivery: Delivery, rendering: "asyncio.Future[Rendering | Reply]") -> None:
        if self._delivery is not delivery or rendering.cancelled():
            return None  # the connection is gone, and the message with another one
        self._delivery = None
        error = rendering.exception()
        if isinstance(error, BodyDamaged):
            self._advance(None)
            return delivery.damaged(str(error))
        delivery.take(rendering.result() if error is None else _unwritten(error))
        return self._advance(delivery)

    def _do(self, transaction: Transaction, deed: Deed, early: bool) -> None:
        if deed is Deed.END:
            self._end(transaction, early)
        elif deed is Deed.CLOSE:
            self._lost(cast(Reply, transaction.farewell), aborted=True)
        elif early:
            self._lost(_SURPLUS, aborted=True)
        elif deed is Deed.SEND:
            self._send(transaction)
        else:
            self._transport.write(transaction.out)

    def _send(self, transaction: Transaction) -> None:
        delivery = self._delivery
        assert delivery is not None, "who sends has something to send"
        self._followed = False
        work, rendering = delivery.work, delivery.rendering
        if work.gate is not None and not work.gate.open:
            return work.gate.wait(partial(self._decided, transaction, work.gate))
        if work.body.text is None:
            self._upload = Upload(self._transport, work, self._threads, self._moved, self._uploaded, rendering)
        else:
            text, head = (work.body.text, work.head) if rendering is None else (rendering.text, rendering.head)
            assert text is not None, "a small body is rendered at once"
            self._transport.write(stuffed(text, head.dots, self._follow(transaction)))
            transaction.dot_sent()
        return None

    def _decided(self, transaction: Transaction, gate: Gate) -> None:
        """The text may go, or never may. The connection may have ended meanwhile."""
        if self._transaction is not transaction:
            return
        if gate.open:
            self._since = self._clock()
            self._send(transaction)
        else:
            self._lost(_NOT_OURS, aborted=True)

    def _moved(self, percent: int) -> None:
        self._since = self._clock()
        if self._delivery is not None:
            self._delivery.show(self.label, percent)

    def _uploaded(self, trouble: BaseException | None) -> None:
        """The last byte of a large body was written, or the file cannot be read to its end."""
        self._upload = None
        if isinstance(trouble, BodyDamaged):
            self._stop_short(str(trouble))
        elif trouble is not None:
            cast(Delivery, self._delivery).judge_left(_unwritten(trouble), "")
            self._lost(_lost_while(Stage.BODY.value), aborted=True)
        else:
            cast(Transaction, self._transaction).dot_sent()

    def _stop_short(self, why: str) -> None:
        """The file is damaged: the server must not get the final dot of it."""
        delivery = cast(Delivery, self._delivery)
        self._delivery = self._transaction = None
        self._lost(_lost_while(Stage.BODY.value), aborted=True)
        delivery.damaged(why)

    def _end(self, transaction: Transaction, early: bool) -> None:
        """All replies of a transaction are here. The next message goes out before this one is reported."""
        delivery = self._delivery
        assert delivery is not None, "a transaction is some message's"
        self._unclean = transaction.unclean
        if self._followed and (transaction.misplaced or early):
            return self._apart(delivery, early)
        delivery.judge(transaction.verdicts, self.label, self.tls)
        if not self._offers.dsn:
            delivery.relayed += transaction.accepted
        if early:
            return self._lost(_SURPLUS, aborted=True)
        if transaction.over:
            delivery.limit = max(1, len(transaction.accepted))
        if delivery.left:
            return self._advance(delivery)
        if delivery.work.body.text is not None:
            self._owner.took(self._since - self._began)
        if self._follower is not None:
            self._go_on(self._follower)
        else:
            self._advance(None)
        return delivery.finish()

    def _go_on(self, follower: Follower) -> None:
        """To the next message, of which the server may have heard already."""
        self._follower = None
        if follower.transaction is None:
            self._advance(follower.delivery)
        else:
            self._begin(follower.delivery, follower.transaction, followed=True)

    def _apart(self, delivery: Delivery, early: bool) -> None:
        """What came behind a dot was refused, perhaps for its place, or by a reply to something else: it is said once
        more where nothing stands before it."""
        self._owner.apart()
        if early:
            return self._lost(_SURPLUS, aborted=True)
        return self._advance(delivery)

    # --- how it ends -------------------------------------------------------------------------------------------------

    def _unasked(self, code: int, text: bytes) -> None:
        """A reply that nobody waits for: to QUIT, or the server's farewell (421 when it is tired of waiting)."""
        if self.state is not State.GONE:
            self._lost(as_reply(code, text), aborted=self.state is not State.LEAVING)

    def _lost(self, why: Reply, aborted: bool) -> None:
        """The connection ends; `why` is the verdict for all recipients of its message that have none."""
        delivery, transaction = self._delivery, self._transaction
        reused = self.carried > 1
        self._stuck = self._stuck or self._unsent
        follower, self._follower = self._follower, None
        self.state, self._delivery, self._transaction = State.GONE, None, None
        if self._upload is not None:
            self._upload.stop()
        if aborted:
            self._transport.abort()
        else:
            self._transport.close()
        if delivery is None or transaction is None:
            return self._owner.gone(self, delivery)
        confused = self._followed  # the server, or we, by what went before
        if follower is not None or confused:
            self._owner.apart()
        if confused or (reused and not transaction.begun):  # or dead before we wrote: no fault of the message
            return self._owner.gone(self, delivery)
        if transaction.uncertain and not self._stuck:
            delivery.uncertain = True
            why = why._replace(text=f"{why.text}; delivery status unknown")
        transaction.lost(why)
        self._judge_lost(delivery, transaction, why)
        self._owner.gone(self, follower.delivery if follower is not None else None)
        return delivery.finish()

    @property
    def _unsent(self) -> bool:
        """Something of the last text never left this machine."""
        return self._transport.get_write_buffer_size() > self._behind

    def _judge_lost(self, delivery: Delivery, transaction: Transaction, why: Reply) -> None:
        left = set(delivery.left)
        delivery.judge([verdict for verdict in transaction.verdicts if verdict[0] in left], self.label, self.tls)
        delivery.judge_left(why, self.label, self.tls)


def _unwritten(trouble: BaseException) -> Reply:
    why = (trouble.strerror if isinstance(trouble, OSError) else "") or repr(trouble)
    return Reply(451, "4.3.0", f"cannot read the message: {why}")


def _lost_while(stage: str) -> Reply:
    return Reply(451, "4.4.2", f"lost connection while {stage}")
