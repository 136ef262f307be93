"""Maps of addresses: lines `pattern replacement`, in the configuration or in files of their own.

Promise:  as in `kinds`: text becomes a value, or a ValueError says what would be right. No file is looked at here;
          `read` takes what stands in one.
Callers:  `rewrite` and `notices`, which declare options with them; phases.rewriting and routing.languages, which read
          the files.
"""

import os
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from kmq.config.kinds import Kind, domain_name, parts
from kmq.model.address import NotAnAddress, parse

FILE = "file:"

_EXAMPLES = "write user@example.lan, user@, @example.lan or @*.example.lan, a blank, and the address or @example.org"


class MapLine(NamedTuple):
    """pattern: `user@domain`, `user@` in every domain, `@domain`, `@*.domain` for all below it; lower case.

    replacement: an address, or `@domain`, which leaves the local part as it is; in a map of languages, a language.
    """

    pattern: str
    replacement: str


class AddressMap(NamedTuple):
    """The lines of the configuration, then those of files (absolute paths): the first that fits counts."""

    lines: tuple[MapLine, ...] = ()
    files: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """As it is written in a configuration, paths whole."""
        return ", ".join([*map(" ".join, self.lines), *(FILE + path for path in self.files)])


def line(text: str) -> MapLine:
    """One line of a map; ValueError when it is none."""
    words = text.split()
    if len(words) != 2:
        raise ValueError(f"{text!r} is no pattern and replacement: {_EXAMPLES}")
    return MapLine(pattern(words[0]), _replacement(words[1]))


#: One line of text -> the line of a map; ValueError when it is none.
Understanding = Callable[[str], MapLine]


def read(text: str, understood: Understanding = line) -> list[MapLine]:
    """The lines of a file: `#` begins a comment, empty lines are nothing. ValueError tells the first mistake's line."""
    found = []
    for number, written in enumerate(text.splitlines(), 1):
        words = written.partition("#")[0].strip()
        try:
            found += [understood(words)] if words else []
        except ValueError as wrong:
            raise ValueError(f"line {number}: {wrong}") from None
    return found


def pattern(text: str) -> str:
    """The first word of a line, checked; ValueError when it is no pattern."""
    local, at, domain = text.rpartition("@")
    if not at:
        raise ValueError(f"{text!r} has no @: {_EXAMPLES}")
    if not domain:
        return _checked(f"{local}@example.org", text).removesuffix("example.org").lower()
    if not local:
        star, name = ("*.", domain[2:]) if domain.startswith("*.") else ("", domain)
        return f"@{star}{domain_name(name)}"
    return _checked(text, text).lower()


def _replacement(text: str) -> str:
    if text.startswith("@"):
        return f"@{domain_name(text[1:])}"
    return _checked(text, text)


def _checked(address: str, text: str) -> str:
    """An address in canonical text, its domain in A-labels."""
    try:
        found = parse(address)
        if not found.domain:
            raise NotAnAddress("it has no domain")
    except NotAnAddress as wrong:
        raise ValueError(f"{text!r} is no mail address ({wrong}): {_EXAMPLES}") from None
    literal = found.domain.startswith("[")
    return str(found if literal else found._replace(domain=domain_name(found.domain)))


def _map(understood: Understanding, text: str) -> AddressMap:
    entries = parts(text)
    files = tuple(_path(entry) for entry in entries if entry.startswith(FILE))
    return AddressMap(tuple(understood(entry) for entry in entries if not entry.startswith(FILE)), files)


def _path(entry: str) -> str:
    path = entry.removeprefix(FILE).strip()
    if not path or "\0" in path or path.startswith("~"):
        raise ValueError(f"{entry!r}: behind {FILE} stands the path of a file: {FILE}/etc/kmq/generic")
    return path


def _anchored(value: AddressMap, folder: str) -> AddressMap:
    return value._replace(files=tuple(os.path.join(folder, path) for path in value.files))


def address_map(understood: Understanding = line, replacement: str = "REPLACEMENT") -> Kind[AddressMap]:
    """Lines `pattern replacement`, and `file:PATH`. replacement: what the second word is called in the manual."""
    return Kind(f"list of PATTERN {replacement}, and file:PATH with such lines", partial(_map, understood), _anchored)
