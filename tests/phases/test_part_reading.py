"""Parts by byte ranges, whatever a message looks like; and what has no sure reading says so."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kmq.phases.facts import Facts, Part, Verdict
from kmq.phases.part_reading import Bounds, Found, Reading
from tests.phases.bombs import HEADER, TEXT, attachment, message, multipart


class Nothing:
    """No archive is looked into here."""

    def feed(self, piece: bytes) -> None:
        pass

    def members(self, part: int, part_names: object) -> list[object]:
        return []


def read(body: bytes, cut: int = 1 << 17, depth: int = 50, parts: int = 1000) -> Facts:
    found = Found(Bounds(depth, parts), lambda _: Nothing())  # type: ignore[arg-type, return-value]
    reading = Reading(found)
    for at in range(0, len(body), cut):
        reading.feed(body[at : at + cut])
    reading.end(len(body))
    return found.facts()


def named(facts: Facts, name: str) -> Part:
    (found,) = [one for one in facts.parts if name in one.names]
    return found


def test_each_part_lies_where_it_says() -> None:
    first, second = attachment("a.exe", b"MZ" + bytes(1000)), attachment("b.txt", b"text")
    body = multipart(TEXT, first, second)
    facts = read(body)
    assert [one.type for one in facts.parts] == [
        *("multipart/mixed", "text/plain", "application/octet-stream", "application/octet-stream")
    ]
    for part, text in zip(facts.parts[1:], (TEXT, first, second), strict=True):
        assert body[part.start : part.end] == text
        assert body[part.text : part.end] == text.partition(b"\r\n\r\n")[2]
    assert (named(facts, "a.exe").size, named(facts, "a.exe").magic) == (1002, "application/x-dosexec")
    assert facts.parts[1].size == 5
    assert [one.name for one in facts.attachments] == ["a.exe", "b.txt"]
    assert facts.verdict is Verdict.WHOLE


@pytest.mark.parametrize("cut", [1, 7, 100])
def test_it_does_not_matter_how_the_body_comes(cut: int) -> None:
    body = multipart(TEXT, attachment("a.zip", b"PK\3\4" + bytes(300)), multipart(TEXT, boundary=b"c", top=b""))
    assert read(body, cut) == read(body)


def test_a_message_within_is_an_attachment_and_so_are_its_own() -> None:
    inner = multipart(TEXT, attachment("inner.exe", b"MZ"), boundary=b"i").removesuffix(b"\r\n")
    body = multipart(TEXT, b"Content-Type: message/rfc822\r\n\r\n" + inner)
    facts = read(body)
    assert [(one.name, one.type) for one in facts.attachments] == [
        ("", "message/rfc822"),
        ("inner.exe", "application/octet-stream"),
    ]
    assert [one.parent for one in facts.parts] == [-1, 0, 0, 2, 3, 3]
    assert [one.depth for one in facts.parts] == [0, 1, 1, 2, 3, 3]
    assert facts.parts[3].message and not facts.parts[2].message
    assert body[facts.parts[2].start : facts.parts[2].end].endswith(inner)


def test_a_message_in_base64_is_read_on_within() -> None:
    inner = multipart(attachment("inner.exe", b"MZ")).replace(b"\r\n", b"\n")  # as some programs attach it
    text = base64.encodebytes(inner).rstrip().replace(b"\n", b"\r\n")
    body = multipart(b"Content-Type: message/rfc822\r\nContent-Transfer-Encoding: base64\r\n\r\n" + text)
    facts = read(body)
    found = named(facts, "inner.exe")
    assert found.within == 1
    assert (found.start, found.end) == (facts.parts[1].start, facts.parts[1].end)
    assert found.size == 2
    assert facts.verdict is Verdict.WHOLE


def test_a_message_that_is_one_attachment() -> None:
    facts = read(
        message(b"Content-Type: application/zip; name=a.zip", b"Content-Transfer-Encoding: base64", b"", b"UEs=")
    )
    assert [one.name for one in facts.attachments] == ["a.zip"]
    assert facts.parts[0].message


def test_what_is_signed_is_sealed() -> None:
    facts = read(multipart(TEXT, multipart(TEXT, subtype=b"signed", boundary=b"s", top=b""), TEXT))
    assert [one.sealed for one in facts.parts] == [False, False, False, True, False]


def test_headers_that_a_warning_asks_for_are_told_decoded() -> None:
    subject = b"Subject: =?utf-8?q?caf=C3=A9?=\r\n =?utf-8?q?_au_lait?="
    facts = read(message(subject, b"To: b@b.test", b"List-X: \xc3\xa9 \xff", b"Precedence: bulk", b"", b"hi"))
    assert list(facts.values("subject")) == ["café au lait"]
    assert list(facts.values("list-x")) == ["Ã© ÿ"]
    assert [one.name for one in facts.headers] == ["subject", "list-x", "precedence"], "and no others"


PARTS = (b"", b"--b", b"", b"x", b"--b--")
NO_FIELD = b"Content-Type: text/plain\r\nno field\r\nContent-Disposition: attachment; filename=a.exe\r\n\r\nx"


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (message(b"Content-Type: text/plain", b"Content-Type: multipart/mixed; boundary=b", *PARTS), "two"),
        (HEADER + b"Content-Transfer-Encoding: base64\r\nContent-Transfer-Encoding: 7bit\r\n\r\nx\r\n", "two"),
        (message(b"Content-Type: multipart/mixed", *PARTS), "boundary"),
        (message(b"Content-Type: multipart/mixed; boundary=b; boundary=c", *PARTS), "boundary"),
        (message(b"Content-Type: multipart/mixed; boundary*=us-ascii''b", *PARTS), "boundary"),
        (multipart(TEXT).replace(b"\r\n\r\n", b"\r\nContent-Transfer-Encoding: base64\r\n\r\n", 1), "boundary"),
        (multipart(b"--b\r\nx"), "boundaries"),
        (multipart(), "no parts"),
        (multipart(multipart(TEXT, top=b"")), "one boundary"),
        (message(b"Content-Type: message/partial; number=1; total=2; id=x", b"", b"x"), "piece"),
        (multipart(b"Content-Transfer-Encoding: x-uuencode\r\n\r\nbegin 644 a.exe"), "x-uuencode"),
        (multipart(NO_FIELD), "no field"),
    ],
)
def test_what_readers_of_mail_may_take_otherwise_is_unreadable(body: bytes, why: str) -> None:
    facts = read(body)
    assert facts.verdict is Verdict.UNREADABLE
    assert why in facts.why


def test_an_ordinary_notice_with_a_cut_message_is_readable() -> None:
    """A returned header of a multipart, without its parts, as notices have it."""
    inner = b"Content-Type: message/rfc822\r\n\r\nSubject: x\r\nContent-Type: multipart/mixed; boundary=cut\r\n\r\n"
    facts = read(multipart(TEXT, b"Content-Type: message/delivery-status\r\n\r\nReporting-MTA: dns; x", inner))
    assert facts.verdict is Verdict.WHOLE


@pytest.mark.parametrize("limits", [{"depth": 3}, {"parts": 3}])
def test_the_limits_are_those_that_are_given(limits: dict[str, int]) -> None:
    body = multipart(
        multipart(multipart(multipart(TEXT, boundary=b"4", top=b""), boundary=b"3", top=b""), boundary=b"2", top=b"")
    )
    assert read(body).verdict is Verdict.WHOLE
    assert read(body, **limits).verdict is Verdict.LIMITS


def test_what_was_open_when_the_reading_stopped_has_no_end() -> None:
    facts = read(multipart(attachment("a.exe", b"MZ"), attachment("b.exe", b"MZ"), b"--b\r\n"))
    assert facts.verdict is Verdict.UNREADABLE
    assert [one.end > 0 for one in facts.parts] == [False, True, True]


PIECES = st.sampled_from(
    [
        *(b"--b\r\n", b"--b--\r\n", b"--c\r\n", b"--c--\r\n", b"\r\n", b"text\r\n", b"=\r\n", b"TVo=\r\n", b"--b \r\n"),
        *(b"Content-Type: multipart/mixed; boundary=b\r\n", b"Content-Type: multipart/signed; boundary=c\r\n"),
        *(b"Content-Type: message/rfc822\r\n", b"Content-Type: application/zip\r\n", b" folded\r\n", b"PK\3\4\r\n"),
        *(b"Content-Transfer-Encoding: base64\r\n", b"Content-Transfer-Encoding: quoted-printable\r\n"),
        *(b"Content-Disposition: attachment; filename*=utf-8''%41.exe\r\n", b"Subject: =?utf-8?q?x?=\r\n"),
    ]
)


@given(st.lists(PIECES | st.binary(max_size=30), max_size=40).map(b"".join))
def test_any_bytes_are_a_message(body: bytes) -> None:
    facts = read(body, 11)
    assert facts.parts[0].number == 0
    assert (facts.verdict is Verdict.WHOLE) == (facts.why == "")
    for one in facts.parts:
        assert one.end == -1 or 0 <= one.start <= one.text <= len(body)
        assert one.end <= len(body)
        assert one.parent < one.number and one.within < one.number
        if one.parent > 0 and one.within < 0 and one.end >= 0:
            above = facts.parts[one.parent]
            assert above.start <= one.start and (above.end == -1 or one.end <= above.end)
