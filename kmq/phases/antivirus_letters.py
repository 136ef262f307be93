"""What the administrator gets of mail with a virus: a report in a few words, and the mail as an attachment.

Law:      an attachment of type message/rfc822, so that nothing of it shows by itself when the report is opened. The
          report has the null sender, bears what automatic mail bears (RFC 3834), and goes through no phase: it is
          never scanned itself. When it cannot be delivered nobody is told.
Promise:  the same message makes the same report but for the time; a large one is never in memory whole.
Callers:  phases.antivirus.
"""

import re
from collections.abc import Iterator
from email.utils import formatdate
from typing import NamedTuple

from kmq.model.envelope import Head, Recipient
from kmq.phases.encoded_words import worded
from kmq.phases.inspection import Letter, Pieces
from kmq.phases.rules_letters import Office

#: How `kmq show` names its origin.
HOW = "antivirus"

_LINE = 200
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


class Incident(NamedTuple):
    """What is reported. virus, scanner: for people; became: of the mail, a sentence."""

    head: Head
    virus: str
    scanner: str
    became: str


def report(incident: Incident, office: Office, to: str, mail: Pieces, filtered: bool = False) -> Letter:
    """The letter. mail: what is attached; filtered: without its attachment, as it was delivered."""
    boundary = f"kmq-{incident.head.id}-antivirus"  # nobody knew the ID when the message was written
    words = "\r\n".join(_words(incident, filtered))
    encoding = "8bit" if incident.head.eight_bit or incident.head.smtputf8 or not words.isascii() else "7bit"
    header = _header(incident, office, to, filtered)
    kind = f'Content-Type: multipart/mixed; boundary="{boundary}"'
    opening = "\r\n".join((*header, kind, *_parts(incident, boundary, encoding, words))).encode("utf-8", "replace")

    def pieces() -> Iterator[bytes]:
        yield opening
        yield from mail()
        yield f"\r\n--{boundary}--\r\n".encode()

    return Letter("", (Recipient(to, notify="NEVER"),), pieces=pieces, how=HOW, quiet=True)


def _header(incident: Incident, office: Office, to: str, filtered: bool) -> list[str]:
    kind = "filtered" if filtered else "original"
    return [
        f'From: "Virus scanner of {office.hostname}" <{office.postmaster}>',
        f"To: <{to}>",
        f"Subject: {worded(f'Virus found ({kind} mail): {_shown(incident.virus)}')}",
        f"Date: {formatdate()}",
        f"Message-ID: <{incident.head.id}.antivirus.{kind}@{office.hostname}>",
        "Auto-Submitted: auto-generated",
        "MIME-Version: 1.0",
    ]


def _parts(incident: Incident, boundary: str, encoding: str, words: str) -> list[str]:
    return [
        f"Content-Transfer-Encoding: {encoding}",
        "",
        f"--{boundary}",
        "Content-Type: text/plain; charset=utf-8",
        f"Content-Transfer-Encoding: {encoding}",
        "",
        words,
        "",
        f"--{boundary}",
        "Content-Type: message/rfc822",
        f"Content-Transfer-Encoding: {encoding}",
        f'Content-Disposition: attachment; filename="{incident.head.id}.eml"',
        "",
        "",
    ]


def _words(incident: Incident, filtered: bool) -> Iterator[str]:
    head = incident.head
    yield f"A virus was found in a message: {_shown(incident.virus)}"
    yield f"by the scanner {_shown(incident.scanner)}."
    yield _shown(incident.became)
    yield ""
    yield f"Message:    {head.id}"
    yield f"Sender:     <{_shown(head.sender)}> (of the envelope; viruses forge it as a rule)"
    for place, one in enumerate(head.recipients[:20]):
        yield f"{'Recipients:' if not place else '           '} <{_shown(one.address)}>"
    if len(head.recipients) > 20:
        yield f"            and {len(head.recipients) - 20} more"
    if head.source.ip:
        yield f"Client:     {_shown(head.source.ip)} ({_shown(head.source.helo)})"
    yield ""
    if filtered:
        yield "The message as it was delivered, without the attachment, is attached."
    else:
        yield "The message as it came is attached: do not open what is in it."


def _shown(text: str) -> str:
    """A stranger's text on one line of ours."""
    return _CONTROLS.sub("?", text)[:_LINE]
