"""What each way in does to each header field: every cell of the table, and what completing must not do."""

import email.utils

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kmq.intake.completion import BadHeader, Completion, Way
from kmq.intake.header_table import TABLE, Treatment
from kmq.model import fields

HOME = Completion("mx.example.org", "example.org")
NOW = 1_790_000_000.0
CELLS = [(row, way) for row in TABLE for way in Way]

#: A field as a message may bring it, with a bare address where it has addresses.
GIVEN = {
    "Date": b"Mon, 21 Sep 2026 10:13:20 +0200",
    "Resent-Date": b"Mon, 21 Sep 2026 10:13:20 +0200",
    "Message-ID": b"<1@client>",
    "Resent-Message-ID": b"<2@client>",
    "Auto-Submitted": b"auto-generated",
    "Received": b"from client by relay; Mon, 21 Sep 2026 10:13:20 +0200",
    "Return-Path": b"<bounce@example.net>",
}
WHOLE = b"From: a@x\r\nTo: b@x\r\nDate: Mon, 21 Sep 2026 10:13:20 +0200\r\nMessage-ID: <1@x>\r\n"


def completed(header, way, sender="alice@example.org", name=""):
    return HOME.complete(header, way, sender=sender, name=name, now=NOW)


def values(header, name):
    return [one.value for one in fields.read(header) if one.name == name.lower().encode()]


def without(field):
    """A whole header, but for one field."""
    return b"".join(one.text for one in fields.read(WHOLE) if one.name != field.lower().encode())


@pytest.mark.parametrize(("row", "way"), CELLS, ids=lambda it: getattr(it, "field", getattr(it, "name", None)))
def test_a_field_that_is_there(row, way):
    given_value = GIVEN.get(row.field, b"Bob <bob>")
    line = f"{row.field}: ".encode() + given_value + b"\r\n"
    after = values(completed(without(row.field) + line, way), row.field)
    match row.on(way):
        case Treatment.REMOVED | Treatment.RENEWED:
            assert after == []
        case Treatment.QUALIFIED | Treatment.FILLED | Treatment.UNDISCLOSED | Treatment.RESENT_FILLED:
            assert after == [b"Bob <bob@example.org>"]
        case _:
            assert after == [given_value]


@pytest.mark.parametrize(("row", "way"), CELLS, ids=lambda it: getattr(it, "field", getattr(it, "name", None)))
def test_a_field_that_is_missing(row, way):
    header = without(row.field)
    after = values(completed(header, way), row.field)
    match row.on(way):
        case Treatment.ADDED | Treatment.MENDED | Treatment.FILLED | Treatment.UNDISCLOSED:
            assert len(after) == 1
        case Treatment.RESENT | Treatment.RESENT_FILLED:
            assert after == []
            assert len(values(completed(b"Resent-To: bob\r\n" + header, way), row.field)) == 1
        case _:
            assert after == []


@pytest.mark.parametrize("way", Way)
def test_a_field_that_the_table_does_not_name_is_kept_byte_for_byte(way):
    line = b"X-Odd:\t a\r\n\t b  c \xff\r\n"
    assert line in completed(WHOLE + line, way)


def test_port_25_changes_nothing_at_all():
    for header in (b"", b"From: a\r\nFrom: b\r\n", b"no header\r\n", WHOLE):
        assert completed(header, Way.SMTP) is header


def test_what_is_added_is_well_formed():
    after = completed(b"Subject: hi\r\n", Way.SUBMISSION)
    assert values(after, "From") == [b"alice@example.org"]
    (date,) = values(after, "Date")
    assert email.utils.parsedate_to_datetime(date.decode()).timestamp() == NOW
    (first,) = values(after, "Message-ID")
    (second,) = values(completed(b"Subject: hi\r\n", Way.SUBMISSION), "Message-ID")
    assert first.endswith(b"@mx.example.org>")
    assert first != second


def test_an_empty_field_is_a_missing_one():
    after = completed(b"From:\r\nDate: \r\nMessage-ID:\r\n\t\r\nSubject:\r\n", Way.SENDMAIL)
    assert [len(values(after, name)) for name in ("From", "Date", "Message-ID", "Subject")] == [1, 1, 1, 1]
    assert values(after, "From") == [b"alice@example.org"]
    assert values(after, "Subject") == [b""]


@pytest.mark.parametrize("way", [Way.PICKUP, Way.REPLAY])
def test_a_date_that_is_none_is_made_anew_in_dropped_files(way):
    assert values(completed(b"Date: yesterday\r\n", way), "Date") == [b"Mon, 21 Sep 2026 14:13:20 +0000"]
    good = b"1 Jan 99 1:02 EST"
    assert values(completed(b"Date: " + good + b"\r\n", way), "Date") == [good]


@pytest.mark.parametrize(
    ("name", "phrase"),
    [
        ("Alice Liddell", b"Alice Liddell"),
        ("Liddell, Alice", b'"Liddell, Alice"'),
        ('A "quoted" \\ name', b'"A \\"quoted\\" \\\\ name"'),
        ("Jörg", b"=?utf-8?b?SsO2cmc=?="),
        ("evil\r\nBcc: victim@example.net", b'"evil Bcc: victim@example.net"'),
    ],
)
def test_the_senders_name_stands_ahead_of_the_address(name, phrase):
    after = completed(b"", Way.SENDMAIL, name=name)
    assert values(after, "From") == [phrase + b" <alice@example.org>"]
    assert values(after, "Bcc") == []


@given(st.text(max_size=60))
def test_any_name_is_read_back_as_it_was(name):
    (line,) = values(completed(b"", Way.SENDMAIL, name=name), "From")
    shown, address = email.utils.parseaddr(line.decode())
    assert address == "alice@example.org"
    words = email.header.decode_header(shown) if shown else []
    text = "".join(word.decode(kind or "ascii") if isinstance(word, bytes) else word for word, kind in words)
    clean = " ".join("".join(sign if sign.isprintable() else " " for sign in name).split())
    assert text.encode("utf-8", "replace") == clean.encode("utf-8", "replace")


def test_a_program_without_sender_is_the_mailer_daemon():
    after = completed(b"", Way.SENDMAIL, sender="", name="Alice")
    assert values(after, "From") == [b"MAILER-DAEMON@example.org"]


def test_hidden_recipients_alone_are_undisclosed():
    for way in (Way.SENDMAIL_T, Way.PICKUP):
        after = completed(b"From: a\r\nBcc: bob, carol\r\n", way)
        assert values(after, "To") == [b"Undisclosed Recipients:;"]
        assert b"carol" not in after
        assert values(completed(b"Cc: dave\r\nBcc: bob\r\n", way), "To") == []
        assert values(completed(b"To:\r\nBcc: bob\r\n", way), "To") == [b"Undisclosed Recipients:;"]


def test_addresses_are_completed_where_they_stand():
    line = b'To: "Bob, the" <bob> (at home),\r\n\tfriends: carol, dave@example.net;, =?utf-8?q?E?= <eve>\r\n'
    right = (
        b'To: "Bob, the" <bob@example.org> (at home),\r\n'
        b"\tfriends: carol@example.org, dave@example.net;, =?utf-8?q?E?= <eve@example.org>\r\n"
    )
    assert right in completed(line, Way.SUBMISSION)


def test_resent_fields_stand_together_on_top():
    after = completed(b"Resent-To: bob\r\nFrom: a\r\n", Way.SENDMAIL)
    names = [one.name for one in fields.read(after)]
    assert set(names[:4]) == {b"resent-to", b"resent-from", b"resent-date", b"resent-message-id"}


# --- what must not be taken ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", [way for way in Way if way is not Way.SMTP])
@pytest.mark.parametrize(
    ("header", "why"),
    [
        (b"From: a@x\r\nFrom: b@x\r\n", "more than one From"),
        (b"from: a@x\r\nSubject: x\r\nFROM : b@x\r\n", "more than one From"),
        (b"Sender: a@x\r\nSender: b@x\r\n", "more than one Sender"),
        (b"From: a@x\r\njust text\r\n", "line 2 "),
        (b"Subject: a\0b\r\n", "NUL"),
        (b"Subject: a\rBcc: b\r\n", "line 1 "),
        (b"Subject: " + b"x" * 100_000 + b"\r\n", "100000 bytes"),
        (b"To: " + b"a," * 40_000 + b"a\r\n", "100000 bytes"),
    ],
)
def test_what_must_not_be_taken(way, header, why):
    if way is Way.REPLAY and header.startswith(b"To: a,"):
        header = header + b"X: " + b"x" * 20_000 + b"\r\n"  # nothing is completed there, so it must be long by itself
    with pytest.raises(BadHeader, match=why):
        completed(header, way)


# --- whom a header names ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("header", "recipients"),
    [
        (b"To: bob\r\nCc: Carol <carol@Example.NET>\r\nBcc: bob@example.org, dave\r\n",
         ["bob@example.org", "carol@example.net", "dave@example.org"]),
        (b"To: bob\r\nResent-To: eve\r\nResent-Bcc: mallory\r\n", ["eve@example.org", "mallory@example.org"]),
        (b"To: undisclosed-recipients:;\r\n", []),
        (b"Subject: x\r\n", []),
        (b"To: postmaster, \"a b\"@example.net\r\n", ["postmaster@example.org", '"a b"@example.net']),
    ],
)  # fmt: skip
def test_recipients_are_read_from_the_header(header, recipients):
    assert HOME.recipients(header) == recipients


@pytest.mark.parametrize(
    "line",
    [
        b"To: Bob Dobbs\r\n",
        b"To: <bob\r\n",
        b"Bcc: a@b@c\r\n",
        b"Cc: bob@-\r\n",
        b'To: "a\r\n b"@x\r\n',
        b"To: \xff\r\n",
    ],
)
def test_a_recipient_that_is_none_is_told(line):
    with pytest.raises(BadHeader, match=r"^(To|Cc|Bcc) has an "):
        HOME.recipients(line)


@pytest.mark.parametrize(
    ("header", "author"),
    [
        (b"From: Bob <bob>\r\n", "bob@example.org"),
        (b"From: bob@x\r\nSender: alice@x\r\n", "bob@x"),
        (b"From: bob@x, carol@x\r\nSender: alice@x\r\n", "alice@x"),
        (b"Sender: alice@x\r\n", "alice@x"),
    ],
)
def test_the_author_is_from_or_sender(header, author):
    assert HOME.author(header) == author


@pytest.mark.parametrize(
    "header", [b"", b"From: a@x, b@x\r\n", b"From: a@x, b@x\r\nSender: c@x, d@x\r\n", b"From: :;\r\n"]
)
def test_without_one_author_there_is_none(header):
    with pytest.raises(BadHeader, match="Sender"):
        HOME.author(header)


ADDRESSY = [
    b"a",
    b"@x",
    b",",
    b"<",
    b">",
    b"(",
    b")",
    b'"',
    b":",
    b";",
    b"\r\n ",
    b"To: ",
    b"From: ",
    b"Bcc: ",
    b"\r\n",
    b" ",
]


@given(st.lists(st.sampled_from(ADDRESSY), max_size=20), st.sampled_from(Way))
def test_completing_twice_is_completing_once(pieces, way):
    header, _ = fields.split(b"".join(pieces))
    try:
        once = completed(header, way)
    except BadHeader:
        return
    assert completed(once, way) == once
