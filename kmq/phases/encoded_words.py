"""8-bit text in header fields as encoded words (RFC 2047), where such words may stand.

What:     words of fields that are text (Subject), and names of people in fields of addresses. Elsewhere - in addresses,
          parameters, IDs - there is no other form.
Promise:  a mail reader shows the same. Words are UTF-8 where the text is, else unknown-8bit (RFC 1428), and none is
          longer than 75.
Callers:  phases.quoted.
"""

import re
from base64 import b64encode
from collections.abc import Sequence

from kmq.model import address_list
from kmq.model.fields import CRLF, Field

_ADDRESSES = re.compile(rb"(?:resent-)?(?:from|sender|reply-to|to|cc|bcc)").fullmatch

#: Fields without text in them; those that nobody defined are taken for text.
_STRUCTURED = re.compile(
    rb"(?:resent-)?(?:date|message-id)|return-.*|received.*|in-reply-to|references|mime-version"
    rb"|content-(?!description$).*|dkim-.*|arc-.*|authentication-results|delivered-to|list-.*"
    rb"|disposition-notification-.*|errors-to|auto-submitted|x-original-to"
).fullmatch

_BLANKS = re.compile(rb"([ \t]+)")
_WORD = rb'(?:"(?>[^"\\]|\\.)*+"|[^ \t\r\n"()<>,;:@\[\]\\]++)'
_PHRASE = re.compile(_WORD + rb"(?>(?:\r\n)?[ \t]++" + _WORD + rb")*+", re.DOTALL)
_QUOTES = re.compile(rb'"((?>[^"\\]|\\.)*+)"', re.DOTALL)
_PAIR = re.compile(rb"\\(.)", re.DOTALL)


def seven_bit(field: Field) -> bytes | None:
    """The text of a field without 8-bit characters; None when it has no such form."""
    if field.text.isascii():
        return field.text
    name, _, value = field.text.partition(b":")
    if _ADDRESSES(field.name):
        text = name + b":" + _names(value)
    elif _STRUCTURED(field.name):
        return None
    else:
        text = name + b":" + CRLF.join(b"".join(_words(line)) for line in value.split(CRLF))
    return text if text.isascii() else None


def _names(value: bytes) -> bytes:
    """A list of addresses: what stands between them are names and comments. A broken list has no sure reading."""
    found = address_list.read(value)
    if found.broken:
        return value
    out: list[bytes] = []
    at = 0
    for one in found.written:
        out += (_PHRASE.sub(_phrase, value[at : one.start]), value[one.start : one.end])
        at = one.end
    return b"".join(out) + _PHRASE.sub(_phrase, value[at:])


def _phrase(found: re.Match[bytes]) -> bytes:
    """A name with an 8-bit character becomes one encoded text, quotes and all."""
    text = found[0]
    if text.isascii():
        return text
    return _encoded(_QUOTES.sub(lambda quoted: _PAIR.sub(rb"\1", quoted[1]), text).replace(CRLF, b""))


def _words(line: bytes) -> Sequence[bytes]:
    """Neighbours that both are encoded lose the blank between them (RFC 2047 6.2), so it is encoded with the first."""
    pieces = _BLANKS.split(line)
    out: list[bytes] = []
    for place, piece in enumerate(pieces):
        if place % 2 or piece.isascii():
            out.append(piece)
            continue
        follows = place + 2 < len(pieces) and not pieces[place + 2].isascii()
        out.append(_encoded(piece + (pieces[place + 1] if follows else b"")))
    return out


def _encoded(text: bytes) -> bytes:
    try:
        signs = [sign.encode() for sign in text.decode()]
        charset = b"utf-8"
    except UnicodeDecodeError:
        signs = [text[at : at + 1] for at in range(len(text))]
        charset = b"unknown-8bit"
    words: list[bytes] = []
    for sign in signs:  # 40 octets are 56 of base64: with their dress within the 75 of a word
        if words and len(words[-1]) + len(sign) <= 40:
            words[-1] += sign
        else:
            words.append(sign)
    return b"\r\n ".join(b"=?%b?b?%b?=" % (charset, b64encode(word)) for word in words)


def worded(text: str) -> str:
    """Text for a field that people read: as it is, or in encoded words where it is not ASCII."""
    return text if text.isascii() else _encoded(text.encode("utf-8", "replace")).decode("ascii")
