"""The header of a message that a user's program sends: what it lacks is added, bare addresses get a domain.

What:     the table of `header_table`, done. The recipients and the sender are read from the header here too, for
          sendmail -t and for dropped files.
Promise:  pure and linear in the bytes; what a header has beside is kept byte for byte. Nothing foreign is pasted: each
          line that is added is made from checked parts. A header of port 25 comes back as it is, the same object.
Errors:   BadHeader, for what must not be taken; its text is fit for a reply, a log and a reason file.
Callers:  intake.arrival (submission), the takers of dropped files and of sendmail's mail.
"""

import re
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from secrets import token_hex

from kmq.intake import trace
from kmq.intake.header_table import ONCE, TREATMENTS, Treatment, Way
from kmq.model import address_list, fields
from kmq.model.address import NotAnAddress, on_wire, parse
from kmq.model.fields import LIMIT, Field

__all__ = ["BadHeader", "Completion", "Way"]


class BadHeader(ValueError):
    """What must not be taken, in words that may be shown to whoever sent it."""


_T = Treatment
_QUALIFIED = frozenset({_T.QUALIFIED, _T.FILLED, _T.UNDISCLOSED, _T.RESENT_FILLED})
_REMOVED = frozenset({_T.REMOVED, _T.RENEWED})
_ADDED = frozenset({_T.ADDED, _T.MENDED, _T.FILLED})
_RESENT_ADDED = frozenset({_T.RESENT, _T.RESENT_FILLED})
_RECIPIENTS = (b"to", b"cc", b"bcc")
_DATE = re.compile(
    rb"(?:[A-Za-z]{3},\s*)?\d{1,2}\s+[A-Za-z]{3}\s+\d{2,4}\s+\d{1,2}:\d\d(?::\d\d)?\s+(?:[+-]\d{4}|[A-Za-z]{1,5})"
).match
_WORDS = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~ -]+").fullmatch
_ESCAPED = re.compile(r'(["\\])')


@dataclass(frozen=True, slots=True)
class Completion:
    """What completing needs to know. domain: what bare addresses get, the first local domain or else `hostname`."""

    hostname: str
    domain: str

    def complete(self, header: bytes, way: Way, *, sender: str, name: str, now: float) -> bytes:
        """The completed header.

        header: whole lines with CRLF, without the empty line. sender: of the envelope, "" for the null sender; name: of
        the person, if it is known. now: Unix time.
        """
        if way is Way.SMTP:
            return header
        treatments = TREATMENTS[way]
        kept = [
            one for one in _read(header) if treatments.get(one.name) not in _REMOVED and not _lacks(one, treatments)
        ]
        top, added = self._missing(kept, way, sender, name, now)
        completed = b"".join([*top, *(self._treated(one, treatments) for one in kept), *added])
        if len(completed) > LIMIT:
            raise BadHeader(f"the header has more than {LIMIT} bytes")
        return completed

    def recipients(self, header: bytes) -> list[str]:
        """To whom a message goes by its header: To, Cc, Bcc, or those of Resent- when it has one. Each once.

        Canonical addresses, completed. BadHeader for an entry that is none; nobody is an empty list.
        """
        found = _read(header)
        resent = [one for one in found if one.name in {b"resent-" + name for name in _RECIPIENTS}]
        named = resent or [one for one in found if one.name in _RECIPIENTS]
        return list(dict.fromkeys(address for one in named for address in self._addresses(one)))

    def author(self, header: bytes) -> str:
        """Who sends a message by its header: From when it names one, else Sender, which must then name one."""
        found = {one.name: one for one in _read(header)}
        for name in (b"from", b"sender"):
            addresses = self._addresses(found[name]) if name in found else []
            if len(addresses) == 1:
                return addresses[0]
        if b"from" not in found and b"sender" not in found:
            raise BadHeader("there is no From and no Sender")
        raise BadHeader("From names not exactly one address, and Sender neither")

    def _addresses(self, field: Field) -> list[str]:
        found = address_list.read(field.text, len(field.name) + 1)
        label = field.name.decode().title()
        if found.broken:
            raise BadHeader(f"{label} has an entry that is no address")
        try:
            return [self.canonical(one.text) for one in found.written]
        except NotAnAddress as wrong:
            raise BadHeader(f"{label} has an address that cannot be used: {wrong}") from None

    def canonical(self, address: str) -> str:
        """An address, perhaps a bare one, as canonical text; NotAnAddress when it is none."""
        found = address_list.read(address.encode("utf-8", "surrogateescape"))
        if found.broken or len(found.written) != 1:
            raise NotAnAddress("bad address")
        one = found.written[0]
        return str(parse(one.text if one.domain else f"{one.text}@{self.domain}"))

    def _treated(self, field: Field, treatments: dict[bytes, Treatment]) -> bytes:
        return self._qualified(field) if treatments.get(field.name) in _QUALIFIED else field.text

    def _qualified(self, field: Field) -> bytes:
        """Bare addresses get the domain; all else stays where it is."""
        text = field.text
        found = address_list.read(text, text.index(b":") + 1)
        at_home = b"@" + self.domain.encode()
        new = {one.start: text[one.start : one.end] + at_home for one in found.written if not one.domain}
        if len(text) + len(new) * len(at_home) > LIMIT:
            raise BadHeader(f"the header has more than {LIMIT} bytes")
        return address_list.replaced(text, found, new) if new else text

    # --- what is missing ---------------------------------------------------------------------------------------------

    def _missing(
        self, kept: Sequence[Field], way: Way, sender: str, name: str, now: float
    ) -> tuple[list[bytes], list[bytes]]:
        """What is to be added: on top those of Resent-, which belong to each other (RFC 5322 3.6.6), the rest below."""
        there = {one.name for one in kept}
        resent = any(one.startswith(b"resent-") for one in there)
        top: list[bytes] = []
        added: list[bytes] = []
        for field, treatment in TREATMENTS[way].items():
            if treatment is _T.UNDISCLOSED and there.isdisjoint((b"to", b"cc")):
                added.append(b"To: Undisclosed Recipients:;\r\n")
            elif field in there:
                continue
            elif treatment in _ADDED:
                added.append(self._made(field, sender, name, now))
            elif resent and treatment in _RESENT_ADDED:
                top.append(b"Resent-" + self._made(field.removeprefix(b"resent-"), sender, name, now))
        return top, added

    def _made(self, field: bytes, sender: str, name: str, now: float) -> bytes:
        if field == b"date":
            return b"Date: %b\r\n" % trace.date(now)
        if field == b"message-id":
            return f"Message-ID: <{int(now):x}.{token_hex(10)}@{self.hostname}>\r\n".encode()
        assert field == b"from", "the table adds nothing else"
        try:
            address = on_wire(sender or f"MAILER-DAEMON@{self.domain}")
        except NotAnAddress as wrong:
            raise BadHeader(f"the sender cannot be written in From: {wrong}") from None
        phrase = _phrase(name) if sender else b""
        return b"From: %b %b\r\n" % (phrase, address) if phrase else b"From: %b\r\n" % address[1:-1]


def _read(header: bytes) -> list[Field]:
    """The fields, bounded and without what could be read in two ways."""
    if len(header) > LIMIT:
        raise BadHeader(f"the header has more than {LIMIT} bytes")
    if b"\0" in header:
        raise BadHeader("there is a NUL in the header")
    try:
        found = fields.read(header)
    except fields.NotAField as wrong:
        raise BadHeader(str(wrong)) from None
    names = [one.name for one in found if one.name in ONCE]
    if len(names) > len(set(names)):
        twice = next(name for name in names if names.count(name) > 1)
        raise BadHeader(f"there is more than one {twice.decode().title()}")
    return found


def _lacks(field: Field, treatments: dict[bytes, Treatment]) -> bool:
    """It says nothing, or no date, and is made anew."""
    treatment = treatments.get(field.name)
    if treatment is _T.MENDED:
        return _DATE(field.value) is None
    return (treatment in _ADDED or treatment is _T.UNDISCLOSED) and not field.value


def _phrase(name: str) -> bytes:
    """A person's name ahead of an address: plain, in quotes, or as encoded words (RFC 2047)."""
    name = " ".join("".join(sign if sign.isprintable() else " " for sign in name[:200]).split())
    if name.isascii():
        return name.encode() if _WORDS(name) else b'"%b"' % _ESCAPED.sub(r"\\\1", name).encode() if name else b""
    words = [name[at : at + 10] for at in range(0, len(name), 10)]  # 10 signs are 40 bytes at most: one word each
    encoded = [b64encode(word.encode("utf-8", "replace")) for word in words]
    return b"\r\n ".join(b"=?utf-8?b?%b?=" % word for word in encoded)
