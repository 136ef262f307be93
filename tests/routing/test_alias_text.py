"""Alias files as text: the form of aliases(5), and what is no alias."""

from pathlib import Path

import pytest

from kmq.routing.alias_text import Meaning, NoTarget, logical_lines, pieces, read_entries, read_target
from kmq.routing.aliases import read_list

FILE = """\
# whom this machine's mail is for
root:   Ada@Example.ORG,   # no comment here
\tbob

"john doe": \\john, "x y"@z.example
  # a comment does not end an alias
  , carl
"a:b" : Ada <ada@x.example>, (not, for, all) c@d.example
Staff: :include:/etc/kmq/staff
Info@EXAMPLE.org: @other.example
@bücher.example: x@y.example
"""


def test_a_file_is_read_as_sendmail_and_postfix_read_it() -> None:
    text = FILE.replace("   # no comment here", "")
    entries, mistakes = read_entries(text, "/etc/aliases")
    assert mistakes == []
    assert {key: [str(one) for one in entry.targets] for key, entry in entries.items()} == {
        "root": ["Ada@example.org", "bob"],
        "john doe": ["\\john", '"x y"@z.example', "carl"],
        "a:b": ["ada@x.example", "c@d.example"],
        "staff": [":include:/etc/kmq/staff"],
        "info@example.org": ["@other.example"],
        "@xn--bcher-kva.example": ["x@y.example"],
    }
    assert entries["staff"].place == "/etc/aliases:9"


def test_a_comment_behind_an_alias_is_none_and_defers_it() -> None:
    entries, mistakes = read_entries(FILE, "/etc/aliases")
    assert entries["root"].trouble.startswith("/etc/aliases:2: '# no comment here bob' is no address")
    assert [(one.line, one.broken) for one in mistakes] == [(2, False)]


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("root", "has no colon"),
        ("root ada@example.org", "has no colon"),
        (": ada", "is no alias"),
        ("@: ada", "the domain is empty"),
        ("a@b..c: ada", "is no domain name"),
        ("john doe: ada", "stand in quotes"),
        ('"john: ada', "has no colon"),
        ("x" * 65 + ": ada", "is no local part"),
        ('"a\x07b": ada', "is no local part"),
    ],
)
def test_a_line_that_is_no_alias_makes_the_file_broken(line: str, why: str) -> None:
    entries, (mistake,) = read_entries(f"ok: ada\n{line}\n", "/etc/aliases")
    assert list(entries) == ["ok"]
    assert mistake.line == 2
    assert mistake.broken
    assert why in mistake.text


@pytest.mark.parametrize(
    ("target", "why"),
    [
        ("|/usr/bin/vacation ada", "is a command"),
        ('"|/usr/bin/filter -a, -b"', "is a command"),
        ("/var/mail/archive", "is a file"),
        ("/dev/null", "is a file"),
        ('"/var/mail/a b"', "is a file"),
        ("~/Maildir/", "is a file"),
        (":include:list", "a path from / on"),
        (":include:", "a path from / on"),
        ("ada bob", "is no address"),
        ("ada@", "is no address"),
        ("ada@exa mple.org", "is no address"),
        ("@", "is no address"),
        ("<>", "is no address"),
        ("\\", "is no address"),
        ("a\x00b", "is no address"),
    ],
)
def test_a_target_that_is_none_defers_its_alias_and_no_other(target: str, why: str) -> None:
    entries, (mistake,) = read_entries(f"bad: ada, {target}\ngood: ada\n", "/etc/aliases")
    assert entries["good"].trouble == ""
    assert entries["bad"].trouble.startswith("/etc/aliases:1: ")
    assert why in entries["bad"].trouble
    assert not mistake.broken, "the key is known, so nobody is refused for it"
    with pytest.raises(NoTarget):
        read_target(target)


def test_of_two_lines_the_first_counts_and_an_empty_one_defers() -> None:
    entries, mistakes = read_entries("Root: ada\nroot: bob\nnone:\n", "/etc/aliases")
    assert str(entries["root"].targets[0]) == "ada"
    assert "nothing behind the colon" in entries["none"].trouble
    assert ["already" in one.text for one in mistakes] == [True, False]
    assert not any(one.broken for one in mistakes)


def test_a_target_is_what_it_looks_like() -> None:
    meanings = {
        text: read_target(text).meaning for text in ("ada", "\\ada", "@x.example", ":INCLUDE:/l", "a@b.example")
    }
    assert list(meanings.values()) == [
        Meaning.ADDRESS,
        Meaning.FINAL,
        Meaning.DOMAIN,
        Meaning.INCLUDED,
        Meaning.ADDRESS,
    ]


def test_commas_in_quotes_and_comments_divide_nothing() -> None:
    assert pieces('"a,b"@c, (x, (y), z) d, , e (f)') == ['"a,b"@c', "d", "e"]
    assert pieces("(never ends, a, b") == []


def test_lines_end_where_they_end() -> None:
    assert list(logical_lines("\n  a\nb: c\r\n\n d\n#x\n\te\nf: g")) == [(2, "a"), (3, "b: c d e"), (8, "f: g")]


def test_a_list_has_one_entry_on_a_line_or_several_and_passes_over_what_is_none() -> None:
    targets, mistakes = read_list("# members\n a@x.example, b@x.example\nnot an address\n  c\n|cmd\na@x.example\n")
    assert [str(one) for one in targets] == ["a@x.example", "b@x.example", "c"]
    assert [one.line for one in mistakes] == [3, 5]


@pytest.mark.timeout(20)
def test_hostile_text_costs_what_its_length_costs() -> None:
    for text in ("(" * 200_000, '"' * 200_001, "a:" * 100_000, "x: " + "a," * 100_000, ",".join(["(a\\"] * 100_000)):
        read_entries(text, "/etc/aliases")
        read_list(text)


def test_the_example_of_the_manual_page_is_an_alias_file(tree: Path) -> None:
    page = (tree / "man" / "kmq-aliases.5").read_text()
    example = page.split(".Bd -literal -offset indent\n")[1].partition("\n.Ed")[0].replace("\\e", "\\")
    entries, mistakes = read_entries(example, "/etc/aliases")
    assert mistakes == []
    assert {key: [str(one) for one in entry.targets] for key, entry in entries.items()} == {
        "root": ["ada"],
        "webmaster": ["root", "carl@example.net"],
        "info@example.org": ["ada", "\\bob"],
        "@old.example": ["@example.org"],
        "staff": [":include:/etc/kmq/staff"],
        "owner-staff": ["ada"],
        "front desk": ["ada", '"night watch"@example.net'],
    }
