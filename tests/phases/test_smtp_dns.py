"""The way out by DNS: rows 47-51 and 58-60 as they are for connectors of type dns, and how domains share servers."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kmq.config.sections import ConnectorSection
from kmq.model.event import Delivered
from kmq.model.hop import DeliveryType, NextHop
from kmq.phases import hosts, smtp, smtp_hop
from kmq.phases.work import Outcome, Work
from tests.fakes import EvilHop
from tests.phases.dns_world import World, connector, play
from tests.phases.sending import kinds, outcome, results, send, until, work

ZONE = {
    "d.test": ["MX 10 mx1.d.test.", "MX 20 mx2.d.test."],
    "mx1.d.test": ["A 127.0.0.2"],
    "mx2.d.test": ["A 127.0.0.3"],
    "e.test": ["MX 10 mx1.d.test."],
    "f.test": ["MX 10 mx1.d.test."],
    "other.test": ["A 127.0.0.4"],
    "null.test": ["MX 0 ."],
    "self.test": ["MX 10 us.test."],
    "back.test": ["MX 10 mx9.test."],
    "mx9.test": ["A 127.0.0.9"],
    "backup.test": ["MX 10 mx1.d.test.", "MX 20 mx9.test.", "MX 30 mx2.d.test."],
    "hollow.test": ["MX 10 gone.test."],
    "many.test": [f"MX {n} mx{n}.many.test." for n in range(20)],
    **{f"mx{n}.many.test": [f"A 127.0.1.{n}"] for n in range(20)},
    "wide.test": ["A 127.0.0.11", "A 127.0.0.12", "A 127.0.0.13", "AAAA ::ffff:7f00:e"],
}


def unavailable(found: Outcome) -> str:
    """The reply of a trouble of the queue."""
    assert found.events == []
    assert found.unavailable is not None
    assert not found.unavailable.permanent
    return str(found.unavailable)


# --- rows 47 and 48: what the DNS says --------------------------------------------------------------------------------


def test_mail_goes_to_the_best_server(loop_runner: Callable[[Any], Any]) -> None:
    async def story(world: World) -> None:
        best, second = await world.serve(2), await world.serve(3)
        found = await world.send("a@d.test", "b@d.test")
        assert kinds(found) == "DD"
        assert isinstance(found.events[0], Delivered)
        assert found.events[0].host == f"mx1.d.test[127.0.0.2]:{world.port}"
        assert (len(best.messages), second.connections) == (1, 0)

    play(story, ZONE, run=loop_runner)


def test_a_domain_without_mx_is_its_own_server() -> None:
    async def story(world: World) -> None:
        hop = await world.serve(4)
        assert kinds(await world.send("a@other.test")) == "D"
        assert hop.delivered("a@other.test") == 1

    play(story, ZONE)


def test_an_address_literal_is_its_own_server() -> None:
    async def story(world: World) -> None:
        hop = await world.serve(4)
        assert kinds(await world.send("a@[127.0.0.4]")) == "D"
        assert hop.messages
        assert not world.dns.asked

    play(story, ZONE)


@pytest.mark.parametrize(
    ("fault", "why"),
    [
        ("servfail", "SERVFAIL"),
        ("refused", "REFUSED"),
        ("timeout", "timed out"),
        ("garbage", "timed out"),
        ("truncated", "truncated, and by TCP: the server ended the connection"),
    ],
)
def test_a_fault_of_the_dns_is_a_trouble_of_the_queue_and_other_domains_go_on(fault: str, why: str) -> None:
    async def story(world: World) -> None:
        await world.serve(2)
        world.dns.faults["other.test"] = fault
        failing = send(world.phase, world.mail("a@other.test"))
        assert kinds(await world.send("a@d.test")) == "D"
        assert unavailable(await failing) == f"451 4.4.3 DNS lookup failure ({why}) for other.test"
        assert not world.ready("other.test") or not world.phase._hops.get("world;other.test")
        world.dns.faults.clear()
        await world.serve(4)
        assert kinds(await world.send("a@other.test")) == "D"

    play(story, ZONE)


def test_no_resolver_at_all() -> None:
    async def story(world: World) -> None:
        await world.dns.stop()
        assert unavailable(await world.send("a@d.test")).startswith("451 4.4.3 DNS lookup failure (")

    play(story, ZONE)


def test_slow_answers_of_many_domains_hold_nobody_up() -> None:
    async def story(world: World) -> None:
        await world.serve(2)
        await world.serve(4)
        world.dns.faults = {f"{name}/MX": "slow" for name in ("d.test", "e.test", "f.test")}
        slow = [send(world.phase, world.mail(f"a@{name}")) for name in ("d.test", "e.test", "f.test")]
        assert kinds(await world.send("a@other.test")) == "D"
        assert not any(one.done() for one in slow)
        assert [kinds(one) for one in await asyncio.gather(*slow)] == ["D", "D", "D"]

    play(story, ZONE, patience=10)


@pytest.mark.parametrize(
    ("domain", "reply"),
    [
        ("gone.test", "550 5.1.2 the domain gone.test does not exist"),
        ("null.test", "556 5.1.10 the domain null.test takes no mail (null MX)"),
        ("self.test", "554 5.4.6 mail for self.test loops back"),
        ("back.test", "554 5.4.6 mail for back.test loops back"),
        ("hollow.test", "550 5.4.4 the mail server gone.test of hollow.test does not exist"),
    ],
)
def test_what_the_dns_says_for_good_is_a_result_of_all_that_wait(domain: str, reply: str) -> None:
    async def story(world: World) -> None:
        first, second = (send(world.phase, world.mail(f"a@{domain}", f"b@{domain}")) for _ in range(2))
        for found in (await first, await second):
            assert kinds(found) == "FF"
            assert all(text.startswith(reply) for _, text in results(found).values())
        await world.serve(2)
        assert world.ready(domain), "the queue is in no trouble"

    play(story, ZONE)


def test_inward_addresses_get_no_mail_by_default() -> None:
    async def story(world: World) -> None:
        hop = await world.serve(2)
        found = await world.send("a@d.test")
        assert kinds(found) == "F"
        assert results(found)[0][1].startswith("550 5.4.4 mx2.d.test is said to be at 127.0.0.3, where no mail is sent")
        assert not hop.connections

    play(story, ZONE, forbidden_addresses=ConnectorSection(name="", type="dns", helo="").forbidden_addresses)


def test_a_backup_hands_on_to_its_betters_alone_and_waits_for_them() -> None:
    """127.0.0.9 is we; 127.0.0.3 is worse than we."""

    async def story(world: World) -> None:
        worse = await world.serve(3)
        assert "127.0.0.2" in unavailable(await world.send("a@backup.test"))
        assert not worse.connections

    play(story, ZONE)


def test_ten_targets_at_most() -> None:
    async def story(world: World) -> None:
        for number in range(20):
            hop = world.servers[100 + number] = EvilHop(host=f"127.0.1.{number}", port=world.port, banner="421 no")
            await hop.start()
        assert "mx9.many.test" in unavailable(await world.send("a@many.test"))
        assert [hop.connections for hop in world.servers.values()] == [1] * 10 + [0] * 10

    play(story, ZONE)


# --- rows 49 to 51: servers that cannot be reached, or will not talk --------------------------------------------------


@pytest.mark.parametrize(
    "evil",
    [
        None,
        {"banner": "554 5.7.1 go away"},
        {"banner": "421 4.3.2 too busy"},
        {"banner": "HTTP/1.1 400 Bad Request"},
        {"banner": "\x00\xff\x00"},
        {"banner": ""},
        {"banner": "hang"},
        {"banner": "220 " + "x" * 1_000_000},
        {"ehlo": "550 5.7.1 not you", "helo": "550 5.7.1 not you"},
        {"ehlo": "421 4.3.2 closing"},
        {"ehlo": "hang"},
    ],
    ids=lambda evil: str(evil)[:40],
)
def test_the_next_server_is_tried(evil: dict[str, Any] | None) -> None:
    async def story(world: World) -> None:
        if evil is not None:
            await world.serve(2, **evil)
        second = await world.serve(3)
        assert kinds(await world.send("a@d.test")) == "D"
        assert second.delivered("a@d.test") == 1

    play(story, ZONE, greeting_timeout=0.3, ehlo_timeout=0.3)


def test_all_servers_down_is_a_trouble_of_the_queue() -> None:
    async def story(world: World) -> None:
        await world.serve(3, banner="554 5.7.1 go away")
        reply = unavailable(await world.send("a@d.test"))
        assert reply == f"451 4.4.0 mx2.d.test[127.0.0.3]:{world.port} said: 554 5.7.1 go away"

    play(story, ZONE)


def test_a_server_that_failed_a_moment_ago_is_tried_last(monkeypatch: pytest.MonkeyPatch) -> None:
    async def story(world: World) -> None:
        first, second = await world.serve(2, banner="421 4.3.2 busy"), await world.serve(3, messages_limit=1)
        assert kinds(await world.send("a@d.test")) == "D"
        await until(lambda: second.open == 0, "the second server closed")
        first.banner = "220 evil.test ESMTP"
        assert kinds(await world.send("b@d.test")) == "D"
        assert (first.connections, second.delivered("b@d.test")) == (1, 1)
        await until(lambda: second.open == 0, "the second server closed")
        monkeypatch.setattr(hosts, "FAILED_MEMORY", 0.0)
        assert kinds(await world.send("c@d.test")) == "D"
        assert first.delivered("c@d.test") == 1

    play(story, ZONE)


def test_every_address_of_a_server_is_tried() -> None:
    async def story(world: World) -> None:
        await world.serve(12, banner="421 4.3.2 busy")
        hop = await world.serve(13)
        assert kinds(await world.send("a@wide.test")) == "D"
        assert hop.delivered("a@wide.test") == 1

    play(story, ZONE, address_families="ipv4")


def test_an_opening_ends_after_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Row 50: servers that say nothing must not hold mail for their number times the patience with one."""
    monkeypatch.setattr(smtp_hop, "OPENING_LIMIT", 0.0)

    async def story(world: World) -> None:
        await world.serve(2, banner="hang")
        second = await world.serve(3)
        assert "did not answer in time" in unavailable(await world.send("a@d.test"))
        assert not second.connections

    play(story, ZONE, greeting_timeout=0.2)


def test_what_one_server_lacks_is_said_of_the_message() -> None:
    """Row 51: a SIZE that is too small."""

    async def story(world: World) -> None:
        await world.serve(2, extensions=("SIZE 10",))
        found = await world.send("a@d.test")
        assert kinds(found) == "F"
        assert results(found)[0][1].startswith("552 5.3.4")

    play(story, ZONE)


def test_helo_when_ehlo_is_refused() -> None:
    async def story(world: World) -> None:
        hop = await world.serve(2, ehlo="502 5.5.1 what?")
        assert kinds(await world.send("a@d.test")) == "D"
        assert b"HELO us.test" in hop.commands

    play(story, ZONE)


# --- rows 58 to 60: in the conversation -------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", ["multi", "slow", "plain", "mixed", "twice", "garbage"])
def test_replies_of_every_kind_do_not_confuse_the_next_message(fault: str) -> None:
    async def story(world: World) -> None:
        hop = await world.serve(2)
        await world.serve(3)
        first = await world.send(f"{fault}-at-rcpt-1.x@d.test")
        assert kinds(first) in ("D", "d")
        second = await world.send("b@d.test", "550-at-rcpt@d.test")
        assert kinds(second) == "DF"
        assert sum(hop.delivered("b@d.test") for hop in world.servers.values()) == 1
        assert hop.connections <= 2

    play(story, ZONE)


def test_a_server_that_takes_nothing_ends_at_the_deadline_and_others_go_on(tmp_path: Path) -> None:
    """Row 59."""
    large = b"Subject: x\r\n\r\n" + b"x" * 70 * 200_000

    async def story(world: World) -> None:
        await world.serve(2, reading=False)
        await world.serve(4)
        stuck = send(world.phase, world.mail("a@d.test", text=large, file=tmp_path / "large.eml"))
        assert kinds(await world.send("a@other.test")) == "D"
        found = await stuck
        assert kinds(found) == "d"
        assert "timed out" in results(found)[0][1]
        await world.servers[2].stop()  # who does not read does not see the end either

    play(story, ZONE, data_timeout=0.5)


def test_a_kept_connection_that_died_costs_nothing() -> None:
    """Row 60."""

    async def story(world: World) -> None:
        hop = await world.serve(2)
        assert kinds(await world.send("a@d.test")) == "D"
        hop.drop_idle()
        assert kinds(await world.send("b@d.test")) == "D"
        assert hop.delivered("b@d.test") == 1

    play(story, ZONE)


# --- domains that share servers ---------------------------------------------------------------------------------------


def test_domains_share_a_connection() -> None:
    async def story(world: World) -> None:
        hop = await world.serve(2)
        for domain in ("d.test", "e.test", "f.test", "d.test"):
            assert kinds(await world.send(f"a@{domain}")) == "D"
        assert (hop.connections, len(hop.messages)) == (1, 4)

    play(story, ZONE)


def test_domains_have_no_more_connections_to_a_server_than_one_may() -> None:
    async def story(world: World) -> None:
        hop = await world.serve(2)
        sent = [send(world.phase, world.mail(f"a{n}@{name}.test")) for n in range(50) for name in "def"]
        assert {kinds(one) for one in await asyncio.gather(*sent)} == {"D"}
        assert hop.most <= 2
        assert len(hop.messages) == 150

    play(story, ZONE, connections=2)


def test_a_domain_with_endless_mail_hands_the_connection_over() -> None:
    async def story(world: World) -> None:
        hop = await world.serve(2)
        many = [send(world.phase, world.mail(f"a{n}@d.test")) for n in range(200)]
        await until(lambda: len(hop.messages) > 3, "mail flows")
        assert kinds(await world.send("a@e.test")) == "D"
        assert sum(not one.done() for one in many) > 100
        assert {kinds(one) for one in await asyncio.gather(*many)} == {"D"}
        assert hop.most == 1

    play(story, ZONE, connections=1)


def test_what_died_under_a_message_is_tried_again_over_a_new_connection_and_not_over_another_kept_one() -> None:
    """Row 60 among domains: the idle connection of the other domain is let go for it."""

    async def story(world: World) -> None:
        hop = await world.serve(2)
        await asyncio.gather(*(send(world.phase, world.mail(f"a@{name}.test")) for name in "de"))
        mine = world.phase._hops["world;d.test"]._idle[0]._transport.get_extra_info("sockname")
        (dying,) = (one for one in hop._sessions if one.transport.get_extra_info("peername") == mine)
        dying.end(abort=False)
        assert kinds(await world.send("b@d.test")) == "D"
        assert hop.delivered("b@d.test") == 1
        assert hop.connections == 3
        assert hop.most == 2

    play(story, ZONE, connections=2, connection_idle=20.0)


def test_a_turn_that_nobody_needs_any_more_opens_nothing() -> None:
    async def story(world: World) -> None:
        hop = await world.serve(2)
        sent = [send(world.phase, world.mail(f"a{n}@{name}.test")) for n in range(2) for name in "def"]
        assert {kinds(one) for one in await asyncio.gather(*sent)} == {"D"}
        await until(lambda: not any(one._openings for one in world.phase._hops.values()), "nothing is being opened")
        assert hop.connections <= 2
        assert kinds(await world.send("b@d.test")) == "D"

    play(story, ZONE, connections=2)


def test_a_failed_opening_frees_its_place() -> None:
    async def story(world: World) -> None:
        await world.serve(2, banner="421 4.3.2 busy")
        for domain in ("e.test", "f.test", "e.test"):
            unavailable(await world.send(f"a@{domain}"))
        world.servers[2].banner = "220 evil.test ESMTP"
        assert kinds(await world.send("a@e.test")) == "D"

    play(story, ZONE, connections=1)


def test_queues_that_are_done_with_are_forgotten() -> None:
    async def story(world: World) -> None:
        await world.serve(2)
        await world.send("a@d.test")
        unavailable(await world.send("a@other.test"))
        assert world.phase._hops
        await until(lambda: not world.phase._hops, "idle connections close and queues are forgotten")
        assert world.ready("other.test")

    play(story, ZONE, connection_idle=0.05)


def test_fresh_mail_does_not_begin_what_nobody_knows_to_be_alive_without_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(smtp, "OPENINGS", 2)

    async def story(world: World) -> None:
        await world.serve(2, banner="hang")
        await world.serve(4)
        assert world.ready("other.test")
        waiting = [send(world.phase, world.mail(f"a@{domain}")) for domain in ("e.test", "f.test")]
        await until(lambda: world.servers[2].open == 2, "both wait for the greeting")
        assert not world.ready("other.test"), "it goes by way of its queue, which knows a bound"
        assert kinds(await world.send("a@other.test")) == "D"
        assert world.ready("other.test"), "it is known to be alive"
        await asyncio.gather(*waiting)

    play(story, ZONE, greeting_timeout=0.5)


def test_stopping_while_questions_and_openings_are_under_way() -> None:
    async def story(world: World) -> None:
        await world.serve(2, banner="hang")
        world.dns.faults["other.test"] = "timeout"
        sent = [send(world.phase, world.mail(f"a@{domain}")) for domain in ("d.test", "e.test", "other.test")]
        await until(lambda: world.servers[2].open == 1, "one waits for the greeting, one for its turn")
        await world.phase.close(0)
        for one in sent:
            assert unavailable(await one).startswith("421 4.3.2 kmq is stopping")

    play(story, ZONE, connections=1, patience=20, greeting_timeout=20.0)


# --- reload -----------------------------------------------------------------------------------------------------------


def test_a_connector_that_is_of_another_type_now_sends_nothing_where_it_should_not() -> None:
    """What waits in queues of a smart host must not be taken for a domain, whose absence would be final."""

    async def story(world: World) -> None:
        made = work("a@b.test")
        smart = NextHop(DeliveryType.SMART_HOST, "smart.test:25", "world")
        found = await outcome(world.phase, Work(made.head, made.body, made.rcpt, smart, 1))
        assert "has no connector 'world' of type smarthost" in unavailable(found)
        hop = await world.serve(2)
        assert kinds(await world.send("a@d.test")) == "D"
        world.phase.configure({"world": connector(world.port, type="smarthost", hosts=(("127.0.0.2", world.port),))})
        assert "has no connector 'world' of type dns" in unavailable(await world.send("a@d.test"))
        assert len(hop.messages) == 1

    play(story, ZONE)


def test_another_configuration_counts_for_the_next_connection() -> None:
    async def story(world: World) -> None:
        hop = await world.serve(2)
        assert kinds(await world.send("a@d.test")) == "D"
        directory = world.phase._directory
        world.phase.configure({"world": connector(world.port, helo="new.test")}, directory)
        assert kinds(await world.send("b@d.test")) == "D"
        assert [line for line in hop.commands if line.startswith(b"EHLO")] == [b"EHLO us.test", b"EHLO new.test"]
        assert hop.quits == 1

    play(story, ZONE)


def test_what_waits_goes_by_the_new_configuration_over_a_new_connection() -> None:
    """A connection in clear must not carry on when TLS is demanded now."""

    async def story(world: World) -> None:
        hop = await world.serve(2)
        slow = send(world.phase, world.mail("slow-at-dot@d.test"))
        await until(lambda: hop.messages, "the first is on its way")
        second = send(world.phase, world.mail("b@d.test"))
        world.phase.configure({"world": connector(world.port, tls="must")}, world.phase._directory)
        assert kinds(await slow) == "D"
        assert "does not offer STARTTLS" in unavailable(await second)
        assert [message.recipients for message in hop.messages] == [["slow-at-dot@d.test"]]

    play(story, {**ZONE, "d.test": ["MX 10 mx1.d.test."]}, connections=1)


def test_a_queue_is_known_by_its_domain() -> None:
    assert smtp._key(NextHop(DeliveryType.DNS, "d.test", "world")) == "world;d.test"
    assert smtp._key(NextHop(DeliveryType.SMART_HOST, "a:25,b:25", "isp")) == "isp"
