"""What the SMTP session wants done: each turn of the conversation ends in a list of these, in order.

Callers:  `session` makes them, its carrier (`smtpd`) carries them out. After Put, PutLarge, Reserve, Etrn, Pause
          and StartTls the session waits for `answered`, `rested` or `secured`; after Close it does nothing more.
"""

from typing import Union

import msgspec

from kmq.log.mail import NOTHING, Besides


class Say(msgspec.Struct, frozen=True):
    """Send these replies; at most one Say in a turn, and it comes first."""

    text: bytes


class Put(msgspec.Struct, frozen=True):
    """Hand this whole message to the door; arguments as `Door.put` has them."""

    tail: bytes
    count: int
    body: bytes
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
    """A line for the logs: what happened, the ID or "", what else there is to know, and more for the tracking log."""

    event: str
    queue_id: str
    keys: dict[str, str | int]
    besides: Besides = NOTHING


class Close(msgspec.Struct, frozen=True):
    """Close the connection when what was said is sent.

    unread: the client may be sending still; if its bytes met a closed socket it would not read our last word.
    """

    unread: bool = False


AnyDeed = Union[Say, Put, Reserve, Open, Write, PutLarge, Discard, Etrn, Pause, StartTls, Note, Close]  # noqa: UP007
