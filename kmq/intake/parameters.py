"""The arguments of MAIL and RCPT: address and parameters (RFC 5321 4.1.1.2 f., RFC 1870, 3461, 6152, 6531).

Promise:  what is wrong comes back as the reply that says so. DSN parameters that pass are safe to be passed on: their
          decoded form holds no control character, so no header or command can be smuggled in by them.
"""

import re
from collections.abc import Callable, Mapping
from functools import lru_cache

from kmq.intake import replies
from kmq.intake.transaction import Sender
from kmq.model.address import NotAnAddress, read_path
from kmq.model.envelope import Recipient

Check = Callable[[bytes], object]

#: xtext (RFC 3461 4): printable ASCII without `+` and `=`, and hex pairs, here those of printable ASCII only.
_XTEXT = rb"(?:[!-*,-<>-~]|\+(?:[2-6][0-9A-F]|7[0-9A-E]))"
_ORCPT_LIMIT = 500  #: RFC 3461 4.2
_REMEMBERED = 400  #: bytes of an argument that is worth keeping: room for an address and the usual parameters
_ENCODED = re.compile(rb"\\x\{([0-9A-Fa-f]*)\}").finditer


def sender(argument: bytes) -> Sender | bytes:
    """What MAIL says behind the blank, or the reply that refuses it. The same ones come again and again."""
    return _known_sender(argument) if len(argument) <= _REMEMBERED else _sender(argument)


def recipient(argument: bytes, utf8: bool) -> Recipient | bytes:
    """What RCPT says behind the blank, or the reply that refuses it. utf8: MAIL had SMTPUTF8."""
    return _known_recipient(argument, utf8) if len(argument) <= _REMEMBERED else _recipient(argument, utf8)


def _sender(argument: bytes) -> Sender | bytes:
    path = _path(argument, b"FROM:")
    if path is None:
        return replies.MAIL_SYNTAX
    try:
        address, end = read_path(argument, path, not argument.isascii())
    except NotAnAddress as error:
        return replies.bad_address(b"5.1.7", str(error))
    if end == len(argument):
        return Sender(address) if address.isascii() else replies.NEEDS_SMTPUTF8
    given = _parameters(argument[end:], _OF_MAIL)
    if isinstance(given, bytes):
        return given
    utf8 = b"SMTPUTF8" in given
    if not utf8 and not address.isascii():
        return replies.NEEDS_SMTPUTF8
    ret, envid = given.get(b"RET", b"").upper().decode(), given.get(b"ENVID", b"").decode()
    return Sender(address, int(given.get(b"SIZE", b"0")), utf8, ret, envid)


def _recipient(argument: bytes, utf8: bool) -> Recipient | bytes:
    path = _path(argument, b"TO:")
    if path is None:
        return replies.RCPT_SYNTAX
    if not utf8 and not argument.isascii():
        return replies.NEEDS_SMTPUTF8
    try:
        address, end = read_path(argument, path, utf8)
    except NotAnAddress as error:
        return replies.bad_address(b"5.1.3", str(error))
    if not address:
        return replies.bad_address(b"5.1.3", "the null path is for senders")
    if end == len(argument):
        return Recipient(address)
    given = _parameters(argument[end:], _OF_RCPT)
    if isinstance(given, bytes):
        return given
    return Recipient(address, given.get(b"NOTIFY", b"").upper().decode(), given.get(b"ORCPT", b"").decode())


_known_sender = lru_cache(1024)(_sender)
_known_recipient = lru_cache(1024)(_recipient)


def _path(argument: bytes, keyword: bytes) -> int | None:
    """Where the path begins. Blanks behind the colon are wrong and common, and nothing can be hidden in them."""
    at = len(keyword)
    if not argument.startswith(keyword) and argument[:at].upper() != keyword:
        return None
    while argument.startswith(b" ", at):
        at += 1
    return at


def _parameters(text: bytes, known: Mapping[bytes, Check]) -> dict[bytes, bytes] | bytes:
    """` SIZE=4 RET=HDRS` -> values by upper-case keyword; each is known, given once, and well formed."""
    if text[:1] != b" ":
        return replies.BAD_PARAMETER
    given: dict[bytes, bytes] = {}
    for word in text.split():
        keyword, equals, value = word.partition(b"=")
        keyword = keyword.upper()
        check = known.get(keyword)
        if check is None:
            return replies.UNKNOWN_PARAMETER
        if keyword in given or not check(equals + value):
            return replies.BAD_PARAMETER
        given[keyword] = value
    return given


def _matches(pattern: bytes) -> Check:
    return re.compile(b"=" + pattern, re.IGNORECASE).fullmatch


def _original_recipient(text: bytes) -> bool:
    """`=rfc822;a+2Bb@example.org`, or `=utf-8;...` whose address may be UTF-8 or hold `\\x{...}` (RFC 6533 3)."""
    if len(text) - 1 > _ORCPT_LIMIT:
        return False
    if text[:7].lower() != b"=utf-8;":
        return _ORCPT_ASCII(text) is not None
    try:
        address = text[7:].decode()
    except UnicodeDecodeError:
        return False
    return bool(address) and address.isprintable() and all(map(_printable, _ENCODED(text)))


def _printable(encoded: re.Match[bytes]) -> bool:
    code = int(encoded[1] or b"0", 16)
    return code < 0x110000 and not 0xD800 <= code < 0xE000 and chr(code).isprintable()


_ORCPT_ASCII = re.compile(rb"=[A-Za-z0-9-]+;" + _XTEXT + rb"+").fullmatch

_OF_MAIL: dict[bytes, Check] = {
    b"SIZE": _matches(rb"[0-9]{1,20}"),
    b"BODY": _matches(rb"(?:7BIT|8BITMIME)"),
    b"SMTPUTF8": lambda text: text == b"",
    b"RET": _matches(rb"(?:FULL|HDRS)"),
    b"ENVID": re.compile(b"=" + _XTEXT + rb"{1,100}").fullmatch,
}

_OF_RCPT: dict[bytes, Check] = {
    b"NOTIFY": _matches(rb"(?:NEVER|(?:SUCCESS|FAILURE|DELAY)(?:,(?:SUCCESS|FAILURE|DELAY)){0,2})"),
    b"ORCPT": _original_recipient,
}
