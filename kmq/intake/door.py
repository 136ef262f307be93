"""The door into the queue, as those see it who bring mail in.

Promise:  whoever holds a Door gives it a message and is told once whether it is durable; he knows nothing of sockets,
          files or journal behind it. Nothing here raises for what disks and processes do: that is an answer.
On crash: a put without an answer may be in the queue or not; the client heard nothing and sends again.
Callers:  the SMTP session's carrier; whatever else brings mail in. `intake/submission` is the real one.
"""

from collections.abc import Callable
from typing import NamedTuple, Protocol

from kmq.model.reply import Reply

#: A put of a dropped file that is a message already, has changed, or is gone (J12).
ANOTHER_FILE = Reply(450, "4.2.0", "That file is a message already, or is not there as it was")

#: A dropped file as the journal names it: name, inode, modification time in nanoseconds.
DroppedFile = tuple[str, int, int]


class Pressed(NamedTuple):
    """Back pressure, as a kind of client feels it at MAIL. refusal: what it hears; wait: else, for how many seconds it
    waits. A message whose MAIL was taken is taken."""

    refusal: Reply | None = None
    wait: float = 0.0


#: There is none.
FREE = Pressed()

#: Told once, in the loop, perhaps before the call returns: (ID, None) when it is done, ("", reply) when refused.
Answer = Callable[[str, Reply | None], None]


class LargeBody(Protocol):
    """A body on its way into incoming/, too large for one frame. Trouble is kept and answered at `put_large`."""

    @property
    def name(self) -> str:
        """Its name below incoming/."""

    def write(self, piece: bytes) -> bool:
        """Takes the next bytes. False: the disk is behind; no more, please, until `on_room` of `open_large` is called.

        What is written all the same is taken; the caller sees to it that it is at most one read.
        """

    def discard(self) -> None:
        """The message will not come: drop the file. Not after `put_large`, whose it is then."""


class Door(Protocol):
    """The way into the queue."""

    @property
    def refusal(self) -> Reply | None:
        """Set while nothing may come in, such as 452 4.3.1: heard at MAIL and before 354. A read costs nothing."""

    def pressed(self, user: bool) -> Pressed:
        """Back pressure, for a user of this server or for another server (and dropped files). Costs nothing."""

    def put(
        self, raw: bytes, tail: int, count: int, stamp: int, answer: Answer, dropped: DroppedFile | None = None
    ) -> None:
        """A whole message. The answer is its ID when it is durable, or what the client is to hear.

        raw:   `kmq.model.envelope.head_tail` of the head with id and sha256 left empty, of `tail` bytes; then the body.
        count: recipients. stamp: offset in body of 17 bytes kept free for the ID, or -1.
        dropped: the file that it was, which goes when the message is durable; ANOTHER_FILE when it is not there.
        """

    def reserve(self, answer: Answer) -> None:
        """The ID for a body too large for `put`; it need not be used."""

    def etrn(self, node: str, answer: Answer) -> None:
        """A client asks for the mail of a node (`etrn.node_of`); the answer is what it hears."""

    def open_large(self, on_room: Callable[[], None], dropped: DroppedFile | None = None) -> LargeBody:
        """A new file for the bytes of a large body; on_room is called each time that writing may go on."""

    def put_large(self, queue_id: str, tail: bytes, count: int, sha256: str, large: LargeBody, answer: Answer) -> None:
        """All bytes of `large` are written: make them durable and hand them over, under an ID from `reserve`.

        sha256: hex, of all the bytes. The file is the door's from here, whatever the answer.
        """
