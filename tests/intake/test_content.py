"""The content of a message: facts, faults and limits, the same however it is cut."""

import random

import pytest

from kmq.intake import replies
from kmq.intake.content import HEADER_LIMIT, Content


def taken(wire: bytes, cuts: list[int] | None = None, **limits: int) -> tuple[Content, bytes, int]:
    """Content of what came by DATA, cut there; what was kept; how many bytes of the wire were the message's."""
    content = Content(limits.get("size", 1 << 20), limits.get("line", 998), limits.get("hops", 50))
    kept = b""
    used = 0
    at = 0
    for cut in [*(cuts or []), len(wire)]:
        if content.ended or cut == at:
            continue
        used += content.dotted(wire[at:cut])
        kept += content.take()
        at = cut
    return content, kept, used


def facts(content: Content) -> dict[str, object]:
    return {name: getattr(content, name) for name in ("size", "eight_bit", "dots", "longest", "hops", "ended")}


# What comes behind 354 -> what is kept.
MESSAGES = [
    (b".\r\n", b""),
    (b"\r\n.\r\n", b"\r\n"),
    (b"a\r\n.\r\n", b"a\r\n"),
    (b"..\r\n.\r\n", b".\r\n"),
    (b"...\r\n.\r\n", b"..\r\n"),
    (b".a\r\n.b\r\n.\r\n", b"a\r\nb\r\n"),
    (b"a\r\n..\r\n..\r\n\r\n.\r\n", b"a\r\n.\r\n.\r\n\r\n"),
    (b"a.\r\n.\r\n", b"a.\r\n"),
    (b"S: x\r\n\r\n" + b"y" * 998 + b"\r\n.\r\n", b"S: x\r\n\r\n" + b"y" * 998 + b"\r\n"),
    (b"\xff\r\n.\r\n", b"\xff\r\n"),
    (b"a.b\r\nc\r\n..\r\n.\r\n", b"a.b\r\nc\r\n.\r\n"),
    (b"a\r\n" * 9000 + b"..bb\r\nc\r\n.\r\n", b"a\r\n" * 9000 + b".bb\r\nc\r\n"),  # more than is looked at at once
]


@pytest.mark.parametrize(("wire", "kept"), MESSAGES)
def test_a_message_is_kept_without_its_stuffed_dots(wire, kept):
    content, found, used = taken(wire + b"QUIT\r\n")
    assert (found, used) == (kept, len(wire))
    assert content.ended
    assert content.fault() is None
    assert content.size == len(kept)


@pytest.mark.parametrize(("wire", "kept"), MESSAGES)
def test_facts_are_those_of_what_is_kept(wire, kept):
    content, _, _ = taken(wire)
    lines = kept.split(b"\r\n")[:-1]
    assert facts(content) == {
        "size": len(kept),
        "eight_bit": not kept.isascii(),
        "dots": any(line.startswith(b".") for line in lines),
        "longest": max(map(len, lines), default=0),
        "hops": 0,
        "ended": True,
    }


def test_a_bare_one_among_lines_of_few_bytes_spoils_the_message():
    content, kept, _ = taken(b"a\r\n" * 9000 + b"b\nc\r\n.\r\n")
    assert content.fault() is replies.BARE_CR_OR_LF
    assert kept == b""


def test_what_came_byte_by_byte_is_put_together():
    wire = b"S: x\r\n\r\n" + b"abc.d\r\n" * 40
    content = Content(1 << 20, 998, 50)
    for at in range(len(wire)):
        content.dotted(wire[at : at + 1])
    content.dotted(b".\r\n")
    assert content.take() == wire


@pytest.mark.parametrize(("wire", "kept"), MESSAGES)
def test_two_cuts_anywhere_change_nothing(wire, kept):
    wire += b"MAIL"
    whole = taken(wire)
    places = range(len(wire)) if len(wire) < 60 else [*range(12), *range(len(wire) - 16, len(wire))]
    for first in places:
        for second in places:
            content, found, used = taken(wire, [first, second] if first <= second else [second])
            assert (found, used, facts(content)) == (whole[1], whole[2], facts(whole[0]))


@pytest.mark.parametrize("seed", range(60))
def test_any_bytes_in_any_cuts_are_judged_alike(seed):
    chance = random.Random(seed)
    bricks = [
        b"\r\n",
        b"\r",
        b"\n",
        b".",
        b"x",
        b"\0",
        b"Received: y\r\n",
        b"\r\n.",
        b"\r\n..",
        b"z" * 300,
        b"\xe9",
        b"A: b\r\n",
    ]
    weights = [30, chance.random() < 0.2, chance.random() < 0.2, 8, 10, chance.random() < 0.1, 4, 5, 5, 3, 1, 10]
    wire = b"".join(chance.choices(bricks, weights, k=chance.randrange(200))) + b"\r\n.\r\n"
    limits = {"size": chance.choice([100, 1000, 1 << 20]), "line": chance.choice([10, 400, 998]), "hops": 5}
    whole = taken(wire, **limits)
    for _ in range(20):
        cuts = sorted(chance.sample(range(len(wire)), min(len(wire), chance.choice([1, 3, 40]))))
        content, kept, used = taken(wire, cuts, **limits)
        assert (facts(content), content.fault(), used) == (facts(whole[0]), whole[0].fault(), whole[2])
        if content.fault() is None:
            assert kept == whole[1]


def test_of_a_message_that_is_refused_nothing_is_kept():
    content = Content(1000, 998, 50)
    for _ in range(100):
        content.dotted(b"x" * 78 + b"\r\n")
    assert content.take() == b""
    assert content.fault() is replies.TOO_BIG


def test_limits_are_reached_but_not_passed():
    assert taken(b"x" * 98 + b"\r\n.\r\n", size=100)[0].fault() is None
    assert taken(b"x" * 99 + b"\r\n.\r\n", size=100)[0].fault() is replies.TOO_BIG
    assert taken(b"x" * 20 + b"\r\n.\r\n", line=20)[0].fault() is None
    assert taken(b"." + b"x" * 20 + b"\r\n.\r\n", line=20)[0].fault() is None
    assert taken(b"x" * 21 + b"\r\n.\r\n", line=20)[0].fault() is replies.LINE_TOO_LONG
    assert taken(b"Received: x\r\n" * 3 + b"\r\n.\r\n", hops=3)[0].fault() is None
    assert taken(b"Received: x\r\n" * 4 + b"\r\n.\r\n", hops=3)[0].fault() is replies.TOO_MANY_HOPS


def test_far_beyond_the_limit_there_is_no_hope():
    content, _, _ = taken(b"x" * 198 + b"\r\n", size=100)
    assert not content.hopeless
    content.dotted(b"xxx")
    assert content.hopeless


# --- the header -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "hops"),
    [
        (b"Received: a\r\nSubject: x\r\nreceived: b\r\nRECEIVED : c\r\n\r\nReceived: d\r\n", 2),
        (b"Received: a\r\n\tby b; Received: c\r\n Received: d\r\n\r\n", 1),
        (b"X-Received: a\r\nReceived-SPF: b\r\n\r\n", 0),
        (b"\r\nReceived: a\r\n", 0),
        (b"Received: a\r\n", 1),
        (b"Received: a\r\n" * 9 + b"no header any more\r\n" + b"Received: b\r\n" * 9, 9),
    ],
)
def test_hops_are_counted_in_the_header_alone(text, hops):
    for cut in range(len(text)):
        content, _, _ = taken(text + b".\r\n", [cut], hops=5)
        assert content.hops == hops


def test_a_header_may_be_as_long_as_the_limit():
    line = b"X: " + b"y" * 95 + b"\r\n"
    fits = line * (HEADER_LIMIT // 100 - 1) + b"\r\nbody\r\n" + line * 100 + b".\r\n"
    assert taken(fits)[0].fault() is None
    assert taken(line * (HEADER_LIMIT // 100 + 1) + b"\r\n.\r\n")[0].fault() is replies.HEADER_TOO_BIG


def test_text_without_a_header_is_no_long_header():
    text = b"just text without any colon at its beginning\r\n" * 5000
    content, kept, _ = taken(text + b".\r\n")
    assert content.fault() is None
    assert kept == text


@pytest.mark.parametrize("seed", range(6))
def test_a_long_header_is_judged_alike_in_any_cuts(seed):
    chance = random.Random(seed)
    text = b"".join(
        chance.choices([b"Received: x\r\n", b"X-Y: " + b"z" * 300 + b"\r\n", b"\tfolded " * 9 + b"\r\n"], k=600)
    )
    text += chance.choice([b"", b"\r\n", b"text\r\n"]) + b"more text\r\n" * chance.choice([1, 9000])
    whole, _, _ = taken(text + b".\r\n", hops=10)
    for _ in range(5):
        cuts = sorted(chance.sample(range(len(text)), 30))
        content, _, _ = taken(text + b".\r\n", cuts, hops=10)
        assert (facts(content), content.fault()) == (facts(whole), whole.fault())


def test_a_header_in_single_bytes_is_not_slow():
    content = Content(1 << 20, 998, 50)
    for _ in range(3000):
        for octet in b"X-Y: some value, and no end of it\r\n":
            content.dotted(bytes((octet,)))
    assert content.fault() is replies.HEADER_TOO_BIG


# --- BDAT -----------------------------------------------------------------------------------------------------------


def chunked(*pieces: bytes) -> tuple[Content, bytes]:
    content = Content(1 << 20, 998, 50)
    for piece in pieces:
        content.counted(piece)
    content.end_counted()
    return content, content.take()


@pytest.mark.parametrize("cut", range(20))
def test_chunks_are_taken_as_they_are(cut):
    text = b"S: x\r\n\r\n.\r\n..y\r\n"
    content, kept = chunked(text[:cut], text[cut:])
    assert kept == text
    assert content.fault() is None
    assert content.dots
    assert content.longest == 4


def test_a_last_line_without_end_gets_one():
    content, kept = chunked(b"S: x\r\n\r\nhello")
    assert kept == b"S: x\r\n\r\nhello\r\n"
    assert content.size == len(kept)
    assert chunked(b"")[1] == b""
    assert chunked(b"S: x\r\n")[1] == b"S: x\r\n"


@pytest.mark.parametrize("text", [b"a\r", b"a\r\n\r", b"\r", b"a\rb", b"a\nb", b"\n"])
def test_a_bare_cr_at_the_very_end_is_one(text):
    assert chunked(text)[0].fault() is replies.BARE_CR_OR_LF
