"""The parts of a notice as MIME (RFC 2045, 2046, 6522): encoded so that every server can carry them.

Promise:  pure; bounded. Whatever a message holds, its part ends where it should: the boundary stands in none of them.
Callers:  run.notices, notice_words, notice_fields.
"""

from collections.abc import Iterable

from kmq.languages.wording import Wording
from kmq.model.fields import Field
from kmq.phases.encoded_words import seven_bit
from kmq.run.notice import Letter

HEADER_LIMIT = 50_000  #: bytes of the original header that go back to the sender

_MESSAGE_ID = b"\r\nmessage-id:"
_ID_LIMIT = 900


def boundary(queue_id: str, returned: bytes) -> bytes:
    """A boundary that does not stand in what the message's sender wrote."""
    made = b"kmq-%b" % queue_id.encode("ascii", "replace")
    while made in returned:
        made += b"-"
        made += b"%d" % len(made)
    return made


def multipart(boundary: bytes, parts: Iterable[bytes]) -> bytes:
    """The end of a header, and all parts of a multipart/report (RFC 6522)."""
    kind = b"Content-Type: multipart/report; report-type=delivery-status;\r\n"
    body = kind + b'\tboundary="%b"\r\n\r\nThis is a notice in several parts (RFC 3464).\r\n' % boundary
    body += b"".join(b"\r\n--%b\r\n%b" % (boundary, part) for part in parts)
    return body + b"\r\n--%b--\r\n" % boundary


def text_part(kind: str, text: bytes, description: str, language: str = "") -> bytes:
    """A part of lines that end in LF; quoted-printable when it is not plain ASCII with lines of ordinary length.

    language: that of the text (RFC 3282), "" for what is no text of ours.
    """
    plain = text.isascii() and b"\0" not in text and b"\r" not in text and max(map(len, text.split(b"\n"))) < 990
    content = text.replace(b"\n", b"\r\n") if plain else quoted_printable(text)
    encoding = "7bit" if plain else "quoted-printable"
    tagged = f"{encoding}\r\nContent-Language: {language}" if language else encoding
    return part(f"{kind}; charset=utf-8", tagged, description, content)


def part(kind: str, encoding: str, description: str, content: bytes) -> bytes:
    """A part whose content is encoded already."""
    header = f"Content-Type: {kind}\r\nContent-Transfer-Encoding: {encoding}\r\n\r\n"
    return field("Content-Description", description) + header.encode() + content


def field(name: str, text: str) -> bytes:
    """A field of plain text, whole, as every server can carry it (RFC 2047)."""
    made = seven_bit(Field(name.lower().encode(), f"{name}: {text}\r\n".encode()))
    assert made is not None, "fields of text have such a form"
    return made


# --- what goes back to the sender -------------------------------------------------------------------------------------


def returned(letter: Letter, limit: int, unicode: bool, words: Wording) -> bytes:
    """The third part: the message, when it is at hand and within the limit, else its header.

    unicode: the notice goes with SMTPUTF8 (RFC 6533), so that UTF-8 may stand as it is.
    """
    text, head = letter.text, letter.head
    if head.size <= limit and len(text) == head.size:
        return _whole(text, unicode or head.smtputf8, words.message)
    header = text.partition(b"\r\n\r\n")[0][:HEADER_LIMIT]
    if len(header) == HEADER_LIMIT:
        header = header.rpartition(b"\r\n")[0]
    if unicode and not header.isascii() and _utf_8(header):
        return part("message/global-headers", "8bit", words.header, header + b"\r\n")
    return text_part("text/rfc822-headers", header.replace(b"\r\n", b"\n") + b"\n", words.header)


def _whole(text: bytes, unicode: bool, description: str) -> bytes:
    if text.isascii():
        return part("message/rfc822", "7bit", description, text)
    if unicode and _utf_8(text):  # which may be encoded, as message/rfc822 may not (RFC 6532 3.7)
        content = quoted_printable(text.replace(b"\r\n", b"\n"))
        return part("message/global", "quoted-printable", description, content)
    return part("message/rfc822", "8bit", description, text)


def _utf_8(text: bytes) -> bool:
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return b"\0" not in text


def has_field(text: bytes, name: bytes) -> bool:
    """Whether the header of a message has this field."""
    return b"\r\n%b:" % name.lower() in _header(text)


def message_id(text: bytes) -> bytes:
    """The Message-ID of a message, b"" when it has none that could stand in another header."""
    at = _header(text).find(_MESSAGE_ID)
    if at < 0:
        return b""
    value = (b"\r\n" + text)[at + len(_MESSAGE_ID) :].lstrip(b" \t\r\n")[: _ID_LIMIT + 2].partition(b"\r\n")[0].rstrip()
    good = value.startswith(b"<") and value.endswith(b">") and value.count(b"<") == value.count(b">") == 1
    return value if good and len(value) <= _ID_LIMIT and all(33 <= octet <= 126 for octet in value) else b""


def _header(text: bytes) -> bytes:
    """The lower-case header of a message, each field after CRLF."""
    return b"\r\n" + text[:HEADER_LIMIT].partition(b"\r\n\r\n")[0].lower()


# --- quoted-printable -------------------------------------------------------------------------------------------------


def quoted_printable(text: bytes) -> bytes:
    """Lines that end in LF as RFC 2045 6.7 has them, with CRLF line ends."""
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
