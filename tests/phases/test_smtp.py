"""SMTP delivery against a server that does everything wrong that servers do."""

import asyncio
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from kmq.config.sections import ConnectorSection
from kmq.model.event import Deferred, Delivered
from kmq.model.hop import DeliveryType, NextHop
from kmq.phases import smtp as smtp_module
from kmq.phases import smtp_hop
from kmq.phases.smtp import Smtp
from kmq.phases.work import Outcome
from tests.fakes import EXTENSIONS, EvilHop
from tests.phases.sending import HOP, LOOPS, TEXT, kinds, outcome, results, section, send, smtp, until, work

Story = Callable[[EvilHop, Smtp], Awaitable[None]]


@pytest.fixture(params=sorted(LOOPS))
def loop_runner(request: pytest.FixtureRequest) -> Callable[[Any], Any]:
    return LOOPS[request.param]


@pytest.fixture(autouse=True)
def _quick_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Deadlines are looked at fifty times a second here, so that a test of one does not take one."""
    monkeypatch.setattr(smtp_module, "SWEEP", 0.02)


def against(
    hop: EvilHop, story: Story, run: Callable[[Any], Any] = LOOPS["uvloop"], connections: int = 5, **options: Any
) -> None:
    """Plays a story with a running hop and an Smtp that knows it; nothing may be left over at the end."""

    async def play() -> None:
        trouble: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: trouble.append(context))
        async with hop:
            phase = smtp(section(hop.address, **options), connections)
            async with asyncio.timeout(20):
                await story(hop, phase)
            await phase.close(2)
            await until(lambda: hop.open == 0, "all connections closed")
        assert not trouble, trouble

    run(play())


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


def test_never_more_connections_than_allowed() -> None:
    async def story(hop: EvilHop, phase: Smtp) -> None:
        found = await asyncio.gather(*(send(phase, work(f"a{n}@b.test")) for n in range(60)))
        assert "".join(map(kinds, found)) == "D" * 60
        assert hop.most == 4
        assert set(hop.copies.values()) == {1}

    against(EvilHop(), story, connections=4)


# --- replies, stage by stage (RFC 5321 4.2, 4.3.2) -----------------------------------------------------------------

#: (fault of the recipient's address, result, uncertain)
FAULTS = [
    ("450-at-rcpt", "d", False),
    ("550-at-rcpt", "F", False),
    ("421-at-rcpt", "d", False),
    ("452-at-rcpt", "d", False),
    ("552-at-rcpt", "d", False),
    ("drop-at-rcpt", "d", False),
    ("rst-at-rcpt", "d", False),
    ("garbage-at-rcpt", "d", False),
    ("mixed-at-rcpt", "d", False),
    ("twice-at-rcpt", "d", False),
    ("451-at-data", "d", False),
    ("554-at-data", "F", False),
    ("421-at-data", "d", False),
    ("250-at-data", "d", False),
    ("drop-at-data", "d", False),
    ("garbage-at-data", "d", False),
    ("mixed-at-data", "d", False),
    ("twice-at-data", "d", False),
    ("451-at-dot", "d", False),
    ("554-at-dot", "F", False),
    ("421-at-dot", "d", True),
    ("drop-after-dot", "d", True),
    ("rst-after-dot", "d", True),
    ("garbage-at-dot", "d", True),
    ("mixed-at-dot", "d", True),
    ("354-at-dot", "d", True),
    # odd, but good
    ("multi-at-rcpt", "D", False),
    ("multi-at-dot", "D", False),
    ("slow-at-rcpt", "D", False),
    ("slow-at-data", "D", False),
    ("slow-at-dot", "D", False),
    ("plain-at-rcpt", "D", False),
    ("plain-at-data", "D", False),
    ("plain-at-dot", "D", False),
    ("twice-at-dot", "D", False),  # it was taken; the connection is not
]


@pytest.mark.parametrize("extensions", [EXTENSIONS, ("SIZE",)], ids=["pipelined", "one-by-one"])
@pytest.mark.parametrize(("fault", "result", "uncertain"), FAULTS)
def test_faults(fault: str, result: str, uncertain: bool, extensions: tuple[str, ...]) -> None:
    async def story(hop: EvilHop, phase: Smtp) -> None:
        found = await outcome(phase, work(f"{fault}@b.test"))
        assert kinds(found) == result, found
        assert found.uncertain == uncertain
        assert found.unavailable is None
        # Whatever happened, the next message gets its own replies.
        after = await outcome(phase, work("good@b.test", text=b"Message-ID: <2@kmq.test>\r\n\r\n"))
        assert kinds(after) == "D"
        assert hop.copies["good@b.test", "<2@kmq.test>"] == 1

    against(EvilHop(extensions=extensions), story)


@pytest.mark.parametrize(
    ("fault", "result"), [("450", "d"), ("550", "F"), ("421", "d"), ("drop", "d"), ("garbage", "d"), ("354", "d")]
)
def test_faults_at_mail(fault: str, result: str) -> None:
    async def story(hop: EvilHop, phase: Smtp) -> None:
        found = await outcome(phase, work("a@b.test", "c@b.test", sender=f"{fault}-at-mail@kmq.test"))
        assert kinds(found) == result * 2
        assert kinds(await outcome(phase, work("a@b.test"))) == "D"

    against(EvilHop(), story)


def test_each_recipient_has_its_own_result() -> None:
    async def story(hop: EvilHop, phase: Smtp) -> None:
        to = ["a@b.test", "550-at-rcpt@b.test", "b@b.test", "450-at-rcpt@b.test", "550-at-rcpt.2@b.test"]
        found = await outcome(phase, work(*to))
        assert kinds(found) == "DFDdF"
        assert [event.rcpt for event in found.events] == ["1,4", "3", "0,2"], "the same reply is told once"
        assert hop.messages[0].recipients == ["a@b.test", "b@b.test"]

    against(EvilHop(), story)


def test_nobody_accepted_but_data_was() -> None:
    """RFC 2920 3.1: the server waits for a text; it gets none, and the session goes on."""

    async def story(hop: EvilHop, phase: Smtp) -> None:
        assert kinds(await outcome(phase, work("550-at-rcpt@b.test"))) == "F"
        hop.data = ""
        assert kinds(await outcome(phase, work("a@b.test"))) == "D"
        assert hop.connections == 1
        assert [message.recipients for message in hop.messages] == [["a@b.test"]]

    against(EvilHop(data="354 go ahead, whoever it is for"), story)


def test_a_session_is_reset_after_a_refused_transaction() -> None:
    async def story(hop: EvilHop, phase: Smtp) -> None:
        await outcome(phase, work("550-at-rcpt@b.test"))
        await outcome(phase, work("a@b.test"))
        verbs = [line.split(b" ")[0] for line in hop.commands]
        assert verbs == [b"EHLO", b"MAIL", b"RCPT", b"DATA", b"RSET", b"MAIL", b"RCPT", b"DATA"]

    against(EvilHop(), story)


@pytest.mark.parametrize("too_many", ["452 4.5.3 too many", "552 too many", "452 too many"])
def test_too_many_recipients_go_in_further_transactions(too_many: str) -> None:
    async def story(hop: EvilHop, phase: Smtp) -> None:
        found = await outcome(phase, work(*(f"u{n}@b.test" for n in range(10))))
        assert kinds(found) == "D" * 10
        assert [len(message.recipients) for message in hop.messages] == [4, 4, 2]
        assert set(hop.copies.values()) == {1}
        told = [line for line in hop.commands if line.startswith(b"RCPT")]
        assert len(told) == 10 + 4 + 2, "what the server takes is known after the first time"

    against(EvilHop(recipients_limit=4, too_many=too_many), story)


def test_more_than_a_hundred_recipients_are_not_tried_at_once() -> None:
    async def story(hop: EvilHop, phase: Smtp) -> None:
        found = await outcome(phase, work(*(f"u{n}@b.test" for n in range(250))))
        assert kinds(found) == "D" * 250
        assert [len(message.recipients) for message in hop.messages] == [100, 100, 50]
        assert [event.rcpt for event in found.events] == ["0-99", "100-199", "200-249"]

    against(EvilHop(), story)


def test_a_server_that_takes_nobody_ends_it() -> None:
    async def story(hop: EvilHop, phase: Smtp) -> None:
        found = await outcome(phase, work(*(f"u{n}@b.test" for n in range(5))))
        assert kinds(found) == "d" * 5
        assert len([line for line in hop.commands if line.startswith(b"MAIL")]) == 1

    against(EvilHop(recipients_limit=0), story)


def test_a_connection_lost_between_two_transactions_defers_the_rest() -> None:
    async def story(hop: EvilHop, phase: Smtp) -> None:
        found = await outcome(phase, work(*(f"u{n}@b.test" for n in range(100)), "drop-at-rcpt@b.test", "z@b.test"))
        assert kinds(found) == "D" * 100 + "dd"

    against(EvilHop(), story)


def test_replies_of_a_peer_are_harmless_text() -> None:
    async def story(hop: EvilHop, phase: Smtp) -> None:
        hop.data = "554 5.7.1 \x1b[2J\x07nasty\udcff"
        ((_, reply),) = results(await outcome(phase, work("a@b.test"))).values()
        assert reply == "554 5.7.1 \\x1b[2J\\x07nasty\\xff"

    against(EvilHop(), story)


# --- what this server cannot take --------------------------------------------------------------------------------


def test_too_large_for_this_server() -> None:
    async def story(hop: EvilHop, phase: Smtp) -> None:
        ((kind, reply),) = results(await outcome(phase, work("a@b.test"))).values()
        assert (kind, reply[:9]) == ("Failed", "552 5.3.4")
        assert not any(line.startswith(b"MAIL") for line in hop.commands)
        assert kinds(await outcome(phase, work("a@b.test", text=b"\r\n"))) == "D", "the connection lives on"

    against(EvilHop(extensions=("SIZE 10",)), story)


def test_8_bit_text_needs_8bitmime() -> None:
    text = "Subject: x\r\n\r\nGrüße\r\n".encode()

    async def story(hop: EvilHop, phase: Smtp) -> None:
        ((kind, reply),) = results(await outcome(phase, work("a@b.test", text=text))).values()
        assert (kind, reply[:9]) == ("Failed", "554 5.6.3")
        hop.extensions = EXTENSIONS
        await phase.close(1)
        again = smtp(section(hop.address))
        assert kinds(await outcome(again, work("a@b.test", text=text))) == "D"
        assert hop.messages[0].lines[0].endswith(b" BODY=8BITMIME")
        assert hop.messages[0].body == text
        await again.close(1)

    against(EvilHop(extensions=("PIPELINING",)), story)


def test_international_addresses_need_smtputf8() -> None:
    async def story(hop: EvilHop, phase: Smtp) -> None:
        found = await outcome(phase, work("пример@b.test", "a@b.test"))
        assert kinds(found) == "FD"
        assert results(found)[0][1].startswith("553 5.6.7")

    against(EvilHop(extensions=("PIPELINING", "8BITMIME")), story)


def test_an_address_that_would_break_the_line_never_leaves() -> None:
    async def story(hop: EvilHop, phase: Smtp) -> None:
        found = await outcome(phase, work("a@b.test\r\nRCPT TO:<victim@b.test>", "good@b.test"))
        assert kinds(found) == "FD"
        assert results(found)[0][1].startswith("553 5.1.3")
        assert not any(b"victim" in line for line in hop.commands)

    against(EvilHop(), story)


def test_a_thousand_messages_that_cannot_be_sent_are_reported_without_end_of_stack() -> None:
    """Each report brings the next message at once: that must not nest."""

    async def story(hop: EvilHop, phase: Smtp) -> None:
        left = 3000
        done = asyncio.Event()

        def report(found: Outcome) -> None:
            nonlocal left
            assert kinds(found) == "F"
            left -= 1
            if left:
                phase.deliver(work("bad address"), report, lambda *_: None)
            else:
                done.set()

        phase.deliver(work("bad address"), report, lambda *_: None)
        await done.wait()
        await phase.close(1)
        assert hop.connections == 1, "no second connection was opened for what one could refuse"

    against(EvilHop(), story, messages_per_connection=100_000)


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
        assert hop.connections == 2 * kept

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


def test_a_hop_that_wants_fewer_connections_is_not_down(monkeypatch: pytest.MonkeyPatch) -> None:
    """421 for the third connection says nothing about the mail that two others carry."""
    monkeypatch.setattr(smtp_hop, "WIDEN_AFTER", 0.0)

    async def story(hop: EvilHop, phase: Smtp) -> None:
        found = await asyncio.gather(*(send(phase, work("a@b.test")) for _ in range(200)))
        assert "".join(map(kinds, found)) == "D" * 200
        assert hop.most <= 10

    against(EvilHop(connections_limit=2), story, connections=10)


# --- time ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("address", "stage", "uncertain"),
    [
        ("hang-at-rcpt@b.test", "sending RCPT TO", False),
        ("hang-at-data@b.test", "sending DATA", False),
        ("hang-at-dot@b.test", "waiting for the reply to the final dot", True),
    ],
)
def test_every_stage_has_its_deadline(address: str, stage: str, uncertain: bool) -> None:
    async def story(hop: EvilHop, phase: Smtp) -> None:
        found = await outcome(phase, work(address))
        ((kind, reply),) = results(found).values()
        assert kind == "Deferred"
        assert reply.startswith("451 4.4.2 timed out after ")
        assert reply.endswith(f"while {stage}" + "; delivery status unknown" * uncertain)
        assert found.uncertain == uncertain
        await until(lambda: hop.open == 0, "the connection is given up")

    limits = dict.fromkeys(("mail_timeout", "rcpt_timeout", "data_timeout", "final_timeout"), 0.05)
    against(EvilHop(), story, **limits)


def test_the_reply_to_the_dot_is_waited_for_ten_minutes() -> None:
    """RFC 5321 4.5.3.2.6; too short a wait here sends mail twice."""
    assert section(("x", 25)).final_timeout >= 600


# --- large bodies -------------------------------------------------------------------------------------------------


def large(size: int) -> bytes:
    """A body with dots at many line starts, also at the places where pieces are cut."""
    line = b".dot\r\n..\r\nplain text with some length to it\r\n.\r\n"
    return TEXT + line * (size // len(line))


def test_a_large_body_is_streamed(tmp_path: Path, loop_runner: Callable[[Any], Any]) -> None:
    text = large(3_000_000)

    async def story(hop: EvilHop, phase: Smtp) -> None:
        shown: list[tuple[str, int]] = []
        found = await send(phase, work("a@b.test", text=text, file=tmp_path / "x.eml"), shown)
        assert kinds(found) == "D"
        assert hop.messages[0].body == text
        percents = [percent for _, percent in shown]
        assert percents == sorted(percents)
        assert percents[-1] == 100
        assert len(percents) > 10
        assert kinds(await outcome(phase, work("a@b.test"))) == "D"
        assert hop.connections == 1

    against(EvilHop(), story, loop_runner)


def test_a_large_body_for_many_is_read_anew_for_each_transaction(tmp_path: Path) -> None:
    text = large(400_000)

    async def story(hop: EvilHop, phase: Smtp) -> None:
        found = await outcome(phase, work(*(f"u{n}@b.test" for n in range(5)), text=text, file=tmp_path / "x.eml"))
        assert kinds(found) == "DDDDD"
        assert [message.body == text for message in hop.messages] == [True] * 3

    against(EvilHop(recipients_limit=2), story)


@pytest.mark.parametrize("fault", ["drop", "rst", "421"])
def test_lost_in_the_middle_of_a_large_body_is_certain(tmp_path: Path, fault: str) -> None:
    """Row 53: without the dot the server throws away what it has, so there is no doubt."""

    async def story(hop: EvilHop, phase: Smtp) -> None:
        one = work(f"{fault}-at-body-1@b.test", text=large(5_000_000), file=tmp_path / "x.eml")
        found = await outcome(phase, one)
        assert (kinds(found), found.uncertain) == ("d", False)
        assert kinds(await outcome(phase, one)) == "D"
        assert hop.delivered("fault-at-body-1@b.test".replace("fault", fault)) == 1

    against(EvilHop(), story)


def test_a_refusal_in_the_middle_of_a_large_body_counts(tmp_path: Path) -> None:
    async def story(hop: EvilHop, phase: Smtp) -> None:
        found = await outcome(phase, work("552-at-body@b.test", text=large(5_000_000), file=tmp_path / "x.eml"))
        ((kind, reply),) = results(found).values()
        assert (kind, reply[:3]) == ("Failed", "552")
        assert kinds(await outcome(phase, work("a@b.test"))) == "D"
        assert hop.connections == 2

    against(EvilHop(), story)


def test_a_server_that_does_not_read_is_given_up_and_others_go_on(tmp_path: Path) -> None:
    """Row 59: a window that stays shut. The body never left us whole, so there is no doubt about the dot."""

    async def story(hop: EvilHop, phase: Smtp) -> None:
        stuck = send(phase, work("a@b.test", text=large(20_000_000), file=tmp_path / "x.eml"))
        async with EvilHop() as good:
            other = smtp(section(good.address))
            for _ in range(10):
                assert kinds(await outcome(other, work("a@b.test"))) == "D"
            await other.close(1)
        found = await stuck
        assert (kinds(found), found.uncertain) == ("d", False)
        assert "timed out" in results(found)[0][1]
        assert not hop.messages
        for session in hop._sessions:
            session.transport.resume_reading()

    against(EvilHop(reading=False), story, data_timeout=0.2)


def test_a_dot_that_never_left_is_no_doubt(loop_runner: Callable[[Any], Any]) -> None:
    """All was written, but the end of it lies in our own buffer when the server is given up."""

    async def story(hop: EvilHop, phase: Smtp) -> None:
        found = await outcome(phase, work("a@b.test", text=large(20_000_000)))
        assert (kinds(found), found.uncertain) == ("d", False)
        assert "timed out" in results(found)[0][1]
        assert "unknown" not in results(found)[0][1]
        for session in hop._sessions:
            session.transport.resume_reading()

    against(EvilHop(reading=False), story, loop_runner, final_timeout=0.1)


def test_a_damaged_body_is_not_delivered(tmp_path: Path) -> None:
    """Row 21: what is on the disk is not what was accepted; the server never sees the dot."""
    text = large(1_000_000)

    async def story(hop: EvilHop, phase: Smtp) -> None:
        one = work("a@b.test", text=text, file=tmp_path / "x.eml")
        (tmp_path / "x.eml").write_bytes(text[:-3] + b"X\r\n")
        found = await outcome(phase, one)
        assert (found.events, found.unavailable) == ([], None)
        assert "checksum" in found.damaged
        assert not hop.messages
        await until(lambda: hop.open == 0, "the connection cannot be used after half a message")
        mixed = work("bad address", "a@b.test", text=text, file=tmp_path / "x.eml")
        os.truncate(tmp_path / "x.eml", 5)
        found = await outcome(phase, mixed)
        assert (kinds(found), found.damaged) == ("Fd", "")
        assert "the message is damaged" in results(found)[1][1]
        assert kinds(await outcome(phase, work("a@b.test"))) == "D"

    against(EvilHop(), story)


def test_a_body_that_cannot_be_read_is_tried_again(tmp_path: Path) -> None:
    async def story(hop: EvilHop, phase: Smtp) -> None:
        one = work("a@b.test", text=large(200_000), file=tmp_path / "x.eml")
        os.rename(tmp_path / "x.eml", tmp_path / "y.eml")
        ((kind, reply),) = results(await outcome(phase, one)).values()
        assert (kind, reply) == ("Deferred", "451 4.3.0 cannot read the message: No such file or directory")
        os.rename(tmp_path / "y.eml", tmp_path / "x.eml")
        assert kinds(await outcome(phase, one)) == "D"

    against(EvilHop(), story)


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
