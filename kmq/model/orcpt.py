"""ORCPT: the address that a recipient had in the beginning, as DSN parameters bear it (RFC 3461 4.2, RFC 6533 3).

Shapes:   `rfc822;xtext`, in which +2B stands for a character; `utf-8;...`, in which \\x{2B} does. The latter is UTF-8
          (utf-8-addr-unitext) where both sides speak SMTPUTF8, and ASCII (utf-8-addr-xtext) everywhere else.
Promise:  pure. What is made here is ASCII without blanks, whatever the address holds.
"""

import re
from typing import NamedTuple

_UTF_8 = "utf-8"
_EMBEDDED = re.compile(r"\\x\{([0-9A-Fa-f]{1,6})\}")


class Original(NamedTuple):
    """kind: `rfc822`, `utf-8`, .. as it was written; address: decoded."""

    kind: str
    address: str

    @property
    def utf8(self) -> bool:
        return self.kind.lower() == _UTF_8


def orcpt_of(address: str) -> str:
    """An address in canonical text -> `rfc822;xtext`, or `utf-8;...` when it is not ASCII."""
    if address.isascii():
        return "rfc822;" + "".join(_xtext(sign) for sign in address)
    return f"{_UTF_8};{utf8_xtext(address)}"


def read(orcpt: str) -> Original:
    """What a parameter says; what is broken in it stays as it is."""
    kind, _, text = orcpt.partition(";")
    if kind.lower() == _UTF_8:
        return Original(kind, _EMBEDDED.sub(_embedded, text))
    return Original(kind, xtext_decoded(text))


def seven_bit(orcpt: str) -> str:
    """A parameter for a server that does not speak SMTPUTF8 (RFC 6533 3: utf-8-addr-xtext)."""
    if orcpt.isascii():
        return orcpt
    original = read(orcpt)
    return f"{original.kind};{utf8_xtext(original.address)}"


def utf8_xtext(address: str) -> str:
    """RFC 6533 3, utf-8-addr-xtext: ASCII for an address of any letters."""
    return "".join(sign if "!" <= sign <= "~" and sign not in "+=\\" else f"\\x{{{ord(sign):02X}}}" for sign in address)


def xtext_decoded(xtext: str) -> str:
    """RFC 3461 4: +HH stands for a character; what is broken stays as it is."""
    first, *rest = xtext.split("+")
    try:
        return first + "".join(chr(int(part[:2], 16)) + part[2:] for part in rest)
    except ValueError:
        return xtext


def _xtext(sign: str) -> str:
    return sign if "!" <= sign <= "~" and sign not in "+=" else f"+{ord(sign):02X}"


def _embedded(found: re.Match[str]) -> str:
    code = int(found[1], 16)
    return chr(code) if code < 0x110000 and not 0xD800 <= code < 0xE000 else found[0]
