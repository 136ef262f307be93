"""The commands that open a transaction, for what the server said it can do.

Promise:  what goes on the wire is made anew from checked parts: no CR, LF, NUL or blank of an envelope gets into a
          command. What a server cannot take is refused here, with the code that RFC 3463 has for it, before a byte
          is sent. Pure.
On crash: nothing is kept.
Callers:  phases.connection.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

from kmq.model.address import NotAnAddress, on_wire
from kmq.model.envelope import Head, Recipient
from kmq.model.orcpt import seven_bit
from kmq.model.reply import Reply


class Offers(NamedTuple):
    """What the server offers in its answer to EHLO; nothing of it after HELO. size: the limit it names, 0 for none."""

    pipelining: bool = False
    eight_bit: bool = False
    smtputf8: bool = False
    dsn: bool = False
    sized: bool = False
    size: int = 0


class Opening(NamedTuple):
    """How a transaction begins.

    mail:    the MAIL line.
    rcpt:    (index, RCPT line) of each recipient that this server can be told.
    refused: (index, reply) of each other one.
    """

    mail: bytes
    rcpt: list[tuple[int, bytes]]
    refused: list[tuple[int, Reply]]


#: Mail of a list, of a program, to a colleague: the same paths come again and again.
_path = lru_cache(4096)(on_wire)

_BAD_SENDER = Reply(553, "5.1.7", "the sender's address cannot be written in SMTP")
_BAD_RECIPIENT = Reply(553, "5.1.3", "the recipient's address cannot be written in SMTP")
_NOT_ASCII = Reply(553, "5.6.7", "the address needs SMTPUTF8, which the next hop does not offer")
_UTF8_MESSAGE = Reply(554, "5.6.7", "the message needs SMTPUTF8, which the next hop does not offer")
_EIGHT_BIT = Reply(554, "5.6.3", "the message has 8-bit text and the next hop does not offer 8BITMIME")


def opening(head: Head, rcpt: Sequence[int], offers: Offers) -> Opening:
    """The lines for these recipients (indices into head.recipients) on a connection with these offers."""
    objection = _objection(head, offers)
    utf8 = offers.smtputf8 and _utf8(head)
    if objection is None:
        try:
            mail = _mail(head, offers, utf8)
        except NotAnAddress:
            objection = _BAD_SENDER
    if objection is not None:
        return Opening(b"", [], [(index, objection) for index in rcpt])
    lines: list[tuple[int, bytes]] = []
    refused: list[tuple[int, Reply]] = []
    for index in rcpt:
        recipient = head.recipients[index]
        if not offers.smtputf8 and not recipient.address.isascii():
            refused.append((index, _NOT_ASCII))
            continue
        try:
            lines.append((index, _rcpt(recipient, offers, utf8)))
        except NotAnAddress:
            refused.append((index, _BAD_RECIPIENT))
    return Opening(mail, lines, refused)


def _objection(head: Head, offers: Offers) -> Reply | None:
    """Why this server cannot be given this message at all."""
    if 0 < offers.size < head.size:
        return Reply(552, "5.3.4", f"the message has {head.size} bytes, the next hop takes {offers.size}")
    if not offers.smtputf8 and (not head.sender.isascii() or (head.smtputf8 and head.eight_bit)):
        return _UTF8_MESSAGE
    if head.eight_bit and not offers.eight_bit:
        return _EIGHT_BIT
    return None


def _mail(head: Head, offers: Offers, utf8: bool) -> bytes:
    line = b"MAIL FROM:" + _path(head.sender)
    if offers.sized:
        line += b" SIZE=%d" % head.size
    if head.eight_bit:
        line += b" BODY=8BITMIME"
    if utf8:
        line += b" SMTPUTF8"
    if offers.dsn and (head.ret or head.envid):
        line += _parameter(b" RET=", head.ret) + _parameter(b" ENVID=", head.envid)
    return line + b"\r\n"


def _utf8(head: Head) -> bool:
    """Whether the transaction has SMTPUTF8 where that is offered (RFC 6531 3.4)."""
    if head.smtputf8 or not head.sender.isascii():
        return True
    return any(not recipient.address.isascii() for recipient in head.recipients)


def _rcpt(recipient: Recipient, offers: Offers, utf8: bool) -> bytes:
    """utf8: the transaction has SMTPUTF8."""
    line = b"RCPT TO:" + _path(recipient.address)
    if offers.dsn and (recipient.notify or recipient.orcpt):
        orcpt = recipient.orcpt
        if not orcpt.isascii() and not utf8:
            orcpt = seven_bit(orcpt)
        line += _parameter(b" NOTIFY=", recipient.notify) + _parameter(b" ORCPT=", orcpt)
    return line + b"\r\n"


def _parameter(name: bytes, text: str) -> bytes:
    """An ESMTP parameter as the client gave it (RFC 3461); one that could break the line is left out."""
    if text and text.isprintable() and " " not in text:
        return name + text.encode()
    return b""
