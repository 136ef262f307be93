"""Bytes to replies: every form that servers use, every cut, and what is no SMTP."""

import random

import pytest

from kmq.phases.replies import LINE_LIMIT, REPLY_LIMIT, TEXT_LIMIT, Replies, as_reply, printable

GOOD = [
    (b"250 ok\r\n", [(250, b"ok")]),
    (b"250\r\n", [(250, b"")]),  # no text at all
    (b"250 \r\n", [(250, b"")]),
    (b"250 ok\n", [(250, b"ok")]),  # LF alone
    (b"250-one\r\n250-two\r\n250 three\r\n", [(250, b"one\ntwo\nthree")]),
    (b"250-\r\n250\r\n", [(250, b"\n")]),
    (b"250-one\r\n250\r\n354 go\r\n", [(250, b"one\n"), (354, b"go")]),
    (b"250 a\r\n550 b\r\n421 c\r\n", [(250, b"a"), (550, b"b"), (421, b"c")]),
    (b"550 5.1.1 \xff\xfe\r\n", [(550, b"5.1.1 \xff\xfe")]),
    (b"250-x\r\n" * 99 + b"250 x\r\n", [(250, b"\n".join([b"x"] * 100))]),
]  # fmt: skip

BAD = [
    b"hello\r\n",
    b"\r\n",
    b"199 too small\r\n",
    b"600 too large\r\n",
    b"25 ok\r\n",
    b"2500 ok\r\n",
    b"250ok\r\n",
    b"250_ok\r\n",
    b"\x00\x01\x02\r\n",
    b"250-one\r\n550 two\r\n",  # codes must agree
    b"250-one\r\n\r\n",
    b"250 " + b"x" * LINE_LIMIT + b"\r\n",
    b"250-" + b"x" * LINE_LIMIT + b"\r\n250 y\r\n",
    b"x" * (LINE_LIMIT + 1),  # no end in sight
    b"250-x" + b"y" * 1000 + b"\r\n",
]


@pytest.mark.parametrize(("text", "replies"), GOOD)
def test_replies_are_read(text: bytes, replies: list[tuple[int, bytes]]) -> None:
    reader = Replies()
    assert reader.feed(text) == replies
    assert not reader.broken
    assert not reader.pending


@pytest.mark.parametrize("text", BAD[:-1])
def test_what_is_no_smtp_is_said_to_be_none(text: bytes) -> None:
    reader = Replies()
    assert reader.feed(text) == []
    assert reader.broken
    assert reader.broken.isprintable()


def test_a_reply_without_end_is_cut_off() -> None:
    reader = Replies()
    fed = 0
    while not reader.broken:
        assert reader.feed(BAD[-1]) == []
        fed += len(BAD[-1])
        assert fed <= 2 * REPLY_LIMIT
    assert reader.broken == "a reply without end"


def test_what_came_before_the_broken_line_counts() -> None:
    reader = Replies()
    assert reader.feed(b"250 ok\r\ngarbage\r\n250 never\r\n") == [(250, b"ok")]
    assert reader.broken


def test_a_part_of_a_further_reply_is_seen() -> None:
    for rest in (b"2", b"250-x\r\n", b"250 y"):
        reader = Replies()
        assert reader.feed(b"250 ok\r\n" + rest) == [(250, b"ok")]
        assert reader.pending, rest


@pytest.mark.parametrize("text", [text for text, _ in GOOD] + BAD)
def test_the_cuts_of_the_network_change_nothing(text: bytes) -> None:
    whole = Replies()
    expected = whole.feed(text)
    for cut in range(1, min(len(text), 120)):
        reader = Replies()
        found = reader.feed(text[:cut])
        if not reader.broken:
            found = found + reader.feed(text[cut:])
        assert (found, bool(reader.broken)) == (expected, bool(whole.broken)), cut


def test_any_bytes_in_any_cuts_are_bounded() -> None:
    chance = random.Random(5321)
    alphabet = [b"250", b"421", b"-", b" ", b"\r\n", b"\n", b"\r", b"\0", b"\xff", b"5.1.1", b"a" * 700]
    for _ in range(2000):
        reader = Replies()
        while not reader.broken and chance.random() < 0.9:
            for code, text in reader.feed(b"".join(chance.choices(alphabet, k=chance.randrange(8)))):
                assert 200 <= code <= 599
                assert str(as_reply(code, text)).isprintable()
        assert len(reader._kept) <= LINE_LIMIT


REPLIES = [
    (250, b"2.0.0 Ok: queued", "250 2.0.0 Ok: queued"),
    (250, b"", "250 "),
    (550, b"5.1.1 no\n5.1.1 such\n5.1.1 user", "550 5.1.1 no such user"),
    (550, b"no\nsuch", "550 no such"),
    (550, b"4.1.1 two minds", "550 4.1.1 two minds"),  # an enhanced code of another class is text
    (550, "5.1.1 unbekannt: ü".encode(), "550 5.1.1 unbekannt: ü"),
    (550, b"5.1.1 \x1b[2Jhidden\x07\xff", "550 5.1.1 \\x1b[2Jhidden\\x07\\xff"),
    (554, b"a\rb\0c", "554 a\\rb\\x00c"),
]


@pytest.mark.parametrize(("code", "text", "line"), REPLIES)
def test_a_reply_is_one_printable_line(code: int, text: bytes, line: str) -> None:
    reply = as_reply(code, text)
    assert str(reply) == line
    assert reply.enhanced == ("" if "two minds" in line else reply.enhanced)


def test_long_replies_are_cut() -> None:
    assert len(str(as_reply(550, b"x" * 5000))) <= TEXT_LIMIT + 10
    assert len(str(as_reply(550, b"\n".join([b"5.1.1 " + b"x" * 500] * 100)))) <= TEXT_LIMIT + 10


def test_terminal_escapes_of_a_peer_stay_harmless() -> None:
    assert printable(b"\x9b2J\x1b]0;x\x07\xe2\x80\xae") == "\\x9b2J\\x1b]0;x\\x07\\u202e"
