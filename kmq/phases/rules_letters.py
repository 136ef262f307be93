"""The letter of a rule that notifies: a few words for people, from nobody.

Law:      it has the null sender, bears what automatic mail bears (RFC 3834), goes through no phase, and nobody is told
          when it cannot be delivered.
Promise:  pure but for the time; its Message-ID follows from the message and the rule, so that it is known when it is
          made twice.
Callers:  phases.rules_deeds.
"""

from binascii import b2a_base64
from collections.abc import Sequence
from email.utils import formatdate
from typing import NamedTuple

from kmq.model.envelope import Head, Recipient
from kmq.phases.encoded_words import worded
from kmq.phases.inspection import Letter


class Office(NamedTuple):
    """Who writes. postmaster: an address; hostname: of this server."""

    postmaster: str
    hostname: str


def letter(head: Head, rule: str, to: Sequence[str], subject: str, text: Sequence[str], office: Office) -> Letter:
    """What somebody is told of a message. subject and text: lines without ends, of signs that can be seen."""
    lines = [
        f'From: "Mail rules of {office.hostname}" <{office.postmaster}>',
        "To: " + ",\r\n ".join(f"<{one}>" for one in to),
        f"Subject: {worded(subject)}",
        f"Date: {formatdate()}",
        f"Message-ID: <{head.id}.rule.{rule}@{office.hostname}>",
        "Auto-Submitted: auto-generated",
        "MIME-Version: 1.0",
        "Content-Type: text/plain; charset=utf-8",
    ]
    body = "\r\n".join(text)
    encoding, content = ("7bit", body.encode()) if body.isascii() else ("base64", _base64(body))
    made = "\r\n".join([*lines, f"Content-Transfer-Encoding: {encoding}", "", ""]).encode() + content + b"\r\n"
    return Letter("", tuple(Recipient(one, notify="NEVER") for one in to), text=made, how="notice", quiet=True)


def _base64(text: str) -> bytes:
    octets = text.encode("utf-8", "replace") + b"\r\n"
    lines = [b2a_base64(octets[at : at + 57], newline=False) for at in range(0, len(octets), 57)]
    return b"\r\n".join(lines)
