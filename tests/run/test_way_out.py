"""A real kmqd that sends by the DNS: what each domain's owner wrote into it comes to the right end, and is told."""

import json
import smtplib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.certificates import Authority
from tests.fake_dns import FakeDNS
from tests.fakes import EvilHop
from tests.torture.kmqd import NO_DROPS, Kmqd
from tests.waiting import free_port, until

ZONE = {
    "good.test": ["MX 10 mx.good.test."],
    "also.test": ["MX 10 mx.good.test."],
    "mx.good.test": ["A 127.0.0.2"],
    "null.test": ["MX 0 ."],
    "self.test": ["MX 10 mx.local.test."],
    "sick.test": ["MX 10 mx.good.test."],
    "down.test": ["A 127.0.0.3"],
}

WORLD = """

[world : connector]
type = dns
address_spaces = *
port = {port}
forbidden_addresses = 192.0.2.0/24
{more}
"""


class Way:
    """kmqd, a resolver, and the server 127.0.0.2 at the port of all servers."""

    def __init__(self, folder: Path, dns: FakeDNS, hop: EvilHop, more: str = "") -> None:
        self.dns, self.hop = dns, hop
        drops = NO_DROPS + WORLD.format(port=hop.port, more=more)
        servers = f"dns_servers = 127.0.0.1:{dns.port}\ndns_timeout = 500ms"
        self.kmqd = Kmqd(folder, kmq=servers, drops=drops, workers=1)
        self.kmqd.names = lambda: ["scheduler-1", "index-1", "worker-1", "receiver-1"]  # type: ignore[method-assign]

    def send(self, *to: str, sender: str = "alice@local.test") -> None:
        with smtplib.SMTP("127.0.0.1", self.kmqd.port, timeout=20) as client:
            client.sendmail(sender, to, b"Subject: x\r\n\r\nhello\r\n")

    def queues(self) -> dict[str, dict[str, Any]]:
        found = [json.loads(line) for line in self.kmqd.asked("--json", "queues").splitlines()]
        return {one["NextHopDomain"]: one for one in found}

    def notices(self) -> list[str]:
        """What came back to alice."""
        return [path.read_text() for path in (self.kmqd.mail / "alice" / "new").glob("*")]


@pytest.fixture
def way(tmp_path: Path) -> Iterator[Way]:
    port = free_port()
    with FakeDNS(ZONE).threaded() as dns, EvilHop(host="127.0.0.2", port=port).threaded() as hop:
        made = Way(tmp_path / "k", dns, hop)
        with made.kmqd.running():
            yield made


def test_each_domain_comes_to_its_end(way: Way) -> None:
    way.dns.faults["sick.test"] = "servfail"
    domains = ("good", "also", "null", "self", "gone", "sick", "down")
    way.send(*(f"bob@{domain}.test" for domain in domains))
    until(lambda: len(way.hop.messages) == 2, "good.test and also.test have it")
    until(lambda: len(way.notices()) >= 3, "what can never arrive is returned")
    told = "\n".join(way.notices())
    assert "556 5.1.10 the domain null.test takes no mail (null MX)" in told
    assert "554 5.4.6 mail for self.test loops back to this server" in told
    assert "550 5.1.2 the domain gone.test does not exist" in told
    assert "sick.test" not in told and "down.test" not in told

    until(lambda: "sick.test" in way.queues() and way.queues()["sick.test"]["LastError"], "its queue is in Retry")
    queues = way.queues()
    assert queues["sick.test"]["LastError"] == "451 4.4.3 DNS lookup failure (SERVFAIL) for sick.test"
    assert "Connection refused" in queues["down.test"]["LastError"]
    assert queues["sick.test"]["DeliveryType"] == "DnsConnectorDelivery"
    assert (queues["sick.test"]["NextHopDomain"], queues["sick.test"]["NextHopConnector"]) == ("sick.test", "world")

    way.dns.faults.clear()
    until(lambda: way.hop.delivered("bob@sick.test") == 1, "it is tried again by itself, and goes")
    assert way.hop.delivered("bob@good.test") == 1


def test_many_fresh_messages_for_a_sick_domain_do_not_hold_up_another(way: Way) -> None:
    way.dns.faults["sick.test"] = "timeout"
    for number in range(60):
        way.send(f"n{number}@sick.test")
    way.send("bob@good.test")
    until(lambda: way.hop.delivered("bob@good.test") == 1, "good.test has its mail", 3)
    way.dns.faults.clear()
    until(lambda: len(way.hop.messages) == 61, "all of it is there in the end", 40)
    way.kmqd.drain()
    assert max(way.hop.copies.values()) == 1


def test_fresh_mail_leaves_in_the_same_go_and_the_journey_is_told(way: Way) -> None:
    way.send("bob@good.test")
    until(lambda: way.hop.messages, "it is there")
    way.kmqd.drain()
    assert way.queues().get("good.test", {}).get("MessageCount", 0) == 0
    assert "relay=mx.good.test[127.0.0.2]" in way.kmqd.log


def test_what_protected_the_mail_is_told(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    pair = authority.issue("mx.good.test")
    more = f"tls = must\ntls_ca_file = {authority.certificate}"
    hop = EvilHop(host="127.0.0.2", port=free_port(), tls=pair.server())
    with FakeDNS(ZONE).threaded() as dns, hop.threaded():
        way = Way(tmp_path / "k", dns, hop, more)
        try:
            way.kmqd.start()
            way.send("bob@good.test", "450-at-rcpt@good.test")
            until(lambda: way.hop.messages, "it is there")
            until(lambda: way.kmqd.queued(), "the other recipient waits")
            (envelope,) = way.kmqd.queued()
            until(lambda: '"delivered"' in envelope.read_text(), "it is written down")
            assert envelope.read_text().count('"tls":"TLSv1.3 TLS_AES_256_GCM_SHA384 verified"') >= 2
            until(lambda: 'tls="TLSv1.3 TLS_AES_256_GCM_SHA384 verified"' in way.kmqd.log, "the mail log tells it")
            told = way.kmqd.asked("history", envelope.stem)
            assert "mx.good.test[127.0.0.2]" in told and "TLSv1.3 TLS_AES_256_GCM_SHA384 verified" in told
        finally:
            way.kmqd.close()


def test_a_file_of_a_connector_that_is_gone_is_told_at_the_start(tmp_path: Path) -> None:
    way = Way(tmp_path / "k", FakeDNS(port=1), EvilHop(port=25), f"tls_ca_file = {tmp_path}/gone.pem")
    way.kmqd.begin()
    assert way.kmqd._process is not None
    assert way.kmqd._process.wait(20) == 78
    assert f"[world : connector] tls_ca_file = {tmp_path}/gone.pem is not there" in way.kmqd.log
