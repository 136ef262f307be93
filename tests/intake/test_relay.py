"""This server relays for clients that it trusts, and for nobody else: the classic tries, one row each."""

import pytest

from tests.intake.doors import Talk

OUTSIDE = "198.51.100.9"

# us.test is ours, v.test the victim's; sender, recipient.
TRIES = [
    ("<a@a.test>", "<v@v.test>"),
    ("<x@us.test>", "<v@v.test>"),
    ("<x@localhost>", "<v@v.test>"),
    ("<x>", "<v@v.test>"),
    ("<>", "<v@v.test>"),
    ("<x@[192.0.2.1]>", "<v@v.test>"),
    ("<a@a.test>", "<v%v.test@us.test>"),
    ("<a@a.test>", "<v%v.test@[192.0.2.1]>"),
    ("<a@a.test>", '<"v@v.test">'),
    ("<a@a.test>", '<"v%v.test">'),
    ("<a@a.test>", "<v@v.test@us.test>"),
    ("<a@a.test>", '<"v@v.test"@us.test>'),
    ("<a@a.test>", "<v@v.test@[192.0.2.1]>"),
    ("<a@a.test>", "<@us.test:v@v.test>"),
    ("<a@a.test>", "<@[192.0.2.1]:v@v.test>"),
    ("<a@a.test>", "<v.test!v>"),
    ("<a@a.test>", "<v.test!v@us.test>"),
    ("<a@a.test>", "<v.test!v@[192.0.2.1]>"),
    ("<a@a.test>", '<"v@v.test"@[192.0.2.1]>'),
    ("<a@a.test>", "<v@v.test.>"),
    ("<a@a.test>", "<v@V.TEST>"),
    ("<a@a.test>", "<v@[203.0.113.5]>"),
    ("<>", "<v@v.test>"),
    ("<a@a.test>", "<postmaster%v.test@us.test>"),
    ("<a@a.test>", "<postmaster@v.test>"),
    ("<a@a.test>", '<"v%v.test"@us.test>'),
    ("<a@a.test>", "<v@us.test@v.test>"),
    ("<a@a.test>", "<v@v.test,us.test>"),
    ("<a@a.test>", "<v@v.test us.test>"),
    ("<a@a.test>", "<v@us.test\\@v.test>"),
    ("<a@a.test>", "<v@v.test> ORCPT=rfc822;v@us.test"),
    ("<a@us.test>", "<@us.test,@us.test:v@v.test>"),
]


@pytest.mark.parametrize(("sender", "recipient"), TRIES)
@pytest.mark.parametrize("helo", ["EHLO mx.us.test", "HELO [127.0.0.1]"])
def test_an_outsider_cannot_relay(sender, recipient, helo):
    client = Talk(OUTSIDE)
    client.send(f"{helo}\r\n".encode())
    mail = client.codes(f"MAIL FROM:{sender}\r\n".encode())
    (code,) = client.codes(f"RCPT TO:{recipient}\r\n".encode())
    assert code >= 500
    assert (mail, code) != ([250], 503)
    assert client.codes(b"DATA\r\n") == [503]
    assert client.door.messages == []


@pytest.mark.parametrize("recipient", ["<bob@us.test>", "<bob@US.test>", "<postmaster>", "<postmaster@us.test>"])
def test_an_outsider_may_write_to_us(recipient):
    client = Talk(OUTSIDE, greeted=True)
    assert client.codes(b"MAIL FROM:<a@a.test>\r\n", f"RCPT TO:{recipient}\r\n".encode()) == [250, 250]


@pytest.mark.parametrize("ip", ["127.0.0.1", "127.9.9.9", "::1"])
def test_whom_we_trust_may_write_to_everybody(ip):
    client = Talk(ip, greeted=True)
    client.mail(b"x\r\n.\r\n", to=("v@v.test", "v%w.test@v.test", "bob@us.test"))
    assert len(client.door.messages) == 1


def test_not_even_those_we_trust_write_to_somebody_whom_we_do_not_have():
    client = Talk("127.0.0.1", greeted=True)
    assert client.codes(b"MAIL FROM:<a@a.test>\r\n", b"RCPT TO:<nobody@us.test>\r\n") == [250, 550]


def test_one_refused_recipient_does_not_take_the_others_along():
    client = Talk(OUTSIDE, greeted=True)
    codes = client.codes(b"MAIL FROM:<>\r\nRCPT TO:<v@v.test>\r\nRCPT TO:<bob@us.test>\r\nDATA\r\n", b"x\r\n.\r\n")
    assert codes == [250, 554, 250, 354, 250]
    (message,) = client.door.messages
    assert [one.address for one in message.head.recipients] == ["bob@us.test"]


@pytest.mark.parametrize(
    "verb", ["ETRN v.test", "TURN", "XCLIENT ADDR=127.0.0.1", "XFORWARD ADDR=127.0.0.1", "PROXY x"]
)
def test_nobody_makes_himself_another(verb):
    client = Talk(OUTSIDE, greeted=True)
    assert client.codes(f"{verb}\r\n".encode()) == [500]
    assert client.codes(b"MAIL FROM:<a@a.test>\r\n", b"RCPT TO:<v@v.test>\r\n") == [250, 554]
