"""The SMTP server's side of a conversation, as a state machine without I/O: bytes in, replies and deeds out (RFC 5321).

Law:      what may be said when stands in COMMANDS, and how bytes are read in which state in READERS. A command that
          its state does not have is out of sequence (503); one that no state has is unknown (500).
Promise:  the same bytes, however they are cut into reads, give the same replies and deeds (except that nothing may
          come behind DATA or STARTTLS before it is answered). At most one reply per command. Whatever arrives, memory
          is bounded: `small_body`, a header of 100 kB, the recipients, and one read.
On crash: a client without its 250 sends again; nothing of a session is kept.
Callers:  its `carrier` calls one method after the other, says what each returns, and carries its deeds out. While
          `waiting` is true it holds the client back: what still comes is kept.
"""

import re
from collections.abc import Callable

from kmq.intake import parameters, replies
from kmq.intake.conversation import State
from kmq.intake.deeds import Etrn, Pause, StartTls, Turn
from kmq.intake.etrn import node_of
from kmq.intake.rates import Meter
from kmq.intake.reception import Chunk, Reception
from kmq.model.reply import Reply

_BDAT = re.compile(rb"([0-9]{1,18})(?: +(LAST))? *", re.IGNORECASE).fullmatch
_NAME = re.compile(rb"[!-~\x80-\xff]{1,255}").fullmatch


class Session(Reception):
    """One client's conversation."""

    __slots__ = ()

    # --- what the carrier calls -----------------------------------------------------------------------------------

    def greet(self, early: bool) -> Turn:
        """The first word. early: the client spoke before it, as no mail server does."""
        if not early:
            return self._rules.greeting, ()
        self._hang_up(replies.OUT_OF_SYNC)
        return self.receive()

    def answered(self, queue_id: str, reply: Reply | None) -> Turn:
        """The door's answer to Put, PutLarge or Reserve."""
        refusal = replies.encoded(reply) if reply else None
        arrival = self._arrival
        if arrival and self._state is State.COMMITTING:
            self._committed(queue_id, refusal, arrival)
        elif arrival and self._state is State.RESERVING:
            self._reserved(queue_id, refusal, arrival)
        elif self._state is State.ASKING and reply:
            self._asked(replies.encoded(reply))
        return self.receive()

    def secured(self) -> Turn:
        """The handshake is done: all that was said in the clear counts for nothing."""
        self.secure = True
        self._kept = b""
        self._forget()
        return self.receive()

    def rested(self) -> Turn:
        """The pause that a Pause asked for is over; the pressure may be another by now."""
        if self._state is State.RESTING and not self.closed:
            self._state = State.GREETED
            pressed = self._rules.door.pressed(self._rules.section.submission)
            self._say(self._begin(self._resting, pressed.refusal))
        return self.receive()

    def timed_out(self) -> Turn:
        """The client is too slow."""
        self._hang_up(replies.TIMEOUT)
        return self.receive()

    def stop(self) -> Turn:
        """This server ends: a message on its way comes to its end first, everybody else goes now."""
        self._stopping = True
        if self._arrival is None:
            self._hang_up(replies.SHUTTING_DOWN, unread=False)
        return self.receive()

    def expelled(self) -> Turn:
        """This server ends now."""
        self._hang_up(replies.SHUTTING_DOWN)
        return self.receive()

    def gone(self) -> Turn:
        """The connection is lost. What was handed over stays handed over: its answer is for the log."""
        if self._state is State.COMMITTING:
            self.closed = True
        elif not self.closed:
            self._shut()
        return self.receive()

    # --- commands -------------------------------------------------------------------------------------------------

    def _strange(self, verb: bytes) -> bytes:
        if verb in _KNOWN:
            return replies.OUT_OF_SEQUENCE
        if verb in _FOREIGN:
            return self._hang_up(replies.OUT_OF_SYNC)
        return replies.UNKNOWN_COMMAND

    def _ehlo(self, argument: bytes) -> bytes:
        return self._introduce(argument, True, self._rules.offers(self.secure, self._client.may_etrn))

    def _helo(self, argument: bytes) -> bytes:
        return self._introduce(argument, False, self._rules.hello)

    def _introduce(self, argument: bytes, extended: bool, welcome: bytes) -> bytes:
        name = argument.strip()
        reply = self._idle(welcome if _NAME(name) else replies.HELLO_SYNTAX)
        if reply is welcome:
            self._peer_name = name
            self._extended = extended
            self._introduced = self._introduction(utf8=False)
            self._state = State.GREETED
            self._end_transaction()
        return reply

    def _mail(self, argument: bytes) -> bytes:
        pressed = self._rules.door.pressed(self._rules.section.submission)
        if pressed.wait > 0 and not pressed.refusal:
            return self._rest(argument, pressed.wait)
        return self._begin(argument, pressed.refusal)

    def _rest(self, argument: bytes, seconds: float) -> bytes:
        """The tarpit: MAIL is answered later, and nothing is read meanwhile."""
        self._resting = argument
        self._state = State.RESTING
        self._deeds.append(Pause(seconds))
        return b""

    def _begin(self, argument: bytes, pressure: Reply | None) -> bytes:
        rules = self._rules
        refusal = rules.door.refusal or pressure
        if refusal:
            return replies.encoded(refusal)
        found = parameters.sender(argument)
        if isinstance(found, bytes):
            return self._refuse(found)
        if found.utf8 or self._sender.utf8:
            self._introduced = self._introduction(found.utf8)
        self._sender = found
        if found.size > rules.section.size_limit:
            return self._refuse(replies.TOO_BIG, sender=found.address)
        if rules.rates.paces and not self._in_time(Meter.MESSAGES):
            return self._refuse(replies.SENDS_TOO_MUCH, sender=found.address)
        self.transaction += 1
        self._began = rules.clock()
        self._state = State.SENDER
        return replies.SENDER_OK

    def _rcpt(self, argument: bytes) -> bytes:
        found = parameters.recipient(argument, self._sender.utf8)
        if isinstance(found, bytes):
            return self._refuse(found, sender=self._sender.address)
        address = found.address
        if address not in self._recipients:
            if len(self._recipients) >= self._rules.section.recipient_limit:
                return replies.TOO_MANY_RECIPIENTS
            refusal = self._judge(address)
            if refusal is None and self._rules.rates.paces and not self._in_time(Meter.RECIPIENTS):
                refusal = replies.NAMES_TOO_MANY
            if refusal:
                return self._refuse(refusal, sender=self._sender.address, recipient=address)
            self._recipients[address] = found
            self._state = State.RECIPIENTS
        return replies.RECIPIENT_OK

    def _in_time(self, meter: Meter) -> bool:
        """Whether the client may do so once more within a minute."""
        return self._rules.rates.takes(meter, self._client, self._rules.clock())

    def _judge(self, address: str) -> bytes | None:
        """Why a recipient is refused, or None: this server relays for those whom it trusts, and for nobody else."""
        routes = self._rules.routes
        local_part, at, domain = address.rpartition("@")
        if at and not routes.is_local(domain):
            return None if self._client.trusted else replies.RELAYING_DENIED
        if not self._client.trusted and ("%" in local_part or "!" in local_part or "@" in local_part):
            return replies.RELAYING_DENIED  # a route to elsewhere, which nobody should guess at
        refusal = routes.accepts(address)
        return replies.encoded(refusal) if refusal else None

    def _data(self, argument: bytes) -> bytes:
        if self._more:
            return self._hang_up(replies.OUT_OF_SYNC)
        if argument.strip():
            return replies.NO_ARGUMENT
        refusal = self._rules.door.refusal
        if refusal:
            return replies.encoded(refusal)
        self._begin_content(State.CONTENT)
        return replies.GO_AHEAD

    def _data_too_early(self, argument: bytes) -> bytes:
        """Whoever sends a message behind a DATA that is refused must not have it taken for commands."""
        return self._hang_up(replies.OUT_OF_SYNC) if self._more else replies.OUT_OF_SEQUENCE

    def _bdat(self, argument: bytes) -> bytes:
        chunk = self._chunk_of(argument)
        if chunk is None:
            return b""
        self._chunk = chunk
        refusal = None if self._arrival else self._rules.door.refusal
        if refusal:
            self._end_transaction()
            return self._skip(chunk, replies.encoded(refusal))
        if self._arrival:
            self._state = State.CHUNK
        else:
            self._begin_content(State.CHUNK)
        self._read_chunk()  # there may be no bytes to wait for
        return b""

    def _bdat_too_early(self, argument: bytes) -> bytes:
        chunk = self._chunk_of(argument)
        return self._skip(chunk, replies.OUT_OF_SEQUENCE) if chunk else b""

    def _chunk_of(self, argument: bytes) -> Chunk | None:
        """How many bytes follow, and whether they are the last. When that is not to be known the talk is over."""
        found = _BDAT(argument)
        if found is None:
            self._hang_up(replies.BDAT_SYNTAX)
            return None
        size = int(found[1])
        if size > 2 * self._rules.section.size_limit:
            self._hang_up(replies.TOO_BIG)
            return None
        return Chunk(size, found[2] is not None, size)

    def _skip(self, chunk: Chunk, refusal: bytes) -> bytes:
        chunk.refusal = refusal
        chunk.back = self._state
        self._chunk = chunk
        self._state = State.SKIPPED
        self._read_skipped()  # there may be no bytes to wait for
        return b""

    def _rset(self, argument: bytes) -> bytes:
        if argument.strip():
            return replies.NO_ARGUMENT
        reply = self._idle(replies.RESET_OK)
        if reply:
            self._end_transaction()
        return reply

    def _noop(self, argument: bytes) -> bytes:
        return self._idle(replies.NOTHING_DONE)

    def _vrfy(self, argument: bytes) -> bytes:
        return self._idle(replies.CANNOT_VERIFY)

    def _help(self, argument: bytes) -> bytes:
        return self._idle(replies.HELP)

    def _expn(self, argument: bytes) -> bytes:
        return replies.NOT_IMPLEMENTED

    def _quit(self, argument: bytes) -> bytes:
        if argument.strip():
            return replies.NO_ARGUMENT
        return self._hang_up(self._rules.goodbye, unread=False)

    def _starttls(self, argument: bytes) -> bytes:
        if not self._rules.starttls or self.secure:
            return replies.NOT_IMPLEMENTED
        if self._more:
            return self._hang_up(replies.OUT_OF_SYNC)
        if argument.strip():
            return replies.NO_ARGUMENT
        reply = self._idle(replies.START_TLS)
        if reply:
            self._state = State.HANDSHAKE
            self._deeds.append(StartTls())
        return reply

    def _etrn(self, argument: bytes) -> bytes:
        """Whoever may not ask does not hear that there is such a thing."""
        if not self._client.may_etrn:
            return replies.UNKNOWN_COMMAND
        if self._state is not State.GREETED:
            return replies.OUT_OF_SEQUENCE
        node = node_of(argument)
        refusal = self._idle(b"" if node else replies.ETRN_SYNTAX)
        if node and not self.closed:
            self._node = node
            self._state = State.ASKING
            self._deeds.append(Etrn(node))
        return refusal

    def _asked(self, line: bytes) -> None:
        text = line.decode("ascii").rstrip()
        self._note("etrn", node=self._node, reply=text)
        self._state = State.GREETED
        if not self.closed:
            self._say(line)

    def _refuse(self, line: bytes, **what: str | int) -> bytes:
        """A refusal that leaves a line in the mail log."""
        self._note_refusal(line, **what)
        return line


Command = Callable[[Session, bytes], bytes]

_ALWAYS: dict[bytes, Command] = {
    b"EHLO": Session._ehlo,
    b"HELO": Session._helo,
    b"RSET": Session._rset,
    b"NOOP": Session._noop,
    b"VRFY": Session._vrfy,
    b"EXPN": Session._expn,
    b"HELP": Session._help,
    b"QUIT": Session._quit,
    b"DATA": Session._data_too_early,
    b"BDAT": Session._bdat_too_early,
    b"ETRN": Session._etrn,
}

#: What may be said when, and what it does.
COMMANDS: dict[State, dict[bytes, Command]] = {
    State.CONNECTED: {**_ALWAYS, b"STARTTLS": Session._starttls},
    State.GREETED: {**_ALWAYS, b"STARTTLS": Session._starttls, b"MAIL": Session._mail},
    State.SENDER: {**_ALWAYS, b"RCPT": Session._rcpt},
    State.RECIPIENTS: {**_ALWAYS, b"RCPT": Session._rcpt, b"DATA": Session._data, b"BDAT": Session._bdat},
    State.CHUNKS: {**_ALWAYS, b"BDAT": Session._bdat},
}

#: How bytes are read in which state; a reader says whether it is worth being asked again. None: it is our turn.
READERS: dict[State, Callable[[Session], bool] | None] = {
    State.CONNECTED: Session._read_command,
    State.GREETED: Session._read_command,
    State.SENDER: Session._read_command,
    State.RECIPIENTS: Session._read_command,
    State.CHUNKS: Session._read_command,
    State.CONTENT: Session._read_content,
    State.CHUNK: Session._read_chunk,
    State.SKIPPED: Session._read_skipped,
    State.RESERVING: None,
    State.COMMITTING: None,
    State.RESTING: None,
    State.ASKING: None,
    State.HANDSHAKE: None,
}

Session.commands, Session.readers = COMMANDS, READERS

_KNOWN = frozenset(verb for commands in COMMANDS.values() for verb in commands)

#: Another protocol's client that somebody made talk to us: what it says next is not its own.
_FOREIGN = frozenset({b"GET", b"POST", b"PUT", b"HEAD", b"CONNECT", b"OPTIONS", b"HOST:", b"USER-AGENT:"})
