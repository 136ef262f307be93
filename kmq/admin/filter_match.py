"""Whether something is what a filter asks for.

What:     `test_of` makes a comparison a predicate of one property's value; `matcher` makes a whole filter one of
          properties by name. SQL (filter_sql) calls the same predicates, so that there is one meaning.
Promise:  pure. Whatever a property is, the answer is yes or no: none is neither greater nor less than anything, and not
          equal to anything but $null.
Callers:  selection (queues), filter_sql (messages), tracking.
"""

import re
from collections.abc import Callable, Mapping

from kmq.admin.filter_tree import Both, Comparison, Either, Node, Not
from kmq.admin.filter_values import Kind, Value, amount

#: The value of a property -> whether it is so.
Test = Callable[[object], bool]

_FIGURES = frozenset({Kind.NUMBER, Kind.SIZE, Kind.TIME, Kind.SPAN})

_ORDERS: Mapping[str, Callable[[float, float], bool]] = {
    "-gt": float.__gt__,
    "-ge": float.__ge__,
    "-lt": float.__lt__,
    "-le": float.__le__,
}
_NEGATIVE = {"-ne": "-eq", "-notlike": "-like", "-notcontains": "-contains"}


def matcher(node: Node | None) -> Callable[[Mapping[str, object]], bool]:
    """Properties by name -> whether the filter matches; one that is missing is none."""
    match node:
        case None:
            return lambda properties: True
        case Comparison():
            name, test = node.property.name, test_of(node)
            return lambda properties: test(properties.get(name))
        case Not():
            inner = matcher(node.part)
            return lambda properties: not inner(properties)
        case Both():
            parts = [matcher(one) for one in node.parts]
            return lambda properties: all(one(properties) for one in parts)
        case Either():
            parts = [matcher(one) for one in node.parts]
            return lambda properties: any(one(properties) for one in parts)


def test_of(comparison: Comparison) -> Test:
    """The predicate of one comparison. Several texts are in a sequence, or in one text on a line each."""
    positive = _NEGATIVE.get(comparison.operator)
    if positive:
        inner = test_of(Comparison(comparison.property, positive, comparison.values))
        return lambda told: not inner(told)
    if comparison.property.kind in _FIGURES:
        return _figures(comparison)
    test = _text(comparison.operator, comparison.values)
    if comparison.property.kind is Kind.LIST:
        return lambda told: any(test(one) for one in _several(told))
    return lambda told: test(_plain(told))


def _figures(comparison: Comparison) -> Test:
    if comparison.operator in ("-eq", "-in"):
        wanted = frozenset(comparison.values)
        return lambda told: amount(told) in wanted
    (than,) = comparison.values
    assert isinstance(than, float), "the kind says so, and $null was refused"
    order = _ORDERS[comparison.operator]

    def compare(told: object) -> bool:
        figure = amount(told)
        return figure is not None and order(figure, than)

    return compare


def _text(operator: str, values: tuple[Value | None, ...]) -> Callable[[str], bool]:
    if operator in ("-eq", "-in"):
        wanted = frozenset("" if one is None else str(one).casefold() for one in values)
        return lambda told: told.casefold() in wanted
    text = str(values[0])
    if operator == "-contains":
        part = text.casefold()
        return lambda told: part in told.casefold()
    if operator == "-like":
        return _like(text.casefold())
    search = re.compile(text, re.IGNORECASE).search
    return lambda told: search(told) is not None


def _like(pattern: str) -> Callable[[str], bool]:
    """`*` stands for anything, all else for itself. Each part is looked for once: no pattern is slow."""
    first, *rest = pattern.split("*")
    if not rest:
        return lambda told: told.casefold() == pattern
    *inner, last = rest

    def matches(told: str) -> bool:
        text = told.casefold()
        if not text.startswith(first) or not text.endswith(last):
            return False
        at, end = len(first), len(text) - len(last)
        for part in inner:
            found = text.find(part, at, end)
            if found < 0:
                return False
            at = found + len(part)
        return at <= end

    return matches


def _plain(told: object) -> str:
    """A property as one text."""
    if told is None:
        return ""
    return ",".join(map(str, told)) if isinstance(told, list | tuple) else str(told)


def _several(told: object) -> list[str]:
    if told is None or told == "":
        return [""]
    if isinstance(told, str):
        return told.split("\n")
    if isinstance(told, list | tuple):
        return [str(one["Address"]) if isinstance(one, Mapping) else str(one) for one in told] or [""]
    return [str(told)]
