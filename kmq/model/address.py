"""Mailbox addresses of SMTP (RFC 5321 4.1.2, RFC 6531 3.3): parse what a peer wrote, serialise what we mean.

Promise:  what comes out of here holds no control character, CR, LF or NUL, and can go on the wire as it is: text is
          always made anew from its parts, never pasted. `split` and `str` undo each other.
Shapes:   an address in canonical text is `local@domain`: the domain in lower case (an address literal as `ipaddress`
          writes it), the local part in its own case and quoted only where it must be. "" is the null path, and
          `postmaster` alone is the postmaster of this host (RFC 5321 4.5.1).
Errors:   NotAnAddress, whose text is fit for a reply.
"""

import re
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address
from typing import NamedTuple
from unicodedata import category

LOCAL_LIMIT = 64  #: octets of a local part as serialised, RFC 5321 4.5.3.1.1
DOMAIN_LIMIT = 255  #: octets of a domain, RFC 5321 4.5.3.1.2
_LONGEST_PATH = LOCAL_LIMIT + DOMAIN_LIMIT + 3

_ATEXT = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]"
_LABEL = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"  # the underscore is not in the RFC, but out there
_DOMAIN = rf"{_LABEL}(?:\.{_LABEL})*"
_PLAIN = re.compile(rf"({_ATEXT}+(?:\.{_ATEXT}+)*)@({_DOMAIN})").fullmatch
_ASCII_DOMAIN = re.compile(_DOMAIN).fullmatch
_AT_DOMAIN = r'@(?:[^@,:\[\]"]+|\[[^@,\[\]"]*\])'
_ROUTE = re.compile(rf"{_AT_DOMAIN}(?:,{_AT_DOMAIN})*:").match
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"(?:@|\Z)').match
_PATH = re.compile(rb'<((?>[^"<>\\]++|"(?:[^"\\]|\\.)*")*+)>').match
_DOT_STRING = re.compile(rf"(?:{_ATEXT}|[^\x00-\x7f])+(?:\.(?:{_ATEXT}|[^\x00-\x7f])+)*").fullmatch
_ESCAPED = re.compile(r"\\(.)")
_TO_ESCAPE = re.compile(r'(["\\])')
_JOINERS = "\u200c\u200d"  # part of the spelling of Persian and Indic words
_REFUSED = frozenset({"Cc", "Cf", "Cs", "Zs", "Zl", "Zp"})
_DOTS = re.compile("[\u3002\uff0e\uff61]")  # IDNA takes these for dots: two spellings of one domain


class NotAnAddress(ValueError):
    """What stands there is no mailbox; the text says why, without repeating it."""


class Address(NamedTuple):
    """A mailbox. local: without quotes; domain: lower case or `[literal]`, "" for the null path and bare postmaster."""

    local: str
    domain: str

    def __str__(self) -> str:
        if not self.domain:
            return self.local
        return f"{_quoted(self.local)}@{self.domain}"


def parse(text: str) -> Address:
    """The address of a mailbox without angle brackets (`a@example.org`); NotAnAddress for anything else."""
    plain = _PLAIN(text)
    if plain is None:
        return _parse_any(text)
    local, domain = plain.groups()
    if len(local) > LOCAL_LIMIT or len(domain) > DOMAIN_LIMIT:
        raise NotAnAddress("local part or domain too long")
    return Address(local, domain.lower())


def read_path(line: bytes, at: int, utf8: bool) -> tuple[str, int]:
    """The path `<...>` at an offset of a command line -> canonical text and the offset behind `>`.

    A source route is taken and ignored (RFC 5321 appendix C). utf8: non-ASCII is allowed (RFC 6531).
    """
    end = line.find(b">", at) + 1
    address = _plain_path(line[at:end]) if end - at <= _LONGEST_PATH else None
    if address is not None:
        return address, end
    return _read_any_path(line, at, utf8)


@lru_cache(2048)
def _plain_path(path: bytes) -> str | None:
    """Remembered: the same senders and recipients come again and again."""
    plain = _PLAIN(path[1:-1].decode("latin-1")) if path[:1] == b"<" else None
    if plain is None:
        return None
    local, domain = plain.groups()
    return f"{local}@{domain.lower()}" if len(local) <= LOCAL_LIMIT and len(domain) <= DOMAIN_LIMIT else None


def split(text: str) -> Address:
    """The parts of an address in canonical text; nothing is checked."""
    local, at, domain = text.rpartition("@")
    if not at:
        return Address(text, "")
    if local[:1] == '"':
        local = _ESCAPED.sub(r"\1", local[1:-1])
    return Address(local, domain)


def on_wire(text: str) -> bytes:
    """Canonical text as a path for MAIL and RCPT: `<a@example.org>`, made anew from its parts.

    NotAnAddress when the text is not one that `parse` gives, such as an envelope that somebody edited.
    """
    if not text:
        return b"<>"
    return b"<%b>" % str(parse(text)).encode()


def _read_any_path(line: bytes, at: int, utf8: bool) -> tuple[str, int]:
    found = _PATH(line, at)
    if found is None:
        raise NotAnAddress("an address stands in <angle brackets>")
    try:
        text = found[1].decode("utf-8" if utf8 else "ascii")
    except UnicodeDecodeError:
        raise NotAnAddress("not UTF-8" if utf8 else "not ASCII") from None
    if not text:
        return "", found.end()
    route = _ROUTE(text)
    return str(parse(text[route.end() :] if route else text)), found.end()


def _parse_any(text: str) -> Address:
    """Quoted local parts, address literals, UTF-8, bare postmaster: all that the plain pattern leaves."""
    if text.lower() == "postmaster":
        return Address("postmaster", "")
    local, domain = _halves(text)
    _check_octets(local)
    written = _quoted(local)
    if len(written.encode()) > LOCAL_LIMIT:
        raise NotAnAddress("local part too long")
    return Address(local, _domain(domain))


def _halves(text: str) -> tuple[str, str]:
    """Local part without quotes, and domain as written."""
    quoted = _QUOTED(text)
    if quoted:
        local, domain = _ESCAPED.sub(r"\1", quoted[1]), text[quoted.end() :]
    else:
        local, _, domain = text.partition("@")
        if not _DOT_STRING(local):
            raise NotAnAddress("bad local part")
    if not domain:
        raise NotAnAddress("an address needs a domain")
    return local, domain


def _check_octets(local: str) -> None:
    if local.isascii():
        if not local.isprintable():
            raise NotAnAddress("control character in the local part")
        return
    for sign in local:
        if sign != " " and sign not in _JOINERS and category(sign) in _REFUSED:
            raise NotAnAddress("control character or blank in the local part")


def _domain(text: str) -> str:
    if text[0] == "[":
        return _literal(text)
    if len(text.encode("utf-8", "replace")) > DOMAIN_LIMIT:
        raise NotAnAddress("domain too long")
    if text.isascii():
        if not _ASCII_DOMAIN(text):
            raise NotAnAddress("bad domain")
        return text.lower()
    return _international(text)


def _literal(text: str) -> str:
    """`[192.0.2.1]`, `[IPv6:2001:db8::1]` (RFC 5321 4.1.3); no other tag was ever registered."""
    inside = text[1:-1]
    try:
        if text[-1] != "]" or "%" in inside:
            raise ValueError
        if inside[:5].lower() == "ipv6:":
            return f"[IPv6:{IPv6Address(inside[5:])}]"
        return f"[{IPv4Address(inside)}]"
    except ValueError:
        raise NotAnAddress("bad address literal") from None


def _international(text: str) -> str:
    """U-labels stay as they are written (lower case is for ASCII); each must be letters and have an A-label."""
    if _DOTS.search(text) or not all(map(_is_label, text.split("."))):
        raise NotAnAddress("bad domain")
    return "".join(sign.lower() if sign.isascii() else sign for sign in text)


def _is_label(label: str) -> bool:
    if label.isascii():
        return _ASCII_DOMAIN(label) is not None
    kinds = [category(sign)[0] for sign in label if sign not in "-_"]
    if kinds[:1] == ["M"] or not set("LMN").issuperset(kinds):
        return False
    try:
        return bool(label.encode("idna"))
    except UnicodeError:
        return False


def _quoted(local: str) -> str:
    if _DOT_STRING(local):
        return local
    escaped = _TO_ESCAPE.sub(r"\\\1", local)
    return f'"{escaped}"'
