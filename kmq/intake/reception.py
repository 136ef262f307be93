"""How the content of a message is received in a conversation: by DATA or BDAT, up to the door's answer.

What:     the reading of content in those states of a conversation that bring some, and the end of a message.
Promise:  after each message, taken or refused, the conversation is in step: no byte of it is taken for a command. Who
          goes on to twice the size limit, or tries to smuggle one message in another, is not listened to any more.
Callers:  `session`, which adds the commands.
"""

from dataclasses import dataclass

from kmq.intake import replies, trace
from kmq.intake.arrival import Arrival, Course
from kmq.intake.content import PIECE, Content
from kmq.intake.conversation import Conversation, State
from kmq.intake.deeds import Note, NoteAccepted
from kmq.intake.introduction import Introduction, of_nobody, of_server
from kmq.intake.rules import Client, Rules
from kmq.intake.transaction import Sender, Transaction
from kmq.log import mail
from kmq.log.accepted import Accepted
from kmq.model.envelope import Recipient
from kmq.model.reply import parse


@dataclass(slots=True)
class Chunk:
    """A BDAT whose bytes are being read. refusal: what is said at their end, back in the state `back`, if skipped."""

    size: int
    last: bool
    remaining: int
    refusal: bytes = b""
    back: State = State.GREETED


class Reception(Conversation):
    """A conversation in which messages are received."""

    __slots__ = (
        "_arrival", "_began", "_chunk", "_client", "_extended", "_introduced", "_node", "_peer_name", "_reading",
        "_recipients", "_resting", "_rules", "_sender", "_stopping", "secure", "transaction",
    )  # fmt: skip

    def __init__(self, rules: Rules, client: Client) -> None:
        super().__init__(rules.section.error_limit, rules.section.command_limit)
        self._rules = rules
        self._client = client
        self.secure = False
        self._stopping = False
        self._recipients: dict[str, Recipient] = {}
        self._arrival: Arrival | None = None
        self._chunk = _NO_CHUNK
        self._reading = State.CONTENT  # how content is read, for when the ID of a large body is here
        self.transaction = 0  # counts the MAILs
        self._began = 0.0  # Unix time of the last one
        self._resting = b""  # the argument of a MAIL that waits
        self._node = ""  # what an ETRN that waits asks for
        self._forget()

    def _forget(self) -> None:
        """As if the client had just come (RFC 3207 4.2)."""
        self._peer_name = b""
        self._extended = False
        self._introduced = of_nobody(self._client, self._rules.section.name)
        self._sender = _NOBODY
        self._state = State.CONNECTED

    @property
    def in_transaction(self) -> bool:
        """MAIL was taken, and its message is not at its end."""
        return State.GREETED < self._state < State.RESTING

    def _hang_up(self, line: bytes, unread: bool = True) -> bytes:
        if unread and not self.closed and line is not replies.SHUTTING_DOWN:
            self._note_refusal(line)
        return super()._hang_up(line, unread)

    def _end(self) -> None:
        if self._arrival:
            self._deeds += self._arrival.drop()
            self._arrival = None

    # --- bytes ---

    def _read_content(self) -> bool:
        """Behind DATA."""
        arrival = self._arrival
        piece = self._kept[self._at : self._at + PIECE]
        if not piece or arrival is None:
            return False
        self.progress += 1
        self._at += arrival.content.dotted(piece)
        self._go_on(arrival)
        return self._at < len(self._kept)

    def _read_chunk(self) -> bool:
        """Behind BDAT."""
        arrival, chunk = self._arrival, self._chunk
        if arrival is None:
            return False
        if chunk.remaining:
            piece = self._kept[self._at : self._at + min(PIECE, chunk.remaining)]
            if not piece:
                return False
            self.progress += 1
            arrival.content.counted(piece)
            self._at += len(piece)
            chunk.remaining -= len(piece)
            self._go_on(arrival)
        if not chunk.remaining and self._state is State.CHUNK and not self.closed:
            self._end_chunk(arrival)
        return True

    def _read_skipped(self) -> bool:
        """The bytes of a BDAT that was refused: they must not be taken for commands (RFC 3030 2)."""
        chunk = self._chunk
        step = min(len(self._kept) - self._at, chunk.remaining)
        self._at += step
        chunk.remaining -= step
        if chunk.remaining:
            return False
        self.progress += 1
        self._state = chunk.back
        self._say(chunk.refusal)
        return True

    # --- the message ---

    def _begin_content(self, state: State) -> None:
        section = self._rules.section
        transaction = self._transaction()
        urgent = self._rules.urgent_size_for(self._client)
        content = Content(section.size_limit, section.line_limit, section.hop_limit, urgent)
        self._arrival = Arrival(transaction, content, self._rules.small_body, self._rules.completion)
        self._reading = state
        self._state = state

    def _transaction(self) -> Transaction:
        """What was said before the content."""
        by = self._introduced
        return Transaction(self._sender, [*self._recipients.values()], by.source, by.origin, self._began)

    def _introduction(self, utf8: bool) -> Introduction:
        """Who the client is, as it has said; utf8: it sends by SMTPUTF8."""
        protocol = trace.protocol(self._extended, utf8, self.secure)
        return of_server(self._client, self._peer_name, protocol, self._rules.hostname, self._rules.section.name)

    def _go_on(self, arrival: Arrival) -> None:
        """After each piece: asks for an ID, writes, gives up, or comes to the end."""
        content = arrival.content
        self._deeds += arrival.go_on()
        if arrival.course is Course.ASKED:
            self._state = State.RESERVING
        elif content.spoiled and content.hopeless:
            self._hang_up(replies.TOO_BIG)
        elif content.ended:
            self._end_content(arrival)

    def _end_chunk(self, arrival: Arrival) -> None:
        if self._chunk.last:
            arrival.content.end_counted()
            return self._go_on(arrival)
        fault = arrival.fault()
        if fault:
            return self._refuse_message(fault, arrival)
        self._state = State.CHUNKS
        return self._say(replies.chunk_taken(self._chunk.size))

    def _end_content(self, arrival: Arrival) -> None:
        fault = arrival.fault()
        if fault:
            return self._refuse_message(fault, arrival)
        self._state = State.COMMITTING
        return self._deeds.append(arrival.hand_over(self._rules.clock()))

    def _reserved(self, queue_id: str, refusal: bytes | None, arrival: Arrival) -> None:
        if refusal:
            arrival.refused(refusal)
        else:
            self._deeds.extend(arrival.reserved(queue_id, self._rules.clock()))
        self._state = self._reading
        if arrival.content.ended:
            self._end_content(arrival)

    def _committed(self, queue_id: str, refusal: bytes | None, arrival: Arrival) -> None:
        if refusal:
            return self._refuse_message(refusal, arrival)
        content = arrival.content
        message = Accepted(
            by=self._introduced.by,
            sender=self._sender.address,
            recipients=tuple(self._recipients),
            size=content.size,
            delay=mail.seconds(max(0.0, self._rules.clock() - self._began)),
            message_id=content.message_id,
            subject=content.subject,
            reason="the client had gone" if self.closed else "",
        )
        self._deeds.append(NoteAccepted(queue_id, message))
        self._errors = self._junk = 0
        self._out.append(replies.accepted(queue_id))
        self._arrival = None  # it is the door's
        return self._end_message()

    def _refuse_message(self, refusal: bytes, arrival: Arrival) -> None:
        if refusal is replies.BARE_CR_OR_LF:
            self._hang_up(refusal)
            return
        size = arrival.content.size
        self._note_refusal(refusal, sender=self._sender.address, recipients=len(self._recipients), size=size)
        self._say(refusal)
        self._end_message()

    def _note_refusal(self, line: bytes, **what: str | int) -> None:
        """Leaves a line of it in the mail log."""
        text = line.decode("ascii").rstrip()
        keys = {_KEYS.get(name, name): value for name, value in what.items()}
        self._note("refused", **keys, reply=text, dsn=parse(text).status)

    def _note(self, event: str, **what: str | int) -> None:
        """Leaves a line about the client in the mail log."""
        self._deeds.append(Note(event, {**self._introduced.by.keys, **what}))

    def _end_message(self) -> None:
        self._end_transaction()
        if self._stopping:
            self._hang_up(replies.SHUTTING_DOWN, unread=False)

    def _end_transaction(self) -> None:
        if self._arrival:
            self._end()
        self._recipients = {}
        if self._state is not State.CONNECTED:
            self._state = State.GREETED


#: What the mail log calls it.
_KEYS = {"sender": "from", "recipient": "to", "recipients": "nrcpt"}
_NO_CHUNK = Chunk(0, False, 0)
_NOBODY = Sender("")
