"""Addresses are found where they stand: comments, quotes, groups and encoded words are left alone."""

import re
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kmq.model import address_list


def found(text):
    return [one.text for one in address_list.read(text).written]


@pytest.mark.parametrize(
    ("text", "addresses"),
    [
        (b"alice@example.org", ["alice@example.org"]),
        (b"alice", ["alice"]),
        (b"Alice <alice@example.org>, bob", ["alice@example.org", "bob"]),
        (b'"Liddell, Alice" <alice@example.org>', ["alice@example.org"]),
        (b'"<mallory@example.net>" <alice@example.org>', ["alice@example.org"]),
        (b"alice@example.org (home, (or <work@x>), 5:30)", ["alice@example.org"]),
        (b"(\\) still a comment, eve@x) alice", ["alice"]),
        (b"alice @ (at) example . org", ["alice@example.org"]),
        (b"alice@example.org,\r\n\tbob@example.org", ["alice@example.org", "bob@example.org"]),
        (b"friends: alice, Bob <bob@example.org>;, carol", ["alice", "bob@example.org", "carol"]),
        (b"undisclosed-recipients:;", []),
        (b"<@a.example,@b.example:alice@example.org>", ["alice@example.org"]),
        (b"alice@[192.0.2.1], bob@[IPv6:::1]", ["alice@[192.0.2.1]", "bob@[IPv6:::1]"]),
        (b'"a,b\\"c"@example.org', ['"a,b\\"c"@example.org']),
        (b"=?utf-8?q?J=C3=B6rg=2C?= <joerg@example.org>", ["joerg@example.org"]),
        (b"J\xc3\xb6rg <j\xc3\xb6rg>", ["jörg"]),
        (b",, alice ,,", ["alice"]),
        (b"", []),
    ],
)
def test_lists_as_they_should_be(text, addresses):
    assert found(text) == addresses
    assert not address_list.read(text).broken


@pytest.mark.parametrize(
    ("text", "addresses"),
    [
        (b"Alice Liddell, bob", ["bob"]),
        (b"=?utf-8?q?J=C3=B6rg?=, bob", ["bob"]),
        (b"<alice@x> <mallory@y>, bob", ["bob"]),
        (b"<alice@x> and more, bob", ["bob"]),
        (b"alice@, bob", ["bob"]),
        (b"alice@x@y, bob", ["bob"]),
        (b".alice@x, al..ice@x, alice.@x, bob", ["bob"]),
        (b"<>, bob", ["bob"]),
        (b"<alice@x, bob", []),
        (b'alice, "bob@x, carol', ["alice"]),
        (b"alice, (bob@x, carol", ["alice"]),
        (b"alice, bob) <carol@x>", ["alice"]),
        (b"alice, bob@[127.0.0.1, carol", ["alice"]),
        (b"alice, bob\\, carol", ["alice"]),
    ],
)
def test_what_is_no_address_is_not_reported_as_one(text, addresses):
    assert found(text) == addresses
    assert address_list.read(text).broken


def test_an_address_is_replaced_in_place():
    text = b'To: "Alice" <alice@old.example> (hi), bob @ (x) old.example, friends: carol;\r\n'
    listed = address_list.read(text, 3)
    new = {one.start: b"<%b>" % one.local for one in listed.written}
    assert address_list.replaced(text, listed, new) == b'To: "Alice" <<alice>> (hi), <bob>, friends: <carol>;\r\n'
    assert address_list.replaced(text, listed, {}) == text


def test_a_list_that_grew_too_long_is_folded_at_its_commas():
    text = b"To: " + b", ".join(b"user%d" % number for number in range(90)) + b"\r\n"
    listed = address_list.read(text, 3)
    longer = address_list.replaced(text, listed, {one.start: one.local + b"@example.org" for one in listed.written})
    assert max(map(len, longer.split(b"\r\n"))) <= 100
    assert longer.replace(b"\r\n ", b" ").replace(b"@example.org", b"") == text
    assert longer.endswith(b"user89@example.org\r\n")


@pytest.mark.parametrize(
    "unit", [b"(", b'"', b"<", b"[", b"a:", b"a,", b"\\", b"@", b"(a", b'"a ', b"<a,", b"[a", b". "]
)
def test_hostile_lists_are_read_in_linear_time(unit):
    """100 kB of it take a moment; what grows with the square would outlast the test's limit."""
    assert len(address_list.read(unit * (100_000 // len(unit))).written) <= 100_000


PIECES = [
    b"a",
    b"b.c",
    b"@",
    b".",
    b",",
    b";",
    b":",
    b"<",
    b">",
    b"(",
    b")",
    b'"',
    b"\\",
    b"[",
    b"]",
    b" ",
    b"\r\n ",
    b"\xe9",
]


@given(st.lists(st.sampled_from(PIECES), max_size=25))
def test_whatever_stands_there_only_addresses_are_touched(pieces):
    text = b"".join(pieces)
    listed = address_list.read(text)
    at = 0
    for one in listed.written:
        assert at <= one.start < one.end <= len(text)
        at = one.end
    same = {one.start: text[one.start : one.end] for one in listed.written}
    assert address_list.replaced(text, listed, same) == text
    assert sorted(listed.breaks) == listed.breaks


@given(st.lists(st.sampled_from(PIECES), max_size=25))
def test_the_short_way_for_usual_entries_finds_what_the_long_one_does(pieces):
    text = b"".join(pieces)
    with mock.patch.object(address_list, "_USUAL", re.compile(rb"(?!)")):
        long = address_list.read(text)
    assert address_list.read(text) == long
