"""Changes of a header on its way out: the fields that no change concerns stay as they are."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kmq.model import fields
from kmq.model.event import HeaderEdit
from kmq.phases.edits import edited
from kmq.phases.header_stream import HeaderStream

HEADER = b"Received: from a\r\n\tby b\r\nSubject: one\r\nX-Spam: no\r\nsubject: two\r\n"


@pytest.mark.parametrize(
    ("edit", "becomes"),
    [
        (HeaderEdit("add", "X-Scanned", "yes"), b"X-Scanned: yes\r\n" + HEADER),
        (HeaderEdit("add", "X-Scanned", "yes", 1), HEADER.replace(b"Subject: one", b"X-Scanned: yes\r\nSubject: one")),
        (HeaderEdit("append", "X-Scanned", "yes"), HEADER + b"X-Scanned: yes\r\n"),
        (
            HeaderEdit("set", "SUBJECT", "[spam] one"),
            b"Received: from a\r\n\tby b\r\nSUBJECT: [spam] one\r\nX-Spam: no\r\n",
        ),
        (HeaderEdit("set", "To", "x@y.test"), b"To: x@y.test\r\n" + HEADER),
        (HeaderEdit("remove", "Subject"), b"Received: from a\r\n\tby b\r\nX-Spam: no\r\n"),
        (HeaderEdit("replace", "Subject", "three", 2), HEADER.replace(b"subject: two", b"Subject: three")),
        (HeaderEdit("replace", "Subject", "", 1), HEADER.replace(b"Subject: one\r\n", b"")),
        (HeaderEdit("replace", "Subject", "third", 3), HEADER + b"Subject: third\r\n"),
        (HeaderEdit("replace", "Subject", "", 3), HEADER),
        (HeaderEdit("of a later program", "Subject", "x"), HEADER),
        (HeaderEdit("add", "X y: z\r\nBcc", "x"), HEADER),
        (HeaderEdit("add", "", "x"), HEADER),
    ],
)
def test_an_edit_does_what_it_says(edit: HeaderEdit, becomes: bytes) -> None:
    assert edited(HEADER, [edit]) == becomes


def test_edits_are_made_one_after_the_other() -> None:
    edits = [
        HeaderEdit("remove", "Subject"),
        HeaderEdit("add", "Subject", "new"),
        HeaderEdit("set", "Subject", "newer"),
    ]
    assert edited(HEADER, edits).count(b"ubject") == 1


@given(st.text())
def test_a_value_stays_one_field(value: str) -> None:
    made = edited(HEADER, [HeaderEdit("add", "X-Said", value)])
    assert [one.name for one in fields.read(made)] == [b"x-said", b"received", b"subject", b"x-spam", b"subject"]


@pytest.mark.parametrize(
    "text", [b"", b"\r\n", b"no header at all\r\n", b"\r\nbody\r\n", HEADER, HEADER + b"\r\nbody\r\n"]
)
def test_what_stands_below_the_header_stays(text: bytes) -> None:
    stream = HeaderStream(lambda header: edited(header, [HeaderEdit("add", "X-Scanned", "yes")]))
    made = stream.feed(text) + stream.end()
    header, body = fields.split(made)
    assert header.startswith(b"X-Scanned: yes\r\n")
    assert body == fields.split(text)[1]
