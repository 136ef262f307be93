"""The envelope: who a message is from and to, and everything that has happened to it.

On disk it is one JSON object per line. The first line is the head, written once; each further line is one event. A
line begins with its checksum: `{"sum":"1a2b3c4d","seq":3,...}`, the CRC-32 of all that follows the comma. A line whose
checksum fails did not happen. The state of a message is a reading of these lines: `fold`.
"""

from collections.abc import Callable
from zlib import crc32

import msgspec

from kmq.model import recipients
from kmq.model.event import (
    AnyEvent,
    Crashed,
    Deferred,
    Delayed,
    Delivered,
    Discarded,
    Event,
    Expanded,
    Failed,
    HeaderEdit,
    Moved,
    Passed,
    Redirected,
    Removed,
    Removing,
    Replaced,
    Resubmitted,
    Resumed,
    Retried,
    Routed,
    Suspended,
)


class Recipient(msgspec.Struct, omit_defaults=True, frozen=True):
    """One address of a message. notify, orcpt: the DSN parameters as the client wrote them (RFC 3461).

    original: the address that an alias stood for it, "" when there was none; what has one is not expanded again.
    """

    address: str
    notify: str = ""
    orcpt: str = ""
    original: str = ""


class Source(msgspec.Struct, omit_defaults=True, frozen=True):
    """How the message came in. how: smtp, dsn, ...; receiver: the section of the configuration.

    file, inode, mtime_ns: of a dropped file, as the journal names it (J12); created_by: what X-CreatedBy said.
    """

    how: str = ""
    ip: str = ""
    helo: str = ""
    user: str = ""
    receiver: str = ""
    file: str = ""
    inode: int = 0
    mtime_ns: int = 0
    created_by: str = ""


class Head(msgspec.Struct, omit_defaults=True, frozen=True):
    """The first line of an envelope: all that delivery needs to know without a look at the body.

    size:      bytes of the body file, our Received: included.
    sha256:    of the body file, as sha256sum prints it.
    longest:   bytes of the longest line without CRLF; dots: some line begins with a dot.
    eight_bit: bytes above 127 in the body; smtputf8: the transaction asked for it (RFC 6531).
    hops:      Received: lines that were there when it came.
    parent:    the message that this one reports about (source.how is dsn) or was expanded from, or "".
    took:      milliseconds from MAIL to the end of the message, of which `created` is the time.
    priority:  "high", "low", or "" for normal (model.priority).
    replayed:  the delivered message that this one brings once more, or "".
    quiet:     its sender is not told what becomes of it.
    passed:    phases, or steps of phases (`Antivirus control/virus`), that it need not go through, since the message
               that it was made of has; by commas.
    edits:     what that message's phases changed of its header, to be changed in this one too on its way out.
    """

    id: str
    sha256: str
    created: str
    sender: str
    recipients: list[Recipient]
    size: int
    source: Source = Source()
    eight_bit: bool = False
    smtputf8: bool = False
    dots: bool = False
    longest: int = 0
    hops: int = 0
    ret: str = ""
    envid: str = ""
    parent: str = ""
    took: int = 0
    priority: str = ""
    replayed: str = ""
    quiet: bool = False
    passed: str = ""
    edits: tuple[HeaderEdit, ...] = ()


_encode = msgspec.json.Encoder().encode
_decode_head = msgspec.json.Decoder(Head, strict=True).decode
_decode_event: Callable[[bytes], AnyEvent] = msgspec.json.Decoder(AnyEvent, strict=True).decode


#: A line, of its checksum and of all that this covers.
_SEALED = b'{"sum":"%08x",%b'


def seal(text: bytes) -> bytes:
    """A JSON object's text -> the same with its checksum in front: one envelope line, without line end."""
    rest = text[1:]
    return _SEALED % (crc32(rest), rest)


def unseal(line: bytes) -> bytes | None:
    """An envelope line -> the JSON text without checksum, or None when it is torn or damaged."""
    if line[:8] != b'{"sum":"' or line[16:18] != b'",':
        return None
    try:
        good = crc32(line[18:]) == int(line[8:16], 16)
    except ValueError:
        return None
    return b"{" + line[18:] if good else None


def head_tail(head: Head) -> bytes:
    """What a receiver knows of a head before the ID is issued: the JSON text from `created` on, for `head_line`."""
    return _encode(head).partition(b',"created"')[2]


def head_line(queue_id: str, sha256: str, tail: bytes) -> bytes:
    """The sealed head of a message: ID and checksum of its body in front of what the receiver made."""
    rest = b'"seq":0,"id":"%b","sha256":"%b","created"%b' % (queue_id.encode(), sha256.encode(), tail)
    return _SEALED % (crc32(rest), rest)


def event_line(event: Event) -> bytes:
    """The sealed line of an event that has its seq and time."""
    rest = _encode(event)[1:]
    return _SEALED % (crc32(rest), rest)


def read_head(line: bytes) -> Head | None:
    """The head of its line; None when it is damaged or no head."""
    text = unseal(line)
    if text is None:
        return None
    try:
        return _decode_head(text)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None


def read_event(line: bytes) -> AnyEvent | None:
    """The event of its line; None when the line is torn, damaged, or of a later program."""
    text = unseal(line)
    if text is None:
        return None
    try:
        return _decode_event(text)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None


#: What ends the way of a recipient in a message.
End = Delivered | Failed | Expanded | Removed | Replaced | Discarded


class State:
    """What the lines of an envelope add up to.

    done:     index -> Delivered, Failed, Expanded, Replaced, Discarded or Removed; the rest is open.
    passed:   the phases that it has been through, in order.
    results:  per recipient the number of results so far: the next attempt is one above (J10).
    warned:   recipients whose sender has been told that it takes longer.
    hop:      per recipient the last next hop, "" before it was routed.
    until:    per recipient the time before which it waits, "" for at once.
    last:     per recipient the last result, None before the first.
    home:     "queue" or "poison"; why: the reason of the last move.
    crashes:  deaths of workers that this message caused alone; crash_number: the assignment of the last one.
    held:     recipients that an operator holds.
    removing: index -> the removal that waits for what is in hand; ends with `done`.
    forced:   index -> the connector that an operator gave the recipient to.
    next_seq: the number of the next line.
    """

    __slots__ = (
        "crash_number",
        "crashes",
        "done",
        "forced",
        "held",
        "home",
        "hop",
        "last",
        "next_seq",
        "passed",
        "removing",
        "results",
        "until",
        "warned",
        "why",
    )

    def __init__(self, count: int) -> None:
        self.done: dict[int, End] = {}
        self.passed: list[Passed] = []
        self.results = [0] * count
        self.warned: set[int] = set()
        self.hop = [""] * count
        self.until = [""] * count
        self.last: list[Delivered | Failed | Deferred | None] = [None] * count
        self.home = "queue"
        self.why = ""
        self.crashes = 0
        self.crash_number = 0
        self.held: set[int] = set()
        self.removing: dict[int, Removing] = {}
        self.forced: dict[int, str] = {}
        self.next_seq = 1

    def after(self, event: AnyEvent) -> None:
        """Takes one more event; recipients that the head does not have are ignored (a damaged line cannot harm)."""
        self.next_seq = max(self.next_seq, event.seq + 1)
        match event:
            case Routed():
                for index in self._of(event.rcpt):
                    self.hop[index] = event.hop
            case Delivered() | Failed() | Deferred():
                for index in self._of(event.rcpt):
                    self._result(index, event)
            case Delayed():
                self.warned.update(self._of(event.rcpt))
            case Passed():
                self.passed.append(event)
            case Expanded() | Removed() | Replaced() | Discarded():
                self.done.update(dict.fromkeys(self._of(event.rcpt), event))
            case Crashed():
                self.crashes, self.crash_number = event.count, event.n
            case Moved():
                self.home, self.why = event.home, event.reason
                if event.home == "queue":
                    self.crashes = 0
                    self.held.clear()  # an operator let it go on
            case Suspended() | Resumed() | Removing() | Resubmitted() | Redirected() | Retried():
                self._operated(event)
            case _:
                pass

    def _operated(self, event: Suspended | Resumed | Removing | Resubmitted | Redirected | Retried) -> None:
        """An operator's word about recipients, or about all."""
        meant = self._of(event.rcpt) if event.rcpt else range(len(self.results))
        match event:
            case Suspended():
                self.held.update(meant)
            case Resumed():
                self.held.difference_update(meant)
            case Removing():
                self.removing.update(dict.fromkeys(meant, event))
            case Retried():
                for index in meant:
                    self.until[index] = ""
            case Resubmitted() | Redirected():
                for index in meant:
                    self.hop[index] = self.until[index] = ""
                if isinstance(event, Redirected):
                    self.forced.update(dict.fromkeys(meant, event.connector))

    def _of(self, rcpt: str) -> list[int]:
        try:
            return [index for index in recipients.from_text(rcpt) if index < len(self.results)]
        except ValueError:
            return []  # sealed, and yet no set of recipients: it names nobody

    def _result(self, index: int, event: Delivered | Failed | Deferred) -> None:
        self.results[index] = max(self.results[index], event.attempt)
        self.last[index] = event
        if isinstance(event, Deferred):
            self.until[index] = event.until
        else:
            self.done[index] = event

    @property
    def suspended(self) -> bool:
        """An operator holds all of it that is open."""
        return bool(self.held) and self.held.issuperset(self.open)

    @property
    def open(self) -> list[int]:
        """The recipients that still wait for an end."""
        return [index for index in range(len(self.results)) if index not in self.done]


def lines_of(text: bytes) -> list[bytes]:
    """The lines of an envelope file; an append begins with a newline, so a torn one spoils only itself.

    After a power cut the end of a file may be zeros, the newline of the lost line among them: zeros end a line too.
    """
    if b"\0" in text:
        text = text.replace(b"\0", b"\n")
    return [line for line in text.split(b"\n") if line]


def fold(text: bytes) -> tuple[Head, State, list[AnyEvent]] | None:
    """The whole envelope from its file's bytes: head, state, good events in order of seq. None without a good head.

    A line that stands twice (an effect that was applied again after a crash) counts once.
    """
    lines = lines_of(text)
    head = read_head(lines[0]) if lines else None
    if head is None:
        return None
    found = {event.seq: event for event in map(read_event, lines[1:]) if event is not None}
    events = [found[seq] for seq in sorted(found)]
    state = State(len(head.recipients))
    for event in events:
        state.after(event)
    return head, state, events
