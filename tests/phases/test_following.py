"""SMTP delivery: a message is announced together with the text of the one before it (RFC 2920 3.1)."""

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor as Threads
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from kmq.model.event import Deferred
from kmq.phases import smtp as phase_module
from kmq.phases import smtp_hop
from kmq.phases.allotment import Allotment
from kmq.phases.commands import Offers
from kmq.phases.connection import Connection
from kmq.phases.delivery import Delivery
from kmq.phases.outlet import Outlet
from kmq.phases.smtp import Smtp
from kmq.phases.smtp_hop import SmtpHop
from kmq.phases.smtp_opening import Opened
from kmq.phases.transaction import Stage
from kmq.phases.waiting import Waiting
from kmq.phases.work import Outcome, Work
from tests.fakes import EXTENSIONS, EvilHop
from tests.phases.sending import against, kinds, outcome, section, send, until, work


def envelope(number: int) -> bytes:
    return f"MAIL FROM:<sender@kmq.test> SIZE={len(text(number))}\r\nRCPT TO:<u{number}@b.test>\r\nDATA\r\n".encode()


def text(number: int) -> bytes:
    return b"Message-ID: <%d@kmq.test>\r\n\r\nhello\r\n" % number


def one(number: int, fault: str = "") -> Work:
    return work(f"{fault}@b.test" if fault else f"u{number}@b.test", text=text(number))


async def all_of(phase: Smtp, works: list[Work]) -> list[Outcome]:
    """They come together."""
    async with asyncio.timeout(10):
        return await asyncio.gather(*(send(phase, each) for each in works))


def letters(found: list[Outcome]) -> str:
    return "".join(map(kinds, found))


# --- as it should be ---------------------------------------------------------------------------------------------


def test_a_message_that_waits_is_announced_with_the_text_of_the_one_before() -> None:
    async def story(hop: EvilHop, phase: Smtp) -> None:
        assert letters(await all_of(phase, [one(n) for n in range(4)])) == "DDDD"
        assert hop.announced == [envelope(n) for n in (1, 2, 3)]
        assert [message.body for message in hop.messages] == [text(n) for n in range(4)]

    against(EvilHop(), story, connections=1)


def test_a_server_without_pipelining_hears_of_one_after_the_other() -> None:
    async def story(hop: EvilHop, phase: Smtp) -> None:
        assert letters(await all_of(phase, [one(n) for n in range(4)])) == "DDDD"
        assert not hop.announced

    against(EvilHop(extensions=("SIZE", "8BITMIME")), story, connections=1)


def test_a_large_text_is_sent_before_anything_else_is_said(tmp_path: Path) -> None:
    """It is read in pieces; what is announced behind it would wait for them."""
    large = b"Message-ID: <large@kmq.test>\r\n\r\n" + b"x" * 70 + b"\r\n"

    async def story(hop: EvilHop, phase: Smtp) -> None:
        works = [one(0), work("l@b.test", text=large, file=tmp_path / "body"), one(2), one(3)]
        assert letters(await all_of(phase, works)) == "DDDD"
        assert [rest.split(b"\r\n")[1] for rest in hop.announced] == [b"RCPT TO:<l@b.test>", b"RCPT TO:<u3@b.test>"]

    against(EvilHop(), story, connections=1)


def test_a_message_that_is_written_anew_for_this_server_waits_until_it_is(tmp_path: Path) -> None:
    async def story(hop: EvilHop, phase: Smtp) -> None:
        wide = "Message-ID: <wide@kmq.test>\r\n\r\nnaïve\r\n".encode()
        works = [one(0), work("w@b.test", text=wide, file=tmp_path / "body"), work("v@b.test", text=wide), one(3)]
        assert letters(await all_of(phase, works)) == "DDDD"
        assert [message.recipients for message in hop.messages] == [
            ["u0@b.test"], ["w@b.test"], ["v@b.test"], ["u3@b.test"]
        ]  # fmt: skip
        assert all(message.body.isascii() for message in hop.messages)

    against(EvilHop(extensions=("PIPELINING",)), story, connections=1)


def test_a_message_that_needs_a_further_transaction_has_it_before_the_next_is_announced() -> None:
    async def story(hop: EvilHop, phase: Smtp) -> None:
        works = [work(*(f"v{n}@b.test" for n in range(5))), one(1)]
        assert letters(await all_of(phase, works)) == "D" * 6
        assert [len(message.recipients) for message in hop.messages] == [2, 2, 1, 1]
        assert hop.announced == [envelope(1)], "with the last of the three transactions"

    against(EvilHop(recipients_limit=2), story, connections=1)


def test_a_message_that_this_server_cannot_be_told_of_is_passed_over() -> None:
    async def story(hop: EvilHop, phase: Smtp) -> None:
        works = [one(0), work("пример@b.test"), one(2)]
        assert letters(await all_of(phase, works)) == "DFD"

    against(EvilHop(extensions=("PIPELINING", "8BITMIME")), story, connections=1)


def test_a_connection_carries_no_more_than_it_may() -> None:
    async def story(hop: EvilHop, phase: Smtp) -> None:
        assert letters(await all_of(phase, [one(n) for n in range(7)])) == "D" * 7
        assert hop.connections == 3
        assert len(hop.announced) == 4, "two in each full connection, and none behind its last"

    against(EvilHop(), story, connections=1, messages_per_connection=3)


# --- who waits although a connection is free ---------------------------------------------------------------------


async def warm(phase: Smtp, hop: EvilHop, connections: int) -> None:
    """So many connections are open and idle."""
    await outcome(phase, one(100))
    while len(phase._hops["isp"]._idle) < connections:
        await all_of(phase, [one(100 + n) for n in range(connections)])
    hop.announced.clear()


def test_messages_that_come_together_share_a_connection_to_a_quick_server(monkeypatch: pytest.MonkeyPatch) -> None:
    async def story(hop: EvilHop, phase: Smtp) -> None:
        await warm(phase, hop, 3)
        monkeypatch.setattr(smtp_hop, "QUICK", 100.0)
        assert letters(await all_of(phase, [one(n) for n in range(7)])) == "D" * 7
        assert len(hop.announced) == 5, "four behind the first, and one behind the second that had a connection"

    against(EvilHop(), story)


def test_a_slow_server_is_told_over_all_connections() -> None:
    async def story(hop: EvilHop, phase: Smtp) -> None:
        await warm(phase, hop, 3)
        assert letters(await all_of(phase, [one(n) for n in range(3)])) == "DDD"
        assert not hop.announced

    against(EvilHop(), story)


def test_who_waits_behind_a_message_that_does_not_get_on_is_sent_over_another_connection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(phase_module, "SWEEP", 0.02)

    async def story(hop: EvilHop, phase: Smtp) -> None:
        await warm(phase, hop, 3)
        monkeypatch.setattr(smtp_hop, "QUICK", 100.0)
        stuck = send(phase, one(0, "hang-at-rcpt"))
        assert letters(await all_of(phase, [one(1), one(2)])) == "DD"
        assert not stuck.done()
        await phase.close(0)
        assert kinds(await stuck) == "d"

    against(EvilHop(), story, connections=3, connection_idle=60.0)


# --- servers that mind -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("behind", ["450", "503", "554", "421", "drop", "deaf"])
def test_a_server_that_minds_it_gets_each_message_once_and_hears_of_one_at_a_time(behind: str) -> None:
    """Whether it refuses the place, ends the connection or does not listen: nobody's mail suffers."""

    async def story(hop: EvilHop, phase: Smtp) -> None:
        async with asyncio.timeout(15):
            found = await asyncio.gather(*(send(phase, one(n)) for n in range(6)))
        assert letters([*found]) == "D" * 6
        assert set(hop.copies.values()) == {1}
        assert len(hop.announced) == 1, "it is not tried again"

    against(EvilHop(behind=behind), story, connections=1, mail_timeout=0.05)


def test_it_is_tried_again_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(phase_module, "SWEEP", 0.01)
    monkeypatch.setattr(smtp_hop, "APART", 0.05)

    async def story(hop: EvilHop, phase: Smtp) -> None:
        assert letters(await all_of(phase, [one(n) for n in range(3)])) == "DDD"
        hop.behind = ""
        await until(lambda: not phase._hops["isp"]._apart_until, "the hop's time is over")
        assert letters(await all_of(phase, [one(n) for n in range(3, 6)])) == "DDD"
        assert len(hop.announced) == 3

    against(EvilHop(behind="554"), story, connections=1)


def test_a_sender_who_is_refused_is_refused_where_nobody_minds_the_place() -> None:
    async def story(hop: EvilHop, phase: Smtp) -> None:
        bad = work("a@b.test", sender="550-at-mail@kmq.test")
        assert letters(await all_of(phase, [one(0), bad, one(2)])) == "DFD"
        verbs = [line.split(b" ")[0] for line in hop.commands]
        assert verbs.count(b"MAIL") == 4, "it was asked twice"

    against(EvilHop(), story, connections=1)


# --- connections that end between two messages -------------------------------------------------------------------


@pytest.mark.parametrize("fault", ["drop-after-dot", "rst-after-dot", "garbage-at-dot", "421-at-dot", "mixed-at-dot"])
def test_only_the_message_whose_dot_was_sent_is_uncertain(fault: str) -> None:
    async def story(hop: EvilHop, phase: Smtp) -> None:
        lost, *others = await all_of(phase, [one(0, fault), one(1), one(2)])
        assert kinds(lost) == "d"
        assert lost.uncertain
        assert letters(others) == "DD"
        assert hop.copies["u1@b.test", "<1@kmq.test>"] == hop.copies["u2@b.test", "<2@kmq.test>"] == 1

    against(EvilHop(), story, connections=1)


def test_a_reply_too_many_is_not_the_next_message_s_misfortune() -> None:
    """It would be taken for the answer to its MAIL, and everything behind it for the wrong one."""

    async def story(hop: EvilHop, phase: Smtp) -> None:
        found = await all_of(phase, [one(0, "twice-at-dot"), one(1), work("550-at-rcpt@b.test"), one(3)])
        assert letters(found) == "DDFD"
        assert hop.copies["u1@b.test", "<1@kmq.test>"] == hop.copies["u3@b.test", "<3@kmq.test>"] == 1

    against(EvilHop(), story, connections=1)


@pytest.mark.parametrize("stage", ["mail", "rcpt", "data"])
@pytest.mark.parametrize("kind", ["drop", "rst", "garbage", "421", "hang"])
def test_a_follower_that_goes_wrong_before_its_text_is_tried_once_more_and_then_judged(kind: str, stage: str) -> None:
    async def story(hop: EvilHop, phase: Smtp) -> None:
        fault = f"{kind}-at-{stage}"
        odd = work("a@b.test", sender=f"{fault}-1@kmq.test") if stage == "mail" else one(1, f"{fault}-1")
        assert letters(await all_of(phase, [one(0), odd, one(2)])) == "DDD"
        odd = work("a@b.test", sender=f"{fault}@kmq.test") if stage == "mail" else one(1, fault)
        assert kinds(await outcome(phase, odd)) == "d"

    against(EvilHop(), story, connections=1, mail_timeout=0.05, rcpt_timeout=0.05, data_timeout=0.05)


def test_who_was_announced_when_kmq_stops_has_not_been_tried() -> None:
    async def story(hop: EvilHop, phase: Smtp) -> None:
        waiting = [send(phase, one(0, "hang-at-dot")), send(phase, one(1)), send(phase, one(2))]
        await until(lambda: hop.silent, "the server says nothing to the dot")
        await phase.close(0)
        first, *others = [await each for each in waiting]
        assert first.uncertain
        assert isinstance(first.events[0], Deferred)
        assert all(each.unavailable is not None and each.unavailable.text == "kmq is stopping" for each in others)

    against(EvilHop(), story, connections=1)


class Wire(asyncio.Transport):
    """Takes what is written, of which `unsent` bytes do not leave this machine."""

    unsent = 0

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        pass

    def write(self, data: bytes | bytearray | memoryview) -> None:
        pass

    def get_write_buffer_size(self) -> int:
        return self.unsent

    def close(self) -> None:
        pass

    def abort(self) -> None:
        pass

    def is_closing(self) -> bool:
        return False


class Reports(list[Outcome]):
    """What was reported, in this order."""

    def delivery(self, number: int) -> Delivery:
        return Delivery(one(number), self.append, lambda *_: None)


def wired(**options: Any) -> tuple[SmtpHop, Callable[[], Connection]]:
    """A hop that opens nothing by itself, and a way to give it one more connection."""
    connector = replace(section(("127.0.0.1", 25)), **options)
    hop = SmtpHop(Outlet(connector, "kmq.test", Allotment(1), Threads(), None), "")
    hop._width = 0

    def connect() -> Connection:
        opened = Opened(Wire(), Offers(pipelining=True), "evil.test")
        connection = Connection(opened, connector, hop, Threads())
        hop._connections.add(connection)
        hop._idle.append(connection)
        return connection

    return hop, connect


def played(story: Callable[[], Awaitable[None]]) -> None:
    async def play() -> None:
        async with asyncio.timeout(10):
            await story()

    asyncio.run(play())


ASKED = b"250 ok\r\n250 ok\r\n354 go ahead\r\n"


def announced(hop: SmtpHop, connection: Connection) -> tuple[Reports, Delivery]:
    """Its text was sent, and the next message with it; what is reported, and that next one."""
    reports = Reports()
    hop.take(reports.delivery(0))
    hop._waiting.append(second := reports.delivery(1))
    connection.data_received(ASKED)
    return reports, second


@pytest.mark.parametrize("more", [0, 1])
def test_a_dot_that_left_is_told_from_commands_behind_it_that_did_not(more: int) -> None:
    """The kernel took the text and a part of what was announced behind it: the server may have the message."""

    async def story() -> None:
        hop, connect = wired()
        connection = connect()
        reports, _ = announced(hop, connection)
        cast(Wire, connection._transport).unsent = len(envelope(1)) - len(f" SIZE={len(text(1))}") + more
        connection.connection_lost(None)
        (found,) = reports
        assert found.uncertain is not bool(more)

    played(story)


@pytest.mark.parametrize(
    "said",
    [
        b"554 no\r\n",
        b"554 no\r\n421 bye\r\n",
        b"554 no\r\n503 no\r\n503 no\r\n421 bye\r\n",
        b"554 no\r\n503 no\r\n354 go ahead\r\n",
        b"503 one is under way\r\n250 ok\r\n354 go ahead\r\n",
        b"250 ok\r\n503 MAIL first\r\n503 no\r\n",
        b"250 ok\r\n550 no\r\n503 no\r\n250 and another\r\n",
        b"250 ok\r\n250 ok\r\n550 no\r\n",
        b"250 ok\r\n250 ok\r\n354 go ahead\r\n250 and another\r\n",
    ],
)
def test_until_its_text_is_asked_for_nothing_that_ends_the_connection_is_about_a_follower(said: bytes) -> None:
    async def story() -> None:
        hop, connect = wired()
        connection = connect()
        reports, second = announced(hop, connection)
        connection.data_received(b"250 ok\r\n" + said)
        connection.connection_lost(None)
        assert letters(reports) == "D"
        assert [*hop._orphans] == [second]

    played(story)


def test_nothing_is_announced_where_several_replies_are_waited_for() -> None:
    """A server that answers once for two recipients would have its answer to MAIL taken for the second one's."""

    async def story() -> None:
        hop, connect = wired(type="lmtp")
        connection, reports = connect(), Reports()
        hop.take(Delivery(work("a@b.test", "b@b.test"), reports.append, lambda *_: None))
        hop._waiting.append(second := reports.delivery(1))
        connection.data_received(b"250 ok\r\n" + ASKED)
        assert [*hop._waiting] == [second]
        connection.data_received(b"250 saved\r\n")
        connection.connection_lost(None)
        assert letters(reports) == "Dd"

    played(story)


def test_who_waits_is_not_kept_by_a_connection_that_is_another_queue_s() -> None:
    async def story() -> None:
        (hop, connect), (other, _) = wired(), wired()
        kept, reports = connect(), Reports()
        hop._pace = 0.0
        hop.take(reports.delivery(0))
        kept.data_received(ASKED)
        kept.data_received(b"250 ok\r\n")
        hop._idle.remove(kept)
        kept.hand_over(other, "evil.test")
        kept.begin(reports.delivery(1))
        connect()
        hop.take(second := reports.delivery(2))
        assert [connection.carries for connection in hop._connections] == [(second,)]

    played(story)


def test_a_follower_counts_for_its_priority() -> None:
    """Else another connection would take one more of it, and they had more than their part."""

    async def story() -> None:
        hop, connect = wired()
        reports = Reports()
        hop._waiting = Waiting((100, 100, 1), 2)
        first, second = connect(), connect()
        low = [Delivery(work("a@b.test", priority="low"), reports.append, lambda *_: None) for _ in range(2)]
        hop._idle.clear()
        first.begin(reports.delivery(0))
        second.begin(reports.delivery(1))
        for each in low:
            hop._waiting.append(each)
        first.data_received(ASKED)
        second.data_received(ASKED)
        second.data_received(b"250 ok\r\n")
        assert first.carries[1] is low[0]
        assert [*hop._waiting] == [low[1]], "the second connection is idle rather than take it"

    played(story)


def test_a_text_that_did_not_leave_is_certain_not_to_be_there(tmp_path: Path) -> None:
    """What was once written behind another's dot is not taken for what stands behind this one's."""

    async def story() -> None:
        hop, connect = wired()
        connection, reports = connect(), Reports()
        large = work("l@b.test", text=text(1), file=tmp_path / "body")
        hop.take(reports.delivery(0))
        hop._waiting.append(Delivery(large, reports.append, lambda *_: None))
        connection.data_received(ASKED)
        connection.data_received(b"250 ok\r\n" + ASKED)
        await until(lambda: connection._transaction and connection._transaction.stage is Stage.DOT, "the dot is sent")
        connection._transport.unsent = 3  # type: ignore[attr-defined]
        connection.connection_lost(None)
        assert not reports[1].uncertain

    played(story)


def test_who_was_announced_behind_a_text_without_an_answer_goes_over_an_idle_connection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(phase_module, "SWEEP", 0.02)
    monkeypatch.setattr(smtp_hop, "OVERDUE", 0.05)

    async def story(hop: EvilHop, phase: Smtp) -> None:
        await warm(phase, hop, 3)
        monkeypatch.setattr(smtp_hop, "QUICK", 100.0)
        stuck = send(phase, one(0, "hang-at-dot"))
        assert letters(await all_of(phase, [one(1)])) == "D"
        assert not stuck.done()
        await phase.close(0)
        assert (await stuck).uncertain

    against(EvilHop(), story, connections=3, connection_idle=60.0)


@pytest.mark.parametrize("together", [True, False])
def test_what_a_server_says_of_a_message_that_was_taken_back_is_about_nothing(together: bool) -> None:
    async def story() -> None:
        hop, connect = wired()
        connection = connect()
        reports, second = announced(hop, connection)
        idle = connect()
        hop.expire(asyncio.get_running_loop().time() + smtp_hop.OVERDUE + 1)
        assert idle.carries == (second,)
        for said in [b"250 ok\r\n" + ASKED] if together else [b"250 ok\r\n", ASKED]:
            connection.data_received(said)
        assert letters(reports) == "D"
        assert [*hop._connections] == [idle], "the other one is over"
        idle.data_received(ASKED)
        idle.data_received(b"250 ok\r\n")
        assert letters(reports) == "DD"

    played(story)


@pytest.mark.parametrize("connections", [1, 3])
def test_among_all_faults_nobody_gets_two_copies_and_nobody_loses_one(
    connections: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(smtp_hop, "QUICK", 100.0)
    monkeypatch.setattr(smtp_hop, "APART", 0.0)  # it minds nothing for long
    kinds_of_fault = ["drop", "rst", "garbage", "421", "450", "550", "twice", "multi", "slow", "plain", "mixed"]
    stages = ["rcpt", "data", "dot"]

    async def story(hop: EvilHop, phase: Smtp) -> None:
        works = []
        for number in range(330):
            fault = f"{kinds_of_fault[number // 2 % 11]}-at-{stages[number // 22 % 3]}.{number}" if number % 2 else ""
            works.append(one(number, fault))
        for each, found in zip(works, await all_of(phase, works), strict=True):
            (recipient,) = each.head.recipients
            copies = hop.delivered(recipient.address)
            if kinds(found) == "D":
                assert copies == 1, (recipient.address, found)
            else:
                assert copies == 0 or found.uncertain, (recipient.address, found)
                assert "@" in recipient.address and not recipient.address.startswith("u"), "an innocent one"

    against(EvilHop(extensions=EXTENSIONS), story, connections=connections)
