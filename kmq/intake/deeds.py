"""What the SMTP session wants done: each turn of the conversation ends in what is said, and then in these, in order.

Callers:  `session` makes them, its carrier carries them out. After Put, PutLarge, Reserve, Etrn, Pause and StartTls the
          session waits for `answered`, `rested` or `secured`; after Close it does nothing more.
"""

from collections.abc import Sequence
from typing import Union

import msgspec

from kmq.log.accepted import Accepted


class Put(msgspec.Struct, frozen=True):
    """Hand this whole message to the door; arguments as `Door.put` has them."""

    raw: bytes
    tail: int
    count: int
    stamp: int


class Reserve(msgspec.Struct, frozen=True):
    """Ask the door for an ID, since this body grows large."""


class Open(msgspec.Struct, frozen=True):
    """Open a file for a large body."""


class Write(msgspec.Struct, frozen=True):
    """Append to that file."""

    piece: bytes


class PutLarge(msgspec.Struct, frozen=True):
    """All is written: hand the file over."""

    queue_id: str
    tail: bytes
    count: int
    sha256: str


class Discard(msgspec.Struct, frozen=True):
    """The message of the open file will not come."""


class Etrn(msgspec.Struct, frozen=True):
    """Have the mail for a node sent; as `Door.etrn` has it."""

    node: str


class Pause(msgspec.Struct, frozen=True):
    """Call `rested` after so many seconds (tarpit)."""

    seconds: float


class StartTls(msgspec.Struct, frozen=True):
    """Begin the handshake when what was said is sent."""


class Note(msgspec.Struct, frozen=True):
    """A line for the logs: what happened, and what there is to know of it."""

    event: str
    keys: dict[str, str | int]


class NoteAccepted(msgspec.Struct, frozen=True):
    """The same of a message that is durable."""

    queue_id: str
    message: Accepted


class Close(msgspec.Struct, frozen=True):
    """Close the connection when what was said is sent.

    unread: the client may be sending still; if its bytes met a closed socket it would not read our last word.
    """

    unread: bool = False


AnyDeed = Union[  # noqa: UP007
    Put, Reserve, Open, Write, PutLarge, Discard, Etrn, Pause, StartTls, Note, NoteAccepted, Close
]  # fmt: skip

#: What a turn of the conversation ends in: replies, which are said first, and deeds.
Turn = tuple[bytes, Sequence[AnyDeed]]
