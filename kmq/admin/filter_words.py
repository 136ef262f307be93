"""The words of a filter, each with its place.

Shape:    parentheses, commas, operators (`-like`: a dash and a letter), quoted texts ('it''s', "it""s", where the same
          sign twice stands for itself), and everything else up to the next blank, parenthesis or comma. `{` and `}`
          around the whole, as Exchange's older shells wrote it, are passed over.
Promise:  pure; whatever comes in gives words or a FilterError that shows the place.
Callers:  filter_tree.
"""

import re
from collections.abc import Iterable
from enum import Enum
from typing import NamedTuple, NoReturn

from kmq.errors import FilterError

#: Characters of a filter.
LONGEST = 16_384

#: Characters of the line that shows a place, on either side of it.
_AROUND = 60


class Sort(Enum):
    """What a word is."""

    OPEN = "("
    CLOSE = ")"
    COMMA = ","
    OPERATOR = "an operator"
    QUOTED = "a quoted text"
    BARE = "a word"
    END = "the end"


class Word(NamedTuple):
    """text: without quotes, an operator in lower case; at: its place in the filter, counted from 0."""

    sort: Sort
    text: str
    at: int


_SIGNS = {"(": Sort.OPEN, ")": Sort.CLOSE, ",": Sort.COMMA}
_WORD = re.compile(
    r"""\s*(?:
    (?P<sign>[(),])
    | (?P<operator>-[A-Za-z]+)(?=[\s('"),]|$)
    | '(?P<single>(?:[^']|'')*)'
    | "(?P<double>(?:[^"]|"")*)"
    | (?P<bare>[^\s(),'"][^\s(),]*)
    )""",
    re.X,
)


def words(text: str) -> list[Word]:
    """All words, and at last one of sort END."""
    if len(text) > LONGEST:
        raise FilterError(f"a filter has at most {LONGEST:,} characters, this one has {len(text):,}")
    at, end, found = _within(text)
    while text[at:end].strip():
        match = _WORD.match(text, at, end)
        if match is None:
            at += len(text[at:end]) - len(text[at:end].lstrip())
            wrong(text, at, f"the quotation that begins here has no end: {text[at]}")
        found.append(_word(match))
        at = match.end()
    found.append(Word(Sort.END, "", len(text[:end].rstrip())))
    return found


def _within(text: str) -> tuple[int, int, list[Word]]:
    """Where the filter lies between the braces that may stand around it."""
    stripped = text.strip()
    if len(stripped) > 1 and stripped[0] == "{" and stripped[-1] == "}":
        return text.index("{") + 1, text.rindex("}"), []
    return 0, len(text), []


def _word(match: re.Match[str]) -> Word:
    name = str(match.lastgroup)
    text, at = match[name], match.start(name)
    match name:
        case "sign":
            return Word(_SIGNS[text], text, at)
        case "operator":
            return Word(Sort.OPERATOR, text.lower(), at)
        case "single" | "double":
            sign = "'" if name == "single" else '"'
            return Word(Sort.QUOTED, text.replace(sign * 2, sign), at - 1)
        case _:
            return Word(Sort.BARE, text, at)


def wrong(text: str, at: int, what: str, *more: str) -> NoReturn:
    """A FilterError: what is wrong, the filter with a mark below the place, and further lines."""
    begin, end = max(0, at - _AROUND), at + _AROUND
    shown = "".join(one if one.isprintable() else " " for one in text[begin:end])
    head, tail = "..." * (begin > 0), "..." * (end < len(text))
    mark = " " * (4 + len(head) + at - begin) + "^"
    raise FilterError("\n".join([what, f"    {head}{shown}{tail}", mark, *more])) from None


def existing(names: Iterable[str]) -> list[str]:
    """What there is to choose from, in lines of at most 100 characters."""
    lines = ["there are"]
    for name in names:
        if len(lines[-1]) + len(name) > 98:
            lines.append("   ")
        lines[-1] += f" {name}"
    return lines
