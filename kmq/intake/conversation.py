"""Command lines in, replies out: what the SMTP session is built upon, and what it has in common with any such server.

Law:      two tables say what happens in which state: how bytes are read, and which commands there are. A command gives
          back its reply, b"" when that comes later or the last word is said.
Promise:  a line is at most LINE_LIMIT long and ends in CRLF; it holds no other CR, no LF and no NUL. A longer one is
          counted, not kept. One error or one idle command too many ends the conversation.
Callers:  `session`, which says what the lines mean.
"""

from collections.abc import Callable, Mapping
from enum import IntEnum, auto
from typing import Any, ClassVar

from kmq.intake import replies
from kmq.intake.deeds import AnyDeed, Close, Turn

LINE_LIMIT = 2048  #: bytes of a command line; 512 and room for the parameters of all extensions
DRAIN_LIMIT = 65536  #: a line beyond this is no mistake but an attack

_PERMANENT = ord("5")
_CR = ord("\r")


class State(IntEnum):
    """Where the conversation stands."""

    CONNECTED = auto()  #: no HELO yet
    GREETED = auto()  #: between messages
    SENDER = auto()  #: MAIL was taken, no recipient yet
    RECIPIENTS = auto()  #: at least one RCPT was taken
    CHUNKS = auto()  #: between two BDAT
    CONTENT = auto()  #: behind 354
    CHUNK = auto()  #: within the bytes of a BDAT
    SKIPPED = auto()  #: within those of a BDAT that was refused
    RESERVING = auto()  #: a large body waits for its ID
    COMMITTING = auto()  #: all is handed over; durable?
    RESTING = auto()  #: MAIL waits (tarpit)
    ASKING = auto()  #: ETRN waits for its answer
    HANDSHAKE = auto()  #: behind STARTTLS


class Conversation:
    """The mechanics of a conversation; a subclass gives the tables, `_strange` and `_end`.

    waiting: it is not the client's turn. progress: counts what the client got done: whoever looks at times sees whether
    it stands still.
    """

    __slots__ = ("_at", "_command_limit", "_deeds", "_error_limit", "_errors", "_junk", "_kept", "_out", "_overlong",
                 "_state", "closed", "progress", "waiting")  # fmt: skip

    #: State -> who reads on, and says whether it is worth being asked again; None: nothing is read, it is our turn.
    readers: ClassVar[Mapping[State, Callable[[Any], bool] | None]]
    #: State -> what may be said, in upper case, and who carries it out; the argument is what stands behind a blank.
    commands: ClassVar[Mapping[State, Mapping[bytes, Callable[[Any, bytes], bytes]]]]

    def __init__(self, error_limit: int, command_limit: int) -> None:
        self._error_limit = error_limit
        self._command_limit = command_limit
        self._state = State.CONNECTED
        self._kept = b""
        self._at = 0  # the bytes of _kept before here are done with
        self._overlong = 0  # bytes thrown away of a command line that has no end yet
        self._out: list[bytes] = []
        self._deeds: list[AnyDeed] = []
        self._errors = 0
        self._junk = 0
        self.progress = 0
        self.closed = self.waiting = False

    def _strange(self, verb: bytes) -> bytes:
        """The reply to a command that there is not, or not now."""
        raise NotImplementedError

    def _end(self) -> None:
        """The conversation is over: drops what is under way."""
        raise NotImplementedError

    # --- one turn ---

    def receive(self, read: bytes = b"") -> Turn:
        """Takes what came from the client, and does all that can be done now."""
        if not self.closed:
            self._kept += read
            reader = self.readers[self._state]
            while reader is not None and reader(self) and not self.closed:
                reader = self.readers[self._state]
        self.waiting = not self.closed and self.readers[self._state] is None
        if self._at:
            self._kept = self._kept[self._at :]
            self._at = 0
        said = b""
        if self._out:
            said = b"".join(self._out)
            self._out.clear()
        if not self._deeds:
            return said, ()
        found, self._deeds = self._deeds, []
        return said, found

    @property
    def _more(self) -> bool:
        """The client sent something behind the command that is being carried out."""
        return self._at < len(self._kept)

    def _say(self, line: bytes) -> None:
        """Says a reply; one error too many becomes the last word."""
        if line[0] == _PERMANENT and not self.closed:
            self._errors += 1
            if self._errors >= self._error_limit:
                self._hang_up(replies.TOO_MANY_ERRORS)
                return
        self._out.append(line)

    def _idle(self, reply: bytes) -> bytes:
        """Counts a command that brings no mail; its reply, or nothing more when it was one too many."""
        self._junk += 1
        return reply if self._junk <= self._command_limit else self._hang_up(replies.TOO_MANY_COMMANDS)

    def _hang_up(self, line: bytes, unread: bool = True) -> bytes:
        """The last word; nothing is said behind it. unread: the client may be sending still (see Close); only behind
        QUIT it is not."""
        if not self.closed:
            self._out.append(line)
            self._shut()
            self._deeds.append(Close(unread))
        return b""

    def _shut(self) -> None:
        self.closed = True
        self._kept, self._at = b"", 0
        self._end()

    # --- lines ---

    def _read_command(self) -> bool:
        kept, at = self._kept, self._at
        end = kept.find(b"\n", at)
        if end < 0:
            return at < len(kept) and self._read_unfinished()
        text = kept[at : end - 1]
        self._at = end + 1
        self.progress += 1
        if self._overlong or end - at >= LINE_LIMIT:
            self._end_overlong(end - at)
        elif end == at or kept[end - 1] != _CR or b"\r" in text:
            self._say(replies.BARE_IN_COMMAND)
        elif b"\0" in text:
            self._say(replies.NUL_IN_COMMAND)
        else:
            verb, _, argument = text.partition(b" ")
            verb = verb.upper()
            command = self.commands[self._state].get(verb)
            reply = command(self, argument) if command is not None else self._strange(verb)
            if reply and reply[0] != _PERMANENT:
                self._out.append(reply)
            elif reply:
                self._say(reply)
        return self._at < len(self._kept)

    def _read_unfinished(self) -> bool:
        """A line without its end: kept while it can become a command, counted when it cannot."""
        length = len(self._kept) - self._at
        if self._overlong or length >= LINE_LIMIT:
            self._overlong += length
            self._kept, self._at = b"", 0
            if self._overlong > DRAIN_LIMIT:
                self._end_overlong(0)
        return False

    def _end_overlong(self, length: int) -> None:
        length += self._overlong
        self._overlong = 0
        if length > DRAIN_LIMIT:
            self._hang_up(replies.LINE_TOO_LONG)
        else:
            self._say(replies.LINE_TOO_LONG)
