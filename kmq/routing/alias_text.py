"""The text of alias files: lines of `name: target, target`, in the form of aliases(5); kmq-aliases(5) tells it.

Promise:  pure, and linear in the text. What cannot be understood is told with its line and what would be right; what a
          line says that can be understood counts all the same. Nothing of a file is ever run or written to.
Shapes:   a key is `name`, `name@domain` or `@domain`, in lower case, the domain canonical. See `Entry`, `Target`.
Callers:  routing.aliases, routing.included.
"""

from collections.abc import Iterator
from enum import Enum
from typing import NamedTuple

from kmq.model.address import LOCAL_LIMIT, NotAnAddress, parse
from kmq.model.domain import canonical

INCLUDE = ":include:"


class Meaning(Enum):
    """What a target is."""

    ADDRESS = "address"  #: `name` or `name@domain`, looked up again
    FINAL = "final"  #: `\\name`: the mailbox itself
    DOMAIN = "domain"  #: `@domain`: the same name there
    INCLUDED = "included"  #: `:include:/path`: what stands in that file


class Target(NamedTuple):
    """One place on the right of an alias. text: canonical address, bare name, domain, or path."""

    meaning: Meaning
    text: str

    def __str__(self) -> str:
        return {Meaning.FINAL: "\\", Meaning.DOMAIN: "@", Meaning.INCLUDED: INCLUDE}.get(self.meaning, "") + self.text


class Entry(NamedTuple):
    """An alias. place: `/etc/aliases:12`; trouble: why it cannot be expanded now (a target that is none), or ""."""

    key: str
    targets: tuple[Target, ...]
    place: str
    trouble: str = ""


class Mistake(NamedTuple):
    """A line that is not what it should be. broken: it may have meant an address that no other line names."""

    line: int
    text: str
    broken: bool = True


class NoTarget(ValueError):
    """What stands there is no target; the text says why, and what would be right."""


def read_entries(text: str, path: str) -> tuple[dict[str, Entry], list[Mistake]]:
    """The aliases of a file's text by their keys, and its mistakes. Of two lines with one key the first counts."""
    entries: dict[str, Entry] = {}
    mistakes: list[Mistake] = []
    for number, line in logical_lines(text):
        key, colon, rest = _halves(line)
        try:
            name = _key(key, colon)
        except NoTarget as wrong:
            mistakes.append(Mistake(number, str(wrong)))
            continue
        if name in entries:
            twice = f"{name} stands in {entries[name].place} already; this line does not count"
            mistakes.append(Mistake(number, twice, broken=False))
            continue
        place = f"{path}:{number}"
        try:
            targets = tuple(dict.fromkeys(map(read_target, pieces(rest))))
            trouble = "" if targets else f"{place}: {name} has nothing behind the colon"
        except NoTarget as wrong:
            targets, trouble = (), f"{place}: {wrong}"
        if trouble:
            mistakes.append(Mistake(number, trouble.removeprefix(f"{place}: "), broken=False))
        entries[name] = Entry(name, targets, place, trouble)
    return entries, mistakes


def logical_lines(text: str) -> Iterator[tuple[int, str]]:
    """(number of its first line, text): a line that begins with a blank goes on with the one before. Comments and
    empty lines count for nothing, also between the two."""
    begun, parts = 0, [""]
    for number, line in enumerate(text.split("\n"), 1):
        bare = line.strip()
        if not bare or bare[0] == "#":
            continue
        if line[0] in " \t" and begun:
            parts.append(bare)
            continue
        if begun:
            yield begun, " ".join(parts)
        begun, parts = number, [bare]
    if begun:
        yield begun, " ".join(parts)


# --- left of the colon ------------------------------------------------------------------------------------------------


def _halves(line: str) -> tuple[str, str, str]:
    """Key, colon, targets: the first colon that is not in quotes divides them."""
    if '"' not in line:
        key, colon, rest = line.partition(":")
        return key.strip(), colon, rest
    quoted = skip = False
    for at, sign in enumerate(line):
        if skip:
            skip = False
        elif sign == "\\" and quoted:
            skip = True
        elif sign == '"':
            quoted = not quoted
        elif sign == ":" and not quoted:
            return line[:at].strip(), ":", line[at + 1 :]
    return line, "", ""


def _key(text: str, colon: str) -> str:
    if not colon:
        raise NoTarget(f"{text[:60]!r} has no colon: an alias is written as name: address, address")
    local, at, domain = text.rpartition("@") if text[-1:] != '"' else (text, "", "")
    try:
        if not at:
            return _name(text)
        return (_name(local) if local else "") + "@" + canonical(domain)
    except ValueError as wrong:
        raise NoTarget(f"{text[:60]!r} is no alias: {wrong}; write name, name@example.org or @example.org") from None


def _name(text: str) -> str:
    """A local part as it is compared: without quotes, in lower case."""
    name = _unquoted(text).lower()
    if not name or len(name.encode(errors="replace")) > LOCAL_LIMIT or not name.isprintable():
        raise ValueError("that is no local part")
    if text[:1] != '"' and (" " in name or "\\" in name or '"' in name):
        raise ValueError("blanks, quotes and backslashes stand in quotes")
    return name


def _unquoted(text: str) -> str:
    if len(text) < 2 or text[0] != '"' or text[-1] != '"':
        return text
    return "".join(_unescaped(text[1:-1]))


def _unescaped(text: str) -> Iterator[str]:
    signs = iter(text)
    for sign in signs:
        yield next(signs, "") if sign == "\\" else sign


# --- right of it ------------------------------------------------------------------------------------------------------


def pieces(text: str) -> list[str]:
    """The entries of a list: commas in quotes divide nothing, and comments (in brackets) say nothing."""
    if '"' not in text and "(" not in text:
        return [piece for part in text.split(",") if (piece := part.strip())]
    found: list[str] = []
    letters: list[str] = []
    quoted = skip = False
    depth = 0
    for sign in text:
        if skip:
            skip = False
        elif sign == "\\" and (quoted or depth):
            skip = True
        elif sign == '"' and not depth:
            quoted = not quoted
        elif sign == "(" and not quoted:
            depth += 1
        elif sign == ")" and depth:
            depth -= 1
            continue
        elif sign == "," and not quoted and not depth:
            found.append("".join(letters).strip())
            letters.clear()
            continue
        if not depth:
            letters.append(sign)
    found.append("".join(letters).strip())
    return [one for one in found if one]


def read_target(text: str) -> Target:
    """One target of its text; NoTarget for what is none, and for commands and files."""
    if text.isascii() and text.isalnum() and len(text) <= LOCAL_LIMIT:
        return Target(Meaning.ADDRESS, text)
    bare = _unquoted(text)
    if bare[:1] in ("|", "/") or bare.startswith(("~/", "./")):
        what = "a command" if bare[0] == "|" else "a file"
        raise NoTarget(
            f"{bare[:60]!r} is {what}, and mail goes to addresses alone: write an address that stands for it"
        )
    if bare.lower().startswith(INCLUDE):
        path = bare[len(INCLUDE) :].strip()
        if path[:1] != "/" or "\0" in path:
            raise NoTarget(f"{bare[:60]!r}: behind {INCLUDE} stands a path from / on: {INCLUDE}/etc/kmq/list")
        return Target(Meaning.INCLUDED, path)
    if text[-1:] == ">" and "<" in text:
        text = text[text.rindex("<") + 1 : -1].strip()
    return _addressed(text)


def _addressed(text: str) -> Target:
    meaning = Meaning.FINAL if text[:1] == "\\" else Meaning.ADDRESS
    bare = text.removeprefix("\\")
    try:
        if bare[:1] == "@":
            return Target(Meaning.DOMAIN, canonical(bare[1:]))
        if bare[-1:] == '"' or "@" not in bare:
            return Target(meaning, _bare(bare))
        return Target(meaning, str(parse(bare)))
    except (NotAnAddress, ValueError) as wrong:
        raise NoTarget(f"{text[:60]!r} is no address ({wrong}): write name, or name@example.org") from None


def _bare(text: str) -> str:
    """A name of this machine, as it stands in an address: its own case, quoted where it must be."""
    _name(text)
    return str(parse(f"{text}@x")).removesuffix("@x")
