"""Notices about mail that failed: delivery status notifications (RFC 3464 in the envelope of RFC 6522).

Promise:  pure. A notice goes to the sender and from nobody (RFC 5321 6.1), so none ever answers another; it says in
          plain words what happened, and for programs field by field. Whatever the addresses, replies and headers of the
          message hold, the notice is well-formed: 7-bit, unless the sender's own address is not.
          Recipients whose sender wants no such notice (RFC 3461 NOTIFY) are left out.
On crash: made again; the result that reports the failure and the notice become durable together or not at all.
Callers:  run.worker.
"""

from collections.abc import Iterable, Sequence
from email.utils import formatdate
from textwrap import fill
from typing import NamedTuple

from kmq.model import moment, reply
from kmq.model.address import NotAnAddress, on_wire
from kmq.model.envelope import Head, Recipient, Source, head_tail
from kmq.model.reply import Reply

HEADER_LIMIT = 50_000  #: bytes of the original header that go back to the sender
_ID_ROOM = b"0" * 17  # kept free in the Message-ID for the ID of the notice

#: (index of the recipient, reply, host that gave it or "")
Failure = tuple[int, str, str]

#: A message for the queue: tail of its head, recipients, body, stamp, as kmq.model.frame.Put has them.
Notice = tuple[bytes, int, bytes, int]


class _Lost(NamedTuple):
    """A recipient who did not get it. tried: seconds after which we gave up with this last reply; 0: it was final."""

    recipient: Recipient
    reply: Reply
    host: str
    tried: float = 0.0

    @property
    def status(self) -> str:
        """RFC 3463: of a final failure 5; 4.7 (3.5): delivery time expired, whatever was heard last."""
        if self.tried:
            return "5.4.7"
        if self.reply.permanent:
            return self.reply.status
        return "5" + self.reply.status[1:]


def compose(
    head: Head, header: bytes, failures: Sequence[Failure], hostname: str, now: float, expired: bool = False
) -> Notice | None:
    """The notice about these recipients; None when nobody is to be told.

    header:   the beginning of the message's body, its header at least; what follows the header is not used.
    hostname: ours; now: Unix time; expired: the message's time is over, and the replies are the last that were heard.
    """
    tried = max(1.0, now - _unix(head.created)) if expired else 0.0
    lost = [
        _Lost(head.recipients[index], reply.parse(said), host, tried)
        for index, said, host in failures
        if _wanted(head.recipients[index])
    ]
    if not head.sender or not lost:
        return None
    try:
        sender = on_wire(head.sender)[1:-1]
    except NotAnAddress:
        return None  # an envelope that somebody edited: there is nobody to tell
    boundary = f"kmq-{head.id}"
    ahead = _opening(sender, hostname, boundary, now)
    stamp = ahead.index(_ID_ROOM)
    parts = [_words(head, lost, hostname), _fields(head, lost, hostname), _returned(header)]
    body = ahead + b"".join(b"--%b\r\n%b\r\n" % (boundary.encode(), part) for part in parts)
    body += b"--%b--\r\n" % boundary.encode()
    return head_tail(_head(head, body, now)), 1, body, stamp


def wanted(head: Head, failed: Sequence[int]) -> bool:
    """Whether the failure of these recipients must not go by in silence; a notice itself has nobody to be told."""
    return not head.sender or any(_wanted(head.recipients[index]) for index in failed)


def _wanted(recipient: Recipient) -> bool:
    """RFC 3461 4.1: NEVER, or a list without FAILURE, asks for silence."""
    asked = recipient.notify.upper().split(",")
    return asked == [""] or "FAILURE" in asked


def _head(head: Head, body: bytes, now: float) -> Head:
    eight_bit = not body.isascii()
    return Head(
        id="",
        sha256="",
        created=moment.as_text(now),
        sender="",
        recipients=[Recipient(head.sender)],
        size=len(body),
        source=Source(how="dsn"),
        eight_bit=eight_bit,
        smtputf8=eight_bit,
        dots=body.startswith(b".") or b"\r\n." in body,
        longest=max(map(len, body.split(b"\r\n"))),
        parent=head.id,
    )


def _opening(sender: bytes, hostname: str, boundary: str, now: float) -> bytes:
    """The header of the notice."""
    lines = [
        b"From: Mail Delivery System <MAILER-DAEMON@%b>" % hostname.encode(),
        b"To: <%b>" % sender,
        b"Subject: Your message could not be delivered",
        b"Date: %b" % formatdate(now).encode(),
        b"Message-ID: <%b@%b>" % (_ID_ROOM, hostname.encode()),
        b"Auto-Submitted: auto-replied",
        b"MIME-Version: 1.0",
        b'Content-Type: multipart/report; report-type=delivery-status;\r\n\tboundary="%b"' % boundary.encode(),
        b"",
        b"This is a notice in several parts (RFC 3464).",
        b"",
    ]
    return b"\r\n".join(lines)


# --- the part for people ---------------------------------------------------------------------------------------------


def _words(head: Head, lost: Iterable[_Lost], hostname: str) -> bytes:
    """What happened, to whom, what was done, what the sender can do."""
    blocks = [
        fill(
            f"This is the mail server {hostname}. Your message of {_day(head.created)} could not be delivered to the"
            " recipients below, and is not tried again for them. Whoever is not named here is not concerned."
        )
    ]
    for one in lost:
        blocks.append(f"<{one.recipient.address}>\n" + _indented(_what_happened(one)))
    blocks.append(fill("What you can do: " + _advice(lost)))
    blocks.append(
        fill(
            "The header of your message follows below, and before it the same for programs. If you ask somebody"
            f" about this, name the message's ID at {hostname}: {head.id}"
        )
    )
    text = "\n\n".join(blocks) + "\n"
    return _text_part("text/plain", text.encode("utf-8", "backslashreplace"), "Notification")


def _what_happened(lost: _Lost) -> str:
    if lost.tried:
        by = f" of the server {lost.host}" if lost.host else ""
        return f"We tried for {_span(lost.tried)} and gave up. The last answer{by} was: {lost.reply}"
    if lost.host:
        return f"The server {lost.host} answered: {lost.reply}"
    return f"Our own server says: {lost.reply}"


def _span(seconds: float) -> str:
    """`5 days`, `36 hours`, `10 minutes`."""
    length, unit = next(one for one in _SPANS if seconds >= 2 * one[0] or one is _SPANS[-1])
    number = max(1, int(seconds // length))
    return f"{number} {unit}{'s' * (number > 1)}"


_SPANS = ((86400, "day"), (3600, "hour"), (60, "minute"))


def _indented(text: str) -> str:
    return fill(text, initial_indent="    ", subsequent_indent="    ", break_long_words=False)


#: Subject and detail of an enhanced code (RFC 3463) -> what the sender can do.
_ADVICE = {
    "1.1": "check the address for spelling mistakes; there is no such mailbox",
    "1.2": "check what stands behind the @; there is no such mail domain",
    "1.3": "check the address; it is not written as mail addresses are",
    "1.10": "use another address; this domain takes no mail",
    "2.2": "try again later, or reach the recipient in another way; the mailbox is full",
    "3.4": "send a smaller message, or put the large part where the recipient can fetch it",
    "2.3": "send a smaller message, or put the large part where the recipient can fetch it",
    "4.6": "show this notice to your postmaster; the message went round between servers in a mail loop",
    "4.7": "send it again; the server could not be reached for as long as we tried",
    "6.7": "use an address without international characters, if the recipient has one",
    "7.1": "ask the recipient in another way; the server there refused your message",
}
_OTHERWISE = "read the answer above; if it tells you nothing, show this notice to your postmaster"


def _advice(lost: Iterable[_Lost]) -> str:
    found = dict.fromkeys(_ADVICE.get(_trouble(one), _OTHERWISE) for one in lost)
    return "; ".join(found) + "."


def _trouble(lost: _Lost) -> str:
    """Subject and detail; many servers have no code of its own for a loop."""
    if not lost.tried and "too many hops" in lost.reply.text.lower():
        return "4.6"
    return lost.status.partition(".")[2]


def _day(created: str) -> str:
    return f"{created[:10]} {created[11:16]} UTC"


# --- the part for programs -------------------------------------------------------------------------------------------


def _fields(head: Head, lost: Iterable[_Lost], hostname: str) -> bytes:
    """message/delivery-status: the fields of the message, then of each recipient (RFC 3464 2.2, 2.3)."""
    first = [("Original-Envelope-Id", _xtext_decoded(head.envid))] if head.envid else []
    first.append(("Reporting-MTA", f"dns; {hostname}"))
    if head.source.helo:
        first.append(("Received-From-MTA", f"dns; {head.source.helo}"))
    first.append(("Arrival-Date", formatdate(_unix(head.created))))
    groups = [first, *(_recipient_fields(one) for one in lost)]
    text = b"\r\n\r\n".join(b"\r\n".join(_field(name, value) for name, value in group) for group in groups)
    return b"Content-Description: Delivery report\r\nContent-Type: message/delivery-status\r\n\r\n%b\r\n" % text


def _recipient_fields(lost: _Lost) -> list[tuple[str, str]]:
    recipient, said, host = lost.recipient, lost.reply, lost.host
    fields = []
    if recipient.orcpt:
        kind, _, address = recipient.orcpt.partition(";")
        fields.append(("Original-Recipient", f"{kind}; {_xtext_decoded(address)}"))
    fields.append(("Final-Recipient", _typed(recipient.address)))
    fields.append(("Action", "failed"))
    fields.append(("Status", lost.status))
    if host:
        fields.append(("Remote-MTA", f"dns; {host.partition('[')[0]}"))
        fields.append(("Diagnostic-Code", f"smtp; {said}"))
    else:
        fields.append(("Diagnostic-Code", f"X-kmq; {said}"))
    return fields


def _typed(address: str) -> str:
    """RFC 3464 2.1.2, and RFC 6533 3 for what is not ASCII (escaped, so that the part stays 7-bit)."""
    return f"rfc822; {address}" if address.isascii() else f"utf-8; {_escaped(address)}"


def _escaped(text: str) -> str:
    """ASCII without control characters: \\x{HEX} for the rest, as in RFC 6533's utf-8-addr-xtext."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(sign if " " <= sign <= "~" else f"\\x{{{ord(sign):X}}}" for sign in text)


def _xtext_decoded(xtext: str) -> str:
    """RFC 3461 4: +HH stands for a character; what is broken stays as it is."""
    first, *rest = xtext.split("+")
    try:
        return first + "".join(chr(int(part[:2], 16)) + part[2:] for part in rest)
    except ValueError:
        return xtext


def _field(name: str, value: str) -> bytes:
    """One field, folded at blanks, so that no line is longer than RFC 5322 allows."""
    line = f"{name}: {_escaped(value)}"
    lines: list[str] = []
    while len(line) > 900:
        cut = line.rfind(" ", 200, 900)
        cut = cut if cut > 0 else 900
        lines.append(line[:cut])
        line = "\t" + line[cut:].lstrip()
    return "\r\n".join([*lines, line]).encode()


def _unix(created: str) -> float:
    try:
        return moment.from_text(created)
    except ValueError:
        return 0.0


# --- the message's own header -----------------------------------------------------------------------------------------


def _returned(body: bytes) -> bytes:
    """text/rfc822-headers: the header of the message, whole lines of it, bounded."""
    header = body.partition(b"\r\n\r\n")[0][:HEADER_LIMIT]
    if len(header) == HEADER_LIMIT:
        header = header.rpartition(b"\r\n")[0]
    return _text_part("text/rfc822-headers", header.replace(b"\r\n", b"\n") + b"\n", "The header of your message")


def _text_part(kind: str, text: bytes, description: str) -> bytes:
    """A part of lines that end in LF; quoted-printable when it is not plain ASCII with lines of ordinary length."""
    plain = text.isascii() and b"\0" not in text and b"\r" not in text and max(map(len, text.split(b"\n"))) < 990
    encoding = b"7bit" if plain else b"quoted-printable"
    content = text.replace(b"\n", b"\r\n") if plain else _quoted_printable(text)
    return b"Content-Description: %b\r\nContent-Type: %b; charset=utf-8\r\nContent-Transfer-Encoding: %b\r\n\r\n%b" % (
        description.encode(),
        kind.encode(),
        encoding,
        content,
    )


def _quoted_printable(text: bytes) -> bytes:
    """RFC 2045 6.7, with CRLF line ends."""
    return b"".join(_quoted_line(line) + b"\r\n" for line in text.removesuffix(b"\n").split(b"\n"))


def _quoted_line(line: bytes) -> bytes:
    signs = [b"%c" % octet if (32 < octet < 127 and octet != 61) or octet == 32 else b"=%02X" % octet for octet in line]
    if signs and signs[-1] == b" ":
        signs[-1] = b"=20"
    out, width = [], 0
    for sign in signs:
        if width + len(sign) > 75:
            out.append(b"=\r\n")
            width = 0
        out.append(sign)
        width += len(sign)
    return b"".join(out)
