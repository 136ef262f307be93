"""Which servers take a domain's mail, in which order; what the DNS says for good, and what only for now (row 48)."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from kmq.config.sections import ConnectorSection
from kmq.model.reply import Reply
from kmq.routing import mail_hosts, mx
from kmq.routing.mail_hosts import MailHost, MailHosts
from kmq.routing.mx import Exchangers, exchangers
from kmq.routing.ourselves import Ourselves
from kmq.routing.resolver import Absent, Fault, Found
from tests.fake_dns import FakeDNS

FORBIDDEN = ConnectorSection(name="x", type="dns", helo="us.test").forbidden_addresses
US = "us.test"


def ours(host: str) -> bool:
    return host == US


def of(*records: tuple[int, str]) -> Exchangers | Reply:
    return exchangers("d.test", Found(records, 300), ours)


# --- what the records say ---------------------------------------------------------------------------------------------


def test_lower_preference_first() -> None:
    found = of((30, "c.test"), (10, "a.test"), (20, "b.test"))
    assert found == Exchangers((("a.test",), ("b.test",), ("c.test",)))


def test_equals_are_in_one_group_in_every_order() -> None:
    orders = {of((10, "a.test"), (10, "b.test"), (5, "first.test")) for _ in range(200)}
    assert orders == {
        Exchangers((("first.test",), ("a.test", "b.test"))),
        Exchangers((("first.test",), ("b.test", "a.test"))),
    }


def test_ten_hosts_at_most_the_best_ones() -> None:
    found = of(*((n, f"mx{n}.test") for n in reversed(range(200))))
    assert found == Exchangers(tuple((f"mx{n}.test",) for n in range(10)))


def test_a_host_named_twice_counts_once_at_its_best() -> None:
    assert of((20, "a.test"), (10, "a.test"), (15, "b.test")) == Exchangers((("a.test",), ("b.test",)))


def test_without_records_the_domain_is_its_own_host() -> None:
    assert exchangers("d.test", Absent(False, 300), ours) == Exchangers((("d.test",),))


@pytest.mark.parametrize(
    ("answer", "reply"),
    [
        (Absent(True, 300), "550 5.1.2 the domain d.test does not exist"),
        (Found(((0, ""),), 300), "556 5.1.10 the domain d.test takes no mail (null MX)"),
        (Fault("SERVFAIL"), "451 4.4.3 DNS lookup failure (SERVFAIL) for d.test"),
        (Fault("timed out"), "451 4.4.3 DNS lookup failure (timed out) for d.test"),
        (Found(((10, US),), 300), "554 5.4.6 mail for d.test loops back to this server: it is its own best MX"),
        (Found(((10, US), (10, "b.test"), (20, "c.test")), 300), "554 5.4.6 mail for d.test loops back"),
        (Found(((10, "192.0.2.1"),), 300), "550 5.4.4 the MX record of d.test names an address, 192.0.2.1, where"),
        (Found(((10, "2001:db8::1"),), 300), "550 5.4.4 the MX record of d.test names an address"),
        (Found(((10, "a b\x1b.test"),), 300), r"550 5.4.4 the MX record of d.test names no host: 'a b\x1b.test'"),
    ],
)
def test_what_leads_nowhere(answer: Any, reply: str) -> None:
    found = exchangers("d.test", answer, ours)
    assert isinstance(found, Reply)
    assert str(found).startswith(reply)


def test_our_own_domain_without_mx_is_a_loop() -> None:
    found = exchangers(US, Absent(False, 300), ours)
    assert isinstance(found, Reply)
    assert found.enhanced == "5.4.6"


def test_we_our_equals_and_all_worse_are_left_out() -> None:
    """RFC 5321 5.1: a backup hands on to those better than itself, and to nobody else."""
    found = of((10, "a.test"), (20, US), (20, "equal.test"), (30, "worse.test"))
    assert found == Exchangers((("a.test",),))


def test_a_record_that_names_nobody_is_passed_over_when_there_are_others() -> None:
    found = of((10, "192.0.2.1"), (20, "b.test"), (0, ""))
    assert isinstance(found, Exchangers)
    assert found.groups == (("b.test",),)
    assert found.refused is not None
    assert found.refused.permanent


# --- their addresses --------------------------------------------------------------------------------------------------

ZONE = {
    "good.test": ["MX 10 mx1.good.test.", "MX 20 mx2.good.test."],
    "mx1.good.test": ["A 192.0.2.1", "A 192.0.2.2", "AAAA 2001:db8::1", "AAAA 2001:db8::2"],
    "mx2.good.test": ["A 192.0.2.3"],
    "bare.test": ["A 192.0.2.9"],
    "txt.test": ["TXT hello"],
    "alias.test": ["MX 10 www.alias.test."],
    "www.alias.test": ["CNAME mx2.good.test."],
    "hollow.test": ["MX 10 gone.hollow.test.", "MX 20 empty.hollow.test."],
    "empty.hollow.test": ["TXT hello"],
    "half.test": ["MX 10 gone.half.test.", "MX 20 mx2.good.test."],
    "inward.test": ["MX 10 lo.inward.test.", "MX 20 zero.inward.test.", "MX 30 many.inward.test."],
    "lo.inward.test": ["A 127.0.0.1", "AAAA ::1"],
    "zero.inward.test": ["A 0.0.0.0", "AAAA ::ffff:127.0.0.1"],
    "many.inward.test": ["A 224.0.0.1", "A 169.254.1.1", "A 255.255.255.255", "AAAA ff02::1", "AAAA fe80::1"],
    "partly.test": ["MX 10 partly.test.", "A 127.0.0.1", "A 192.0.2.4"],
    "ours.test": ["MX 10 mx1.good.test.", "MX 20 other.test.", "MX 20 mx2.good.test.", "MX 30 ours-too.test."],
    "other.test": ["A 127.0.0.7"],
    "ours-too.test": ["A 192.0.2.5"],
    "round.test": ["MX 10 other.test."],
    "v6.test": ["MX 10 v6.test.", "AAAA 2001:db8::6"],
    "eight.test": ["MX 10 eight.test.", *(f"A 192.0.2.{n}" for n in range(1, 9))],
}


async def servers(
    dns: FakeDNS,
    domain: str,
    families: str = "both",
    forbidden: Sequence[Any] = FORBIDDEN,
    listen: Sequence[tuple[str, int]] = (),
) -> list[MailHost | Reply]:
    patience = 0.5 if "timeout" in dns.faults.values() else 10  # who is expected to answer may be kept from it
    directory = MailHosts([dns.address], patience, Ourselves(US, listen))
    found = [one async for one in directory.of(domain, families, forbidden, 25)]
    await directory.close()
    return found


def replies(found: list[MailHost | Reply]) -> list[str]:
    assert all(isinstance(one, Reply) for one in found), found
    return [str(one) for one in found]


def seen(domain: str, *faults: tuple[str, str], **more: Any) -> list[MailHost | Reply]:
    async def play() -> list[MailHost | Reply]:
        async with FakeDNS(ZONE, dict(faults)) as dns:
            return await servers(dns, domain, **more)

    return asyncio.run(play())


def test_the_servers_with_their_addresses_in_turns_ipv6_first() -> None:
    first, second = seen("good.test")
    assert isinstance(first, MailHost)
    assert second == MailHost("mx2.good.test", ("192.0.2.3",))
    assert first.name == "mx1.good.test"
    assert [":" in address for address in first.addresses] == [True, False, True, False]
    assert sorted(first.addresses) == ["192.0.2.1", "192.0.2.2", "2001:db8::1", "2001:db8::2"]


@pytest.mark.parametrize(("families", "wanted"), [("ipv4", False), ("ipv6", True)])
def test_one_family_alone(families: str, wanted: bool) -> None:
    first = seen("good.test", families=families)[0]
    assert isinstance(first, MailHost)
    assert [":" in address for address in first.addresses] == [wanted, wanted]


def test_a_family_that_is_left_out_is_not_asked_for() -> None:
    async def play() -> None:
        async with FakeDNS(ZONE) as dns:
            assert replies(await servers(dns, "v6.test", families="ipv4"))[0].startswith("550 5.1.2")
            assert "v6.test/AAAA" not in dns.asked

    asyncio.run(play())


def test_five_addresses_of_one_host_at_most() -> None:
    (only,) = seen("eight.test")
    assert isinstance(only, MailHost)
    assert len(set(only.addresses)) == 5


@pytest.mark.parametrize(
    ("domain", "expected"),
    [
        ("gone.test", ["550 5.1.2 the domain gone.test does not exist"]),
        ("txt.test", ["550 5.1.2 the domain txt.test has no mail server: neither MX nor address"]),
        (
            "hollow.test",
            [
                "550 5.4.4 the mail server gone.hollow.test of hollow.test does not exist",
                "550 5.4.4 the mail server empty.hollow.test of hollow.test has no address",
            ],
        ),
    ],
)
def test_nobody_to_talk_to(domain: str, expected: list[str]) -> None:
    assert replies(seen(domain)) == expected


def test_implicit_mx() -> None:
    assert seen("bare.test") == [MailHost("bare.test", ("192.0.2.9",))]


def test_an_mx_that_is_an_alias_is_tolerated() -> None:
    """RFC 2181 10.3 forbids it, and everybody does it."""
    assert seen("alias.test") == [MailHost("www.alias.test", ("192.0.2.3",))]


def test_one_server_without_address_does_not_bar_the_other() -> None:
    first, second = seen("half.test")
    assert isinstance(first, Reply)
    assert second == MailHost("mx2.good.test", ("192.0.2.3",))


def test_a_fault_about_one_server_is_temporary_and_the_other_is_tried() -> None:
    first, second = seen("good.test", ("mx1.good.test", "servfail"))
    assert str(first) == "451 4.4.3 DNS lookup failure (SERVFAIL) for mx1.good.test"
    assert second == MailHost("mx2.good.test", ("192.0.2.3",))


def test_a_fault_about_one_family_is_none_when_the_other_has_addresses() -> None:
    first = seen("good.test", ("mx1.good.test/AAAA", "servfail"))[0]
    assert isinstance(first, MailHost)
    assert sorted(first.addresses) == ["192.0.2.1", "192.0.2.2"]


def test_nothing_is_final_while_one_family_is_unknown() -> None:
    (only,) = seen("txt.test", ("txt.test/A", "refused"))
    assert str(only) == "451 4.4.3 DNS lookup failure (REFUSED) for txt.test"


def test_the_less_preferred_are_not_asked_for_before_they_are_needed() -> None:
    async def play() -> None:
        async with FakeDNS(ZONE, {"mx2.good.test": "timeout"}) as dns:
            directory = MailHosts([dns.address], 5, Ourselves(US, ()))
            found = directory.of("good.test", "both", FORBIDDEN, 25)
            assert isinstance(await anext(found), MailHost)
            assert not dns.asked["mx2.good.test/A"]
            await found.aclose()
            await directory.close()

    asyncio.run(play())


# --- where no mail goes -----------------------------------------------------------------------------------------------


def test_addresses_that_point_inward_get_no_mail() -> None:
    """An owner of a domain must not make us talk to ourselves, to the network's neighbours, or to everybody."""
    found = replies(seen("inward.test"))
    assert len(found) == 3
    assert all(one.startswith("550 5.4.4 ") and "forbidden_addresses" in one for one in found)


def test_the_addresses_that_are_allowed_are_left() -> None:
    assert seen("partly.test") == [MailHost("partly.test", ("192.0.2.4",))]


def test_who_allows_them_gets_them() -> None:
    first = seen("inward.test", forbidden=())[0]
    assert first == MailHost("lo.inward.test", ("::1", "127.0.0.1"))


def test_our_own_address_ends_the_list_before_its_group() -> None:
    """One of two equals is we: neither, nor anybody worse, is tried."""
    found = seen("ours.test", forbidden=(), listen=[("127.0.0.7", 25)])
    assert [one.name for one in found if isinstance(one, MailHost)] == ["mx1.good.test"]
    assert str(found[-1]).startswith("554 5.4.6")
    assert replies(seen("round.test", forbidden=(), listen=[("127.0.0.7", 25)]))[0].startswith("554 5.4.6")


def test_we_are_the_port_too() -> None:
    assert seen("round.test", forbidden=(), listen=[("127.0.0.7", 587)]) == [MailHost("other.test", ("127.0.0.7",))]


def test_who_listens_everywhere_is_every_address_of_this_machine() -> None:
    us = Ourselves(US, [("0.0.0.0", 25)])
    assert us.reached("127.0.0.7", 25)
    assert not us.reached("127.0.0.7", 26)
    assert not us.reached("192.0.2.1", 25)
    assert not us.reached("::1", 25), "[::] is not listened on"
    assert us.named(US)


# --- address literals -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("domain", "found"),
    [
        ("[192.0.2.1]", MailHost("192.0.2.1", ("192.0.2.1",))),
        ("[IPv6:2001:db8::1]", MailHost("2001:db8::1", ("2001:db8::1",))),
        ("[ipv6:2001:db8::1]", MailHost("2001:db8::1", ("2001:db8::1",))),
        ("[tag:x]", "550 5.1.2"),
        ("[192.0.2.256]", "550 5.1.2"),
        ("[127.0.0.1]", "550 5.4.4"),
        ("[IPv6:::1]", "550 5.4.4"),
        ("[IPv6:::ffff:127.0.0.1]", "550 5.4.4"),
    ],
)
def test_address_literals(domain: str, found: MailHost | str) -> None:
    (only,) = seen(domain)
    if isinstance(found, str):
        assert str(only).startswith(found)
    else:
        assert only == found


def test_a_literal_that_is_we() -> None:
    (only,) = seen("[127.0.0.7]", forbidden=(), listen=[("127.0.0.7", 25)])
    assert str(only).startswith("554 5.4.6")


def test_what_was_asked_once_is_known() -> None:
    async def play() -> None:
        async with FakeDNS(ZONE) as dns:
            directory = MailHosts([dns.address], 0.5, Ourselves(US, ()))
            for _ in range(3):
                assert len([one async for one in directory.of("good.test", "both", FORBIDDEN, 25)]) == 2
            assert set(dns.asked.values()) == {1}
            directory.forget()
            assert len([one async for one in directory.of("good.test", "both", FORBIDDEN, 25)]) == 2
            assert set(dns.asked.values()) == {2}

    asyncio.run(play())


def test_the_limits_are_those_of_the_law() -> None:
    assert (mx.TEN, mail_hosts.ADDRESSES) == (10, 5)
