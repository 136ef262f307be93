"""Addresses: what a peer wrote is read strictly, and what we write is made anew."""

import string

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from kmq.model import address
from kmq.model.address import Address, NotAnAddress

# As it stands in MAIL and RCPT -> canonical text.
GOOD = [
    ("<a@b>", "a@b"),
    ("<Alice.B+x@Example.ORG>", "Alice.B+x@example.org"),
    ("<x!#$%&'*+-/=?^_`{|}~y@b.c>", "x!#$%&'*+-/=?^_`{|}~y@b.c"),
    ("<a@xn--bcher-kva.example>", "a@xn--bcher-kva.example"),
    ("<a@under_score.example>", "a@under_score.example"),
    ("<a@1.2.3.4>", "a@1.2.3.4"),
    ("<>", ""),
    ("<postmaster>", "postmaster"),
    ("<PostMaster>", "postmaster"),
    ('<"alice"@b>', "alice@b"),
    ('<"a b"@c>', '"a b"@c'),
    ('<"a>b"@c>', '"a>b"@c'),
    ('<"a@b"@c>', '"a@b"@c'),
    ('<"a\\"b\\\\"@c>', '"a\\"b\\\\"@c'),
    ('<"\\a\\b"@c>', "ab@c"),
    ('<""@c>', '""@c'),
    ("<@r.test:a@b>", "a@b"),
    ("<@r.test,@s.test:a@b>", "a@b"),
    ("<@[1.2.3.4],@s.test:a@b>", "a@b"),
    ("<@[IPv6:::1]:a@b>", "a@b"),
    ("<a@[192.0.2.1]>", "a@[192.0.2.1]"),
    ("<a@[ipv6:2001:DB8:0:0::1]>", "a@[IPv6:2001:db8::1]"),
    ("<" + "l" * 64 + "@" + ".".join(["d" * 63] * 3 + ["d" * 63]) + ">", None),
    ("<пётр@почта.рф>", "пётр@почта.рф"),
    ("<a@bücher.Example>", "a@bücher.example"),
    ("<علی\u200cرضا@b>", "علی\u200cرضا@b"),
]

BAD = [
    "",
    "<",
    "a@b",
    "<a@b",
    "a@b>",
    "<a>",
    '<"a@b">',
    "<@b>",
    "<a@>",
    "<a@b@c>",
    "<a@b.>",
    "<a@.b>",
    "<a@b..c>",
    "<a@-b>",
    "<a@b->",
    "<.a@b>",
    "<a.@b>",
    "<a..b@c>",
    "<a b@c>",
    "<a @c>",
    "<a@c >",
    "< a@c>",
    "<a,b@c>",
    "<a(c)@b>",
    '<"a@b>',
    '<"a"b@c>',
    '<a"b"@c>',
    '<"a""b"@c>',
    "<<a@b>>",
    "<@r.test>",
    "<@r.test:>",
    "<@:a@b>",
    "<a@[1.2.3]>",
    "<a@[1.2.3.4>",
    "<a@[IPv6:fe80::1%eth0]>",
    "<a@[x-tag:anything]>",
    "<a@[]>",
    "<a\0@b>",
    "<a@b\0>",
    "<a\rb@c>",
    "<a@b\n>",
    '<"a\r\nRCPT TO:<v@x>"@y>',
    '<"a\nb"@c>',
    '<"a\\\rb"@c>',
    '<"a\x7f"@c>',
    "<a\x85@b>",
    "<a\u2028b@c>",
    "<a\u202eb@c>",
    "<a\u00a0b@c>",
    "<a@b\u3002c>",
    "<a@b\uff0ec>",
    "<a@b\u2028>",
    "<a@\u0301>",
    "<a@b c>",
    "<" + "l" * 65 + "@b>",
    '<"' + "l" * 63 + ' "@b>',
    "<a@" + "d" * 64 + ">",
    "<a@" + "é" * 64 + ".b>",
    "<a@" + ".".join(["d" * 63] * 4) + ".d>",
    "<" + "é" * 33 + "@b>",
]


@pytest.mark.parametrize(("written", "meant"), GOOD)
def test_an_address_is_read(written, meant):
    line = b"MAIL FROM:" + written.encode() + b" SIZE=1"
    found, end = address.read_path(line, 10, True)
    assert found == (written[1:-1] if meant is None else meant)
    assert line[end:] == b" SIZE=1"


@pytest.mark.parametrize("written", BAD)
def test_what_is_no_address_is_refused_with_a_reason_fit_for_a_reply(written):
    with pytest.raises(NotAnAddress) as refused:
        address.read_path(written.encode("utf-8", "surrogatepass"), 0, True)
    assert str(refused.value).isascii()
    assert str(refused.value).isprintable()


@pytest.mark.parametrize("written", ["<пётр@b>", "<a@bücher.example>", '<"ö"@b>'])
def test_utf8_is_for_those_who_asked_for_it(written):
    with pytest.raises(NotAnAddress):
        address.read_path(written.encode(), 0, False)


def test_what_is_not_even_utf8_is_refused():
    with pytest.raises(NotAnAddress):
        address.read_path(b"<\xff@b>", 0, True)


@pytest.mark.parametrize("text", [meant for _, meant in GOOD if meant])
def test_split_and_str_undo_each_other(text):
    parts = address.split(text)
    assert str(parts) == text
    assert address.parse(text) == parts


def test_split_gives_the_local_part_without_quotes():
    assert address.split('"a@\\"b"@c') == Address('a@"b', "c")
    assert address.split("postmaster") == Address("postmaster", "")
    assert address.split("") == Address("", "")


def test_on_the_wire_an_address_is_made_anew():
    assert address.on_wire("") == b"<>"
    assert address.on_wire("a@b") == b"<a@b>"
    assert address.on_wire('"a b"@c') == b'<"a b"@c>'
    assert address.on_wire("пётр@почта.рф") == "<пётр@почта.рф>".encode()


@pytest.mark.parametrize("edited", ["a@b>\r\nRCPT TO:<v@x", "a@b\r\n", "a b@c", "a@b c", '"a\r"@b', "\0@b"])
def test_an_edited_envelope_does_not_reach_the_wire(edited):
    with pytest.raises(NotAnAddress):
        address.on_wire(edited)


SIGNS = st.text(alphabet=[*string.printable, "\0", "\x7f", "\x85", "é", "ж", "\u2028", "\u3002", "\ud800"], max_size=40)


@given(SIGNS)
@example("@" * 40)
@example('"' + "\\" * 39)
def test_whatever_is_written_comes_out_clean_or_not_at_all(text):
    line = b"<" + text.encode("utf-8", "surrogatepass") + b">"
    try:
        found, _ = address.read_path(line, 0, True)
    except NotAnAddress:
        return
    assert "\r" not in found
    assert "\n" not in found
    assert "\0" not in found
    assert all(sign.isprintable() or sign in "\u200c\u200d" for sign in found)
    if found:
        wire = address.on_wire(found)
        assert wire == b"<" + found.encode() + b">"
        assert address.read_path(wire, 0, True) == (found, len(wire)), "one reading is enough"


LOCAL = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=30)
DOMAIN = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,10}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,10}[a-z0-9])?){0,3}", fullmatch=True)


@given(LOCAL, DOMAIN)
def test_every_local_part_finds_its_way_there_and_back(local, domain):
    text = str(Address(local, domain))
    if len(text) - len(domain) - 1 <= address.LOCAL_LIMIT:
        assert address.parse(text) == Address(local, domain)
    assert address.split(text) == Address(local, domain)


@given(st.binary(max_size=60))
def test_any_bytes_are_an_address_or_are_refused(octets):
    try:
        found, end = address.read_path(octets, 0, True)
    except NotAnAddress:
        return
    assert octets[0:1] == b"<"
    assert octets[end - 1 : end] == b">"
    assert found.isprintable()
