"""The `Received:` line that every message gets on top (RFC 5321 4.4), with room for the ID that is issued later.

Promise:  nothing foreign stands in it as it came: what is no plain name character is shown as `?`.
"""

import time

from kmq.model.queue_id import LENGTH

#: Stands where the ID goes until it is known.
STAMP = b"00000000-00000000"
assert len(STAMP) == LENGTH

_DAYS = (b"Mon", b"Tue", b"Wed", b"Thu", b"Fri", b"Sat", b"Sun")
_MONTHS = (b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec")
_PLAIN = bytes(octet if bytes((octet,)).isalnum() or octet in b".-_:[]" else ord("?") for octet in range(256))

_second = -1
_date = b""


def protocol(extended: bool, utf8: bool, secure: bool) -> bytes:
    """The `with` word of RFC 3848 and RFC 6531."""
    if utf8:
        return b"UTF8SMTPS" if secure else b"UTF8SMTP"
    if extended:
        return b"ESMTPS" if secure else b"ESMTP"
    return b"SMTP"


def origin(helo: bytes, ip: str, hostname: str, with_protocol: bytes) -> bytes:
    """The line up to where the ID stands; the same for all messages of a session."""
    literal = f"IPv6:{ip}" if ":" in ip else ip
    return b"Received: from %b ([%b])\r\n\tby %b (kmq) with %b id " % (
        helo.translate(_PLAIN),
        literal.encode().translate(_PLAIN),
        hostname.encode(),
        with_protocol,
    )


def local_origin(user: str, uid: int, hostname: str, with_protocol: bytes) -> bytes:
    """The same for a program of this machine."""
    return b"Received: from %b (uid %d)\r\n\tby %b (kmq) with %b id " % (
        user.encode().translate(_PLAIN),
        uid,
        hostname.encode(),
        with_protocol,
    )


def authenticated_sender(user: str, uid: int, hostname: str) -> bytes:
    """The line that names a user of this machine who sends in another name."""
    name = user.encode().translate(_PLAIN)
    return b"X-Authenticated-Sender: %b@%b (uid %d)\r\n" % (name, hostname.encode(), uid)


def peer(helo: bytes, ip: str) -> bytes:
    """`helo ([ip])` with what is no plain name character shown as `?`; ip may be ""."""
    name = helo.translate(_PLAIN)
    return b"%b ([%b])" % (name, (f"IPv6:{ip}" if ":" in ip else ip).encode().translate(_PLAIN)) if ip else name


def remainder(recipient: str, at: float) -> bytes:
    """The line from behind the ID. recipient: the only one, else "" (the others are nobody's business).

    A non-ASCII address is left out, so that a message that is ASCII stays it.
    """
    if recipient and recipient.isascii():
        return b"\r\n\tfor <" + recipient.encode() + b">; " + date(at) + b"\r\n"
    return b";\r\n\t" + date(at) + b"\r\n"


def longest(before: bytes, after: bytes) -> int:
    """Bytes of the longest of the three lines that `origin`, the ID and `remainder` make."""
    first = before.find(b"\r\n")
    joint = after.find(b"\r\n")
    return max(first, len(before) - first - 2 + LENGTH + joint, len(after) - joint - 4)


def date(at: float) -> bytes:
    """Unix time as RFC 5322 3.3 has it, in UTC. The last second is remembered, as thousands of messages share it."""
    global _second, _date
    second = int(at)
    if second != _second:
        year, month, day, hour, minute, sec, weekday, _, _ = time.gmtime(second)
        _date = b"%b, %d %b %d %02d:%02d:%02d +0000" % (
            _DAYS[weekday], day, _MONTHS[month - 1], year, hour, minute, sec,
        )  # fmt: skip
        _second = second
    return _date
