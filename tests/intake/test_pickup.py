"""Files of the Pickup directory: who sends to whom by Exchange's rules, and what is no mail."""

import pytest

from kmq.config.drop import PickupSection
from kmq.intake.completion import Completion
from kmq.intake.dropped import BadFile, Letter
from kmq.intake.pickup import Pickup
from kmq.model import fields

NOW = 1_790_000_000.0


def pickup(**options: int) -> Pickup:
    return Pickup(PickupSection(directory="/x", **options), Completion("mx.us.test", "us.test"))


def letter(header: str | bytes, **options: int) -> Letter:
    text = header.encode() if isinstance(header, str) else header
    return pickup(**options).read(text.replace(b"\n", b"\r\n"), "app", NOW)


def names(found: Letter) -> list[str]:
    return [one.name.decode() for one in fields.read(found.header)]


def value(found: Letter, name: str) -> bytes:
    return next(one.value for one in fields.read(found.header) if one.name == name.encode())


ENVELOPES = [
    ("From: a@x\nTo: b@x\n", "a@x", ["b@x"]),
    ("From: Ann <a@x>\nTo: b@x, Carl <c@x>\nCc: d@x\nBcc: e@x\n", "a@x", ["b@x", "c@x", "d@x", "e@x"]),
    ("From: a@x\nSender: s@x\nTo: b@x\n", "a@x", ["b@x"]),
    ("From: a@x, b@x\nSender: s@x\nTo: b@x\n", "s@x", ["b@x"]),
    ("Sender: s@x\nTo: b@x\n", "s@x", ["b@x"]),
    ("From: a@x\nBcc: b@x\n", "a@x", ["b@x"]),
    ("From: ann\nTo: bob\n", "ann@us.test", ["bob@us.test"]),
    ("From: a@x\nTo: b@x, b@x\nCc: b@X\n", "a@x", ["b@x"]),
    ("From: a@x\nTo: friends: b@x, c@x;\n", "a@x", ["b@x", "c@x"]),
    ('From: "x, y@z" (a (b)) <a@x>\nTo: b@x\n', "a@x", ["b@x"]),
    ("From: a@x\nTo: b@x\nResent-From: r@x\nResent-To: t@x\n", "a@x", ["b@x"]),
    ("From: a@x\nTo:\n b@x,\n\tc@x\n", "a@x", ["b@x", "c@x"]),
    ("From: \u00fc@\u00f6.example\nTo: b@x\n", "\u00fc@\u00f6.example", ["b@x"]),
]


@pytest.mark.parametrize(("header", "sender", "to"), ENVELOPES)
def test_the_envelope_is_read_from_the_header(header: str, sender: str, to: list[str]) -> None:
    found = letter(header)
    assert found.sender.address == sender
    assert [one.address for one in found.recipients] == to
    assert found.sender.utf8 is not (sender + "".join(to)).isascii()


def test_what_does_not_belong_there_is_removed_and_what_is_missing_added() -> None:
    found = letter(
        "Received: from a by b\nFrom: a@x\nTo: b@x\nBcc: secret@x\nResent-To: r@x\nResent-Date: now\nX-Own: kept\n"
        "Return-Path: <r@x>\nSubject: s\n"
    )
    assert names(found) == ["from", "to", "x-own", "subject", "date", "message-id"]
    assert value(found, "date") == b"Mon, 21 Sep 2026 14:13:20 +0000"
    assert value(found, "message-id").endswith(b"@mx.us.test>")


def test_a_date_that_is_none_is_made_anew_and_a_good_one_kept() -> None:
    assert value(letter("From: a@x\nTo: b@x\nDate: yesterday\n"), "date").endswith(b"+0000")
    good = b"Sun, 20 Sep 2026 10:00:00 +0200"
    assert value(letter(b"From: a@x\nTo: b@x\nDate: " + good + b"\n"), "date") == good
    assert value(letter("From: a@x\nTo: b@x\nMessage-ID:\n"), "message-id") != b""


def test_nobody_sees_who_got_a_blind_copy_alone() -> None:
    found = letter("From: a@x\nBcc: secret@x\n")
    assert value(found, "to") == b"Undisclosed Recipients:;"
    assert b"secret" not in found.header


def test_x_headers_of_replay_mean_nothing_here() -> None:
    found = letter("X-Sender: <evil@x>\nX-Receiver: <victim@x>\nFrom: a@x\nTo: b@x\n")
    assert (found.sender.address, [one.address for one in found.recipients]) == ("a@x", ["b@x"])
    assert value(found, "x-receiver") == b"<victim@x>"


def test_where_it_came_from_stands_above_it_and_in_the_envelope() -> None:
    found = letter("From: a@x\nTo: b@x\n")
    assert found.origin == b"Received: from localhost\r\n\tby mx.us.test (kmq Pickup) with local id "
    assert (found.source.how, found.source.user) == ("pickup", "app")


BAD = [
    ("To: b@x\n", "there is no From and no Sender"),
    ("From: a@x, b@x\nTo: b@x\n", "From names not exactly one address, and Sender neither"),
    ("From: a@x, b@x\nSender: c@x, d@x\nTo: b@x\n", "From names not exactly one"),
    ("From: a@x\nFrom: b@x\nTo: b@x\n", "more than one From"),
    ("From: a@x\nSender: a@x\nSender: a@x\nTo: b@x\n", "more than one Sender"),
    ("From: a@x\nSubject: s\n", "no recipient in To, Cc or Bcc"),
    ("From: a@x\nTo:\n", "no recipient"),
    ("From: a@x\nTo: undisclosed-recipients:;\n", "no recipient"),
    ("From: a@x\nResent-To: b@x\n", "no recipient"),
    ("From: a@x\nTo: b@x, <>\n", "To has an entry that is no address"),
    ("From: a@x\nTo: b c@x\n", "To has an entry that is no address"),
    ("From: a@x\nCc: b@x@y\nTo: b@x\n", "Cc has an entry that is no address"),
    ("From: a@-.x\nTo: b@x\n", "From has an address that cannot be used"),
    ('From: a@x\nTo: "b\x01"@x\n', "To has an address that cannot be used"),
    ("From: <>\nTo: b@x\n", "From has an entry that is no address"),
    ("From someone Mon Sep 21\nFrom: a@x\nTo: b@x\n", "line 1 of the header is no field"),
    ("From: a@x\nTo: b@x\nnonsense\n", "line 3 of the header is no field"),
    (" folded\nFrom: a@x\nTo: b@x\n", "line 1 of the header is no field"),
    ("From: a@x\nTo: b@x\nX: \0\n", "NUL in the header"),
]


@pytest.mark.parametrize(("header", "why"), BAD)
def test_a_bad_file_says_why(header: str, why: str) -> None:
    with pytest.raises(BadFile, match=why):
        letter(header)


def test_recipients_are_counted_after_doubles_are_out() -> None:
    to = ", ".join(f"r{number}@x" for number in range(5))
    assert len(letter(f"From: a@x\nTo: {to}\nCc: {to}\n", recipient_limit=5).recipients) == 5
    with pytest.raises(BadFile, match="5 recipients are more than 4"):
        letter(f"From: a@x\nTo: {to}\n", recipient_limit=4)


def test_the_limit_of_a_header_is_the_one_that_was_set() -> None:
    assert pickup(header_size=2048).header_limit == 2048


def test_hostile_headers_cost_no_more_than_they_are_long() -> None:
    """Nesting, quotes and folds by the ten thousand: read to their end, or refused; no stack overflows."""
    for evil in (b"(" * 30_000, b'"' * 30_000, b"<" * 30_000, b"\n ".join([b"a"] * 20_000), b"a:;," * 15_000):
        try:
            letter(b"From: a@x\nTo: " + evil + b"\n")
        except BadFile:
            continue
