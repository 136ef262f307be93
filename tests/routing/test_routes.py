"""Routes: which connector serves an address and by which line, who is known at RCPT, and what it costs in memory."""

import os
from pathlib import Path

import pytest

from kmq.config import ConnectorSection, KmqSection, QueueSection, Settings, embedded, read
from kmq.model.envelope import Recipient, Source
from kmq.model.hop import UNREACHABLE, DeliveryType, NextHop
from kmq.model.hop import parse as parse_hop
from kmq.routing import table
from kmq.routing.standing import stands
from kmq.routing.table import Route, Routes

TEXT = """
[kmq]
hostname = mx.example.org
postmaster = ada@elsewhere.example
local_domains = example.org, sub.example.org, bücher.example

[here : connector]
type = mailbox
maildir = /var/mail/{user}
users = alice, bob

[sub : connector]
type = mailbox
maildir = /var/sub/{user}
users = *
address_spaces = sub.example.org

[isp : connector]
type = smarthost
hosts = smtp.isp.example:587, [2001:db8::1]:25
address_spaces = *
cost = 5

[dear : connector]
type = smarthost
hosts = dear.example
address_spaces = *, net
cost = 9

[partner : connector]
type = smarthost
hosts = partner.example:26
address_spaces = partner.example, *.partner.example

[deep : connector]
type = smarthost
hosts = deep.example
address_spaces = *.deep.partner.example, *.net

[later : connector]
type = smarthost
address_spaces = later.example, *.later.example
"""


def routes(text: str = TEXT) -> Routes:
    return Routes(read(text, "etc/kmq.conf", "/etc/kmq", "mx.example.org"))


def place(line: str) -> str:
    return f"etc/kmq.conf:{TEXT.splitlines().index(line) + 1}"


WAYS = [
    # address, connector ("" for Unreachable), address space that decides
    ("a@elsewhere.example", "isp", "*"),
    ("a@partner.example", "partner", "partner.example"),
    ("a@PARTNER.Example", "partner", "partner.example"),
    ("a@x.partner.example", "partner", "*.partner.example"),
    ("a@y.x.partner.example", "partner", "*.partner.example"),
    ("a@deep.partner.example", "partner", "*.partner.example"),  # *.deep is below deep, not deep itself
    ("a@x.deep.partner.example", "deep", "*.deep.partner.example"),
    ("a@notpartner.example", "isp", "*"),
    ("a@x.net", "deep", "*.net"),
    ("a@net", "dear", "net"),
    ("a@[192.0.2.1]", "isp", "*"),
    ("a@[IPv6:2001:db8::1]", "isp", "*"),
    ('"x@y"@partner.example', "partner", "partner.example"),
    ("a@later.example", "isp", "*"),  # [later] has no hosts yet, so it serves nobody
]


@pytest.mark.parametrize(("address", "connector", "space"), WAYS)
def test_the_most_precise_address_space_decides_then_the_cost(address: str, connector: str, space: str) -> None:
    route = routes().route(address)
    assert (route.hop.delivery_type, route.hop.connector) == (DeliveryType.SMART_HOST, connector)
    assert route.rule.endswith(f"[{connector} : connector] address_spaces = {space}")


def test_the_hop_names_the_hosts_as_written_and_the_rule_its_line() -> None:
    route = routes().route("a@elsewhere.example")
    assert route.hop == NextHop(DeliveryType.SMART_HOST, "smtp.isp.example:587,[2001:db8::1]:25", "isp")
    assert route.rule == f"{place('address_spaces = *')} [isp : connector] address_spaces = *"
    assert parse_hop(str(route.hop)) == route.hop


def test_of_equal_connectors_the_first_in_the_file_serves() -> None:
    text = TEXT.replace("cost = 9", "cost = 5")
    assert routes(text).route("a@elsewhere.example").hop.connector == "isp"
    assert routes(text.replace("cost = 5", "cost = 6", 1)).route("a@elsewhere.example").hop.connector == "dear"


@pytest.mark.parametrize(
    ("address", "domain", "connector"),
    [
        ("alice@example.org", "example.org", "here"),
        ("nobody@Example.ORG", "example.org", "here"),
        ("alice@sub.example.org", "sub.example.org", "sub"),
        ("alice@bücher.example", "xn--bcher-kva.example", "here"),
        ("alice@xn--bcher-kva.EXAMPLE", "xn--bcher-kva.example", "here"),
        ("postmaster", "example.org", "here"),  # though the configured one is elsewhere
        ("PostMaster", "example.org", "here"),
    ],
)
def test_local_domains_go_to_the_mailbox_connector(address: str, domain: str, connector: str) -> None:
    route = routes().route(address)
    assert route.hop == NextHop(DeliveryType.MAILBOX, domain, connector)
    line = place("local_domains = example.org, sub.example.org, bücher.example")
    assert route.rule == f"{line} [kmq] local_domains = {domain} -> [{connector} : connector]"


@pytest.mark.parametrize(
    ("text", "address", "why"),
    [
        ("", "a@elsewhere.example", "no connector serves the domain"),
        ("[kmq]\nlocal_domains = a.example\n", "x@a.example", "2 [kmq] local_domains = a.example, and no connector"),
        (
            "[isp : connector]\ntype = smarthost\naddress_spaces = *\n",
            "a@elsewhere.example",
            "3 [isp : connector] address_spaces = * would serve the domain, but has no hosts yet",
        ),
        (TEXT, "a@example.org.", "ends in a dot"),
        (TEXT, "a@example..org", "no domain name"),
        (TEXT, "a@", "empty"),
        (TEXT, "alice", "no domain"),
        (TEXT, "", "no domain"),
        (TEXT, "a@" + "ü" * 300 + ".example", "more than 255"),
    ],
)
def test_what_nobody_serves_waits_in_unreachable_and_says_why(text: str, address: str, why: str) -> None:
    route = routes(text).route(address)
    assert route.hop == UNREACHABLE
    assert why in route.rule


def test_without_mailboxes_the_bare_postmaster_goes_where_the_configured_one_is() -> None:
    hub = "[c : connector]\ntype = smarthost\nhosts = hub\naddress_spaces = corp.example\n"
    relay = routes("[kmq]\npostmaster = ada@corp.example\n" + hub)
    assert relay.route("postmaster").hop.connector == "c"
    assert relay.accepts("postmaster") is None


def test_settings_made_by_hand_have_routes_too() -> None:
    kmq = KmqSection(
        hostname="a.example", spool=Path("/s"), run_directory=Path("/s/run"), postmaster="p@a.example", log_level="info"
    )
    isp = ConnectorSection(
        name="isp", type="smarthost", helo="a.example", hosts=(("hub", 25),), address_spaces=("*",), maildir=""
    )
    made = Routes(Settings(path="", kmq=kmq, queue=QueueSection(), connectors=(isp,)))
    assert made.route("a@b.example") == (
        NextHop(DeliveryType.SMART_HOST, "hub:25", "isp"),
        "default [isp] address_spaces = *",
    )


# --- who is known at RCPT --------------------------------------------------------------------------------------------

ACCEPTED = [
    "alice@example.org",
    "ALICE@EXAMPLE.ORG",
    "alice+lists@example.org",
    '"alice"@example.org',
    '"al\\ice"@example.org',
    "bob@bücher.example",
    "bob@xn--bcher-kva.example",
    "anybody@sub.example.org",
    "postmaster@example.org",
    "Postmaster+x@sub.example.org",
    "postmaster",
    "POSTMASTER",
    "whoever@elsewhere.example",  # not ours: whether the client may relay is the receiver's question
    "whoever@[192.0.2.1]",
]

REFUSED = [
    ("carol@example.org", 550, "5.1.1"),
    ("alicex@example.org", 550, "5.1.1"),
    ('"alice "@example.org', 550, "5.1.1"),
    ("+alice@example.org", 550, "5.1.1"),
    ("..@sub.example.org", 550, "5.1.1"),
    ("../alice@sub.example.org", 550, "5.1.1"),
    ("a/b@sub.example.org", 550, "5.1.1"),
    (".hidden@sub.example.org", 550, "5.1.1"),
    ("a\0b@sub.example.org", 550, "5.1.1"),
    ("@sub.example.org", 550, "5.1.1"),
    # relays by another name
    ("v%v.test@sub.example.org", 550, "5.1.1"),
    ("v.test!v@sub.example.org", 550, "5.1.1"),
    ('"v@v.test"@sub.example.org', 550, "5.1.1"),
    ("v@v.test@sub.example.org", 550, "5.1.1"),
    ("postmaster%v.test@example.org", 550, "5.1.1"),
    ("alice", 501, "5.1.3"),
    ("alice@example.org.", 501, "5.1.3"),
    ("alice@exa mple.org", 501, "5.1.3"),
]


@pytest.mark.parametrize("address", ACCEPTED)
def test_known_users_are_taken_in(address: str) -> None:
    assert routes().accepts(address) is None


@pytest.mark.parametrize(("address", "code", "enhanced"), REFUSED)
def test_others_are_refused_at_once(address: str, code: int, enhanced: str) -> None:
    reply = routes().accepts(address)
    assert reply is not None
    assert (reply.code, reply.enhanced) == (code, enhanced)


def test_a_local_domain_without_mailboxes_is_a_trouble_that_passes() -> None:
    bare = routes("[kmq]\nlocal_domains = a.example\n")
    reply = bare.accepts("x@a.example")
    assert reply is not None
    assert not reply.permanent
    assert bare.accepts("postmaster@a.example") is None
    assert bare.is_local("a.example")


@pytest.mark.parametrize(
    ("domain", "local"),
    [
        ("example.org", True),
        ("EXAMPLE.org", True),
        ("bücher.example", True),
        ("xn--bcher-kva.example", True),
        ("x.example.org", False),
        ("example.org.", False),
        ("org", False),
        ("", False),
        ("[127.0.0.1]", False),
    ],
)
def test_a_domain_is_local_however_it_is_written(domain: str, local: bool) -> None:
    assert routes().is_local(domain) is local


# --- users = existing ------------------------------------------------------------------------------------------------


def existing(root: Path) -> Routes:
    text = f"[kmq]\nlocal_domains = a.example, b.example\n[m : connector]\ntype = mailbox\nmaildir = {root}"
    return routes(text + "/{domain}/{user}\nusers = existing\n")


def test_existing_users_are_those_whose_maildir_is_there(tmp_path: Path) -> None:
    known = existing(tmp_path)
    reply = known.accepts("alice@a.example")
    assert reply is not None
    assert str(reply) == "550 5.1.1 No such user here"
    (tmp_path / "a.example" / "alice" / "new").mkdir(parents=True)
    assert known.accepts("Alice+x@a.example") is None, "a new Maildir counts at once"
    assert known.accepts("alice@b.example") is not None, "alice of another domain is somebody else"
    assert known.accepts("postmaster@b.example") is None


def test_a_folder_that_is_no_maildir_is_nobodys(tmp_path: Path) -> None:
    (tmp_path / "a.example" / "shared").mkdir(parents=True)
    (tmp_path / "a.example" / "file").write_text("")
    for user in ("shared", "file"):
        reply = existing(tmp_path).accepts(f"{user}@a.example")
        assert reply is not None
        assert reply.permanent


def test_trouble_with_the_disk_is_no_unknown_user(tmp_path: Path) -> None:
    os.symlink("alice", tmp_path / "alice")
    text = f"[kmq]\nlocal_domains = a.example\n[m : connector]\ntype = mailbox\nmaildir = {tmp_path}/{{user}}\n"
    reply = routes(text).accepts("alice@a.example")
    assert reply is not None
    assert (reply.code, reply.enhanced) == (451, "4.3.0")


# --- the cache -------------------------------------------------------------------------------------------------------


def test_the_cache_is_bounded_whatever_domains_come(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table, "CACHE_LIMIT", 100)
    asked = routes()
    for number in range(1000):
        assert asked.route(f"a@d{number}.partner.example").hop.connector == "partner"
        assert asked.accepts(f"a@{number}") is None
        assert asked.is_local(f"{number}.") is False
        assert asked.route("alice@example.org").hop.connector == "here"
        assert len(asked._common._known) <= 100


def test_domains_with_the_same_way_share_one_route() -> None:
    asked = routes()
    assert asked.route("a@one.example") is asked.route("b@two.example")
    waiting = Routes(embedded("/s"))
    assert waiting.route("a@one.example") is waiting.route("b@two.example")


# --- what an operator redirected --------------------------------------------------------------------------------------

DNS = "[world : connector]\ntype = dns\naddress_spaces = nowhere.example\n"


@pytest.mark.parametrize(
    ("connector", "address", "hop"),
    [
        ("dear", "bob@partner.example", "SmartHostConnectorDelivery;dear.example:25;dear"),
        ("dear", "alice@example.org", "SmartHostConnectorDelivery;dear.example:25;dear"),
        ("world", "bob@Partner.Example", "DnsConnectorDelivery;partner.example;world"),
        ("world", "bob@[192.0.2.1]", "DnsConnectorDelivery;[192.0.2.1];world"),
    ],
)
def test_what_is_redirected_goes_by_that_connector_whatever_its_spaces_say(
    connector: str, address: str, hop: str
) -> None:
    found = routes(TEXT + DNS)
    decided = found.forced(connector, found.ways("", Source()).decide)(Recipient(address))
    assert isinstance(decided, Route)
    assert (str(decided.hop), decided.rule) == (hop, f"an operator redirected it to [{connector} : connector]")


@pytest.mark.parametrize("connector", ["later", "here", "vanished"])
def test_where_that_connector_is_no_way_out_any_more_routing_decides(connector: str) -> None:
    found = routes(TEXT + DNS)
    decide = found.ways("", Source()).decide
    recipient = Recipient("bob@partner.example")
    assert found.forced(connector, decide)(recipient) == decide(recipient)


# --- connectors that are disabled -------------------------------------------------------------------------------------

DISABLED = (
    TEXT
    + "\n[deputy : connector]\ntype = smarthost\nhosts = deputy.example\naddress_spaces = partner.example\ncost = 9\n"
)


def disabled(*names: str) -> Routes:
    """The same routes with these connectors out of service."""
    text = DISABLED
    for name in names:
        text = text.replace(f"[{name} : connector]", f"[{name} : connector]\nenabled = no")
    return routes(text)


def test_what_a_disabled_connector_served_goes_to_the_next_best() -> None:
    assert disabled().route("a@partner.example").hop.connector == "partner"
    assert disabled("partner").route("a@partner.example").hop.connector == "deputy"
    assert disabled("partner", "deputy").route("a@partner.example").hop.connector == "isp"
    assert disabled("isp").route("a@far.example").hop.connector == "dear"


def test_what_nobody_else_serves_is_unreachable_and_says_why() -> None:
    found = disabled("isp", "dear").route("a@far.example")
    assert found.hop == UNREACHABLE
    assert "[isp : connector] address_spaces = * would serve the domain, but is disabled (enabled = no)" in found.rule


def test_mailboxes_that_are_disabled_take_nothing_and_say_so() -> None:
    found = disabled("here").route("alice@example.org")
    assert found.hop == UNREACHABLE
    assert "no connector of type mailbox serves it: " in found.rule
    assert found.rule.endswith("[here : connector] enabled = no")


def test_an_operator_s_word_does_not_lead_to_a_disabled_connector() -> None:
    table = disabled("partner")
    decide = table.forced("partner", table.ways("", Source()).decide)
    found = decide(Recipient("a@far.example"))
    assert isinstance(found, Route)
    assert found.hop.connector == "isp"


def test_what_waits_for_a_disabled_connector_is_routed_anew() -> None:
    hop = routes().route("a@partner.example").hop
    text = TEXT.replace("[partner : connector]", "[partner : connector]\nenabled = no")
    assert stands(hop, read(TEXT, "kmq.conf", "/etc"))
    assert not stands(hop, read(text, "kmq.conf", "/etc"))
