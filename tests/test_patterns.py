"""Regular expressions mean the same on every Python that kmq runs on.

Python before 3.11.5, Debian 12's 3.11.2 among them, does not go back when a possessive group fails half-way through one
more round: `(?:[a-z]++:)*+` takes all of `a:b` (python/cpython#106052), and what it caught is another's (#101955). An
atomic group goes back everywhere, so that what is possessive is one character's, or an atomic group: `(?>[a-z]++:)*+`.
"""

import importlib
import pkgutil
import re
from collections.abc import Iterator
from typing import Any

import pytest

import kmq
from kmq.model import address, address_list, fields

parser: Any = importlib.import_module("re._parser")
constants: Any = importlib.import_module("re._constants")

MODULES = sorted(one.name for one in pkgutil.walk_packages(kmq.__path__, "kmq."))


def patterns(module: object) -> Iterator[re.Pattern[Any]]:
    """The patterns that stand in a module, also those of which only a method is kept."""
    for value in vars(module).values():
        found = getattr(value, "__self__", value)
        if isinstance(found, re.Pattern):
            yield found


def possessive_groups(parsed: Any) -> Iterator[Any]:
    """What is repeated possessively and is more than one character, however deep it stands."""
    for operation, argument in parsed:
        if operation is constants.POSSESSIVE_REPEAT and takes_more_than_one(argument[2]):
            yield argument[2]
        for inner in within(argument):
            yield from possessive_groups(inner)


def takes_more_than_one(parsed: Any) -> bool:
    """Python repeats one character in another way, which was always right."""
    single = {constants.IN, constants.LITERAL, constants.NOT_LITERAL, constants.ANY}
    return len(parsed) != 1 or parsed[0][0] not in single


def within(argument: Any) -> Iterator[Any]:
    if isinstance(argument, parser.SubPattern):
        yield argument
    elif isinstance(argument, list | tuple):
        for one in argument:
            yield from within(one)


def is_safe(parsed: Any) -> bool:
    return len(parsed) == 1 and parsed[0][0] is constants.ATOMIC_GROUP and not catches(parsed)


def catches(parsed: Any) -> bool:
    return any(
        (operation is constants.SUBPATTERN and argument[0] is not None) or any(map(catches, within(argument)))
        for operation, argument in parsed
    )


def wrong(pattern: re.Pattern[Any]) -> bool:
    return not all(map(is_safe, possessive_groups(parser.parse(pattern.pattern, pattern.flags))))


@pytest.mark.parametrize("name", [name for name in MODULES if not name.endswith("__main__")])
def test_what_is_possessive_is_one_character_or_an_atomic_group(name: str) -> None:
    bad = [pattern.pattern for pattern in patterns(importlib.import_module(name)) if wrong(pattern)]
    assert not bad


@pytest.mark.parametrize(
    ("pattern", "is_wrong"),
    [
        ("(?:[a-z]++:)*+", True),
        ("(?:a|bc)++", True),
        ("x(?:(?:ab)*+)?", True),
        ("(?>(a)b)*+", True),
        ("(?>[a-z]++:)*+", False),
        ("[a-z]++(?:[^x])*+.?+", False),
    ],
)
def test_the_rule_tells_them_apart(pattern: str, is_wrong: bool) -> None:
    assert wrong(re.compile(pattern)) == is_wrong


def test_a_word_ahead_of_no_colon_is_no_part_of_the_header() -> None:
    assert fields.split(b"hello\r\n") == (b"", b"hello\r\n")
    assert fields.split(b"To: bob\r\nhello world\r\n") == (b"To: bob\r\n", b"hello world\r\n")


def test_a_dot_ahead_of_no_word_is_no_part_of_an_address() -> None:
    found = address_list.read(b"<a.@b>, <c@d.>, <e@>")
    assert found.broken
    assert not found.written


def test_a_quote_that_does_not_end_ends_no_path() -> None:
    with pytest.raises(address.NotAnAddress):
        address.read_path(b'<"abc>', 0, utf8=False)
