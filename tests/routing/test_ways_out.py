"""Routing to programs, files, nowhere and no: one queue for a connector, which bears its name."""

from pathlib import Path

import pytest

from kmq.config import Settings
from kmq.config.connections import connections_of
from kmq.config.reading import read
from kmq.model import hop
from kmq.model.envelope import Recipient
from kmq.model.hop import DeliveryType, NextHop
from kmq.routing.standing import stands
from kmq.routing.table import Route, Routes
from kmq.run.limits import limits_of

TEXT = """\
[kmq]
spool = /srv/kmq
workers = 3
local_domains = home.test
[world : connector]
type = dns
address_spaces = *
[fax : connector]
type = agent
address_spaces = fax, *.fax
command = /bin/fax
processes = 2
in_flight = 4
[x400 : connector]
type = foreign
address_spaces = x400
cost = 2
[old : connector]
type = error
address_spaces = *.old.test
[hole : connector]
type = discard
address_spaces = noise.test
senders = robot@home.test
"""


@pytest.fixture(scope="module")
def settings() -> Settings:
    return read(TEXT, "kmq.conf", "/", "mx")


AGENT = NextHop(DeliveryType.DELIVERY_AGENT, "fax", "fax")
GATE = NextHop(DeliveryType.NON_SMTP, "x400", "x400")


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("49@fax", "DeliveryAgent;fax;fax"),
        ("49@b.fax", "DeliveryAgent;fax;fax"),
        ("c=de;a=x@x400", "NonSmtpGatewayDelivery;x400;x400"),
        ("a@b.old.test", "NonSmtpGatewayDelivery;old;old"),
        ("a@old.test", "DnsConnectorDelivery;old.test;world"),
        ("a@noise.test", "DnsConnectorDelivery;noise.test;world"),
    ],
)
def test_any_domain_will_do(settings: Settings, address: str, expected: str) -> None:
    found = Routes(settings).route(address)
    assert str(found.hop) == expected
    assert hop.parse(expected) == found.hop


def test_whose_mail_it_is_counts_for_them_too(settings: Settings) -> None:
    from kmq.model.envelope import Source

    found = Routes(settings).ways("robot@home.test", Source()).route("a@noise.test")
    assert str(found.hop) == "NonSmtpGatewayDelivery;hole;hole"


@pytest.mark.parametrize("name", ["fax", "x400", "old", "hole"])
def test_an_operator_may_redirect_to_them(settings: Settings, name: str) -> None:
    routes = Routes(settings)
    decide = routes.forced(name, routes.ways("", None).decide)  # type: ignore[arg-type]
    found = decide(Recipient("a@far.test"))
    assert isinstance(found, Route)
    assert (found.hop.domain, found.hop.connector) == (name, name)


def test_what_still_stands(settings: Settings) -> None:
    changed = read(TEXT.replace("type = foreign", "type = error"), "kmq.conf", "/", "mx")
    gone = read(
        TEXT.replace("type = agent", "type = foreign").replace(
            "command = /bin/fax\nprocesses = 2\nin_flight = 4\n", ""
        ),
        "kmq.conf",
        "/",
        "mx",
    )
    assert stands(AGENT, settings)
    assert stands(GATE, settings)
    assert stands(GATE, changed)
    assert not stands(AGENT, gone)
    assert not stands(NextHop(DeliveryType.NON_SMTP, "nobody", "nobody"), settings)


def test_a_renaming_takes_the_queue_along() -> None:
    assert str(AGENT.under("phone")) == "DeliveryAgent;phone;phone"
    assert str(NextHop(DeliveryType.DNS, "far.test", "world").under("all")) == "DnsConnectorDelivery;far.test;all"


def test_a_queue_of_theirs_is_one_of_the_world_outside() -> None:
    assert AGENT.delivery_type.category == GATE.delivery_type.category == "External"


def test_programs_are_what_an_agent_connects_to(settings: Settings, tmp_path: Path) -> None:
    """Two of three workers have one each; a queue gets what they may have in hand, and one more for each."""
    fax = next(one for one in settings.connectors if one.name == "fax")
    assert connections_of(fax, 20) == (2, 2, 2)
    limits = limits_of(settings)
    assert limits.of("fax").ahead == 5
    assert limits.of("x400").ahead == 2
    carriers = limits.carriers("fax", "fax")
    assert carriers is not None
    assert len(carriers) == 2
