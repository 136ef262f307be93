"""Lines: they are read as configparser reads them, and every mistake of form has its line."""

import configparser
import random

from kmq.config.ini import scan

PIECES = [
    "[one]",
    "[two : receiver]",
    "[ three:one ]  ; with a comment",
    "a = 1",
    "B=2 ; said after a blank",
    "c = 3;not a comment",
    "d =",
    "e = x = y # and more",
    "    goes on",
    "\tgoes on, too",
    "        x = [::]:25",
    "; a comment",
    "  # a comment, indented",
    "",
    "   ",
    "f = $${x}",
]


def _as_configparser_reads(text: str) -> dict[str, dict[str, str]] | None:
    parser = configparser.RawConfigParser(
        delimiters=("=",), inline_comment_prefixes=(";", "#"), empty_lines_in_values=True, default_section=""
    )
    try:
        parser.read_string(text)
    except configparser.Error:
        return None
    lines = {name: dict(parser.items(name)) for name in parser.sections()}
    return {
        name.partition(":")[0].strip(): {
            option: "\n".join(line for line in value.split("\n") if line) for option, value in options.items()
        }
        for name, options in lines.items()
    }


def _as_we_read(text: str) -> dict[str, dict[str, str]] | None:
    parts, problems = scan(text)
    if problems:
        return None
    return {
        name: {option: by_host[""].text for option, by_host in part.options.items()} for name, part in parts.items()
    }


def test_lines_are_read_as_configparser_reads_them() -> None:
    chance = random.Random(20)
    agreed = 0
    for _ in range(4000):
        text = "\n".join(chance.choice(PIECES) for _ in range(chance.randint(1, 9)))
        theirs, ours = _as_configparser_reads(text), _as_we_read(text)
        assert ours == theirs, text
        agreed += theirs is not None
    assert agreed > 500


def test_every_value_knows_its_line_and_host() -> None:
    parts, problems = scan("\n[mx : receiver]\nlisten =\n   0.0.0.0:25\n   [::]:25\nListen[MX-Test] = 127.0.0.1:25\n")
    assert problems == []
    part = parts["mx"]
    assert (part.heading, part.line) == ("mx : receiver", 2)
    assert {host: (one.line, one.text) for host, one in part.options["listen"].items()} == {
        "": (3, "0.0.0.0:25\n[::]:25"),
        "mx-test": (6, "127.0.0.1:25"),
    }


def test_mistakes_of_form_are_told_all_with_their_lines() -> None:
    text = "lost = 1\n[a b]\nx = 1\n[one]\nx = 1\nx = 2\nx[h] = 3\nX[H] = 4\nwhat\n[one : two]\n[three\n= 5\n"
    _, problems = scan(text)
    assert [(problem.line, problem.text.split()[0]) for problem in problems] == [
        (1, "'lost"),
        (2, "[a"),
        (6, "x"),
        (8, "X"),
        (9, "'what'"),
        (10, "[one"),
        (11, "[three"),
        (12, "'="),
    ]


def test_windows_line_ends_and_a_byte_order_mark_change_nothing() -> None:
    text = "[queue]\nper_hop = 3\n"
    assert scan("\ufeff" + text.replace("\n", "\r\n")) == scan(text)


def test_odd_line_separators_of_unicode_are_part_of_the_line() -> None:
    parts, problems = scan("[queue]\n; a\u2028b = 1\x0cc = 2\nper_hop = 3\n")
    assert problems == []
    assert parts["queue"].options["per_hop"][""].line == 3
