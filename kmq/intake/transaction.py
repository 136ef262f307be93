"""What a client says of a message before its content: values that MAIL and RCPT are read into.

Callers:  `parameters` reads them, `session` keeps them, `arrival` makes the head of the message of them.
"""

import msgspec

from kmq.intake.header_table import Way
from kmq.model.envelope import Recipient, Source


class Sender(msgspec.Struct, frozen=True):
    """MAIL: address in canonical text ("" is the null sender), and what the parameters say."""

    address: str
    size: int = 0
    utf8: bool = False
    ret: str = ""
    envid: str = ""


class Transaction(msgspec.Struct, frozen=True):
    """What MAIL and RCPT said.

    origin: our `Received:` line up to the ID; beneath: lines of ours below it; began: Unix time of MAIL.
    way, name: for the completion of the header, where there is one.
    """

    sender: Sender
    recipients: list[Recipient]
    source: Source
    origin: bytes
    began: float
    beneath: bytes = b""
    way: Way = Way.SUBMISSION
    name: str = ""
