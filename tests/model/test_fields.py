"""A header as fields: nothing is lost, nothing is guessed, and no input is dear."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kmq.model import fields
from kmq.model.fields import Field, NotAField

HEADER = b"From: alice@example.org\r\nSubject : a\r\n long\r\n\tone\r\nTO:bob@example.org\r\n"


def test_fields_keep_their_bytes_and_their_folds():
    found = fields.read(HEADER)
    assert [one.name for one in found] == [b"from", b"subject", b"to"]
    assert b"".join(one.text for one in found) == HEADER
    assert found[1].value == b"a long\tone"


@pytest.mark.parametrize(
    ("header", "line"),
    [
        (b" folded: first\r\n", 1),
        (b"From: a\r\nno field here\r\n", 2),
        (b"From: a\r\n b\r\n\r\nTo: c\r\n", 3),
        (b"Subject: no end", 1),
        (b"A: bare\rCR: b\r\n", 1),
        (b"A: bare\nLF: b\r\n", 1),
        (b"F\xc3\xb6: x\r\n", 1),
        (b": no name\r\n", 1),
    ],
)
def test_a_line_that_is_no_field_is_told(header, line):
    with pytest.raises(NotAField, match=f"line {line} "):
        fields.read(header)


@pytest.mark.parametrize(
    ("text", "rest"),
    [
        (HEADER + b"\r\nHello\r\n", b"Hello\r\n"),
        (HEADER + b"Hello\r\n", b"Hello\r\n"),
        (HEADER, b""),
        (HEADER + b"\r\n", b""),
        (HEADER + b"\r\n\r\nHello\r\n", b"\r\nHello\r\n"),
    ],
)
def test_a_header_ends_at_the_empty_line_or_where_no_field_is(text, rest):
    assert fields.split(text) == (HEADER, rest)


def test_text_may_begin_at_once():
    assert fields.split(b"Hello Bob\r\n") == (b"", b"Hello Bob\r\n")
    assert fields.split(b"\r\nHello: Bob\r\n") == (b"", b"Hello: Bob\r\n")


@given(st.lists(st.sampled_from([b"A", b":", b" ", b"\r\n", b"\t", b"b c", b"\xff", b"\r", b"\n"]), max_size=30))
def test_joined_fields_are_the_header(pieces):
    header, rest = fields.split(b"".join(pieces))
    found = fields.read(header)
    assert b"".join(one.text for one in found) == header
    assert all(isinstance(one, Field) and one.name.islower() for one in found)
    assert b"".join(pieces) in (header + rest, header + b"\r\n" + rest)
