"""Attachments that are not let through: what rules fit, what becomes of the mail, and who is told."""

import asyncio
import email
import email.policy
import os
from email.message import EmailMessage
from hashlib import sha256
from pathlib import Path
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kmq.config import read as configured
from kmq.model.envelope import Head, Recipient
from kmq.model.event import Failed, HeaderEdit, Passed, Suspended
from kmq.phases.content_filtering import steps_of
from kmq.phases.facts import Verdict
from kmq.phases.inspection import Finding, Matter
from kmq.phases.plain_mail import has_no_attachment
from kmq.phases.work import Body
from tests.phases import bombs
from tests.phases.bombs import HEADER, TEXT, attachment, in_mail, message, multipart, zipped
from tests.phases.test_part_reading import read

EXE = "[exe : attachment]\nnames = *.exe, *.scr\ndescription = Programs are not let through.\n"


def matter_of(body: bytes, sender: str = "bob@b.test", **more: object) -> Matter:
    head = Head("6b03141c-00000001", sha256(body).hexdigest(), "", sender, [Recipient("alice@a.test")], len(body))
    return Matter(head, Body(body, "", len(body)), (0,), (), 1, lambda address: False)


class Filter:
    """The step of a configuration, in a spool of its own."""

    def __init__(self, spool: Path) -> None:
        self._spool = spool
        (spool / "incoming").mkdir()

    def __call__(self, text: str, *matters: Matter) -> list[Finding | None]:
        """What it says of each message, None where it need not look."""

        async def whole() -> list[Finding | None]:
            base = f"[kmq]\nhostname = mx.a.test\nspool = {self._spool}\n"
            (step,) = steps_of(configured(base + text, "kmq.conf", "/"))
            try:
                return [await step.inspect(one) if step.concerns(one) else None for one in matters]
            finally:
                await step.close()

        return asyncio.run(whole())

    def one(self, text: str, body: bytes, sender: str = "bob@b.test") -> Finding:
        (found,) = self(text, matter_of(body, sender))
        assert found is not None
        return found


@pytest.fixture
def filtered(tmp_path: Path) -> Filter:
    return Filter(tmp_path)


def text_of(finding: Finding) -> bytes:
    assert finding.replacement is not None and finding.replacement.pieces is not None
    return b"".join(finding.replacement.pieces())


def parts_of(body: bytes) -> list[EmailMessage]:
    return list(cast(EmailMessage, email.message_from_bytes(body, policy=email.policy.default)).iter_parts())  # type: ignore[arg-type]


def note_of(finding: Finding, place: int) -> str:
    return str(parts_of(text_of(finding))[place].get_content())


MAIL = multipart(TEXT, attachment("Evil.EXE", b"MZ"), attachment("b.txt", b"text"))


def test_mail_goes_on_without_it_and_with_a_note(filtered: Filter) -> None:
    finding = filtered.one(EXE, MAIL)
    assert finding.passed is not None
    assert (finding.passed.by, finding.passed.verdict) == ("attachment rule exe (kmq.conf:4)", "removed Evil.EXE")
    assert finding.replacement is not None and finding.replacement.rcpt == (0,)
    assert [part.get_filename() for part in parts_of(text_of(finding))] == [None, None, "b.txt"]
    note = note_of(finding, 1)
    assert "mx.a.test has removed an attachment here" in note
    assert "Evil.EXE" in note and "Reason: Programs are not let through." in note
    assert finding.letters == [] and finding.events == []


def test_mail_without_goes_on_as_it_is(filtered: Filter) -> None:
    finding = filtered.one(EXE, multipart(TEXT, attachment("b.txt", b"MZ")))
    assert finding == Finding(Passed())


def names_left(filtered: Filter, rules: str, *attachments: bytes) -> list[str | None]:
    finding = filtered.one(rules, multipart(*attachments))
    if finding.replacement is None:
        return [part.get_filename() for part in parts_of(multipart(*attachments))]
    return [part.get_filename() for part in parts_of(text_of(finding))]


def test_the_first_rule_that_fits_counts(filtered: Filter) -> None:
    rules = "[ours : attachment]\naction = accept\nnames = our*.exe\n" + EXE + "[late : attachment]\nnames = b.exe\n"
    left = names_left(
        filtered, rules, attachment("our.exe", b"x"), attachment("other.exe", b"x"), attachment("c", b"x")
    )
    assert left == ["our.exe", None, "c"]


def test_what_it_looks_like_counts_as_what_it_says(filtered: Filter) -> None:
    rules = "[p : attachment]\ntypes = application/x-dosexec, video/*\n"
    left = names_left(
        filtered,
        rules,
        attachment("a.txt", b"MZ" + bytes(200)),
        attachment("b", b"x", b"VIDEO/mp4"),
        attachment("c", b"x"),
    )
    assert left == [None, None, "c"]


@pytest.mark.parametrize(
    "header",
    [
        b'Content-Disposition: attachment; filename="a.txt"\r\nContent-Type: text/plain; name=a.exe',
        b"Content-Disposition: attachment; filename*0=a.e; filename*1=xe",
        b'Content-Disposition: attachment; filename="=?utf-8?q?a=2Eexe?="',
        b"Content-Disposition: attachment; filename*=utf-8''%61%2E%65%78%65",
        b'Content-Disposition: attachment; filename="a.exe. "',
        b'Content-Disposition: attachment; filename="..\\\\x\\\\a.exe"',
        b"Content-Disposition: inline;\r\n filename\r\n =\r\n a.exe",
        "Content-Disposition: attachment; filename=a.e\u200bxe".encode(),
        b"content-type: text/plain; NAME=A.ExE",
    ],
)
def test_no_spelling_of_a_name_passes(filtered: Filter, header: bytes) -> None:
    assert names_left(filtered, "[x : attachment]\nnames = a.exe\n", header + b"\r\n\r\nx", TEXT)[0] is None


def test_a_file_in_an_archive_takes_the_archive_along(filtered: Filter) -> None:
    inner = zipped(("docs/readme.txt", b"x"), ("deep.zip", zipped(("x/evil.exe", b"MZ"))))
    finding = filtered.one(EXE, in_mail(inner))
    assert finding.passed is not None and finding.passed.verdict == "removed a.zip/deep.zip/x/evil.exe"
    assert "a.zip/deep.zip/x/evil.exe" in note_of(finding, 1)
    accepted = "[zip : attachment]\naction = accept\nnames = a.zip\n"
    assert filtered.one(accepted + EXE, in_mail(inner)).replacement is None


def test_a_name_does_not_steer_the_note_or_the_log(filtered: Filter) -> None:
    name = "a\n--b--\r\nX: y\x1b[31m" + "z" * 300 + ".exe"
    finding = filtered.one(EXE, in_mail(zipped((name, b""))))
    assert finding.passed is not None
    assert finding.passed.verdict.isprintable() and len(finding.passed.verdict) < 700
    assert read(text_of(finding)).verdict is Verdict.WHOLE
    assert "a<000a>--b--<000d><000a>X: y<001b>" in note_of(finding, 1)


def test_a_signature_that_does_not_fit_any_more_is_told(filtered: Filter) -> None:
    signed = multipart(attachment("a.exe", b"MZ"), TEXT, subtype=b"signed", boundary=b"s", top=b"").removesuffix(
        b"\r\n"
    )
    body = text_of(filtered.one(EXE, multipart(signed)))
    assert b"Its signature does not fit any more" in body


def test_the_note_is_in_the_language_of_its_reader(filtered: Filter) -> None:
    finding = filtered.one(EXE + "[notices]\nlanguages =\n  @a.test de\n", MAIL)
    assert "hat hier einen Anhang entfernt" in note_of(finding, 1)


# --- who is told ------------------------------------------------------------------------------------------------------

TOLD = "[content]\nwarn_sender = yes\nforward_original = all@a.test\nforward_filtered = rest@a.test\n"


def test_copies_and_a_warning(filtered: Filter) -> None:
    (finding,) = filtered(TOLD + EXE, matter_of(MAIL))
    assert finding is not None
    original, rest, warning = finding.letters
    assert [letter.recipients[0].address for letter in finding.letters] == ["all@a.test", "rest@a.test", "bob@b.test"]
    assert all(letter.sender == "" and letter.quiet for letter in finding.letters)
    assert all(letter.recipients[0].notify == "NEVER" for letter in finding.letters)
    assert (original.text, original.pieces) == (None, None)
    assert rest.pieces is not None and b"".join(rest.pieces()) == text_of(finding)
    assert warning.text is not None
    told = cast(EmailMessage, email.message_from_bytes(warning.text, policy=email.policy.default))
    assert told["Auto-Submitted"] == "auto-generated"
    assert "Evil.EXE" in told.get_content()


def test_the_copy_bears_what_other_steps_changed(filtered: Filter) -> None:
    matter = matter_of(MAIL)
    edit = HeaderEdit("add", "X-Seen", "yes")
    matter = Matter(matter.head, matter.body, (0,), (Passed(headers=(edit,)),), 1, lambda address: False)
    (finding,) = filtered(TOLD + EXE, matter)
    assert finding is not None
    pieces = finding.letters[1].pieces
    assert pieces is not None and b"X-Seen: yes\r\n" in b"".join(pieces())
    assert b"X-Seen" not in text_of(finding), "the message that goes on is given it by whoever writes it"


@pytest.mark.parametrize(
    ("sender", "header"),
    [
        ("", b""),
        ("list-request@b.test", b""),
        ("MAILER-DAEMON@b.test", b""),
        ("bob@b.test", b"List-Id: <x.b.test>\r\n"),
        ("bob@b.test", b"Precedence: bulk\r\n"),
        ("bob@b.test", b"Auto-Submitted: auto-replied (vacation)\r\n"),
    ],
)
def test_no_program_is_warned(filtered: Filter, sender: str, header: bytes) -> None:
    finding = filtered.one("[content]\nwarn_sender = yes\n" + EXE, header + MAIL, sender)
    assert finding.replacement is not None
    assert finding.letters == []


# --- what could not be looked at --------------------------------------------------------------------------------------

UNREADABLE = message(b"Content-Type: text/plain", b"Content-Type: text/html", b"", b"x")
BOMB = in_mail(bombs.overlapping())


@pytest.mark.parametrize(("option", "body"), [("unreadable", UNREADABLE), ("beyond_limits", BOMB)])
def test_policies(filtered: Filter, option: str, body: bytes) -> None:
    (held,) = filtered.one(EXE, body).events
    assert isinstance(held, Suspended)
    assert (held.by, held.rcpt) == (f"[content] {option}", "0")
    refused = filtered.one(f"[content]\n{option} = reject\n" + EXE, body)
    (failed,) = refused.events
    assert isinstance(failed, Failed) and failed.reply.startswith("550 5.7.1 ")
    assert refused.replacement is None and refused.letters == []
    accepted = filtered.one(f"[content]\n{option} = accept\n" + EXE, body)
    assert accepted.events == [] and accepted.replacement is None
    assert accepted.passed is not None and accepted.passed.verdict


def test_what_is_held_goes_past_the_filter_when_it_is_resumed(filtered: Filter) -> None:
    assert filtered.one(EXE, UNREADABLE).passed is not None


def test_what_was_found_in_a_bomb_is_taken_out_all_the_same(filtered: Filter) -> None:
    bomb = bombs.handmade(("evil.exe", b"MZ", 2, 0), ("a.zip", b"x" * 4000, 3, 8))
    finding = filtered.one("[content]\nbeyond_limits = accept\n" + EXE, in_mail(bomb))
    assert finding.passed is not None
    assert finding.passed.verdict.startswith("removed a.zip/evil.exe; limits: ")


def test_what_cannot_be_taken_out_is_held(filtered: Filter) -> None:
    """Its end is not known, since the message has no sure reading behind it."""
    inner = b"Content-Type: message/rfc822\r\nContent-Disposition: attachment; filename=a.exe\r\n\r\n"
    body = multipart(inner + multipart(b"--i\r\n", boundary=b"i"))
    finding = filtered.one("[content]\nunreadable = accept\n" + EXE, body)
    (held,) = finding.events
    assert isinstance(held, Suspended)
    assert held.reason == "cannot be taken out: a.exe"
    assert finding.replacement is None


# --- mail that nobody need examine ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "header",
    [
        b"",
        b"Content-Type: text/plain\r\n",
        b'content-TYPE: Text/HTML; charset="utf-8"; format=flowed\r\nContent-Transfer-Encoding: 8BIT\r\n',
        b"Content-Type: text/plain;\r\n\tcharset=utf-8\r\nContent-Language: en\r\n",
    ],
)
def test_plain_mail_costs_no_question(filtered: Filter, header: bytes) -> None:
    assert filtered(EXE, matter_of(HEADER + header + b"\r\nhello\r\n")) == [None]
    assert os.listdir(filtered._spool / "incoming") == []


@pytest.mark.parametrize(
    "header",
    [
        b"Content-Type: multipart/mixed; boundary=b\r\n",
        b"Content-Type: text/plain; name=a.exe\r\n",
        b"Content-Type: text/plain; charset=x; name*=''a.exe\r\n",
        b"Content-Type: text/plain (; name=a.exe)\r\n",
        b"Content-Type: text/plain\r\nContent-Type: text/plain\r\n",
        b"Content-Disposition: inline\r\n",
        b"Content-Transfer-Encoding: x-uuencode\r\n",
        b"Content-Type: application/zip\r\n",
        b"no field\r\n",
    ],
)
def test_whatever_else_a_header_says_is_examined(header: bytes) -> None:
    assert not has_no_attachment(HEADER + header + b"\r\nhello\r\n")


LINES = st.sampled_from(
    [
        *(b"Content-Type: text/plain", b"Content-Type: text/html; charset=utf-8", b"Content-Type: ;text/plain"),
        *(b"Content-Type: text/plain; name=a.exe", b'Content-Type: text/plain; charset="a\\"; name=a.exe"'),
        *(b"Content-Type: text/plain; charset=x\r\n ; name=a.exe", b"Content-Disposition: attachment", b"X: y"),
        *(b"Content-Transfer-Encoding: base64", b"Content-Type: message/rfc822", b"Content-Type: text/plain\x00"),
        *(b"content-type:\ttext/plain\x0b", b"Content-Type: text/plain;", b"Content-Type :text/plain", b"Content-Type"),
        *(b"", b" folded", b"\r", b"\x00: y"),
    ]
)


@given(st.lists(LINES | st.binary(max_size=10), max_size=5))
def test_mail_that_is_not_examined_has_no_attachment(lines: list[bytes]) -> None:
    body = b"\r\n".join((*lines, b"", b"hello", b""))
    if has_no_attachment(body):
        facts = read(body)
        assert facts.attachments == []
        assert facts.verdict is Verdict.WHOLE
