"""The SMTP server's side of a conversation, as a state machine without I/O: bytes in, replies and deeds out (RFC 5321).

Law:      what may be said when stands in COMMANDS, and how bytes are read in which state in READERS. A command that
          its state does not have is out of sequence (503); one that no state has is unknown (500).
Promise:  the same bytes, however they are cut into reads, give the same replies and deeds (except that nothing may
          come behind DATA or STARTTLS before it is answered). At most one reply per command. Whatever arrives, memory
          is bounded: `small_body`, a header of 100 kB, the recipients, and one read.
On crash: a client without its 250 sends again; nothing of a session is kept.
Callers:  its carrier (`smtpd`) calls one method after the other, and carries out the deeds that each returns. While
          `waiting` is true it holds the client back: what still comes is kept.
"""

import re
from collections.abc import Callable

from kmq.intake import parameters, replies
from kmq.intake.deeds import AnyDeed, Etrn, Note, Pause, StartTls
from kmq.intake.etrn import node_of
from kmq.intake.rates import Meter
from kmq.intake.reception import Chunk, Reception, State
from kmq.model.envelope import Source
from kmq.model.reply import Reply

_BDAT = re.compile(rb"([0-9]{1,18})(?: +(LAST))? *", re.IGNORECASE).fullmatch
_NAME = re.compile(rb"[!-~\x80-\xff]{1,255}").fullmatch


class Session(Reception):
    """One client's conversation."""

    __slots__ = ()

    def _read_on(self) -> None:
        while not self.closed and READERS[self._state](self):
            pass

    # --- what the carrier calls -----------------------------------------------------------------------------------

    def greet(self, early: bool) -> list[AnyDeed]:
        """The first word. early: the client spoke before it, as no mail server does."""
        if early:
            self._hang_up(replies.OUT_OF_SYNC)
        else:
            self._say(self._rules.greeting)
        return self._turn()

    def receive(self, read: bytes) -> list[AnyDeed]:
        """Takes what came from the client."""
        if self.closed:
            return []
        self._kept = self._kept + read if self._kept else read
        return self._turn()

    def answered(self, queue_id: str, reply: Reply | None) -> list[AnyDeed]:
        """The door's answer to Put, PutLarge or Reserve."""
        refusal = replies.encoded(reply) if reply else None
        arrival = self._arrival
        if arrival and self._state is State.COMMITTING:
            self._committed(queue_id, refusal, arrival)
        elif arrival and self._state is State.RESERVING:
            self._reserved(queue_id, refusal, arrival)
        elif self._state is State.ASKING and reply:
            self._asked(replies.encoded(reply))
        return self._turn()

    def secured(self) -> list[AnyDeed]:
        """The handshake is done: all that was said in the clear counts for nothing."""
        self.secure = True
        self._kept = b""
        self._forget()
        return self._turn()

    def rested(self) -> list[AnyDeed]:
        """The pause that a Pause asked for is over; the pressure may be another by now."""
        if self._state is State.RESTING and not self.closed:
            self._state = State.GREETED
            self._begin(self._resting, self._rules.pressed().refusal)
        return self._turn()

    def timed_out(self) -> list[AnyDeed]:
        """The client is too slow."""
        self._hang_up(replies.TIMEOUT)
        return self._turn()

    def stop(self) -> list[AnyDeed]:
        """This server ends: a message on its way comes to its end first, everybody else goes now."""
        self._stopping = True
        if self._arrival is None:
            self._hang_up(replies.SHUTTING_DOWN, unread=False)
        return self._turn()

    def expelled(self) -> list[AnyDeed]:
        """This server ends now."""
        self._hang_up(replies.SHUTTING_DOWN)
        return self._turn()

    def gone(self) -> list[AnyDeed]:
        """The connection is lost. What was handed over stays handed over: its answer is for the log."""
        if self._state is State.COMMITTING:
            self.closed = True
        elif not self.closed:
            self._shut()
        return self._turn()

    # --- commands -------------------------------------------------------------------------------------------------

    def _obey(self, verb: bytes, argument: bytes) -> None:
        command = COMMANDS[self._state].get(verb)
        if command is not None:
            command(self, argument)
        elif verb in _KNOWN:
            self._say(replies.OUT_OF_SEQUENCE)
        elif verb in _FOREIGN:
            self._hang_up(replies.OUT_OF_SYNC)
        else:
            self._say(replies.UNKNOWN_COMMAND)

    def _ehlo(self, argument: bytes) -> None:
        if self._introduce(argument, extended=True):
            self._say(self._rules.offers(self.secure, self._client.may_etrn))

    def _helo(self, argument: bytes) -> None:
        if self._introduce(argument, extended=False):
            self._say(self._rules.hello)

    def _introduce(self, argument: bytes, extended: bool) -> bool:
        if self._is_junk():
            return False
        name = argument.strip()
        if not _NAME(name):
            self._say(replies.HELLO_SYNTAX)
            return False
        self._peer_name = name
        self._extended = extended
        self._origin = self._origin_of(utf8=False)
        self._source = self._source_of(name.decode("ascii", "backslashreplace"))
        self._state = State.GREETED
        self._end_transaction()
        return True

    def _source_of(self, helo: str) -> Source:
        return Source(how="smtp", ip=self._client.ip, helo=helo, receiver=self._rules.section.name)

    def _mail(self, argument: bytes) -> None:
        pressed = self._rules.pressed()
        if pressed.wait > 0 and not pressed.refusal:
            self._rest(argument, pressed.wait)
        else:
            self._begin(argument, pressed.refusal)

    def _rest(self, argument: bytes, seconds: float) -> None:
        """The tarpit: MAIL is answered later, and nothing is read meanwhile."""
        self._resting = argument
        self._state = State.RESTING
        self._deeds.append(Pause(seconds))

    def _begin(self, argument: bytes, pressure: Reply | None) -> None:
        refusal = self._rules.refusal() or pressure
        if refusal:
            return self._say(replies.encoded(refusal))
        found = parameters.sender(argument)
        if isinstance(found, bytes):
            return self._refuse(found)
        self._sender = found
        if found.size > self._rules.section.size_limit:
            return self._refuse(replies.TOO_BIG, sender=found.address)
        if not self._in_time(Meter.MESSAGES):
            return self._refuse(replies.SENDS_TOO_MUCH, sender=found.address)
        self.transaction += 1
        self._began = self._rules.clock()
        self._state = State.SENDER
        return self._say(replies.SENDER_OK)

    def _rcpt(self, argument: bytes) -> None:
        found = parameters.recipient(argument, self._sender.utf8)
        if isinstance(found, bytes):
            return self._refuse(found, sender=self._sender.address)
        address = found.address
        if address not in self._recipients:
            if len(self._recipients) >= self._rules.section.recipient_limit:
                return self._say(replies.TOO_MANY_RECIPIENTS)
            refusal = self._judge(address)
            if refusal is None and not self._in_time(Meter.RECIPIENTS):
                refusal = replies.NAMES_TOO_MANY
            if refusal:
                return self._refuse(refusal, sender=self._sender.address, recipient=address)
            self._recipients[address] = found
            if self._state is State.SENDER:
                self._state = State.RECIPIENTS
        return self._say(replies.RECIPIENT_OK)

    def _in_time(self, meter: Meter) -> bool:
        """Whether the client may do so once more within a minute."""
        rates = self._rules.rates
        return rates is None or rates.takes(meter, self._client, self._rules.clock())

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

    def _data(self, argument: bytes) -> None:
        if self._more:
            return self._hang_up(replies.OUT_OF_SYNC)
        if argument.strip():
            return self._say(replies.NO_ARGUMENT)
        refusal = self._rules.refusal()
        if refusal:
            return self._say(replies.encoded(refusal))
        self._begin_content(State.CONTENT)
        return self._say(replies.GO_AHEAD)

    def _data_too_early(self, argument: bytes) -> None:
        """Whoever sends a message behind a DATA that is refused must not have it taken for commands."""
        if self._more:
            self._hang_up(replies.OUT_OF_SYNC)
        else:
            self._say(replies.OUT_OF_SEQUENCE)

    def _bdat(self, argument: bytes) -> None:
        chunk = self._chunk_of(argument)
        if chunk is None:
            return
        self._chunk = chunk
        refusal = None if self._arrival else self._rules.refusal()
        if refusal:
            self._end_transaction()
            self._skip(chunk, replies.encoded(refusal))
        elif self._arrival:
            self._state = State.CHUNK
        else:
            self._begin_content(State.CHUNK)

    def _bdat_too_early(self, argument: bytes) -> None:
        chunk = self._chunk_of(argument)
        if chunk:
            self._skip(chunk, replies.OUT_OF_SEQUENCE)

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

    def _skip(self, chunk: Chunk, refusal: bytes) -> None:
        chunk.refusal = refusal
        chunk.back = self._state
        self._chunk = chunk
        self._state = State.SKIPPED

    def _rset(self, argument: bytes) -> None:
        if self._takes_nothing(argument) and not self._is_junk():
            self._end_transaction()
            self._say(replies.RESET_OK)

    def _noop(self, argument: bytes) -> None:
        if not self._is_junk():
            self._say(replies.NOTHING_DONE)

    def _vrfy(self, argument: bytes) -> None:
        if not self._is_junk():
            self._say(replies.CANNOT_VERIFY)

    def _help(self, argument: bytes) -> None:
        if not self._is_junk():
            self._say(replies.HELP)

    def _expn(self, argument: bytes) -> None:
        self._say(replies.NOT_IMPLEMENTED)

    def _quit(self, argument: bytes) -> None:
        if self._takes_nothing(argument):
            self._hang_up(self._rules.goodbye, unread=False)

    def _starttls(self, argument: bytes) -> None:
        if not self._rules.starttls or self.secure:
            return self._say(replies.NOT_IMPLEMENTED)
        if self._more:
            return self._hang_up(replies.OUT_OF_SYNC)
        if self._takes_nothing(argument) and not self._is_junk():
            self._say(replies.START_TLS)
            self._state = State.HANDSHAKE
            self._deeds.append(StartTls())
        return None

    def _etrn(self, argument: bytes) -> None:
        """Whoever may not ask does not hear that there is such a thing."""
        if not self._client.may_etrn:
            return self._say(replies.UNKNOWN_COMMAND)
        if self._state is not State.GREETED:
            return self._say(replies.OUT_OF_SEQUENCE)
        if self._is_junk():
            return None
        node = node_of(argument)
        if not node:
            return self._say(replies.ETRN_SYNTAX)
        self._node = node
        self._state = State.ASKING
        return self._deeds.append(Etrn(node))

    def _asked(self, line: bytes) -> None:
        text = line.decode("ascii").rstrip()
        self._deeds.append(Note("etrn", "", self._who() | {"node": self._node, "reply": text}))
        self._state = State.GREETED
        if not self.closed:
            self._say(line)

    def _takes_nothing(self, argument: bytes) -> bool:
        if argument.strip():
            self._say(replies.NO_ARGUMENT)
            return False
        return True

    def _refuse(self, line: bytes, **what: str | int) -> None:
        self._note_refusal(line, **what)
        self._say(line)


Command = Callable[[Session, bytes], None]

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

#: How bytes are read in which state; a reader says whether it got any further.
READERS: dict[State, Callable[[Session], bool]] = {
    State.CONNECTED: Session._read_command,
    State.GREETED: Session._read_command,
    State.SENDER: Session._read_command,
    State.RECIPIENTS: Session._read_command,
    State.CHUNKS: Session._read_command,
    State.CONTENT: Session._read_content,
    State.CHUNK: Session._read_chunk,
    State.SKIPPED: Session._read_skipped,
    State.RESERVING: Session._wait,
    State.COMMITTING: Session._wait,
    State.RESTING: Session._wait,
    State.ASKING: Session._wait,
    State.HANDSHAKE: Session._wait,
}

_KNOWN = frozenset(verb for commands in COMMANDS.values() for verb in commands)

#: Another protocol's client that somebody made talk to us: what it says next is not its own.
_FOREIGN = frozenset({b"GET", b"POST", b"PUT", b"HEAD", b"CONNECT", b"OPTIONS", b"HOST:", b"USER-AGENT:"})
