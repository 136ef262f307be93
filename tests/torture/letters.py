"""Letters that prove themselves: each bears a token that no other has, and a digest of its text.

Whoever finds a copy of one, in a Maildir, in the dump of a next hop or within a notice, can say which letter it is and
whether it is whole, and needs to ask nobody.
"""

import re
from hashlib import sha256
from random import Random
from typing import NamedTuple

TOKEN = re.compile(rb"^X-Token: ([0-9a-z]{12})\r?$", re.MULTILINE)
_DIGEST = re.compile(rb"^X-Digest: ([0-9a-f]{64})\r?$", re.MULTILINE)
_FINAL = re.compile(rb"^Final-Recipient: rfc822;\s*(\S+?)\r?$", re.MULTILINE)

#: Letters of strangers, such as smtp-source's: they count, but prove nothing.
STRANGER = ""


class Found(NamedTuple):
    """What a copy says of itself. token: STRANGER for a letter that is none of ours."""

    token: str
    whole: bool


def write(token: str, size: int, chance: Random) -> bytes:
    """A letter of about `size` bytes, CRLF line ends, some lines beginning with dots."""
    line = b"%b the quick brown fox jumps over the lazy dog " % token.encode()
    text = bytearray()
    while len(text) < size:
        text += b"." * chance.choice((0, 0, 0, 1, 2)) + line * chance.randint(1, 6) + b"\r\n"
    text += b".the end of %b\r\n" % token.encode()
    head = b"From: <sender@local.test>\r\nSubject: a letter\r\nX-Token: %b\r\nX-Digest: %b\r\n\r\n"
    return head % (token.encode(), _digest(bytes(text)).encode()) + text


def read(text: bytes) -> Found:
    """Which letter a copy is, whatever stands above it and whichever line ends it has by now."""
    header, _, body = text.replace(b"\r\n", b"\n").partition(b"\n\n")
    token, digest = TOKEN.search(header), _DIGEST.search(header)
    if token is None or digest is None:
        return Found(STRANGER, True)
    return Found(token[1].decode(), _digest(body) == digest[1].decode())


def is_notice(text: bytes) -> bool:
    return b"report-type=delivery-status" in text[:4096]


def notice(text: bytes) -> tuple[str, list[str]]:
    """The token of the letter that a notice is about, and the recipients who did not get it."""
    token = TOKEN.search(text)
    return token[1].decode() if token else STRANGER, [one.decode() for one in _FINAL.findall(text)]


def _digest(text: bytes) -> str:
    return sha256(text.replace(b"\r\n", b"\n").rstrip(b"\n")).hexdigest()
