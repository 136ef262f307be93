"""What a phase ahead of routing is given and gives back: Backup, Content filtering, Antivirus control.

Shape:    a phase looks at a Matter and answers with a Finding, in the worker's loop; what takes long is awaited.
Promise:  a phase changes nothing by itself but its own target outside (a folder, with names that follow from the
          message's ID): what it wants done stands in the Finding, and becomes durable in one record with `Passed`.
          What the world answers (a scanner that is down) is a Finding too; an exception is a mistake of ours, and this
          message's crash in this phase (design: poison).
On crash: the phase is run again with the same Matter, so every phase may run twice.
Callers:  run.inspecting.
"""

from collections.abc import Callable, Iterator
from typing import Protocol

import msgspec

from kmq.model import recipients
from kmq.model.envelope import Head, Recipient
from kmq.model.event import Deferred, Discarded, Failed, HeaderEdit, Passed, Suspended
from kmq.model.phase import Phase
from kmq.model.reply import Reply
from kmq.phases.edits import standing
from kmq.phases.work import Body

#: Bytes one after the other, made anew for each reading, in a thread; at most some hundred kB each.
Pieces = Callable[[], Iterator[bytes]]


class Matter(msgspec.Struct, frozen=True):
    """A message in front of a phase.

    rcpt:    recipients (indices into head.recipients) that are still to be delivered; never empty.
    earlier: what the phases before this one said, also in an earlier attempt, oldest first.
    attempt: the number of the attempt that this is part of; events about recipients bear it.
    local:   of an address as in head.recipients: whether it is one of this server's.
    """

    head: Head
    body: Body
    rcpt: tuple[int, ...]
    earlier: tuple[Passed, ...]
    attempt: int
    local: Callable[[str], bool]

    @property
    def edits(self) -> tuple[HeaderEdit, ...]:
        """Changes of the header so far for these recipients; its fields on the disk are still those that came."""
        return standing(self.head, self.earlier, self.rcpt[0])

    def goes(self, direction: str) -> bool:
        """Whether somebody is meant by an option `apply`: `incoming` those of this server, `outgoing` others, `all`."""
        if direction == "all":
            return True
        wanted = direction == "incoming"
        return any(self.local(self.head.recipients[index].address) is wanted for index in self.rcpt)


class Letter(msgspec.Struct, frozen=True):
    """A further message that a phase makes: a copy, a message redirected, a letter to people.

    sender:     of its envelope, "" for nobody (what answers or warns somebody has none, RFC 3834).
    recipients: of its envelope.
    text:       its body, CRLF line ends; None: that of the message itself, as it came, with the edits so far.
    edits:       further ones, when it is the message itself.
    once:        of a message that goes in several shares only the first one makes it; False: whenever it stands in a
                 Finding, since recipients go on with it, or since the step knows itself.
    pieces:     the same for what is large, instead of text.
    how:        what `kmq show` says of its origin: `archive`, `rule`, `antivirus`, `warning`, ..
    passed:     phases that it need not go through; all of them, unless it is mail that somebody sends on.
    quiet:      nobody is told when it cannot be delivered.
    """

    sender: str
    recipients: tuple[Recipient, ...]
    text: bytes | None = None
    pieces: Pieces | None = None
    how: str = "rule"
    passed: tuple[Phase, ...] = (Phase.BACKUP, Phase.CONTENT, Phase.ANTIVIRUS)
    quiet: bool = False
    edits: tuple[HeaderEdit, ...] = ()
    once: bool = True


class Replacement(msgspec.Struct, frozen=True):
    """The message goes on as another one, since its text or sender are no longer what came.

    rcpt:   those that go on with it; the others are in events, or go on with the message as it is.
    pieces: its new text, the header's edits not made in it (they are, when it is written); None: as it was.
    sender: its new sender; None: as it was.
    why:    for people.
    added:  further recipients of the new message.
    passed: further phases that the new message need not go through, beside the steps that this one has been through
            and the one that makes it.
    """

    rcpt: tuple[int, ...]
    pieces: Pieces | None = None
    sender: str | None = None
    why: str = ""
    passed: tuple[Phase, ...] = ()
    added: tuple[Recipient, ...] = ()


class Finding(msgspec.Struct):
    """What a phase has to say.

    passed:  the message has been through it; phase and step are filled in. None: it has not, and is taken up again;
             then events holds a Deferred of all its recipients (or crashed says why).
    events:  about recipients, `attempt` as in the Matter: Discarded and Failed end them here; Deferred has all of the
             message tried again later, in this phase; Suspended holds them until an operator says otherwise (by and
             reason say who and why), and they go on behind this phase when `passed` is given.
    letters: further messages, in one record with the rest.
    crashed: a child process of ours died of this message, or exceeded its limits: the trace, or why.
    """

    passed: Passed | None
    events: list[Discarded | Failed | Deferred | Suspended] = []
    letters: list[Letter] = []
    replacement: Replacement | None = None
    crashed: str = ""


class Inspector(Protocol):
    """One step of a phase: many phases have one, Antivirus control one for each scanner.

    phase: whose it is. step: its name, which no other one has; what has passed it is not taken there again.
    """

    phase: Phase
    step: str

    def concerns(self, matter: Matter) -> bool:
        """Whether it has anything to do with this message, at the cost of a look at the head."""
        ...

    async def inspect(self, matter: Matter) -> Finding:
        """See the module. Cancelled when the process ends."""
        ...

    async def close(self) -> None:
        """The process ends."""
        ...


def put_off(matter: Matter, reply: Reply) -> Finding:
    """The step cannot say anything now: all that is left of the message is tried again later."""
    rcpt = recipients.as_text(matter.rcpt)
    return Finding(None, [Deferred(rcpt=rcpt, attempt=matter.attempt, reply=str(reply))])
