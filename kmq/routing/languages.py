"""In which language somebody is told: by his address, by the header of his message, else by the configuration.

Promise:  the answer is always a language that there are words in. A stranger's header chooses among those, and no more:
          a bounded part of it is read. A file is read again when it changes; one that is not as it should be decides
          what it decided when it last was, and nothing when it never was.
On crash: nothing is kept.
Callers:  run.notices, and phases that write to people.
"""

import re
from collections.abc import Iterable, Iterator

from kmq.config.notices import NoticesSection, line
from kmq.languages.codes import CODES
from kmq.routing.patterns import Table, patterns, table_of, understanding
from kmq.routing.watched import Watched

#: Languages of one field that are looked at (RFC 9110 12.5.4 has the form; people name two or three).
_MOST = 20
#: Bytes of a header in which the fields are looked for.
_HEADER = 50_000

_FIELD = re.compile(rb"\r\n(accept|content)-language[ \t]*:((?:[^\r\n]|\r\n[ \t])*)", re.IGNORECASE)
#: `de-AT`, `fr;q=0.8`; also with the comments that RFC 3282 allows in Content-Language.
_RANGE = re.compile(rb"\s*([A-Za-z]{1,8})(?:-[A-Za-z0-9]{1,8}){0,8}\s*(?:;\s*[qQ]\s*=\s*([01](?:\.[0-9]{0,3})?)\s*)?")
_COMMENT = re.compile(rb"\([^()]*\)")


class Languages:
    """The choice that a configuration makes."""

    __slots__ = ("_by_header", "_files", "_language", "_lines")

    def __init__(self, section: NoticesSection) -> None:
        self._language = section.language
        self._by_header = section.language_by_header
        self._lines = table_of(section.languages.lines)
        nothing: Table = {}
        self._files = [Watched(path, understanding(line), nothing) for path in section.languages.files]

    def of(self, address: str, text: bytes = b"") -> str:
        """The code of the language in which this address is told. text: the message that he sent, its beginning."""
        return self._by_address(address) or (self._asked(text) if self._by_header and text else "") or self._language

    def _by_address(self, address: str) -> str:
        if not self._lines and not self._files:
            return ""
        local, _, domain = address.rpartition("@")
        tables = [self._lines, *(file.current() for file in self._files)]
        for pattern in patterns(local, domain):
            for table in tables:
                if pattern in table:
                    return table[pattern]
        return ""

    def _asked(self, text: bytes) -> str:
        header = b"\r\n" + text[:_HEADER].partition(b"\r\n\r\n")[0]
        found = {match[1].lower(): match[2] for match in _FIELD.finditer(header)}
        for name in (b"accept", b"content"):
            for code in _by_preference(found.get(name, b"")):
                if code in CODES:
                    return code
        return ""


def _by_preference(value: bytes) -> Iterable[str]:
    """The primary languages of a field, the most wanted first; what is not wanted (q=0) is left out."""
    ranges = sorted(_ranges(value), key=lambda one: -one[1])
    return [code for code, quality in ranges if quality > 0]


def _ranges(value: bytes) -> Iterator[tuple[str, float]]:
    """What is no language is passed over: everybody may write this field."""
    for part in _COMMENT.sub(b" ", value).split(b",", _MOST)[:_MOST]:
        match = _RANGE.fullmatch(part)
        if match:
            yield match[1].decode().lower(), float(match[2] or 1)
