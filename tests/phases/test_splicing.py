"""Parts taken out of a message: what is left is what was there, byte for byte."""

import email
import email.policy
from email.message import EmailMessage
from hashlib import sha256
from pathlib import Path
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kmq.model.envelope import Head, Recipient
from kmq.phases.body import BodyDamaged
from kmq.phases.facts import Facts, Verdict
from kmq.phases.splicing import Cut, removable, without
from kmq.phases.work import Body
from tests.phases.bombs import HEADER, TEXT, attachment, message, multipart
from tests.phases.test_part_reading import named, read

NOTE = "Something stood here.\nIt is gone."


def cut(body: bytes, *numbers: int, note: str = NOTE, facts: Facts | None = None) -> bytes:
    head = Head("x", sha256(body).hexdigest(), "", "a@a.test", [Recipient("b@b.test")], len(body))
    parts = (facts or read(body)).parts
    return b"".join(without(head, Body(body, "", len(body)), [Cut(parts[one], note) for one in numbers])())


def parsed(body: bytes) -> EmailMessage:
    return cast(EmailMessage, email.message_from_bytes(body, policy=email.policy.default))


def test_the_others_are_the_same_byte_for_byte() -> None:
    parts = (TEXT, attachment("a.exe", b"MZ"), attachment("b.txt", bytes(500)), b"\r\nno header")
    body = multipart(*parts)
    out = cut(body, 2)
    head, _, tail = body.partition(parts[1])
    assert out.startswith(head)
    assert out.endswith(tail)
    found = read(out)
    assert found.verdict is Verdict.WHOLE
    kept = [(found.parts[one], parts[one - 1]) for one in (1, 3, 4)]
    assert all(out[part.start : part.end] == text for part, text in kept)
    assert list(parsed(out).iter_parts())[1].get_content().splitlines() == NOTE.splitlines()


def test_several_parts_and_one_within_another() -> None:
    inner = multipart(TEXT, attachment("inner.exe", b"MZ"), boundary=b"i").removesuffix(b"\r\n")
    body = multipart(
        attachment("a.exe", b"MZ"), b"Content-Type: message/rfc822\r\n\r\n" + inner, attachment("c.exe", b"MZ")
    )
    facts = read(body)
    numbers = [one.part for one in facts.attachments]
    assert len(numbers) == 4
    assert cut(body, *numbers).count(b"Something stood here.") == 3, "the one within goes with the one around it"
    out = read(cut(body, *numbers))
    assert [one.type for one in out.parts] == ["multipart/mixed", "text/plain", "text/plain", "text/plain"]
    alone = cut(body, named(facts, "inner.exe").number)
    assert [one.name for one in read(alone).attachments if one.name] == ["a.exe", "c.exe"]
    assert alone.count(b"Something stood here.") == 1


def test_what_is_the_whole_text_of_a_message_leaves_its_header() -> None:
    body = message(
        b"Subject: x", b"Content-Type: application/zip; name=a.zip", b"Content-Transfer-Encoding: base64", b"", b"UEs="
    )
    out = cut(body, 0)
    assert out.startswith(HEADER + b"Subject: x\r\n")
    assert parsed(out).get_content_type() == "text/plain"
    assert parsed(out).get_content().splitlines() == NOTE.splitlines()
    assert out.endswith(b"\r\n")
    attached = multipart(TEXT, b"Content-Type: message/rfc822\r\n\r\n" + body.removesuffix(b"\r\n"))
    again = cut(attached, 3)
    assert b"--b\r\nContent-Type: message/rfc822\r\n\r\n" + HEADER + b"Subject: x\r\n" in again
    assert again.endswith(b"\r\n--b--\r\n")


def test_a_part_in_a_message_in_base64_takes_that_along() -> None:
    from base64 import encodebytes

    inner = encodebytes(multipart(attachment("a.exe", b"MZ"))).rstrip().replace(b"\n", b"\r\n")
    body = multipart(TEXT, b"Content-Type: message/rfc822\r\nContent-Transfer-Encoding: base64\r\n\r\n" + inner)
    facts = read(body)
    out = read(cut(body, named(facts, "a.exe").number))
    assert [one.type for one in out.parts] == ["multipart/mixed", "text/plain", "text/plain"]


@pytest.mark.parametrize("note", ["--b--", "a\n--b\nc", "ü", "x" * 2000, "\ud800", ""])
def test_no_note_breaks_the_message(note: str) -> None:
    body = multipart(TEXT, attachment("a.exe", b"MZ"), TEXT)
    out = cut(body, 2, note=note)
    assert len(read(out).parts) == 4
    assert parsed(out).is_multipart()
    said = list(parsed(out).iter_parts())[1].get_content()
    assert said.splitlines() == note.encode("utf-8", "replace").decode().splitlines()
    assert all(len(line) <= 998 for line in out.split(b"\r\n"))


def test_a_part_at_the_very_end_that_nothing_closes() -> None:
    body = multipart(TEXT, attachment("a.exe", b"MZ")).removesuffix(b"--b--\r\n")
    out = cut(body, 2)
    assert out.endswith(b"It is gone.\r\n")
    assert len(read(out).parts) == 3


def test_a_large_body_is_checked_while_it_is_read(tmp_path: Path) -> None:
    body = multipart(TEXT, attachment("a.exe", bytes(1 << 20)), attachment("b.txt", bytes(1 << 20)))
    path = tmp_path / "body.eml"
    path.write_bytes(body)
    head = Head("x", sha256(body).hexdigest(), "", "a@a.test", [Recipient("b@b.test")], len(body))
    pieces = without(head, Body(None, str(path), len(body)), [Cut(read(body).parts[2], NOTE)])
    assert b"".join(pieces()) == cut(body, 2) == b"".join(pieces())
    assert max(map(len, pieces())) <= 1 << 18
    path.write_bytes(body[:-10] + b"?" + body[-9:])
    with pytest.raises(BodyDamaged):
        list(pieces())


def test_what_has_no_end_cannot_be_taken_out() -> None:
    facts = read(multipart(attachment("a.exe", b"MZ"), b"--b\r\n"))
    assert [removable(one) for one in facts.parts] == [False, True]


LEAVES = st.sampled_from([TEXT, attachment("a.exe", b"MZ"), b"\r\nno header", b"X: only a header\r\n", b"\r\n"])
TREES = st.recursive(
    LEAVES,
    lambda inner: st.tuples(st.lists(inner, min_size=1, max_size=3), st.integers(0, 10**9)).map(
        lambda made: multipart(*made[0], boundary=b"b%d" % made[1], top=b"").removesuffix(b"\r\n")
    ),
    max_leaves=12,
)


@given(st.lists(TREES, min_size=1, max_size=3), st.data())
def test_any_part_of_any_message_can_go(parts: list[bytes], data: st.DataObject) -> None:
    body = multipart(*parts, boundary=b"outermost")
    facts = read(body)
    if facts.verdict is not Verdict.WHOLE:  # two multiparts within each other drew one boundary
        return
    leaves = [one for one in facts.parts if not one.container]
    gone = data.draw(st.sampled_from(leaves))
    out = cut(body, gone.number, facts=facts)
    found = read(out)
    assert found.verdict is Verdict.WHOLE
    assert len(found.parts) == len(facts.parts)
    for before, after in zip(facts.parts, found.parts, strict=True):
        if before.number != gone.number and not before.container:
            assert body[before.start : before.end] == out[after.start : after.end]
