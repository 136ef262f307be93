"""SMTP delivery: messages over kept connections, servers that come and go, and the end of it all."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from kmq.config.sections import ConnectorSection
from kmq.model.event import Deferred, Delivered
from kmq.model.hop import DeliveryType, NextHop
from kmq.phases import smtp_hop
from kmq.phases.smtp import Smtp
from kmq.phases.work import Outcome
from tests.fakes import EvilHop
from tests.phases.sending import HOP, TEXT, against, kinds, outcome, results, section, send, smtp, until, work

# --- what goes well -------------------------------------------------------------------------------------------


def test_a_message_arrives_as_it_is(loop_runner: Callable[[Any], Any]) -> None:
    text = TEXT + b".\r\n..\r\n.dot\r\n\r\nend without line end"

    async def story(hop: EvilHop, phase: Smtp) -> None:
        found = await outcome(phase, work("a@b.test", text=text, attempt=3))
        (event,) = found.events
        assert isinstance(event, Delivered)
        assert (event.rcpt, event.attempt) == ("0", 3)
        assert event.reply == "250 2.0.0 ok: queued as 1"
        assert event.host == f"127.0.0.1[127.0.0.1]:{hop.port}"
        (message,) = hop.messages
        assert message.body == text + b"\r\n"
        assert (message.sender, message.recipients) == ("sender@kmq.test", ["a@b.test"])

    against(EvilHop(), story, loop_runner)


def test_an_envelope_is_one_write_and_connections_are_kept(loop_runner: Callable[[Any], Any]) -> None:
    async def story(hop: EvilHop, phase: Smtp) -> None:
        for _ in range(5):
            assert kinds(await outcome(phase, work("a@b.test"))) == "D"
        assert hop.connections == 1
        size = len(TEXT)
        envelope = f"MAIL FROM:<sender@kmq.test> SIZE={size}\r\nRCPT TO:<a@b.test>\r\nDATA\r\n".encode()
        assert hop.writes[1:] == [envelope] * 5

    against(EvilHop(), story, loop_runner)


def test_the_next_message_is_sent_before_the_last_one_is_reported() -> None:
    """What waits goes out in the same turn as the reply to the dot comes in."""

    async def story(hop: EvilHop, phase: Smtp) -> None:
        order: list[str] = []
        done = asyncio.Event()

        def report(name: str) -> Callable[[Outcome], None]:
            def reported(found: Outcome) -> None:
                order.append(f"{name} reported")
                if name == "second":
                    done.set()

            return reported

        for name in ("first", "second"):
            phase.deliver(work("a@b.test"), report(name), lambda _, __, name=name: order.append(f"{name} sent"))
        await done.wait()
        assert order == ["first sent", "second sent", "first reported", "second reported"]

    against(EvilHop(), story, connections=1)


def test_without_pipelining_it_works_too(loop_runner: Callable[[Any], Any]) -> None:
    async def story(hop: EvilHop, phase: Smtp) -> None:
        found = await outcome(phase, work("a@b.test", "550-at-rcpt@b.test", "c@b.test"))
        assert kinds(found) == "DFD"
        assert len(hop.writes) == 6, "EHLO, MAIL, three RCPT, DATA: one at a time"

    against(EvilHop(extensions=("8BITMIME",)), story, loop_runner)


def test_a_server_that_knows_no_ehlo() -> None:
    async def story(hop: EvilHop, phase: Smtp) -> None:
        assert kinds(await outcome(phase, work("a@b.test"))) == "D"
        assert hop.commands[:2] == [b"EHLO kmq.test", b"HELO kmq.test"]
        assert hop.commands[2] == b"MAIL FROM:<sender@kmq.test>", "nothing was offered"

    against(EvilHop(ehlo="502 5.5.1 what?"), story)


def test_the_status_sees_where_a_message_goes() -> None:
    async def story(hop: EvilHop, phase: Smtp) -> None:
        shown: list[tuple[str, int]] = []
        await send(phase, work("a@b.test"), shown)
        assert shown == [(f"127.0.0.1[127.0.0.1]:{hop.port}", 0)]

    against(EvilHop(), story)


def test_goodbye_is_said() -> None:
    async def story(hop: EvilHop, phase: Smtp) -> None:
        await asyncio.gather(*(send(phase, work("a@b.test")) for _ in range(3)))
        await phase.close(1)
        assert hop.quits == hop.connections

    against(EvilHop(), story)


def test_so_many_messages_per_connection() -> None:
    async def story(hop: EvilHop, phase: Smtp) -> None:
        found = await asyncio.gather(*(send(phase, work("a@b.test")) for _ in range(7)))
        assert "".join(map(kinds, found)) == "D" * 7
        await until(lambda: hop.quits == 3, "three full connections ended in good order")
        assert hop.connections == 4
        assert hop.most == 1

    against(EvilHop(), story, connections=1, messages_per_connection=2)


def test_an_idle_connection_is_closed_in_good_order() -> None:
    async def story(hop: EvilHop, phase: Smtp) -> None:
        await outcome(phase, work("a@b.test"))
        await until(lambda: hop.quits == 1 and hop.open == 0, "QUIT after the idle time")
        assert kinds(await outcome(phase, work("a@b.test"))) == "D"
        assert hop.connections == 2

    against(EvilHop(), story, connection_idle=0.01)


def test_nobody_looks_at_deadlines_while_there_are_none() -> None:
    """And who has looked for the last time begins again with the next message."""

    async def story(hop: EvilHop, phase: Smtp) -> None:
        for count in (1, 2):
            await outcome(phase, work("a@b.test"))
            assert phase._sweep is not None
            await until(lambda count=count: hop.quits == count, "QUIT after the idle time")  # type: ignore[misc]
            await until(lambda: phase._sweep is None, "nothing is left to look at")

    against(EvilHop(), story, connection_idle=0.01)


def test_never_more_connections_than_allowed() -> None:
    async def story(hop: EvilHop, phase: Smtp) -> None:
        found = await asyncio.gather(*(send(phase, work(f"a{n}@b.test")) for n in range(60)))
        assert "".join(map(kinds, found)) == "D" * 60
        assert hop.most == 4
        assert set(hop.copies.values()) == {1}

    against(EvilHop(), story, connections=4)


# --- connections that come and go --------------------------------------------------------------------------------


def test_after_the_dot_the_copies_are_counted(loop_runner: Callable[[Any], Any]) -> None:
    """Row 54: dropped after the dot is uncertain; the second try makes exactly two copies."""

    async def story(hop: EvilHop, phase: Smtp) -> None:
        first = await outcome(phase, work("drop-after-dot-1@b.test"))
        assert (kinds(first), first.uncertain) == ("d", True)
        assert isinstance(first.events[0], Deferred)
        assert first.events[0].reply.endswith("the reply to the final dot; delivery status unknown")
        second = await outcome(phase, work("drop-after-dot-1@b.test", attempt=2))
        assert kinds(second) == "D"
        assert hop.delivered("drop-after-dot-1@b.test") == 2

    against(EvilHop(), story, loop_runner)


def test_a_kept_connection_that_died_costs_nothing(loop_runner: Callable[[Any], Any]) -> None:
    """Row 60: the server closed while we were idle; the message goes over a new connection at once."""

    async def story(hop: EvilHop, phase: Smtp) -> None:
        await outcome(phase, work("a@b.test"))
        hop.drop_idle()
        found = await outcome(phase, work("a@b.test"))  # written before the loop has seen the end
        assert kinds(found) == "D"
        assert hop.connections == 2
        assert hop.delivered("a@b.test") == 2

    against(EvilHop(), story, loop_runner)


def test_a_server_that_closes_after_each_message() -> None:
    async def story(hop: EvilHop, phase: Smtp) -> None:
        begun: list[list[tuple[str, int]]] = [[] for _ in range(150)]
        found = await asyncio.gather(*(send(phase, work("a@b.test"), shown) for shown in begun))
        assert "".join(map(kinds, found)) == "D" * 150
        assert max(map(len, begun)) == 2, "once over a dead connection, then over a new one"
        assert hop.delivered("a@b.test") == 150

    against(EvilHop(messages_limit=1), story, connections=3)


def test_a_server_that_starts_anew_costs_nobody_an_attempt() -> None:
    """All kept connections are dead, and each message finds one of them."""

    async def story(hop: EvilHop, phase: Smtp) -> None:
        await asyncio.gather(*(send(phase, work("a@b.test")) for _ in range(20)))
        kept = hop.open
        assert kept == 5
        hop.drop_idle()
        found = await asyncio.gather(*(send(phase, work("a@b.test")) for _ in range(kept)))
        assert "".join(map(kinds, found)) == "D" * kept
        assert kept < hop.connections <= 2 * kept  # one that is new and idle again serves, too

    against(EvilHop(), story)


def test_what_is_refused_here_stays_refused_when_the_server_is_gone() -> None:
    async def story(hop: EvilHop, phase: Smtp) -> None:
        await outcome(phase, work("a@b.test"))
        await hop.stop()
        found = await outcome(phase, work("bad address", "a@b.test"))
        assert (kinds(found), found.unavailable) == ("Fd", None)
        assert "Connection refused" in results(found)[1][1]

    against(EvilHop(), story)


def test_421_for_a_kept_connection_costs_nothing() -> None:
    async def story(hop: EvilHop, phase: Smtp) -> None:
        await outcome(phase, work("a@b.test"))
        found = await outcome(phase, work("a@b.test", sender="421-at-mail-1@kmq.test"))
        assert kinds(found) == "D"
        assert hop.connections == 2

    against(EvilHop(), story)


@pytest.mark.parametrize("fault", ["drop-at-rcpt", "drop-at-data", "drop-after-dot", "rst-after-dot", "421-at-dot"])
def test_a_kept_connection_that_dies_later_is_an_attempt(fault: str) -> None:
    """Once the server has answered, a second try at once could be a second copy."""

    async def story(hop: EvilHop, phase: Smtp) -> None:
        await outcome(phase, work("a@b.test"))
        found = await outcome(phase, work(f"{fault}@b.test"))
        assert (kinds(found), found.uncertain) == ("d", "dot" in fault)
        assert hop.connections == 1
        assert hop.delivered(f"{fault}@b.test") <= 1

    against(EvilHop(), story)


def test_only_once_it_costs_nothing() -> None:
    async def story(hop: EvilHop, phase: Smtp) -> None:
        await outcome(phase, work("a@b.test"))
        found = await outcome(phase, work("a@b.test", sender="drop-at-mail@kmq.test"))
        assert kinds(found) == "d"
        assert hop.connections == 2

    against(EvilHop(), story)


def test_a_farewell_while_idle_is_no_reply_to_the_next_message() -> None:
    async def story(hop: EvilHop, phase: Smtp) -> None:
        await outcome(phase, work("a@b.test"))
        for session in hop._sessions:
            session.say("421 4.4.2 idle too long")
        await until(lambda: hop.open == 0, "the farewell was understood")
        assert kinds(await outcome(phase, work("a@b.test"))) == "D"

    against(EvilHop(), story)


def test_an_unasked_reply_while_idle_ends_the_connection() -> None:
    async def story(hop: EvilHop, phase: Smtp) -> None:
        await outcome(phase, work("a@b.test"))
        for session in hop._sessions:
            session.say("250 2.0.0 gladly")
        await until(lambda: hop.open == 0, "the connection was not trusted any more")
        assert kinds(await outcome(phase, work("550-at-rcpt@b.test"))) == "F"

    against(EvilHop(), story)


# --- a server that is not there ----------------------------------------------------------------------------------


async def dead_port() -> tuple[str, int]:
    """A port that refuses: it was ours a moment ago."""
    async with EvilHop() as gone:
        return gone.address


@pytest.mark.parametrize(
    ("evil", "said"),
    [
        ({"banner": "554 5.7.1 go away"}, "said: 554 5.7.1 go away"),
        ({"banner": "421 4.3.2 busy"}, "said: 421 4.3.2 busy"),
        ({"banner": "hello there"}, "said: "),
        ({"banner": "250 not a greeting"}, "said: 250 not a greeting"),
        ({"banner": ""}, "ended the connection"),
        ({"banner": "hang"}, "did not answer in time"),
        ({"banner": "220 " + "x" * 200_000}, "said: "),
        ({"banner": "\x00\x01\x02\x03"}, "said: "),
        ({"banner": "220 a\r\n250 b"}, "more than it was asked for"),
        ({"ehlo": "421 4.3.2 not now"}, "said: 421 4.3.2 not now"),
        ({"ehlo": "450 not now"}, "said: 450 not now"),
        ({"ehlo": "502 what?", "helo": "502 what?"}, "said: 502 what?"),
        ({"ehlo": "502 what?", "helo": ""}, "ended the connection"),
        ({"ehlo": "hang"}, "did not answer in time"),
        ({"ehlo": "garbage\x1b[2J"}, "said: "),
    ],
)
def test_a_server_that_will_not_talk_is_a_trouble_of_the_queue(evil: dict[str, Any], said: str) -> None:
    async def story(hop: EvilHop, phase: Smtp) -> None:
        found = await outcome(phase, work("a@b.test"))
        assert found.events == []
        assert found.unavailable is not None
        assert not found.unavailable.permanent
        assert said in found.unavailable.text
        assert found.unavailable.text.isprintable()
        assert len(str(found.unavailable)) < 1200
        assert f"127.0.0.1[127.0.0.1]:{hop.port}" in found.unavailable.text
        assert not phase.ready(HOP)

    against(EvilHop(**evil), story, greeting_timeout=0.2, ehlo_timeout=0.2)


def test_all_that_wait_for_a_dead_host_are_told(loop_runner: Callable[[Any], Any]) -> None:
    async def play() -> None:
        phase = smtp(section(await dead_port()))
        assert phase.ready(HOP)
        found = await asyncio.gather(*(send(phase, work("a@b.test")) for _ in range(50)))
        assert {one.unavailable and one.unavailable.text.partition(": ")[2] for one in found} == {"Connection refused"}
        assert not phase.ready(HOP)
        await phase.close(0)

    loop_runner(play())


def test_a_dead_host_is_tried_by_one_connection_at_a_time_until_it_lives() -> None:
    async def story(hop: EvilHop, phase: Smtp) -> None:
        hop.banner = "421 4.3.2 not now"
        assert (await outcome(phase, work("a@b.test"))).unavailable
        before = hop.connections
        found = await asyncio.gather(*(send(phase, work("a@b.test")) for _ in range(30)))
        assert all(one.unavailable for one in found)
        assert hop.connections == before + 1
        hop.banner = "220 here again"
        assert kinds(await outcome(phase, work("a@b.test"))) == "D"
        assert phase.ready(HOP)

    against(EvilHop(), story)


def test_the_next_host_is_tried_first() -> None:
    async def story(hop: EvilHop, phase: Smtp) -> None:
        dead = await dead_port()
        both = smtp(section(dead, ("no such host.invalid", 25), hop.address))
        found = await outcome(both, work("a@b.test"))
        assert kinds(found) == "D"
        assert isinstance(found.events[0], Delivered)
        assert found.events[0].host.endswith(f":{hop.port}")
        await both.close(1)

    against(EvilHop(), story)


def test_a_connector_without_hosts_says_what_to_do() -> None:
    async def play() -> None:
        phase = smtp(section())
        found = await outcome(phase, work("a@b.test"))
        assert found.unavailable is not None
        assert "hosts" in found.unavailable.text
        await phase.close(0)

    asyncio.run(play())


def test_a_connector_that_is_gone_from_the_configuration() -> None:
    async def story(hop: EvilHop, phase: Smtp) -> None:
        elsewhere = NextHop(DeliveryType.SMART_HOST, "x", "other")
        assert not phase.ready(elsewhere)
        assert kinds(await outcome(phase, work("a@b.test"))) == "D"
        phase.configure({})
        assert not phase.ready(HOP)
        found = await outcome(phase, work("a@b.test"))
        assert found.unavailable is not None
        assert "isp" in found.unavailable.text
        await until(lambda: hop.open == 0, "idle connections of a connector that is gone are closed")

    against(EvilHop(), story)


def test_a_new_configuration_counts_for_the_next_connection() -> None:
    async def story(hop: EvilHop, phase: Smtp) -> None:
        assert kinds(await outcome(phase, work("a@b.test"))) == "D"
        async with EvilHop() as other:
            changed: ConnectorSection = section(other.address)
            phase.configure({"isp": changed})
            assert kinds(await outcome(phase, work("a@b.test"))) == "D"
            assert (len(hop.messages), len(other.messages)) == (1, 1)
            await phase.close(1)

    against(EvilHop(), story)


def test_a_mistake_of_ours_leaves_nobody_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    async def fails(*_: object) -> None:
        raise ZeroDivisionError("a mistake")

    async def play() -> None:
        said: list[object] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: said.append(context["exception"]))
        phase = smtp(section(("127.0.0.1", 9)))
        found = await asyncio.gather(*(send(phase, work("a@b.test")) for _ in range(3)))
        assert all(one.unavailable and "a mistake" in one.unavailable.text for one in found)
        assert [type(error) for error in said] == [ZeroDivisionError] * 3
        await phase.close(0)

    monkeypatch.setattr(smtp_hop, "open_connection", fails)
    asyncio.run(play())


def test_a_hop_that_wants_fewer_connections_is_not_down(monkeypatch: pytest.MonkeyPatch) -> None:
    """421 for the third connection says nothing about the mail that two others carry."""
    monkeypatch.setattr(smtp_hop, "WIDEN_AFTER", 0.0)

    async def story(hop: EvilHop, phase: Smtp) -> None:
        found = await asyncio.gather(*(send(phase, work("a@b.test")) for _ in range(200)))
        assert "".join(map(kinds, found)) == "D" * 200
        assert hop.most <= 10

    against(EvilHop(connections_limit=2), story, connections=10)


# --- the end ------------------------------------------------------------------------------------------------------


def test_closing_waits_for_what_is_on_its_way() -> None:
    async def story(hop: EvilHop, phase: Smtp) -> None:
        sent = [send(phase, work("slow-at-dot@b.test")) for _ in range(5)]
        await until(lambda: hop.connections, "a connection")
        await phase.close(5)
        assert "".join(kinds(one.result()) for one in sent) == "D" * 5
        late = await outcome(phase, work("a@b.test"))
        assert late.unavailable is not None

    against(EvilHop(), story, connections=1)


def test_closing_ends_what_does_not_end() -> None:
    """Everybody is reported: in the middle of a transaction, after the dot, waiting, and in a connection that opens."""

    async def story(hop: EvilHop, phase: Smtp) -> None:
        hanging = send(phase, work("hang-at-rcpt@b.test"))
        await until(lambda: len(hop.commands) >= 3, "the first one hangs")
        dotted = send(phase, work("hang-at-dot@b.test"))
        await until(lambda: hop.messages, "the dot of the second")
        waiting = send(phase, work("a@b.test"))
        await phase.close(0.05)
        assert (kinds(hanging.result()), hanging.result().uncertain) == ("d", False)
        assert (kinds(dotted.result()), dotted.result().uncertain) == ("d", True)
        assert waiting.result().unavailable is not None

    against(EvilHop(), story, connections=2)


def test_closing_while_a_connection_opens() -> None:
    async def story(hop: EvilHop, phase: Smtp) -> None:
        sent = send(phase, work("a@b.test"))
        await until(lambda: hop.connections, "the connection is there, the greeting is not")
        await phase.close(0.05)
        assert sent.result().unavailable is not None

    against(EvilHop(banner="hang"), story)
