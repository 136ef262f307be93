"""The filter language: its grammar, and the tree that a filter becomes.

Grammar:  either   = both { -or both }
          both     = part { -and part }
          part     = ( -not | ! ) part | `(` either `)` | property operator value
          value    = quoted text | words up to the next operator or parenthesis | $null | $true | $false
                     | for -in: values with commas between, with parentheses around them or not
          It is Exchange's OPATH as documented for queues and messages (-eq -ne -gt -ge -lt -le -like -contains -and),
          and beyond: -or -not ( ) -notlike -notcontains -match -in. Case counts nowhere. `*` in -like is anything.
Promise:  pure and bounded: length, depth, and number of comparisons; a mistake is a FilterError with its place and what
          would be right there.
Callers:  selection, tracking; filter_match and filter_sql read the tree.
"""

import re
import time
from dataclasses import dataclass
from typing import NoReturn

from kmq.admin.filter_names import Property, Table
from kmq.admin.filter_values import Kind, Value, value_of
from kmq.admin.filter_words import Sort, Word, existing, words, wrong

#: Parentheses and -not inside each other; comparisons in one filter, values of one -in among them.
DEEPEST = 50
MOST = 2_000

_ALL_OPERATORS = (
    *("-eq", "-ne", "-gt", "-ge", "-lt", "-le", "-like", "-notlike", "-contains", "-notcontains", "-match", "-in"),
)
_JOINTS = ("-and", "-or", "-not")


@dataclass(frozen=True, slots=True)
class Comparison:
    """property operator values; one value but for -in. None is $null."""

    property: Property
    operator: str
    values: tuple[Value | None, ...]


@dataclass(frozen=True, slots=True)
class Not:
    """What is not so."""

    part: "Node"


@dataclass(frozen=True, slots=True)
class Both:
    """All of these hold."""

    parts: "tuple[Node, ...]"


@dataclass(frozen=True, slots=True)
class Either:
    """One of these holds at least."""

    parts: "tuple[Node, ...]"


Node = Comparison | Not | Both | Either


def parse(text: str, table: Table, now: float | None = None) -> Node | None:
    """The tree of a filter; None when it is empty, and everything matches. now: Unix time of relative times."""
    found = words(text)
    if found[0].sort is Sort.END:
        return None
    return _Reading(text, found, table, time.time() if now is None else now).whole()


class _Reading:
    """One filter, read word by word."""

    def __init__(self, text: str, found: list[Word], table: Table, now: float) -> None:
        self._text = text
        self._words = found
        self._table = table
        self._now = now
        self._at = 0
        self._depth = 0
        self._count = 0

    def whole(self) -> Node:
        node = self._either()
        word = self._next
        if word.sort is Sort.CLOSE:
            self._wrong(word, "there is no ( that this ) ends")
        if word.sort is not Sort.END:
            hint = "-and, -or and -not begin with a dash; a text with blanks or commas is put in quotes"
            self._wrong(word, f"{_shown(word)} stands where -and, -or or the end was expected", hint)
        return node

    # --- grammar -----------------------------------------------------------------------------------------------------

    def _either(self) -> Node:
        parts = [self._both()]
        while self._took("-or"):
            parts.append(self._both())
        return parts[0] if len(parts) == 1 else Either(tuple(parts))

    def _both(self) -> Node:
        parts = [self._part()]
        while self._took("-and"):
            parts.append(self._part())
        return parts[0] if len(parts) == 1 else Both(tuple(parts))

    def _part(self) -> Node:
        word = self._next
        self._depth += 1
        if self._depth > DEEPEST:
            self._wrong(word, f"a filter has at most {DEEPEST} parentheses and -not inside each other")
        try:
            if self._took("-not") or self._took("!"):
                return Not(self._part())
            if word.sort is Sort.OPEN:
                return self._enclosed()
            return self._comparison()
        finally:
            self._depth -= 1

    def _enclosed(self) -> Node:
        opened = self._take()
        node = self._either()
        if self._next.sort is not Sort.CLOSE:
            if self._next.sort is Sort.END:
                self._wrong(opened, "the parenthesis that begins here has no end")
            self._wrong(self._next, f"{_shown(self._next)} stands where -and, -or or ) was expected")
        self._take()
        return node

    def _comparison(self) -> Node:
        named = self._property()
        operator = self._operator(named)
        at = self._next
        values = self._values() if operator == "-in" else [self._value()]
        self._count += len(values)
        if self._count > MOST:
            self._wrong(at, f"a filter has at most {MOST:,} comparisons")
        return Comparison(named, operator, tuple(self._meant(named, operator, *one) for one in values))

    def _property(self) -> Property:
        word = self._take()
        if word.sort is not Sort.BARE:
            self._wrong(word, f"{_shown(word)} stands where a property was expected", *self._names())
        found = self._table.get(word.text)
        if found is None:
            near = self._table.like(word.text)
            meant = f"; {near}?" if near else ""
            said = f"{word.text[:40]} is no property of {self._table.subject}{meant}"
            self._wrong(word, said, *self._names())
        return found

    def _operator(self, named: Property) -> str:
        word = self._take()
        if word.sort is not Sort.OPERATOR or word.text in _JOINTS:
            what = f"{_shown(word)} stands where an operator was expected"
            self._wrong(word, what, f"{named.name} takes {' '.join(named.operators)}")
        if word.text not in named.operators:
            said = f"does not go with {named.name}" if word.text in _ALL_OPERATORS else "is no operator"
            self._wrong(
                word,
                f"{word.text} {said}",
                f"{named.name} is {named.kind.value}, and takes {' '.join(named.operators)}",
            )
        return word.text

    # --- values ------------------------------------------------------------------------------------------------------

    def _values(self) -> list[tuple[Word, str]]:
        enclosed = self._next.sort is Sort.OPEN
        if enclosed:
            self._take()
        out = [self._value()]
        while self._next.sort is Sort.COMMA:
            self._take()
            out.append(self._value())
        if enclosed:
            if self._next.sort is not Sort.CLOSE:
                self._wrong(self._next, f"{_shown(self._next)} stands where , or ) was expected")
            self._take()
        return out

    def _value(self) -> tuple[Word, str]:
        """The first word of a value, and all of its text: `11/22/2026 3:00 PM` needs no quotes."""
        first = self._take()
        if first.sort not in (Sort.QUOTED, Sort.BARE):
            self._wrong(first, f"{_shown(first)} stands where a value was expected")
        text = [first.text]
        while first.sort is Sort.BARE and self._next.sort is Sort.BARE:
            text.append(self._take().text)
        return first, " ".join(text)

    def _meant(self, named: Property, operator: str, word: Word, text: str) -> Value | None:
        if word.sort is Sort.BARE and text.lower() == "$null":
            if operator not in ("-eq", "-ne", "-in"):
                self._wrong(word, "$null goes with -eq and -ne: whether there is one")
            return None
        if operator == "-match":
            self._check_expression(word, text)
        if named.kind is Kind.WORDS and operator in ("-eq", "-ne", "-in"):
            return self._known(named, word, text)
        try:
            return value_of(named.kind, text, self._now)
        except ValueError as error:
            self._wrong(word, str(error))

    def _known(self, named: Property, word: Word, text: str) -> str:
        """One of the words that the property can be."""
        known = {one.lower(): one for one in named.words}
        if text.lower() not in known:
            self._wrong(word, f"{named.name} is never {text[:40]!r}", f"it can be {' '.join(named.words)}")
        return known[text.lower()]

    def _check_expression(self, word: Word, text: str) -> None:
        try:
            re.compile(text)
        except (re.error, OverflowError, RecursionError) as error:
            self._wrong(word, f"this is no regular expression: {error}")

    # --- words -------------------------------------------------------------------------------------------------------

    @property
    def _next(self) -> Word:
        return self._words[self._at]

    def _take(self) -> Word:
        word = self._words[self._at]
        if word.sort is not Sort.END:
            self._at += 1
        return word

    def _took(self, text: str) -> bool:
        word = self._next
        if word.sort not in (Sort.OPERATOR, Sort.BARE) or word.text != text:
            return False
        self._at += 1
        return True

    def _names(self) -> list[str]:
        return existing(self._table.names)

    def _wrong(self, word: Word, what: str, *more: str) -> NoReturn:
        wrong(self._text, word.at, what, *more)


def _shown(word: Word) -> str:
    return "the end" if word.sort is Sort.END else repr(word.text[:40])
