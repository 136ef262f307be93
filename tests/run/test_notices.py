"""Notices, read back by a program that knows nothing of ours: Python's email package."""

import random
from email import policy
from email.message import EmailMessage
from email.parser import BytesParser
from typing import Any

import pytest

from kmq.config.sections import QueueSection
from kmq.model import envelope, moment
from kmq.model.envelope import Head, Recipient, Source
from kmq.run.notice import Action, Letter, Office, Told
from kmq.run.notice_parts import HEADER_LIMIT
from kmq.run.notices import Notice, compose
from kmq.run.schedule import Schedules

NOW = 1795413600.0
ID = "69212ad0-0000a1f3"
HEADER = b"Received: from a\r\n\tby b\r\nFrom: s@x.test\r\nSubject: hello\r\n"
BODY = HEADER + b"\r\nthe text is not returned\r\n"


def head(*to: str | Recipient, sender: str = "s@x.test", **more: Any) -> Head:
    recipients = [one if isinstance(one, Recipient) else Recipient(one) for one in to or ("a@b.test",)]
    created = "2026-11-22T05:50:11.123Z"
    return Head(id=ID, sha256="", created=created, sender=sender, recipients=recipients, size=1, **more)


OFFICE = Office("mx.here.test", "postmaster@here.test", 50_000, "postmaster", Schedules(QueueSection()))

#: (index of the recipient, reply, host that gave it or "")
Failure = tuple[int, str, str]


def noticed(message: Head, failures: list[Failure], body: bytes = BODY, now: float = NOW) -> Notice | None:
    """The notice about recipients that failed."""
    told = [Told(index, said, host, Action.FAILED) for index, said, host in failures]
    return compose(Letter(message, body), told, OFFICE, now)


def made(message: Head, failures: list[Failure], body: bytes = BODY) -> tuple[Notice, EmailMessage]:
    notice = noticed(message, failures, body)
    assert notice is not None
    return notice, read(notice)


def read(notice: Notice) -> EmailMessage:
    """As the sender's programs read it."""
    parsed = BytesParser(policy=policy.default).parsebytes(notice.body)
    assert isinstance(parsed, EmailMessage)
    assert not parsed.defects
    return parsed


def parts(parsed: EmailMessage) -> tuple[EmailMessage, EmailMessage, EmailMessage]:
    first, second, third = parsed.iter_parts()
    assert isinstance(first, EmailMessage)
    assert isinstance(second, EmailMessage)
    assert isinstance(third, EmailMessage)
    return first, second, third


def fields(parsed: EmailMessage) -> list[dict[str, str]]:
    """The groups of fields of the machine's part: of the message, then of each recipient."""
    groups = parts(parsed)[1].get_payload()
    assert isinstance(groups, list)
    return [dict(group.items()) for group in groups]  # type: ignore[union-attr]


def read_head(notice: Notice) -> Head:
    """As the queue will read it."""
    found = envelope.read_head(envelope.head_line("69212ad1-0000a1f4", "ab", notice.tail))
    assert found is not None
    return found


def test_a_notice_is_a_report_that_programs_read() -> None:
    _, parsed = made(head(), [(0, "550 5.1.1 no such user", "mx.b.test[192.0.2.1]:25")])
    assert parsed.get_content_type() == "multipart/report"
    assert parsed.get_param("report-type") == "delivery-status"
    assert [part.get_content_type() for part in parts(parsed)] == [
        "text/plain",
        "message/delivery-status",
        "text/rfc822-headers",
    ]
    assert fields(parsed) == [
        {"Reporting-MTA": "dns; mx.here.test", "Arrival-Date": "Sun, 22 Nov 2026 05:50:11 -0000"},
        {
            "Final-Recipient": "rfc822; a@b.test",
            "Action": "failed",
            "Status": "5.1.1",
            "Remote-MTA": "dns; mx.b.test",
            "Diagnostic-Code": "smtp; 550 5.1.1 no such user",
        },
    ]


def test_nobody_answers_it() -> None:
    """RFC 5321 6.1, RFC 3834: from nobody, and marked as no person's mail."""
    notice, parsed = made(head(), [(0, "550 no", "")])
    assert read_head(notice).sender == ""
    assert parsed["Auto-Submitted"] == "auto-replied"
    assert parsed["To"] == "s@x.test"
    assert str(parsed["From"]).endswith("<MAILER-DAEMON@mx.here.test>")
    assert noticed(head(sender=""), [(0, "550 no", "")]) is None


def test_the_head_says_where_it_comes_from() -> None:
    notice, _ = made(head(), [(0, "550 no", "")])
    found = read_head(notice)
    assert [recipient.address for recipient in found.recipients] == ["s@x.test"]
    assert (found.source, found.parent) == (Source(how="dsn"), ID)
    assert found.created == "2026-11-23T06:00:00.000Z"
    assert found.size == len(notice.body)
    assert found.longest == max(len(line) for line in notice.body.split(b"\r\n"))
    assert not found.eight_bit
    assert not found.smtputf8


def test_its_own_id_is_its_message_id() -> None:
    notice, _ = made(head(), [(0, "550 no", "")])
    _, body, stamp = notice
    stamped = body[:stamp] + b"69212ad1-0000a1f4" + body[stamp + 17 :]
    parsed = BytesParser(policy=policy.default).parsebytes(stamped)
    assert parsed["Message-ID"] == "<69212ad1-0000a1f4@mx.here.test>"
    assert len(stamped) == len(body)


def test_people_read_what_happened_and_what_they_can_do() -> None:
    message = head("a@b.test", "full@b.test")
    said = [(0, "550 5.1.1 no such user", "mx.b.test[192.0.2.1]:25"), (1, "552 5.2.2 over quota", "")]
    text = parts(made(message, said)[1])[0].get_content()
    words = " ".join(text.split())
    assert "mail server mx.here.test" in words
    assert "2026-11-22 05:50 UTC" in words
    assert "<a@b.test> The server mx.b.test[192.0.2.1]:25 answered: 550 5.1.1 no such user" in words
    assert "<full@b.test> Our own server says: 552 5.2.2 over quota" in words
    assert "What you can do: Check the address for spelling mistakes" in words
    assert "the mailbox is full" in words
    assert ID in words


def test_only_the_failed_are_named() -> None:
    _, parsed = made(head("a@b.test", "b@b.test", "c@b.test"), [(2, "550 no", ""), (0, "551 no", "")])
    assert [group["Final-Recipient"] for group in fields(parsed)[1:]] == ["rfc822; c@b.test", "rfc822; a@b.test"]
    assert b"<b@b.test>" not in parsed.as_bytes()


# --- RFC 3461 ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("notify", "told"),
    [
        ("", True),
        ("NEVER", False),
        ("FAILURE", True),
        ("failure,DELAY", True),
        ("SUCCESS", False),
        ("SUCCESS,DELAY", False),
    ],
)
def test_notify(notify: str, told: bool) -> None:
    found = noticed(head(Recipient("a@b.test", notify=notify)), [(0, "550 no", "")])
    assert (found is not None) == told


def test_the_others_are_told_of() -> None:
    message = head(Recipient("a@b.test", notify="NEVER"), "b@b.test")
    _, parsed = made(message, [(0, "550 no", ""), (1, "550 no", "")])
    assert [group["Final-Recipient"] for group in fields(parsed)[1:]] == ["rfc822; b@b.test"]
    assert b"a@b.test" not in parsed.as_bytes()


def test_envid_and_orcpt_come_back_decoded() -> None:
    message = head(
        Recipient("a@b.test", orcpt="rfc822;A+2Btag@b.test"), envid="QQ+2B7", source=Source(helo="client.test")
    )
    group, found = fields(made(message, [(0, "550 no", "")])[1])
    assert group["Original-Envelope-Id"] == "QQ+7"
    assert group["Received-From-MTA"] == "dns; client.test"
    assert found["Original-Recipient"] == "rfc822; A+tag@b.test"


@pytest.mark.parametrize("xtext", ["a+0D+0AEvil: 1", "a+0AEvil: 1", "+00", "+1b[2J", "+ZZ", "+", "+F"])
def test_encoded_control_characters_reach_no_header(xtext: str) -> None:
    message = head(Recipient("a@b.test", orcpt=f"rfc822;{xtext}"), envid=xtext)
    notice, parsed = made(message, [(0, "550 no", "")])
    assert "Evil" not in fields(parsed)[0]
    assert "Evil" not in fields(parsed)[1]
    assert not set(notice.body) & (set(range(32)) - set(b"\t\r\n"))


# --- what others wrote ------------------------------------------------------------------------------------------------


def test_replies_of_any_kind_stay_text() -> None:
    said = "550 5.7.1 gr\u00fc\u00dfe \u202e\x1b[2J" + " long" * 300
    notice, parsed = made(head(), [(0, said, "mx.b.test[192.0.2.1]:25")])
    code = fields(parsed)[1]["Diagnostic-Code"]
    assert code.startswith("smtp; 550 5.7.1 gr\\x{FC}\\x{DF}e \\x{202E}\\x{1B}[2J long long")
    assert notice.body.isascii()
    assert "grüße" in parts(parsed)[0].get_content()


def test_a_temporary_reply_at_the_end_of_the_lifetime_is_a_failure() -> None:
    _, parsed = made(head(), [(0, "451 4.4.1 connect to x: refused", "")])
    assert fields(parsed)[1]["Status"] == "5.4.1"
    _, parsed = made(head(), [(0, "550 without a code", "x[1]:25")])
    assert fields(parsed)[1]["Status"] == "5.0.0"
    _, parsed = made(head(), [(0, "nonsense", "")])
    assert fields(parsed)[1]["Status"].startswith("5.")


def test_an_international_recipient() -> None:
    notice, parsed = made(head("пример@b.test", smtputf8=True), [(0, "553 5.6.7 no SMTPUTF8", "")])
    found = fields(parsed)[1]["Final-Recipient"]
    assert found == "utf-8; \\x{43F}\\x{440}\\x{438}\\x{43C}\\x{435}\\x{440}@b.test"
    assert "<пример@b.test>" in parts(parsed)[0].get_content()
    assert not read_head(notice).smtputf8, "it goes to a sender with an ordinary address"


def test_the_first_address_of_an_international_recipient_comes_back_in_either_form() -> None:
    """RFC 6533 3 and 4: as it is where UTF-8 can go, else in ASCII; what was typed rfc822 stays xtext."""
    to = Recipient("пример@b.test", orcpt="utf-8;п\\x{2B}\\x{436}@a.test")
    for sender, original, final in (
        (
            "s@x.test",
            "utf-8; \\x{43F}\\x{2B}\\x{436}@a.test",
            "utf-8; \\x{43F}\\x{440}\\x{438}\\x{43C}\\x{435}\\x{440}@b.test",
        ),
        ("ñ@x.test", "utf-8; п+ж@a.test", "utf-8; пример@b.test"),
    ):
        notice = noticed(head(to, sender=sender, smtputf8=True), [(0, "550 no", "")])
        assert notice is not None
        assert f"Original-Recipient: {original}\r\nFinal-Recipient: {final}\r\n".encode() in notice.body


def test_a_quoted_international_recipient_is_one_word_for_programs() -> None:
    to = '"ж \\\\ ü=+"@b.test'
    found = fields(made(head(to, smtputf8=True), [(0, "550 no", "")])[1])[1]["Final-Recipient"]
    assert found == 'utf-8; "\\x{436}\\x{20}\\x{5C}\\x{5C}\\x{20}\\x{FC}\\x{3D}\\x{2B}"@b.test'


def test_an_international_sender() -> None:
    notice, _ = made(head(sender="отправитель@x.test", smtputf8=True), [(0, "550 no", "")])
    found = read_head(notice)
    assert found.smtputf8
    assert found.eight_bit
    assert "To: <отправитель@x.test>\r\n".encode() in notice.body


def test_a_sender_that_would_break_the_header() -> None:
    for sender in ("a@b\r\nBcc: victim@x.test", "a@b>, <victim@x.test", "no address", "\ud800@x"):
        assert noticed(head(sender=sender), [(0, "550 no", "")]) is None


# --- the header of the message ----------------------------------------------------------------------------------------


def test_the_header_comes_back_and_the_text_does_not() -> None:
    notice, parsed = made(head(), [(0, "550 no", "")])
    assert parts(parsed)[2].get_content().replace("\r\n", "\n") == HEADER.decode().replace("\r\n", "\n")
    assert b"the text is not returned" not in notice.body


@pytest.mark.parametrize(
    "header",
    [
        b"",
        b"Subject: x",
        "Subject: Grüße\r\nX: ü\r\n".encode(),
        b"Subject: \xff\xfe\x00\x01\r\n",
        b"X: " + b"y" * 3000 + b"\r\n",
        b"X: a=b \r\nY:\t\r\n",
        b".\r\n..\r\n.X: y\r\n",
        b"--kmq-69212ad0-0000a1f3x\r\nX: y\r\n",
        b"From " * 5000,
        b"X:" + b"\r\n " * 30_000,
    ],
)
def test_any_header_comes_back_as_it_was(header: bytes) -> None:
    notice, parsed = made(head(), [(0, "550 no", "")], header + b"\r\n\r\ntext")
    body = notice.body
    assert body.isascii()
    assert b"\0" not in body
    assert b"\n" not in body.replace(b"\r\n", b"")
    assert max(len(line) for line in body.split(b"\r\n")) <= 998
    assert len(body) < 4 * HEADER_LIMIT
    found = parts(parsed)[2].get_payload(decode=True)
    assert isinstance(found, bytes)
    kept = header.partition(b"\r\n\r\n")[0][:HEADER_LIMIT]
    assert found.replace(b"\r\n", b"\n").startswith(kept.replace(b"\r\n", b"\n")[: HEADER_LIMIT // 3])
    assert read_head(notice).dots == (body.startswith(b".") or b"\r\n." in body)


def test_a_large_header_is_cut_at_a_line() -> None:
    lines = b"".join(b"X-Line-%05d: some text\r\n" % n for n in range(5000))
    _, parsed = made(head(), [(0, "550 no", "")], lines)
    text = parts(parsed)[2].get_content()
    assert HEADER_LIMIT - 100 < len(text) <= HEADER_LIMIT + 2
    assert all(line.endswith(": some text") for line in text.splitlines())


def test_whatever_the_envelope_holds_the_notice_is_mail() -> None:
    chance = random.Random(3464)
    signs = [
        "a",
        "@",
        ".",
        " ",
        "\r\n",
        "\0",
        "ü",
        "\u202e",
        "<",
        ">",
        '"',
        ";",
        "+0A",
        ":",
        "=",
        "\t",
        "-" * 80,
        "\ud800",
    ]

    def any_text() -> str:
        return "".join(chance.choices(signs, k=chance.randrange(30)))

    for _ in range(400):
        to = [Recipient(any_text(), orcpt=any_text(), notify="") for _ in range(chance.randrange(1, 4))]
        message = head(*to, envid=any_text(), source=Source(helo=any_text()))
        said = [(index, f"550 {any_text()}", any_text()) for index in range(len(to))]
        header = any_text().encode("utf-8", "replace")
        notice, parsed = made(message, said, header)
        assert notice.body.isascii()
        assert not set(notice.body) & (set(range(32)) - set(b"\t\r\n")) - {0x7F}
        assert len(fields(parsed)) == 1 + len(to)
        assert {group["Action"] for group in fields(parsed)[1:]} == {"failed"}


# --- given up, and loops ----------------------------------------------------------------------------------------------


def expired(said: str, seconds: float) -> EmailMessage:
    now = moment.from_text(head().created) + seconds
    notice = compose(Letter(head(), BODY), [Told(0, said, "", Action.FAILED, given_up=True)], OFFICE, now)
    assert notice is not None
    return read(notice)


@pytest.mark.parametrize(
    ("seconds", "span"),
    [(5 * 86400 + 60, "5 days"), (47 * 3600, "47 hours"), (7300, "2 hours"), (600, "10 minutes"), (3, "1 minute")],
)
def test_mail_whose_time_is_over_is_told_as_given_up(seconds: float, span: str) -> None:
    parsed = expired("451 4.4.1 connect to mx.b.test: Connection refused", seconds)
    words = " ".join(parts(parsed)[0].get_content().split())
    assert f"We tried for {span} and gave up. The last answer was: 451 4.4.1 connect to mx.b.test" in words
    assert "could not be delivered for as long as we tried" in words
    (_, recipient) = fields(parsed)
    assert (recipient["Action"], recipient["Status"]) == ("failed", "5.4.7")
    assert recipient["Diagnostic-Code"] == "X-kmq; 451 4.4.1 connect to mx.b.test: Connection refused"


def test_a_mailbox_that_stayed_full_is_called_full() -> None:
    words = " ".join(parts(expired("452 4.2.2 the mailbox is full", 5 * 86400))[0].get_content().split())
    assert "the mailbox is full." in words and "Send it again later" not in words


@pytest.mark.parametrize(("host", "blamed"), [("mx.b.test", True), ("", False)])
def test_no_server_there_is_blamed_for_our_own_rules(host: str, blamed: bool) -> None:
    _, parsed = made(head(), [(0, "550 5.7.1 Please use the file server", host)])
    words = " ".join(parts(parsed)[0].get_content().split())
    assert ("the server there refused" in words) is blamed
    assert ("Read the answer above" in words) is not blamed


@pytest.mark.parametrize("said", ["554 5.4.6 Too many hops", "554 5.4.0 Error: too many hops", "550 5.4.6 loops back"])
def test_a_loop_is_called_a_loop(said: str) -> None:
    _, parsed = made(head(), [(0, said, "mx.b.test")])
    assert "mail loop" in " ".join(parts(parsed)[0].get_content().split())


def test_a_notice_is_no_more_urgent_than_ordinary_mail() -> None:
    """Nobody waits for the notice about a newsletter; that about an urgent message goes like any other."""
    for word, inherited in (("low", "low"), ("", ""), ("high", "")):
        notice = noticed(head(priority=word), [(0, "550 5.1.1 no", "mx")])
        assert notice is not None
        assert read_head(notice).priority == inherited
