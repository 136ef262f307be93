"""Files of the Replay directory: the envelope in X-headers, and what may not hide among them."""

import pytest

from kmq.config.drop import ReplaySection
from kmq.intake.completion import Completion
from kmq.intake.dropped import BadFile, Letter
from kmq.intake.replay import Replay
from kmq.model import fields
from kmq.model.envelope import Recipient

NOW = 1_790_000_000.0
LEAST = "X-Sender: <a@x>\nX-Receiver: <b@x>\n"


def letter(header: str) -> Letter:
    replay = Replay(ReplaySection(directory="/x"), Completion("mx.us.test", "us.test"))
    return replay.read(header.encode("utf-8", "surrogateescape").replace(b"\n", b"\r\n"), "root", NOW)


def names(found: Letter) -> list[str]:
    return [one.name.decode() for one in fields.read(found.header)]


def test_the_example_of_exchange_s_manual() -> None:
    found = letter(
        "X-Receiver: <mary@contoso.com> NOTIFY=NEVER ORcpt=mary@contoso.com\n"
        "X-Receiver: <john@contoso.com> NOTIFY=DELAY\n"
        "X-Sender: <bob@fabrikam.com> BODY=7bit RET=HDRS ENVID=12345ABCD auth=<someAuth>\n"
        "Subject: Optional message subject\n"
    )
    assert (found.sender.address, found.sender.ret, found.sender.envid) == ("bob@fabrikam.com", "HDRS", "12345ABCD")
    assert found.recipients == [
        Recipient("mary@contoso.com", "NEVER", "rfc822;mary@contoso.com"),
        Recipient("john@contoso.com", "DELAY"),
    ]
    assert names(found) == ["subject", "date", "message-id"], "the block is no part of the message"


def test_the_header_s_own_addresses_mean_nothing() -> None:
    found = letter(LEAST + "From: other@y\nTo: third@y\nBcc: secret@y\nReceived: kept\nResent-To: kept@y\n")
    assert (found.sender.address, [one.address for one in found.recipients]) == ("a@x", ["b@x"])
    assert names(found) == ["from", "to", "received", "resent-to", "date", "message-id"]


def test_all_that_a_block_may_say() -> None:
    found = letter(
        "X-CreatedBy: Notes\nX-HeloDomain: mail.fabrikam.com\nX-SourceIPAddress: 192.0.2.7\nX-Source: Gateway\n"
        "X-ExtendedMessageProps: bm90aGluZw==\n" + LEAST + "X-EndOfInjectedXHeaders: 250\nX-Mailer: own\nSubject: s\n"
    )
    source = found.source
    assert (source.how, source.user, source.created_by) == ("replay", "root", "Notes")
    assert (source.helo, source.ip, source.receiver) == ("mail.fabrikam.com", "192.0.2.7", "Gateway")
    assert names(found)[:2] == ["x-mailer", "subject"]
    assert found.origin.startswith(b"Received: from mail.fabrikam.com ([192.0.2.7])\r\n\tby mx.us.test (kmq Replay)")


def test_behind_the_end_of_the_block_even_its_names_are_ordinary() -> None:
    """A message that was exported may have an X-Sender of its own."""
    found = letter(LEAST + "X-EndOfInjectedXHeaders: 0\nX-Sender: its own\nX-Receiver: too\n")
    assert names(found)[:2] == ["x-sender", "x-receiver"]
    assert len(found.recipients) == 1


@pytest.mark.parametrize(("ip", "seen"), [("0.0.0.0", ""), ("2001:DB8::1", "2001:db8::1"), ("", "")])
def test_where_no_server_is_known(ip: str, seen: str) -> None:
    assert letter(f"X-SourceIPAddress: {ip}\n" + LEAST).source.ip == seen


def test_a_notice_is_replayed_with_the_null_sender() -> None:
    assert letter("X-Sender: <>\nX-Receiver: <b@x>\n").sender.address == ""


def test_addresses_beyond_ascii_need_no_parameter() -> None:
    found = letter("X-Sender: <\u00fc@x>\nX-Receiver: <\u00f6@\u00e4.example>\n")
    assert found.sender.utf8 and found.recipients[0].address == "\u00f6@\u00e4.example"


def test_a_recipient_named_twice_gets_it_once() -> None:
    assert len(letter(LEAST + "X-Receiver: <b@X>\n").recipients) == 1


def test_a_quoted_address_is_not_taken_apart() -> None:
    found = letter('X-Sender: <"a> AUTH=x y"@x> AUTH=<>\nX-Receiver: <"c> ORCPT=d"@x>\n')
    assert found.sender.address == '"a> AUTH=x y"@x'
    assert found.recipients[0].address == '"c> ORCPT=d"@x'


BAD = [
    ("X-Receiver: <b@x>\n", "no X-Sender"),
    ("X-Sender: <a@x>\n", "no X-Receiver"),
    (LEAST + "X-Sender: <c@x>\n", "more than one X-Sender"),
    (LEAST + "X-Mailer: x\n", "X-Mailer is none of the X-headers that come first"),
    ("X-Mailer: x\n" + LEAST, "X-Mailer is none of"),
    ("Subject: s\n" + LEAST, "X-Sender stands behind other fields"),
    ("X-Sender: <a@x>\nSubject: s\nX-Receiver: <b@x>\n", "X-Receiver stands behind other fields"),
    ("Subject: s\n" + LEAST + "X-EndOfInjectedXHeaders: 3\n", "Subject is none of the X-headers"),
    ("X-Sender: a@x\nX-Receiver: <b@x>\n", "X-Sender cannot be used"),
    ("X-Sender: <a@x> FOO=1\nX-Receiver: <b@x>\n", "X-Sender cannot be used: Parameter not recognized"),
    ("X-Sender: <a@x> RET=ALL\nX-Receiver: <b@x>\n", "X-Sender cannot be used: Bad parameter"),
    ("X-Sender: <a@x> ENVID=a+0D+0A\nX-Receiver: <b@x>\n", "X-Sender cannot be used"),
    ("X-Sender: <a@x> BODY=BINARYMIME\nX-Receiver: <b@x>\n", "X-Sender cannot be used"),
    ("X-Sender: <a@x>\nX-Receiver: <>\n", "X-Receiver cannot be used"),
    ("X-Sender: <a@x>\nX-Receiver: <b@x> NOTIFY=SOON\n", "X-Receiver cannot be used"),
    ("X-Sender: <a@x>\nX-Receiver: <b@x> NOTIFY=NEVER NOTIFY=NEVER\n", "X-Receiver cannot be used"),
    ("X-Sender: <a@x>\nX-Receiver: <b@x>, <c@x>\n", "X-Receiver cannot be used"),
    ('X-Sender: <a@x>\nX-Receiver: <"b\x01"@x>\n', "X-Receiver cannot be used"),
    ("X-CreatedBy:\n" + LEAST, "X-CreatedBy is empty"),
    ("X-EndOfInjectedXHeaders: many\n", "no X-Sender"),
    (LEAST + "X-EndOfInjectedXHeaders: many\n", "X-EndOfInjectedXHeaders is no number"),
    ("X-SourceIPAddress: localhost\n" + LEAST, "X-SourceIPAddress is no IP address"),
    ("X-HeloDomain: a\x1b[2J\n" + LEAST, "X-HeloDomain is longer than 255 bytes, or has control characters"),
    ("X-Source: " + "x" * 300 + "\n" + LEAST, "X-Source is longer"),
    ("nonsense\n" + LEAST, "line 1 of the header is no field"),
    (LEAST + "From: a@x\nFrom: b@x\n", "more than one From"),
]


@pytest.mark.parametrize(("header", "why"), BAD)
def test_a_bad_file_says_why(header: str, why: str) -> None:
    with pytest.raises(BadFile, match=f"(?i){why}"):
        letter(header)
