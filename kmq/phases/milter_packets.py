"""The milter protocol as packets: what goes over the line, and what its numbers mean.

Source:   libmilter/mfdef.h and mfapi.h of Sendmail 8.14 (version 6 of the protocol). A packet is the length of the rest
          (32 bits, network order), one byte that says what it is, and the rest.
Promise:  pure. A packet beyond the limit is garbage, so memory is bounded whatever the other side says.
Callers:  phases.milter_talk.
"""

from collections.abc import Iterable, Iterator
from enum import IntFlag
from struct import Struct
from typing import NamedTuple

VERSION = 6
OLDEST = 2
#: Bytes of a piece of the body.
CHUNK = 65535
#: Bytes of a packet that a milter may send: a piece of a body, or a header of 1 MiB.
LIMIT = 1 << 20

_LENGTH = Struct("!I")
_OPTIONS = Struct("!III")

# --- from us ---------------------------------------------------------------------------------------------------------

OPTNEG, MACRO, CONNECT, HELO, MAIL, RCPT, DATA = b"O", b"D", b"C", b"H", b"M", b"R", b"T"
HEADER, EOH, BODY, END, ABORT, QUIT = b"L", b"N", b"B", b"E", b"A", b"Q"

# --- from the milter -------------------------------------------------------------------------------------------------

CONTINUE, ACCEPT, REJECT, TEMPFAIL, DISCARD, REPLYCODE = b"c", b"a", b"r", b"t", b"d", b"y"
CONNFAIL, SHUTDOWN, SKIP, PROGRESS, SETSYMLIST = b"f", b"4", b"s", b"p", b"l"
ADDRCPT, ADDRCPT_PAR, DELRCPT, CHGFROM = b"+", b"2", b"-", b"e"
ADDHEADER, INSHEADER, CHGHEADER, REPLBODY, QUARANTINE = b"h", b"i", b"m", b"b", b"q"

#: What a milter may say before the end of the message is decided.
CHANGES = frozenset(
    {ADDRCPT, ADDRCPT_PAR, DELRCPT, CHGFROM, ADDHEADER, INSHEADER, CHGHEADER, REPLBODY, QUARANTINE, SETSYMLIST}
)


class Action(IntFlag):
    """What a milter may change, as it announces it."""

    ADD_HEADERS = 0x01
    CHANGE_BODY = 0x02
    ADD_RCPT = 0x04
    DELETE_RCPT = 0x08
    CHANGE_HEADERS = 0x10
    QUARANTINE = 0x20
    CHANGE_FROM = 0x40
    ADD_RCPT_PAR = 0x80
    SET_SYMLIST = 0x100


class Step(IntFlag):
    """What a milter does not want to hear (NO_), or does not answer (SILENT_), as it says."""

    NO_CONNECT = 0x01
    NO_HELO = 0x02
    NO_MAIL = 0x04
    NO_RCPT = 0x08
    NO_BODY = 0x10
    NO_HEADERS = 0x20
    NO_EOH = 0x40
    SILENT_HEADER = 0x80
    NO_UNKNOWN = 0x100
    NO_DATA = 0x200
    SKIP = 0x400
    RCPT_REJECTED = 0x800
    SILENT_CONNECT = 0x1000
    SILENT_HELO = 0x2000
    SILENT_MAIL = 0x4000
    SILENT_RCPT = 0x8000
    SILENT_DATA = 0x10000
    SILENT_UNKNOWN = 0x20000
    SILENT_EOH = 0x40000
    SILENT_BODY = 0x80000
    LEADING_SPACE = 0x100000  #: values of fields come and go with the blank behind the colon


ALL_ACTIONS = Action(0x1FF)
ALL_STEPS = Step(0x1FFFFF) & ~Step.RCPT_REJECTED


class Garbage(ValueError):
    """The other side does not speak the protocol; the text says how."""


class Packet(NamedTuple):
    """One, without its length."""

    kind: bytes
    text: bytes


class Options(NamedTuple):
    """What both sides agree on."""

    version: int
    actions: Action
    steps: Step


def packet(kind: bytes, text: bytes = b"") -> bytes:
    return _LENGTH.pack(len(text) + 1) + kind + text


def offer() -> bytes:
    """The first packet: all that we know."""
    return packet(OPTNEG, _OPTIONS.pack(VERSION, ALL_ACTIONS, ALL_STEPS))


def agreed(said: Packet) -> Options:
    """What the milter makes of the offer; Garbage when it wants what nobody offered."""
    if said.kind != OPTNEG or len(said.text) < _OPTIONS.size:
        raise Garbage(f"it answered {said.kind!r} to the offer of options")
    version, actions, steps = _OPTIONS.unpack(said.text[: _OPTIONS.size])
    if not OLDEST <= version <= VERSION:
        raise Garbage(f"it speaks version {version} of the protocol")
    if actions & ~int(ALL_ACTIONS) or steps & ~int(ALL_STEPS):
        raise Garbage("it wants what it was not offered")
    return Options(version, Action(actions), Step(steps))


def macros(kind: bytes, values: Iterable[tuple[str, str]]) -> bytes:
    """Macros that go ahead of a command; those without a value are left out."""
    return packet(MACRO, kind + strings(word for name, value in values if value for word in (name, value)))


def strings(words: Iterable[str | bytes]) -> bytes:
    """Words, each with the NUL behind it that ends it."""
    made = (word.encode("utf-8", "surrogateescape") if isinstance(word, str) else word for word in words)
    return b"".join(word.replace(b"\0", b"") + b"\0" for word in made)


def words_of(text: bytes) -> list[str]:
    """Such words back; bytes that are no UTF-8 are replaced."""
    return [word.decode("utf-8", "replace") for word in text.split(b"\0")[:-1]]


class Reader:
    """Packets out of a stream of bytes."""

    def __init__(self) -> None:
        self._kept = b""

    def feed(self, piece: bytes) -> Iterator[Packet]:
        """All that are whole; Garbage at one that is empty, or larger than any may be."""
        self._kept += piece
        while len(self._kept) >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(self._kept)
            if not 1 <= length <= LIMIT:
                raise Garbage(f"a packet of {length} bytes")
            end = _LENGTH.size + length
            if len(self._kept) < end:
                return
            found = Packet(self._kept[_LENGTH.size : _LENGTH.size + 1], self._kept[_LENGTH.size + 1 : end])
            self._kept = self._kept[end:]
            yield found
