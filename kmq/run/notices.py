"""Notices to senders: delivery status notifications (RFC 3464 in the envelope of RFC 6522, asked for as RFC 3461 says).

Promise:  pure. A notice goes to the sender and from nobody (RFC 5321 6.1), so none ever answers another; it says in
          plain words what happened (notice_words), and for programs field by field (notice_fields). Whatever the
          addresses, replies and headers of the message hold, the notice is well-formed. It is 7-bit, unless the
          sender's own address is not, or an 8-bit message goes back whole. Recipients whose sender wants no such notice
          are left out. What nobody may be told of goes to the postmaster, and no further. Whoever is told reads it in
          his language (routing.languages); what is for programs is the same in all.
On crash: made again; a result and its notices become durable together or not at all.
Callers:  run.terminating.
"""

from collections.abc import Sequence
from email.utils import formatdate
from typing import NamedTuple

from kmq.languages.tables import WORDINGS
from kmq.model import moment, reply
from kmq.model.address import NotAnAddress, on_wire
from kmq.model.envelope import Head, Recipient, Source, head_tail
from kmq.model.priority import LOW, WORDS
from kmq.run import notice_fields, notice_parts, notice_words
from kmq.run.notice import COPY, NOTICE, Action, Letter, Lost, Office, Told, unix

_COPY_OF = b"X-kmq-Undeliverable"
_ID_ROOM = b"0" * 17  # kept free in the Message-ID for the ID of the notice

#: What a sender who says nothing wants to hear (RFC 3461 4.1), and the word that asks for it.
_ASKED = {
    Action.FAILED: ("FAILURE", True),
    Action.DELAYED: ("DELAY", True),
    Action.DELIVERED: ("SUCCESS", False),
    Action.RELAYED: ("SUCCESS", False),
    Action.EXPANDED: ("SUCCESS", False),
}


class Notice(NamedTuple):
    """A message for the queue: tail of its head, body, stamp, as kmq.model.frame.Child has them."""

    tail: bytes
    body: bytes
    stamp: int


def wanted(recipient: Recipient, action: Action) -> bool:
    """RFC 3461 4.1: NEVER, or a list without the word, asks for silence."""
    word, unasked = _ASKED[action]
    return word in recipient.notify.upper().split(",") if recipient.notify else unasked


def answerable(head: Head) -> bool:
    """Whether there is somebody to be told: a notice has no sender, and an envelope that was edited may have none."""
    try:
        return head.sender != "" and on_wire(head.sender) != b""
    except NotAnAddress:
        return False


def compose(letter: Letter, told: Sequence[Told], office: Office, now: float) -> Notice | None:
    """The notice about these recipients, all with results of one sort; None when nobody is to be told.

    now: Unix time.
    """
    head = letter.head
    told = [one for one in told if wanted(head.recipients[one.rcpt], one.action)]
    if not told or not answerable(head):
        return None
    return _made(letter, _lost(letter, told, now), office, now, head.sender)


def copy(letter: Letter, told: Sequence[Told], office: Office, now: float) -> Notice | None:
    """The postmaster's copy of a message that failed, and of which nobody else may be told; None for a copy itself.

    A copy is known by its header, wherever it has been meanwhile: two postmasters must not send copies to each other.
    """
    if not told or notice_parts.has_field(letter.text, _COPY_OF):
        return None
    return _made(letter, _lost(letter, told, now), office, now, "")


def _lost(letter: Letter, told: Sequence[Told], now: float) -> list[Lost]:
    since = max(1.0, now - unix(letter.head.created))
    return [
        Lost(
            letter.head.recipients[one.rcpt],
            reply.parse(one.reply),
            one.host,
            one.action,
            since if one.given_up or one.action is Action.DELAYED else 0.0,
        )
        for one in told
    ]


def _made(letter: Letter, lost: Sequence[Lost], office: Office, now: float, sender: str) -> Notice:
    """sender: who is told, "" for the postmaster."""
    head = letter.head
    to = sender or office.postmaster
    words = WORDINGS[office.languages.of(to, letter.text if sender else b"")]
    unicode = not to.isascii()
    whole = not sender or (head.ret.upper() == "FULL" and lost[0].action is Action.FAILED)
    returned = notice_parts.returned(letter, office.size_limit if whole else 0, unicode, words)
    parts = [
        notice_words.part(head, lost, office, words, copied=not sender),
        notice_fields.part(head, lost, office, unicode, words.report),
        returned,
    ]
    boundary = notice_parts.boundary(head.id, returned)
    subject = words.subject_copy if not sender else notice_words.subject(lost[0].action, words)
    ahead = _opening(letter, subject, office, now, to)
    stamp = ahead.index(_ID_ROOM)
    body = ahead + notice_parts.multipart(boundary, parts)
    return Notice(head_tail(_head(head, body, now, to, NOTICE if sender else COPY)), body, stamp)


def _head(original: Head, body: bytes, now: float, to: str, how: str) -> Head:
    return Head(
        id="",
        sha256="",
        created=moment.as_text(now),
        sender="",
        recipients=[Recipient(to)],
        size=len(body),
        source=Source(how=how),
        eight_bit=not body.isascii(),
        smtputf8=not to.isascii(),
        dots=body.startswith(b".") or b"\r\n." in body,
        longest=max(map(len, body.split(b"\r\n"))),
        parent=original.id,
        priority=original.priority if original.priority == WORDS[LOW] else "",
    )


def _opening(letter: Letter, subject: str, office: Office, now: float, to: str) -> bytes:
    """The header of the notice, which threads with the message (RFC 5322 3.6.4) and is no person's mail (RFC 3834)."""
    head, host = letter.head, office.hostname.encode()
    about = notice_parts.message_id(letter.text)
    copied = to != head.sender
    lines = [
        b"From: Mail Delivery System <MAILER-DAEMON@%b>" % host,
        b"To: %b" % on_wire(to),
        notice_parts.field("Subject", subject).removesuffix(b"\r\n"),
        b"Date: %b" % formatdate(now).encode(),
        b"Message-ID: <%b@%b>" % (_ID_ROOM, host),
    ]
    if about:
        lines += [b"In-Reply-To: %b" % about, b"References: %b" % about]
    if copied:
        lines.append(b"%b: %b" % (_COPY_OF, head.id.encode()))
    lines += [
        b"Auto-Submitted: auto-replied",
        b"MIME-Version: 1.0",
    ]
    return b"\r\n".join(lines) + b"\r\n"
