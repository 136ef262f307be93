"""What receivers tell of each message that they took in: its line of the mail log, its entry of the tracking log.

Promise:  the same line and entry as `kmq.log.mail` would make of the same values, in a third of the time: what is alike
          for all messages of a client is made ready once (`Bringer`). It tells of nothing that is not durable.
On crash: as `kmq.log.mail`.
Callers:  intake.carrier, when it hears that a message is stored; intake.introduction says who brings it.
"""

from collections.abc import Mapping
from functools import lru_cache

import msgspec

from kmq.log import mail, tracking
from kmq.log.text import shown


class Bringer(msgspec.Struct, frozen=True):
    """Who brings messages. keys: those of the mail log from `client` to `receiver`; text: the same as pairs."""

    keys: Mapping[str, str]
    text: str


def bringer(keys: Mapping[str, str]) -> Bringer:
    """keys: in the order in which they stand in a line."""
    return Bringer(keys, mail.pairs(keys))


class Accepted(msgspec.Struct, frozen=True):
    """One message. delay: from its MAIL on, as `mail.seconds` has it; reason: why there is more to say of it."""

    by: Bringer
    sender: str
    recipients: tuple[str, ...]
    size: int
    delay: str
    message_id: str = ""
    subject: str = ""
    reason: str = ""


def tell(queue_id: str, one: Accepted, tls: str | None = None) -> None:
    """It is durable. tls: what protected the conversation."""
    tracking.received(queue_id, one, tls or "")
    to = one.recipients
    only = f" to={_path(to[0])}" if len(to) == 1 else ""
    by_tls = f" tls={shown(tls)}" if tls else ""
    known = f" msgid={shown(one.message_id)}" if one.message_id else ""
    why = f" reason={shown(one.reason)}" if one.reason else ""
    said = f" from={_path(one.sender)}{only}{by_tls} delay={one.delay}{known}{one.by.text}"
    mail.say("accepted", queue_id, f"{said} size={one.size} nrcpt={len(to)}{why}")


@lru_cache(1024)
def _path(address: str) -> str:
    """An address as the line has it. The same ones come again and again."""
    return shown(f"<{address}>")
