"""What the processes say to each other over Unix sockets: a JSON head and raw bytes in each frame.

Shape:   two little-endian 32-bit lengths, the head (one of the classes below, by its tag `t`), the raw bytes.
Bounds:  a head is at most 1 MiB, the raw part at most 16 MiB; whoever breaks this is cut off.
Names:   m is a message's ID as text, hop the text of a next hop, rcpt a set of recipients as text, n a number that the
         sender counts for itself.
"""

from collections.abc import Callable
from struct import Struct
from typing import Union

import msgspec

LENGTHS = Struct("<II")
HEAD_LIMIT = 1 << 20
RAW_LIMIT = 16 << 20


class Frame(msgspec.Struct, omit_defaults=True, tag_field="t"):
    """What all frames share."""


# --- every process, first -------------------------------------------------------------------------------------------


class Hello(Frame, tag="hello"):
    """Who speaks: role and number name the status file; started tells two processes with one pid apart."""

    role: str
    n: int
    pid: int
    started: float


# --- receivers (and whatever else brings mail in) -------------------------------------------------------------


class Put(Frame, tag="put"):
    """Take this message. raw = what `head_tail` made, then the body (none of it when it lies in incoming/).

    token:    random, 32 hex digits; asked for again after the scheduler process came back (J10).
    tail:     bytes of the head's tail at the beginning of raw.
    count:    recipients.
    stamp:    where in the body 17 bytes are kept free for the ID, or -1.
    m, sha256, incoming: a large body's reserved ID, checksum, and name below incoming/.
    dropped:  the file of a drop directory that it was (J12): its name, inode, and modification time in nanoseconds.
    """

    token: str
    tail: int
    count: int
    stamp: int = -1
    m: str = ""
    sha256: str = ""
    incoming: str = ""
    dropped: tuple[str, int, int] | None = None


class Reserve(Frame, tag="reserve"):
    """A large body begins: which ID will it have? Good for this run of the scheduler process only."""

    token: str


class Ask(Frame, tag="ask"):
    """The scheduler process is new: what became of these puts?"""

    tokens: list[str]


class Etrn(Frame, tag="etrn"):
    """A client asks for the mail of a node (RFC 1985): a domain, `@` and a domain, or `#` and a name."""

    token: str
    node: str


class Etrned(Frame, tag="etrned"):
    """What it is to hear."""

    token: str
    reply: str


class Stored(Frame, tag="stored"):
    """Durable: (token, ID) each."""

    puts: list[tuple[str, str]]


class Refused(Frame, tag="refused"):
    """Not taken; reply is what the client is to hear."""

    token: str
    reply: str


class Reserved(Frame, tag="reserved"):
    """The ID for a large body."""

    token: str
    m: str


class Intake(Frame, tag="intake"):
    """Whether mail may come in: "" or the reply that every client hears until this is said again.

    servers, users: what other servers and users of this one hear at MAIL (back pressure), "" for nothing; servers_wait,
    users_wait: seconds for which MAIL waits.
    """

    reply: str = ""
    servers: str = ""
    users: str = ""
    servers_wait: float = 0.0
    users_wait: float = 0.0


# --- workers ---------------------------------------------------------------------------------------------------------


class Assign(Frame, tag="assign"):
    """Do this. raw = the envelope's head line, then the body, when both are at hand (else they are read from disk).

    head, body: bytes of each in raw.
    n:       number of the assignment; the result bears it.
    attempt: of these recipients; alone: nobody else is in the worker's hands (a suspect, design: poison).
    expire:  the lifetime is over: do not deliver, make the notice, fail with this reply.
    delay:   do not deliver, make the notice that it takes longer, because of this reply (Delayed).
    warn:    make that notice when recipients are deferred.
    configuration: by which it is to be done; a worker that does not have it yet holds the assignment until it has.
    forced:  for the categorizer: the connector that an operator gave these recipients to, or "".
    before:  the number of the message's last event, for the categorizer and what goes ahead of it, 0 for none; edited:
             its header is changed on its way out, by what its events say.
    """

    n: int
    m: str
    hop: str
    rcpt: str
    attempt: int
    head: int = 0
    body: int = 0
    home: str = "queue"
    alone: bool = False
    expire: str = ""
    delay: str = ""
    warn: bool = False
    configuration: int = 0
    forced: str = ""
    before: int = 0
    edited: bool = False


class Show(Frame, tag="show"):
    """A message whose record is being synced, and that will be assigned in a moment (J1a): all its recipients, fresh.

    raw, head, body: as in Assign. When it is assigned to the worker that was shown it, that comes without raw.
    """

    m: str
    rcpt: str
    head: int
    body: int
    configuration: int


class Unshow(Frame, tag="unshow"):
    """The message that was shown is not for this worker."""


class Child(msgspec.Struct, array_like=True):
    """A message that a worker made, to be put in one record with the result that it belongs to.

    count: recipients; tail, body: bytes of its head's tail and of its body in raw; stamp: as in Put.
    kind:  notice; expansion: what an alias stands for; letter: a phase sends it; replacement: it goes on instead.
    incoming, sha256: as in Put, when the body is not in raw. Its name is one that this worker made.
    """

    count: int
    tail: int
    body: int
    stamp: int = -1
    kind: str = "notice"
    incoming: str = ""
    sha256: str = ""


class Blame(msgspec.Struct, array_like=True):
    """Recipients that failed for good for a cause that may be our own fault (run/grace). domains: some of theirs."""

    cause: str
    count: int
    sender: str
    domains: list[str]


class Done(Frame, tag="done"):
    """What became of an assignment; kept by the worker until acknowledged.

    events:      as encoded JSON, without seq.
    unavailable: reply of a next hop that could not be reached; hop says which.
    children:    messages made, whose bytes follow in raw, in this order. The first one that is a notice is that of what
                 failed. Expanded, Replaced and Passed name in `child` those of kind expansion, replacement and letter
                 by their places among these.
    unnoticed:   some recipients failed for good and nobody can be told of it (a notice of ours, or another's).
    damaged:     the body is not what was accepted, so nothing was delivered.
    crashed:     our own program failed on this message, in this phase; trace says where.
    configuration: the number of the one by which it was routed; 0 when it was routed before.
    blames:      of failures among the events.
    """

    n: int
    m: str
    hop: str
    rcpt: str
    attempt: int
    events: list[msgspec.Raw] = []
    unavailable: str = ""
    uncertain: bool = False
    children: list[Child] = []
    unnoticed: bool = False
    damaged: str = ""
    crashed: str = ""
    trace: str = ""
    configuration: int = 0
    blames: list[Blame] = []


class Holding(Frame, tag="holding"):
    """After the scheduler process came back: every assignment in hand, begun or not (J10). Results follow as Done.

    held: (n, m, hop, rcpt, attempt) of each. Raw: the same as JSON, where the head has no room for them (`laden`).
    """

    held: list[tuple[int, str, str, str, int]] = []


class Known(Frame, tag="known"):
    """These results are durable, or were known before: forget them.

    fates: number -> what the scheduler process added to a result: the time of the next attempt, and the IDs of the
           messages that were made with it, by kind. Only where there is something to say.
    """

    numbers: list[int]
    fates: dict[int, tuple[str, dict[str, list[str]]]] = {}


class Closed(Frame, tag="closed"):
    """Next hops that are not to be begun for fresh messages (suspended, or waiting for a retry)."""

    hops: list[str]


# --- the index -----------------------------------------------------------------------------------------------------


class Changed(Frame, tag="changed"):
    """These messages' files have changed or gone, by `at` (Unix time); answered by Indexed. raw: IDs, 8 bytes each.

    lost: nobody knows which; all are compared.
    """

    at: float
    lost: bool = False


class Indexed(Frame, tag="indexed"):
    """The index is as the last Changed has it, or could not be made so."""


# --- supervisor -----------------------------------------------------------------------------------------------


class Living(Frame, tag="living"):
    """First word of the supervisor to a new scheduler process: (role, n, pid) of everybody who lives (J10)."""

    children: list[tuple[str, int, int]]


class Reaped(Frame, tag="reaped"):
    """A child is dead and reaped (J9). itself: by its own doing, not a signal from outside; hung: it stood still."""

    role: str
    n: int
    pid: int
    itself: bool
    hung: bool = False
    cause: str = ""


class End(Frame, tag="end"):
    """Please end this process: its socket is gone, or its loop stands still; answered by Reaped."""

    role: str
    n: int
    pid: int
    hung: bool = False


class Stop(Frame, tag="stop"):
    """To a worker: finish what is in hand and go. From a worker: nothing new, please, I am going."""


# --- the cord between the supervisor and a child (run/cord): descriptors travel beside the frame --------------------


class Prepare(Frame, tag="prepare"):
    """To a child: make ready to work by these settings, and change nothing yet.

    n:       number of the configuration.
    sockets: names of the listeners whose descriptors follow that of the settings; tallies: sections, likewise.
    """

    n: int
    sockets: list[str] = []
    tallies: list[str] = []


class Prepared(Frame, tag="prepared"):
    """From a child: ready, or why not; then all go on by the old configuration."""

    n: int
    problem: str = ""


class Commit(Frame, tag="commit"):
    """To a child: everybody is ready, so work by it from now on."""

    n: int


class Cancel(Frame, tag="cancel"):
    """To a child: somebody is not ready; forget what was prepared."""

    n: int


class Beat(Frame, tag="beat"):
    """From a child, each five seconds, and when it has news: its loop runs.

    configuration: the number of the one it works by; ready: it does its work. From the scheduler process: queued:
    messages; closed: what of mail is not taken in now (back pressure), "" when all is.
    """

    configuration: int
    ready: bool = False
    queued: int = -1
    closed: str = ""


class Reload(Frame, tag="reload"):
    """From the scheduler process: an operator wants the configuration to be read again; answered by Reloaded."""

    token: int = 0


class Reloaded(Frame, tag="reloaded"):
    """What became of it. problem: why the old configuration stays, a line for each mistake; status: its exit status.

    n: number of the configuration that counts now; changed, waiting: options, as `[mx] listen`, that count now, and
    that count when kmqd is started anew; warnings: lines about the new configuration.
    """

    token: int
    n: int
    problem: str = ""
    status: int = 0
    changed: list[str] = []
    waiting: list[str] = []
    warnings: list[str] = []


# --- operators ------------------------------------------------------------------------------------------------


class Verb(Frame, tag="verb"):
    """An operator's word; arguments by name; uid as the kernel says it."""

    verb: str
    arguments: dict[str, str | int | bool | list[str]] = {}


class Answer(Frame, tag="answer"):
    """One line of the answer, a JSON object; the last one has `status` (the program's exit status) and a sentence."""

    line: msgspec.Raw = msgspec.Raw(b"{}")
    status: int = -1
    text: str = ""


class Look(Frame, tag="look"):
    """Look for me: the words of a `kmq`. Descriptors of standard input, output and errors travel beside it; after it
    each byte is the number of a signal.

    environment: what there is of TERM, NO_COLOR and TZ; encoding: of the output.
    """

    words: list[str]
    environment: dict[str, str] = {}
    encoding: str = "ascii"


AnyFrame = Union[  # noqa: UP007
    Hello, Put, Reserve, Ask, Stored, Refused, Reserved, Intake, Assign, Show, Unshow, Done, Holding, Known, Closed,
    Living, Reaped, End, Stop, Prepare, Prepared, Commit, Cancel, Beat, Reload, Reloaded, Verb, Answer,
    Changed, Indexed, Look, Etrn, Etrned,
]  # fmt: skip

_encode = msgspec.json.Encoder().encode
_decode: Callable[[bytes], AnyFrame] = msgspec.json.Decoder(AnyFrame).decode


def head(frame: Frame, raw_length: int = 0) -> bytes:
    """A frame's bytes up to its raw part; whoever writes many sends the raw parts along without a copy."""
    text = _encode(frame)
    return LENGTHS.pack(len(text), raw_length) + text


def encode(frame: Frame, raw: bytes = b"") -> bytes:
    """A frame's bytes."""
    return head(frame, len(raw)) + raw


def laden(holding: Holding) -> tuple[Holding, bytes]:
    """The frame and its raw bytes, as they are sent: it is one word, and a worker may hold more than a head bears."""
    if len(head(holding, 0)) <= HEAD_LIMIT:
        return holding, b""
    return Holding(), msgspec.json.encode(holding.held)


def unladen(holding: Holding, raw: bytes) -> list[tuple[int, str, str, str, int]]:
    """All that it says."""
    return msgspec.json.decode(raw, type=list[tuple[int, str, str, str, int]]) if raw else holding.held


class BrokenFrame(ValueError):
    """The other side does not speak our language; the connection is of no use any more."""


class Reader:
    """Frames out of a stream of bytes; keeps what is not whole yet."""

    def __init__(self) -> None:
        self._kept = b""

    def feed(self, data: bytes) -> list[tuple[AnyFrame, bytes]]:
        """All whole frames so far as (frame, raw); BrokenFrame when it is none."""
        if self._kept:
            data = self._kept + data
        out: list[tuple[AnyFrame, bytes]] = []
        at, end = 0, len(data)
        try:
            while end - at >= 8:
                head, raw = LENGTHS.unpack_from(data, at)
                if head > HEAD_LIMIT or raw > RAW_LIMIT:
                    raise BrokenFrame(f"a frame of {head} + {raw} bytes")
                begin = at + 8
                after = begin + head
                following = after + raw
                if following > end:
                    break
                out.append((_decode(data[begin:after]), data[after:following]))
                at = following
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise BrokenFrame(str(error)) from None
        self._kept = data[at:]
        return out
