"""What a phase is given and what it gives back. A phase knows neither the spool nor the other phases.

Promise:  `report` is called exactly once per Work, in the loop; it may be called before `deliver` returns.
On crash: a Work without a report is given to a worker again (J9); so every phase may be run twice, and what it makes
          outside has a name that follows from the message's ID.
"""

from collections.abc import Callable, Generator

import msgspec

from kmq.model.envelope import Head
from kmq.model.event import Deferred, Delivered, Event, Failed, HeaderEdit
from kmq.model.hop import NextHop
from kmq.model.reply import Reply
from kmq.phases.body import BodyFile
from kmq.phases.gate import Gate


class Body(msgspec.Struct, frozen=True, gc=False):
    """The bytes of a message as they lie in <id>.eml (CRLF line ends, our Received: on top).

    text: all of it when it is small, else None and `path` is an absolute name to be opened read-only.
    """

    text: bytes | None
    path: str
    size: int


def read(head: Head, body: Body) -> Generator[bytes, None, None]:
    """A message as it came, a large one from its file. BodyDamaged, OSError."""
    if body.text is not None:
        yield body.text
        return
    file = BodyFile(body.path, head.size, head.sha256)
    try:
        while file.left:
            yield file.read()
    finally:
        file.close()


class Work(msgspec.Struct, frozen=True, gc=False):
    """Some recipients (indices into head.recipients) of one message for one next hop, in their `attempt`th try.

    edits: what is changed of its header on its way out (phases.edits). gate: holds its text back; SMTP asks it.
    """

    head: Head
    body: Body
    rcpt: tuple[int, ...]
    hop: NextHop
    attempt: int
    edits: tuple[HeaderEdit, ...] = ()
    gate: Gate | None = None


class Outcome(msgspec.Struct, gc=False):
    """What became of a Work.

    events:      one result (Delivered, Failed, Deferred) for each recipient, those with the same reply together;
                 `attempt` is the Work's; seq and at are left out; `until` is left out (the scheduler sets it).
    unavailable: the next hop could not be reached or would not talk to us, so nothing was tried: a trouble of the
                 queue, not of the message. Then events is empty.
    uncertain:   (in events as Deferred) the final dot may have been sent and no reply came: not tried again sooner
                 than 5 minutes.
    damaged:     why the body is not what was accepted; nothing of it was delivered. Then events is empty.
    relayed:     recipients who were handed to a server that knows nothing of notices (RFC 3461), so that a sender who
                 asked for one gets ours.
    begun:       the loop's time at which a connection first had the message; 0.0 when none did, or none is needed.
    """

    events: list[Event] = []
    unavailable: Reply | None = None
    uncertain: bool = False
    damaged: str = ""
    begun: float = 0.0
    relayed: list[int] = []


#: Told once what became of the Work.
Report = Callable[[Outcome], None]

#: Told of progress for the status file: server ("" when none), percent sent.
Show = Callable[[str, int], None]


def result(rcpt: str, attempt: int, reply: Reply, host: str, tls: str = "") -> Event:
    """The event that a final reply about recipients amounts to (4xx and what is unknown are temporary)."""
    if reply.done:
        return Delivered(rcpt=rcpt, attempt=attempt, reply=str(reply), host=host, tls=tls)
    if reply.permanent:
        return Failed(rcpt=rcpt, attempt=attempt, reply=str(reply), host=host, tls=tls)
    return Deferred(rcpt=rcpt, attempt=attempt, reply=str(reply), host=host, tls=tls)
