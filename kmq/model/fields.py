"""The header of a message as fields (RFC 5322 2.2), without a tree, a parser of Python's, or a look at the text below.

Promise:  linear in the bytes, whatever they are; joined, the fields are the header again, byte for byte.
Shapes:   a header is whole lines with CRLF, without the empty line behind it; a field has its folded lines with it.
Callers:  intake.completion, phases.rewriting, phases.quoted and all who look for a field.
"""

import re
from typing import NamedTuple

#: Bytes of a header that are taken in, made or rewritten; above, no program's is meant.
LIMIT = 100_000

_FIELD = re.compile(rb"([!-9;-~]++)[ \t]*+:([^\r\n]*+(?>\r\n[ \t][^\r\n]*+)*+)\r\n")
_FIELDS = re.compile(rb"(?>[!-9;-~]++[ \t]*+:[^\r\n]*+(?>\r\n[ \t][^\r\n]*+)*+\r\n)*+")


class NotAField(ValueError):
    """A line of a header is none; the text says which, counted from 1."""


class Field(NamedTuple):
    """name: lower case. text: the whole of it, from its name to its last CRLF."""

    name: bytes
    text: bytes

    @property
    def value(self) -> bytes:
        """What stands behind the colon, its folds undone, without blanks around it."""
        return self.text.partition(b":")[2].replace(b"\r\n", b"").strip()


def read(header: bytes) -> list[Field]:
    """The fields of a header; NotAField at the first line that neither begins nor goes on with one."""
    found: list[Field] = []
    at = 0
    while at < len(header):
        field = _FIELD.match(header, at)
        if field is None:
            raise NotAField(f"line {header.count(b'%b' % CRLF, 0, at) + 1} of the header is no field")
        found.append(Field(field[1].lower(), field[0]))
        at = field.end()
    return found


def end(text: bytes) -> int:
    """Where the header of a message ends: behind its last field, ahead of the empty line or of what is no field."""
    found = _FIELDS.match(text)
    assert found is not None, "no field at all is a match"
    return found.end()


def split(text: bytes) -> tuple[bytes, bytes]:
    """A message -> its header, and what follows the empty line. Text that begins without a header has an empty one.

    The first line that is no field ends the header too: it is the first of the text.
    """
    at = end(text)
    return text[:at], text[at + 2 if text.startswith(CRLF, at) else at :]


def longest(text: bytes) -> int:
    """Bytes of the longest line, its end left out."""
    return max(map(len, text.split(CRLF)))


CRLF = b"\r\n"
