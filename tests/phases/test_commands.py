"""MAIL and RCPT lines, and what is refused before a byte is sent."""

from typing import Any

import pytest

from kmq.model.envelope import Head, Recipient
from kmq.phases.commands import Offers, opening

ALL = Offers(pipelining=True, eight_bit=True, smtputf8=True, dsn=True, sized=True)


def head(*to: str, sender: str = "s@x.test", **more: Any) -> Head:
    recipients = [Recipient(address) for address in to or ("a@b.test",)]
    return Head(id="", sha256="", created="", sender=sender, size=100, **({"recipients": recipients} | more))


LINES = [
    (head(), Offers(), b"MAIL FROM:<s@x.test>\r\n", b"RCPT TO:<a@b.test>\r\n"),
    (head(), ALL, b"MAIL FROM:<s@x.test> SIZE=100\r\n", b"RCPT TO:<a@b.test>\r\n"),
    (head(sender=""), ALL, b"MAIL FROM:<> SIZE=100\r\n", b"RCPT TO:<a@b.test>\r\n"),
    (head(eight_bit=True), ALL, b"MAIL FROM:<s@x.test> SIZE=100 BODY=8BITMIME\r\n", b"RCPT TO:<a@b.test>\r\n"),
    (head(smtputf8=True), ALL, b"MAIL FROM:<s@x.test> SIZE=100 SMTPUTF8\r\n", b"RCPT TO:<a@b.test>\r\n"),
    (head(smtputf8=True), Offers(), b"MAIL FROM:<s@x.test>\r\n", b"RCPT TO:<a@b.test>\r\n"),  # all ASCII: not needed
    (head("ä@b.test"), ALL, b"MAIL FROM:<s@x.test> SIZE=100 SMTPUTF8\r\n", "RCPT TO:<ä@b.test>\r\n".encode()),
    (head('"a b"@b.test'), Offers(), b"MAIL FROM:<s@x.test>\r\n", b'RCPT TO:<"a b"@b.test>\r\n'),
    (
        head(recipients=[Recipient("a@b.test", "FAILURE,DELAY", "rfc822;A@b.test")], ret="HDRS", envid="Q+2B1"),
        ALL,
        b"MAIL FROM:<s@x.test> SIZE=100 RET=HDRS ENVID=Q+2B1\r\n",
        b"RCPT TO:<a@b.test> NOTIFY=FAILURE,DELAY ORCPT=rfc822;A@b.test\r\n",
    ),
    (
        head(recipients=[Recipient("a@b.test", "NEVER", "rfc822;A@b.test")], ret="HDRS", envid="Q"),
        Offers(),  # offers no DSN: RFC 3461 5.2.2 keeps the parameters at home
        b"MAIL FROM:<s@x.test>\r\n",
        b"RCPT TO:<a@b.test>\r\n",
    ),
    (
        head(recipients=[Recipient("a@b.test", "", "utf-8;ж+@b.test")], smtputf8=True),
        ALL,
        b"MAIL FROM:<s@x.test> SIZE=100 SMTPUTF8\r\n",
        "RCPT TO:<a@b.test> ORCPT=utf-8;ж+@b.test\r\n".encode(),
    ),
    (
        head(recipients=[Recipient("a@b.test", "", "utf-8;ж+@b.test")], smtputf8=True),
        Offers(dsn=True),  # offers no SMTPUTF8: RFC 6533 3 has a form for it
        b"MAIL FROM:<s@x.test>\r\n",
        b"RCPT TO:<a@b.test> ORCPT=utf-8;\\x{436}\\x{2B}@b.test\r\n",
    ),
    (
        head(recipients=[Recipient("a@b.test", "", "utf-8;ж@b.test")]),
        ALL._replace(sized=False),  # an alias of mail that came as ASCII goes on so
        b"MAIL FROM:<s@x.test>\r\n",
        b"RCPT TO:<a@b.test> ORCPT=utf-8;\\x{436}@b.test\r\n",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("message", "offers", "mail", "rcpt"), LINES)
def test_lines(message: Head, offers: Offers, mail: bytes, rcpt: bytes) -> None:
    assert opening(message, [0], offers) == (mail, [(0, rcpt)], [])


REFUSED = [
    (head(), Offers(size=99), 552, "5.3.4"),
    (head(eight_bit=True), Offers(), 554, "5.6.3"),
    (head(eight_bit=True, smtputf8=True), Offers(eight_bit=True), 554, "5.6.7"),
    (head(sender="ü@x.test"), Offers(), 554, "5.6.7"),
    (head("ü@x.test"), Offers(), 553, "5.6.7"),
    (head(sender="no address"), ALL, 553, "5.1.7"),
    (head(sender="a@b>\r\nRCPT TO:<victim@x.test"), ALL, 553, "5.1.7"),
    (head("a@b\r\nDATA"), ALL, 553, "5.1.3"),
    (head("a\0@b.test"), ALL, 553, "5.1.3"),
    (head("a\x1b@b.test"), ALL, 553, "5.1.3"),
    (head("<a@b.test>"), ALL, 553, "5.1.3"),
    (head("a@b.test> NOTIFY=NEVER"), ALL, 553, "5.1.3"),
    (head('"a\r\n"@b.test'), ALL, 553, "5.1.3"),
    (head("a@b.test\u2028"), ALL, 553, "5.1.3"),
    (head("\ud800@b.test"), ALL, 553, "5.1.3"),
]


@pytest.mark.parametrize(("message", "offers", "code", "enhanced"), REFUSED)
def test_what_cannot_be_sent_is_refused_here(message: Head, offers: Offers, code: int, enhanced: str) -> None:
    _, rcpt, refused = opening(message, [0], offers)
    assert rcpt == []
    ((index, reply),) = refused
    assert (index, reply.code, reply.enhanced) == (0, code, enhanced)


def test_a_limit_of_zero_is_none() -> None:
    assert opening(head(), [0], Offers(sized=True, size=0)).refused == []
    assert opening(head(), [0], Offers(sized=True, size=100)).refused == []


def test_one_bad_recipient_does_not_stop_the_others() -> None:
    mail, rcpt, refused = opening(head("a@b.test", "bad", "ü@b.test", "c@b.test"), [0, 1, 2, 3], Offers())
    assert mail
    assert [index for index, _ in rcpt] == [0, 3]
    assert [(index, reply.enhanced) for index, reply in refused] == [(1, "5.1.3"), (2, "5.6.7")]


@pytest.mark.parametrize("text", ["a b", "a\r\nRCPT TO:<x@y>", "a\0", "\x1b"])
def test_a_parameter_that_could_break_the_line_is_left_out(text: str) -> None:
    message = head(recipients=[Recipient("a@b.test", notify=text, orcpt=text)], ret=text, envid=text)
    mail, rcpt, _ = opening(message, [0], ALL)
    assert mail == b"MAIL FROM:<s@x.test> SIZE=100\r\n"
    assert rcpt == [(0, b"RCPT TO:<a@b.test>\r\n")]
