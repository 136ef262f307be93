"""Command lines in, replies out: what the SMTP session is built upon, and what it has in common with any such server.

Promise:  a line is at most LINE_LIMIT long and ends in CRLF; it holds no other CR, no LF and no NUL. A longer one is
          counted, not kept. One error or one idle command too many ends the conversation.
Callers:  `session`, which says what the lines mean.
"""

from kmq.intake import replies
from kmq.intake.deeds import AnyDeed, Close, Say

LINE_LIMIT = 2048  #: bytes of a command line; 512 and room for the parameters of all extensions
DRAIN_LIMIT = 65536  #: a line beyond this is no mistake but an attack

_PERMANENT = ord("5")


class Conversation:
    """The mechanics of a conversation; a subclass gives `_read_on`, `_obey` and `_end`."""

    __slots__ = ("_at", "_command_limit", "_deeds", "_error_limit", "_errors", "_junk", "_kept", "_out", "_overlong",
                 "closed", "progress")  # fmt: skip

    def __init__(self, error_limit: int, command_limit: int) -> None:
        self._error_limit = error_limit
        self._command_limit = command_limit
        self._kept = b""
        self._at = 0  # the bytes of _kept before here are done with
        self._overlong = 0  # bytes thrown away of a command line that has no end yet
        self._out: list[bytes] = []
        self._deeds: list[AnyDeed] = []
        self._errors = 0
        self._junk = 0
        self.progress = 0  # counts what the client got done: whoever looks at times sees whether it stands still
        self.closed = False

    def _read_on(self) -> None:
        """Reads as the state has it, until more bytes or somebody's answer are needed."""
        raise NotImplementedError

    def _obey(self, verb: bytes, argument: bytes) -> None:
        """Carries out a command; verb in upper case, argument what stands behind the first blank."""
        raise NotImplementedError

    def _end(self) -> None:
        """The conversation is over: drops what is under way."""
        raise NotImplementedError

    # --- one turn ---

    def _turn(self) -> list[AnyDeed]:
        """All that can be done now; what the carrier is to do for it."""
        self._read_on()
        if self._at:
            self._kept = self._kept[self._at :]
            self._at = 0
        deeds = self._deeds
        self._deeds = []
        if self._out:
            deeds.insert(0, Say(b"".join(self._out)))
            self._out.clear()
        return deeds

    @property
    def _more(self) -> bool:
        """The client sent something behind the command that is being carried out."""
        return self._at < len(self._kept)

    def _say(self, line: bytes) -> None:
        """Says a reply; one error too many becomes the last word."""
        if line[0] == _PERMANENT and not self.closed:
            self._errors += 1
            if self._errors >= self._error_limit:
                return self._hang_up(replies.TOO_MANY_ERRORS)
        return self._out.append(line)

    def _is_junk(self) -> bool:
        """Counts a command that brings no mail; True when it was one too many."""
        self._junk += 1
        if self._junk <= self._command_limit:
            return False
        self._hang_up(replies.TOO_MANY_COMMANDS)
        return True

    def _hang_up(self, line: bytes, unread: bool = True) -> None:
        """The last word. unread: the client may be sending still (see Close); only behind QUIT it is not."""
        if not self.closed:
            self._out.append(line)
            self._shut()
            self._deeds.append(Close(unread))

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
        line = kept[at:end]
        self._at = end + 1
        self.progress += 1
        text = line[:-1]
        if self._overlong or end - at >= LINE_LIMIT:
            self._end_overlong(end - at)
        elif b"\r" in text or line[-1:] != b"\r":
            self._say(replies.BARE_IN_COMMAND)
        elif b"\0" in text:
            self._say(replies.NUL_IN_COMMAND)
        else:
            verb, _, argument = text.partition(b" ")
            self._obey(verb.upper(), argument)
        return True

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
