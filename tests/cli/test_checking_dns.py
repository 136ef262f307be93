"""kmq check, where connectors ask the DNS."""

from pathlib import Path

from kmq.admin import check_dns
from kmq.admin.check_dns import dns
from kmq.admin.verdict import Grade
from kmq.config import Settings, read
from tests.fake_dns import FakeDNS

WORLD = "[world : connector]\ntype = dns\naddress_spaces = *\n"


def settings(*servers: FakeDNS, more: str = WORLD) -> Settings:
    named = ", ".join(f"127.0.0.1:{server.port}" for server in servers)
    return read(f"[kmq]\ndns_servers = {named}\ndns_timeout = 500ms\n{more}", "kmq.conf", "/etc/kmq", "mx.example.org")


def test_resolvers_that_answer() -> None:
    with FakeDNS({".": ["NS ns.test."]}).threaded() as one, FakeDNS().threaded() as other:
        found = list(dns(settings(one, other)))
    assert [verdict.grade for verdict in found] == [Grade.GOOD, Grade.GOOD]
    assert found[0].what == f"resolver 127.0.0.1:{one.port} answers"


def test_one_that_does_not_is_a_note_and_none_is_wrong() -> None:
    with FakeDNS().threaded() as good, FakeDNS(faults={"*": "refused"}).threaded() as bad:
        answers, silent = dns(settings(bad, good))
        (alone,) = dns(settings(bad))
    assert (answers.grade, silent.grade, alone.grade) == (Grade.GOOD, Grade.NOTE, Grade.WRONG)
    assert silent.what == f"resolver 127.0.0.1:{bad.port} of dns_servers does not answer: REFUSED"
    assert "name a resolver that answers in dns_servers" in alone.remedy


def test_without_a_connector_that_asks_nothing_is_asked() -> None:
    with FakeDNS().threaded() as server:
        assert list(dns(settings(server, more=""))) == []
        assert not server.asked


def test_a_resolver_is_named_without_the_port_that_all_have() -> None:
    assert check_dns._shown(("192.0.2.53", 53)) == "192.0.2.53"
    assert check_dns._shown(("2001:db8::53", 5353)) == "[2001:db8::53]:5353"


def test_a_password_that_everybody_may_read_is_noted(tmp_path: Path) -> None:
    from kmq.admin.check import certificates

    (tmp_path / "password").write_text("secret\n")
    isp = "[isp : connector]\ntype = smarthost\naddress_spaces = *\nhosts = smtp.isp.example:465\ntls = implicit\n"
    isp += f"auth_user = me\npassword_file = {tmp_path}/password\n"
    (tmp_path / "password").chmod(0o644)
    (found,) = certificates(read(isp, "kmq.conf", "/etc/kmq", "mx.example.org"))
    assert (found.grade, found.remedy) == (Grade.NOTE, f"chmod o-r {tmp_path}/password")
    (tmp_path / "password").chmod(0o640)
    assert list(certificates(read(isp, "kmq.conf", "/etc/kmq", "mx.example.org"))) == []
