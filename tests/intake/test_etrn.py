"""ETRN in the session: who hears of it, what is asked, and when (RFC 1985)."""

from ipaddress import ip_network

import pytest

from kmq.intake.etrn import node_of
from kmq.model.reply import Reply
from tests.intake.doors import Talk, receiver

SITE = "192.0.2.7"


def talk(ip: str = SITE, **options) -> Talk:
    section = receiver(etrn_from=(ip_network("192.0.2.0/29"), ip_network("2001:db8::/32")), **options)
    return Talk(ip=ip, section=section, greeted=True)


@pytest.mark.parametrize(
    ("argument", "node"),
    [
        (b"branch.example", "branch.example"),
        (b"  Branch.Example ", "branch.example"),
        (b"@branch.example", "@branch.example"),
        (b"#branch", "#branch"),
        (b"#mail.branch.example:25", "#mail.branch.example:25"),
        (b"", ""),
        (b"@", ""),
        (b"#", ""),
        (b"localhost", ""),
        (b"branch.example.", ""),
        (b"a b.example", ""),
        (b"#a b", ""),
        (b"-.example/../x", ""),
        (b"branch..example", ""),
        (b"#" + b"x" * 256, ""),
        (b"x." * 150 + b"example", ""),
        (b"b\xc3\xbccher.example", ""),
        (b"#\x1b[2J", ""),
        (b"*.example", ""),
    ],
)
def test_what_is_asked_for(argument: bytes, node: str) -> None:
    assert node_of(argument) == node


def test_a_stranger_does_not_hear_of_it() -> None:
    """Row 26 of the relay list: for him the command is unknown, whenever he says it."""
    stranger = talk("198.51.100.9")
    assert not any("ETRN" in line for line in stranger.send(b"EHLO c.test\r\n"))
    assert stranger.codes(b"ETRN branch.example\r\n") == [500]
    assert stranger.codes(b"MAIL FROM:<>\r\n", b"ETRN branch.example\r\n") == [250, 500]
    assert stranger.door.asked == []


def test_nobody_may_by_default() -> None:
    client = Talk(ip="127.0.0.1", greeted=True)
    assert client.codes(b"ETRN branch.example\r\n") == [500]


@pytest.mark.parametrize("ip", [SITE, "2001:db8::9"])
def test_who_may_is_told_so_and_asks(ip: str) -> None:
    client = talk(ip)
    offers = client.send(b"EHLO c.test\r\n")
    assert "250-ETRN" in offers
    assert offers[-1].startswith("250 ")
    client.door.etrned = Reply(253, "2.0.0", "OK, 3 pending messages for node branch.example started")
    said = client.send(b"etrn branch.example\r\n")
    assert said == ["253 2.0.0 OK, 3 pending messages for node branch.example started"]
    assert client.door.asked == ["branch.example"]
    (note,) = [one for one in client.notes if one.event == "etrn"]
    assert note.keys["node"] == "branch.example"
    assert note.keys["client"] == ip
    assert str(note.keys["reply"]).startswith("253 ")


def test_helo_is_enough() -> None:
    client = Talk(ip=SITE, section=talk().section)
    assert client.codes(b"HELO c.test\r\n", b"ETRN branch.example\r\n") == [250, 250]


def test_it_has_its_place() -> None:
    """RFC 1985 5.2: not before EHLO, and not within a transaction."""
    early = Talk(ip=SITE, section=talk().section)
    assert early.codes(b"ETRN branch.example\r\n") == [503]
    client = talk()
    assert client.codes(b"MAIL FROM:<a@b.test>\r\n", b"ETRN branch.example\r\n", b"RSET\r\n") == [250, 503, 250]
    assert client.codes(b"ETRN branch.example\r\n") == [250]


def test_what_nobody_can_be_meant_by_is_an_error() -> None:
    client = talk()
    assert client.codes(b"ETRN\r\n", b"ETRN ../../etc\r\n", b"ETRN a b\r\n") == [501, 501, 501]
    assert client.door.asked == []


def test_the_client_waits_for_its_answer_and_goes_on_after_it() -> None:
    client = talk()
    client.door.slow = True
    assert client.send(b"ETRN branch.example\r\nNOOP\r\n") == []
    assert client.session.waiting
    client.door.slow = False
    client.door.open_up()
    assert [line[:3] for line in client.said.decode().splitlines()[-2:]] == ["250", "250"]
    assert not client.session.waiting
    assert client.mail(b"Subject: x\r\n\r\nx\r\n.\r\n")[0].startswith("250")


def test_who_has_gone_hears_nothing() -> None:
    client = talk()
    client.door.slow = True
    client.send(b"ETRN branch.example\r\n")
    client.perform(client.session.gone())
    said = client.said
    client.door.open_up()
    assert client.said == said
    assert [one.event for one in client.notes] == ["etrn"]


def test_asking_without_end_ends_the_session() -> None:
    client = talk(command_limit=4)  # of which EHLO is one
    for _ in range(3):
        assert client.codes(b"ETRN branch.example\r\n") == [250]
    assert client.codes(b"ETRN branch.example\r\n") == [421]


def test_a_hostile_answer_is_one_line() -> None:
    client = talk()
    client.door.etrned = Reply(459, "4.7.1", "no\r\n250 ok")
    assert client.send(b"ETRN branch.example\r\n") == ["459 4.7.1 no??250 ok"]
