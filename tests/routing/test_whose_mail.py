"""Connectors by address space, then by whose mail it is, then by cost; DNS connectors; addresses in brackets."""

import socket
from pathlib import Path

import pytest

from kmq.config import Settings, read
from kmq.errors import ConfigError
from kmq.model.envelope import Head, Recipient, Source
from kmq.model.hop import DeliveryType, NextHop
from kmq.routing import table
from kmq.routing.table import Route, Routes

TEXT = """
[kmq]
hostname = mx.us.example
local_domains = us.example

[in : receiver]
listen = 127.0.0.1:2525

[boxes : connector]
type = mailbox
maildir = /m/{user}
users = *

[general : connector]
type = dns
address_spaces = *

[partner : connector]
type = smarthost
hosts = partner
address_spaces = partner.example

[cheap : connector]
type = smarthost
hosts = cheap
address_spaces = *
cost = 9

[campaign : connector]
type = smarthost
hosts = campaign
address_spaces = *
senders = news.example, *.lists.example, <>

[boss : connector]
type = smarthost
hosts = boss
address_spaces = *
senders = Boss@news.example

[office : connector]
type = smarthost
hosts = office
address_spaces = *
clients = 10.0.0.0/8, 2001:db8::/32

[officenews : connector]
type = smarthost
hosts = officenews
address_spaces = *
clients = 10.0.0.0/8
senders = news.example
cost = 50

[scripts : connector]
type = smarthost
hosts = scripts
address_spaces = *.example, *
authenticated_users = www-data, 1004
"""


def settings(text: str = TEXT) -> Settings:
    return read(text, "kmq.conf", "/etc/kmq", "mx")


def way(sender: str = "a@x.test", ip: str = "", user: str = "", to: str = "v@far.test", text: str = TEXT) -> str:
    head = Head("", "", "", sender, [Recipient(to)], 0, Source("smtp", ip, user=user))
    found = Routes(settings(text)).of(head).decide(head.recipients[0])
    assert isinstance(found, Route)
    return found.hop.connector


WAYS = [
    # sender, client, user, recipient, connector
    ("a@x.test", "192.0.2.1", "", "v@far.test", "general"),  # not cheap: cost 1 before 9
    ("a@news.example", "192.0.2.1", "", "v@far.test", "campaign"),
    ("A@NEWS.example", "192.0.2.1", "", "v@far.test", "campaign"),
    ("a@sub.news.example", "192.0.2.1", "", "v@far.test", "general"),
    ("a@x.lists.example", "", "", "v@far.test", "campaign"),
    ("a@lists.example", "", "", "v@far.test", "general"),
    ("", "", "", "v@far.test", "campaign"),
    ("boss@news.example", "", "", "v@far.test", "boss"),  # his address before his domain
    ("BOSS@news.example", "", "", "v@far.test", "boss"),
    ("a@x.test", "10.9.9.9", "", "v@far.test", "office"),
    ("a@x.test", "2001:db8::7", "", "v@far.test", "office"),
    ("a@x.test", "11.0.0.1", "", "v@far.test", "general"),
    ("a@news.example", "10.9.9.9", "", "v@far.test", "officenews"),  # two conditions before one, whatever the cost
    ("a@x.test", "", "www-data", "v@far.test", "scripts"),
    ("a@x.test", "", "1004", "v@far.test", "scripts"),
    ("a@x.test", "", "root", "v@far.test", "general"),
    ("a@news.example", "10.9.9.9", "www-data", "v@partner.example", "partner"),  # the address space decides first
    ("a@x.test", "", "www-data", "v@else.example", "scripts"),
    ("a@news.example", "10.9.9.9", "www-data", "v@us.example", "boxes"),  # what is ours is ours, whoever writes
    ("a@[192.0.2.1]", "", "", "v@far.test", "general"),
    ("a@x.test", "nonsense", "", "v@far.test", "general"),
]


@pytest.mark.parametrize(("sender", "ip", "user", "to", "connector"), WAYS)
def test_the_most_precise_connector_that_the_mail_meets_serves(
    sender: str, ip: str, user: str, to: str, connector: str
) -> None:
    assert way(sender, ip, user, to) == connector


def test_the_rule_says_whose_mail_it_is_for() -> None:
    ways = Routes(settings()).ways("a@news.example", Source(ip="10.1.1.1"))
    rule = ways.route("v@far.test").rule
    assert rule.startswith("kmq.conf:")
    assert rule.endswith("[officenews : connector] address_spaces = *, senders = news.example, clients = 10.0.0.0/8")


def test_a_connector_for_some_serves_nobody_else() -> None:
    only = "[isp : connector]\ntype = smarthost\nhosts = isp\naddress_spaces = *\nsenders = x.example\n"
    routes = Routes(settings("[kmq]\n" + only))
    assert routes.ways("a@x.example", Source()).route("v@far.test").hop.connector == "isp"
    found = routes.ways("a@y.example", Source()).route("v@far.test")
    assert found.hop.delivery_type is DeliveryType.UNREACHABLE
    assert found.rule == "no connector serves the domain"


def test_without_conditions_all_mail_shares_one_table() -> None:
    plain = TEXT.partition("[campaign")[0]
    routes = Routes(settings(plain))
    ways = {id(routes.ways(f"a@d{number}.test", Source(ip=f"192.0.2.{number}"))) for number in range(100)}
    assert len(ways) == 1


def test_mail_that_meets_the_same_shares_a_table_and_tables_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table, "WAYS_LIMIT", 4)
    routes = Routes(settings())
    assert routes.ways("a@news.example", Source()) is routes.ways("b@news.example", Source())
    for sender in ("a@x.test", "a@news.example", "boss@news.example", ""):
        for ip in ("", "10.0.0.1"):
            for user in ("", "www-data"):
                routes.ways(sender, Source(ip=ip, user=user))
                assert len(routes._ways) <= 4


def test_dns_has_a_hop_for_each_domain() -> None:
    ways = Routes(settings()).ways("a@x.test", Source())
    assert ways.route("v@far.test").hop == NextHop(DeliveryType.DNS, "far.test", "general")
    assert ways.route("v@BÜCHER.test").hop == NextHop(DeliveryType.DNS, "xn--bcher-kva.test", "general")
    assert ways.route("v@[192.0.2.7]").hop == NextHop(DeliveryType.DNS, "[192.0.2.7]", "general")
    assert ways.route("v@[IPv6:2001:db8::7]").hop == NextHop(DeliveryType.DNS, "[IPv6:2001:db8::7]", "general")


# --- address literals -------------------------------------------------------------------------------------------------


def test_our_own_address_in_brackets_is_our_first_domain() -> None:
    routes = Routes(settings())
    assert routes.is_local("[127.0.0.1]")
    assert routes.accepts("ada@[127.0.0.1]") is None
    found = routes.route("ada@[127.0.0.1]")
    assert found.hop == NextHop(DeliveryType.MAILBOX, "us.example", "boxes")
    assert found.rule.startswith("[127.0.0.1] is this machine: ")
    assert not routes.is_local("[127.0.0.2]"), "nobody of ours listens there"
    assert not routes.is_local("[192.0.2.1]")


@pytest.mark.parametrize(("listen", "local"), [("0.0.0.0:2525", True), ("[::]:2525", False), ("192.0.2.9:25", False)])
def test_who_listens_everywhere_has_all_addresses_of_the_machine(listen: str, local: bool) -> None:
    routes = Routes(settings(TEXT.replace("127.0.0.1:2525", listen)))
    assert routes.is_local("[127.0.0.1]") is local


@pytest.mark.skipif(not socket.has_ipv6 or not Path("/proc/net/if_inet6").exists(), reason="needs IPv6")
def test_an_ipv6_literal_is_known_however_it_was_written() -> None:
    from kmq.model.address import parse

    routes = Routes(settings(TEXT.replace("127.0.0.1:2525", "[::1]:2525")))
    assert routes.is_local(parse("a@[IPv6:0:0:0:0:0:0:0:1]").domain)


# --- mistakes and doubts ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("senders = a@", "is no mail address"),
        ("senders = *@x.example", "all of a domain are written as that domain: x.example"),
        ("senders = news.*", "write example.org, "),
        ("clients = 10.0.0.1/8", "bits beyond its mask"),
        ("authenticated_users = a b", "no user's name"),
        ("type = mailbox\nmaildir = /m/{user}\nsenders = x.example", "senders is for mail that goes elsewhere"),
        ("type = mailbox\nmaildir = /m/{user}\nusers = file:", "stands the path of one file"),
        ("type = mailbox\nmaildir = /m/{user}\nusers = ada, passwd/x", "no user's name"),
    ],
)
def test_a_mistake_is_told_with_its_line(line: str, why: str) -> None:
    kind = "" if line.startswith("type") else "type = smarthost\nhosts = h\n"
    text = f"[kmq]\n[x : connector]\naddress_spaces = *\n{kind}{line}\n"
    with pytest.raises(ConfigError, match=why) as told:
        settings(text)
    assert f"kmq.conf:{text.count(chr(10))}: [x : connector] " in str(told.value)


def test_a_connector_that_no_address_comes_to_is_a_doubt() -> None:
    warned = "\n".join(settings().warnings)
    assert "[cheap : connector] no address comes to this connector: [general] goes before it" in warned
    for name in ("campaign", "boss", "office", "scripts", "partner", "boxes"):
        assert f"[{name} : connector] no address" not in warned
