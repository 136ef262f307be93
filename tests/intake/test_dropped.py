"""Bytes of dropped files: line ends of this machine, and where the header ends."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kmq.intake.dropped import BadFile, Lines, cut


def read(*pieces: bytes) -> bytes:
    lines = Lines()
    text = b"".join(lines.take(piece) for piece in pieces)
    lines.end()
    return text


@pytest.mark.parametrize("text", [b"a\nb\n", b"a\r\nb\r\n", b"a\nb\r\n", b"a\r\nb\n"])
def test_local_line_ends_become_crlf(text: bytes) -> None:
    assert read(text) == b"a\r\nb\r\n"


@pytest.mark.parametrize(
    ("text", "line"), [(b"a\rb\n", 1), (b"a\nb\n\rc\n", 3), (b"a\r\r\n", 1), (b"a\n.\r.\n", 2), (b"x\ny\r", 2)]
)
def test_a_cr_that_ends_no_line_is_bad(text: bytes, line: int) -> None:
    with pytest.raises(BadFile, match=f"line {line} "):
        read(text)


@given(st.lists(st.binary(max_size=9).map(lambda one: one.replace(b"x", b"\r\n").replace(b"y", b"\r")), max_size=9))
def test_it_does_not_matter_how_the_bytes_are_cut(pieces: list[bytes]) -> None:
    def outcome(*pieces: bytes) -> bytes | str:
        try:
            return read(*pieces)
        except BadFile as bad:
            return str(bad)

    assert outcome(*pieces) == outcome(b"".join(pieces))


@pytest.mark.parametrize(
    ("text", "whole", "found"),
    [
        (b"A: b\r\n\r\ntext\r\n", False, (b"A: b\r\n", b"text\r\n")),
        (b"A: b\r\n\r\n", True, (b"A: b\r\n", b"")),
        (b"A: b\r\n", True, (b"A: b\r\n", b"")),
        (b"A: b", True, (b"A: b\r\n", b"")),
        (b"A: b\r\n", False, None),
        (b"", False, None),
    ],
)
def test_the_header_ends_at_the_empty_line(text: bytes, whole: bool, found: tuple[bytes, bytes] | None) -> None:
    assert cut(text, whole, 100) == found


@pytest.mark.parametrize(
    ("text", "whole", "why"),
    [
        (b"", True, "the file is empty"),
        (b"\r\nA: b\r\n", False, "begins with an empty line"),
        (b"A: " + b"x" * 98, False, "more than 100 bytes"),
        (b"A: " + b"x" * 99 + b"\r\n\r\n", True, "more than 100 bytes"),
    ],
)
def test_what_has_no_header_or_too_much_of_it(text: bytes, whole: bool, why: str) -> None:
    with pytest.raises(BadFile, match=why):
        cut(text, whole, 100)


def test_a_header_of_just_the_limit_is_taken() -> None:
    header = b"A: " + b"x" * 95 + b"\r\n"
    assert len(header) == 100
    assert cut(header + b"\r\n", True, 100) == (header, b"")
