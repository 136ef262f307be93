"""What server rules are written with: phrases, values, quotes, addresses, placeholders.

Shapes:   values stand between commas; in double quotes, where "" is one quote, a value may have commas in it, and its
          * and ? stand for themselves. Placeholders are `${name}`.
Promise:  pure; ValueError, for the operator's eyes, says what would be right.
Callers:  `rule_conditions`, `rule_actions`.
"""

import re
from collections.abc import Mapping
from typing import NamedTuple, TypeVar

from kmq.config.kinds import domain_name, nearest
from kmq.model.address import NotAnAddress, parse

#: What stands for something of each message.
PLACEHOLDERS = {
    "subject": "its Subject",
    "from": "its From",
    "to": "its To",
    "sender": "the sender of the envelope",
    "recipients": "the recipients that the rule is about",
    "size": "its size, such as 20.3M",
    "id": "its ID",
    "rule": "the name of the rule",
}

#: Values of one row.
MOST = 1000

_PLACEHOLDER = re.compile(r"\$\{([^}]*)(\}?)")
_VALUE = re.compile(r'\s*(?:"((?:[^"]|"")*)"\s*|([^",][^,]*)?)(,|\Z)')
_COMMENT = "; a ; or # behind a blank begins a comment"
_NAME = re.compile(r"[!-9;-~]{1,76}").fullmatch

T = TypeVar("T")


class Pattern(NamedTuple):
    """A value to compare with. wild: * and ? in it stand for any characters, and for any one."""

    text: str
    wild: bool = False


def opening(text: str, phrases: Mapping[str, T]) -> tuple[T, str] | None:
    """Which of some phrases a text begins with, the longest one, whatever its case; and what follows it."""
    words = text.split()
    for count in range(min(3, len(words)), 0, -1):
        phrase = " ".join(words[:count]).lower()
        if phrase in phrases:
            rest = text.split(None, count)
            return phrases[phrase], rest[count] if len(rest) > count else ""
    return None


def like(text: str, phrases: Mapping[str, object]) -> str:
    """`; did you mean 'envelope sender'?`, or nothing."""
    words = text.lower().split()
    for count in (1, 2, 3):
        hint = nearest(" ".join(words[:count]), tuple(phrases))
        if hint:
            return hint
    return ""


def values(text: str, example: str) -> tuple[Pattern, ...]:
    """The values of a row. example: a row as it would be right."""
    found: list[Pattern] = []
    at = 0
    while at < len(text) or not found:
        match = _VALUE.match(text, at)
        if match is None:
            raise ValueError(f"{text[at:].strip()!r}: {_broken(text[at:])}")
        quoted, plain, comma = match.groups()
        value = plain.strip() if quoted is None and plain else (quoted or "").replace('""', '"')
        if not value:
            raise ValueError(f"a value is missing: {example}{_COMMENT if not text else ''}")
        found.append(Pattern(value, quoted is None and ("*" in value or "?" in value)))
        at = match.end()
        if comma and at == len(text):
            raise ValueError(f"a value is missing behind the last comma: {example}")
    if len(found) > MOST:
        raise ValueError(f"{len(found)} values are too many for one line: at most {MOST}")
    return tuple(found)


def _broken(text: str) -> str:
    if text.count('"') % 2:
        return 'the quotation has no end; a ; or # behind a blank begins a comment, "" is a quote within quotes'
    return 'a comma is missing behind the closing quote, or the whole value stands in quotes: "one, with a comma"'


def one_text(text: str, example: str) -> str:
    """The whole rest of a row, with or without quotes around it."""
    if not text.startswith('"'):
        if not text:
            raise ValueError(f"a text is missing: {example}")
        return text
    found, rest = quotation(text)
    if rest:
        raise ValueError(f"{rest!r} stands behind the closing quote: {example}")
    return found


def quotation(text: str) -> tuple[str, str]:
    """The text in quotes at the beginning, without them, and what follows it."""
    found = re.match(r'"((?:[^"]|"")*)"\s*', text)
    if found is None:
        raise ValueError(f"{text!r}: {_broken(text)}")
    return found[1].replace('""', '"'), text[found.end() :]


def field_name(text: str) -> tuple[str, str]:
    """The name of a header field, with or without a colon, as written; and what follows it."""
    word, _, rest = text.partition(" ")
    name, colon, value = word.partition(":")
    if not _NAME(name):
        raise ValueError(f"{word!r} is no name of a header field: write it like Subject or X-Big")
    return name, f"{value} {rest}".strip() if colon else rest.strip()


def address(text: str) -> str:
    """A mail address, canonical, its domain in A-labels."""
    try:
        found = parse(text)
        if not found.domain:
            raise NotAnAddress("it has no domain")
    except NotAnAddress as wrong:
        raise ValueError(f"{text!r} is no mail address ({wrong}): write somebody@example.org") from None
    literal = found.domain.startswith("[")
    return str(found if literal else found._replace(domain=domain_name(found.domain)))


def addresses(text: str, example: str) -> tuple[str, ...]:
    """One or more mail addresses."""
    return tuple(dict.fromkeys(address(one.text) for one in values(text, example)))


def template(text: str) -> str:
    """A text whose placeholders are all known."""
    for found in _PLACEHOLDER.finditer(text):
        name, end = found.groups()
        if not end or name not in PLACEHOLDERS:
            known = ", ".join(f"${{{one}}}" for one in PLACEHOLDERS)
            raise ValueError(f"{found[0]!r} is no placeholder: there are {known}{nearest(name, tuple(PLACEHOLDERS))}")
    if not text.isprintable():
        raise ValueError(f"{text!r} has characters that cannot be seen")
    return text


def filled(text: str, known: Mapping[str, str]) -> str:
    """A template with its placeholders filled in, once: what is filled in is not looked at again."""
    return _PLACEHOLDER.sub(lambda found: known.get(found[1], found[0]), text)
