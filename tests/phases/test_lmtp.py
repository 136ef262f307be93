"""LMTP: an answer for each recipient, over connections that are kept; with Debian's Dovecot and with a bad server."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from kmq.model.event import HeaderEdit
from kmq.phases.allotment import Allotment
from kmq.phases.lmtp import LmtpTransaction
from kmq.phases.smtp import Smtp
from kmq.phases.transaction import Deed
from kmq.phases.work import Outcome
from tests.dovecot import Dovecot, dovecot
from tests.fakes import EvilHop
from tests.phases.mailboxes import local, locally, work
from tests.phases.sending import LOOPS, kinds, outcome, results, send

Story = Callable[[EvilHop, Smtp], Awaitable[None]]


def against(story: Story, loop: str = "uvloop", patience: float = 60.0, connections: int = 5, **options: Any) -> None:
    """Plays a story with a server that speaks LMTP, and who talks to it."""

    async def play() -> None:
        async with EvilHop(lmtp=True, **options) as hop, asyncio.timeout(120):
            section = local("lmtp", hosts=(hop.address,), connection_idle=30.0, final_timeout=patience)
            phase = Smtp({"local": section}, "mx.here.test", Allotment(connections))
            await story(hop, phase)
            await phase.close(1)

    LOOPS[loop](play())


def saved(hop: EvilHop) -> list[str]:
    """Who has a copy, as often as he has."""
    return sorted(name.partition("@")[0] for (name, _), count in hop.copies.items() for _ in range(count))


# --- a bad server -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("loop", sorted(LOOPS))
@pytest.mark.parametrize("extensions", [("PIPELINING", "8BITMIME", "ENHANCEDSTATUSCODES"), ()])
def test_each_recipient_has_his_own_answer(loop: str, extensions: tuple[str, ...]) -> None:
    to = ("alice@here.test", "452-at-dot@here.test", "550-at-rcpt@here.test", "552-at-dot@here.test", "bob@here.test")

    async def story(hop: EvilHop, phase: Smtp) -> None:
        found = await outcome(phase, work(*to))
        assert kinds(found) == "DdFFD"
        assert results(found)[1][1] == "452 4.2.0 said so at dot"
        assert results(found)[4][1] == "250 2.1.5 <bob@here.test> saved"
        assert not found.uncertain
        assert saved(hop) == ["alice", "bob"]
        assert hop.commands[0] == b"LHLO mx.here.test"
        assert hop.messages[0].recipients == [one for one in to if "rcpt" not in one]

    against(story, loop, extensions=extensions)


def test_one_connection_carries_one_message_after_the_other() -> None:
    async def story(hop: EvilHop, phase: Smtp) -> None:
        for n in range(5):
            assert kinds(await outcome(phase, work("alice@here.test", "bob@here.test", id=f"69212ad0-{n:08x}"))) == "DD"
        assert hop.connections == 1
        assert b"RSET" not in hop.commands, "a server that answered for everybody has forgotten the message"

    against(story)


def test_the_next_message_is_announced_behind_the_text_of_one_that_has_one_reply() -> None:
    """Of several, one may be missing: what came next would be taken for it."""

    async def story(hop: EvilHop, phase: Smtp) -> None:
        to = (("alice@here.test", "550-at-dot@here.test", "bob@here.test"), ("carol@here.test",), ("dave@here.test",))
        async with asyncio.timeout(10):
            found = await asyncio.gather(*(send(phase, work(*names)) for names in to))
        assert [kinds(one) for one in found] == ["DFD", "D", "D"]
        assert saved(hop) == ["alice", "bob", "carol", "dave"]
        assert [rest.split(b"\r\n")[1] for rest in hop.announced] == [b"RCPT TO:<dave@here.test>"]

    against(story, connections=1)


def test_who_was_answered_for_keeps_his_answer_when_the_connection_breaks() -> None:
    """RFC 2033 leaves it open what became of the others: they are tried again, and not at once."""
    to = ("alice@here.test", "bob@here.test", "drop-at-dot-1@here.test", "carol@here.test")

    async def story(hop: EvilHop, phase: Smtp) -> None:
        found = await outcome(phase, work(*to))
        assert kinds(found) == "DDdd"
        assert found.uncertain
        assert "delivery status unknown" in results(found)[3][1]
        assert saved(hop) == ["alice", "bob"]

    against(story)


@pytest.mark.parametrize(
    ("fault", "kind", "uncertain"),
    [("421", "Dddd", False), ("hang", "Dddd", True), ("garbage", "Dddd", True), ("rst", "dddd", True)],
)
def test_what_else_can_happen_between_two_answers(fault: str, kind: str, uncertain: bool) -> None:
    to = ("alice@here.test", f"{fault}-at-dot-1@here.test", "bob@here.test", "carol@here.test")

    async def story(hop: EvilHop, phase: Smtp) -> None:
        found = await outcome(phase, work(*to))
        assert kinds(found)[1:] == kind[1:]
        assert kinds(found)[0] in ("D", kind[0]), "what was reset may have taken answers with it"
        assert found.uncertain or not uncertain
        assert saved(hop)[0] == "alice"

    against(story, patience=1.0 if fault == "hang" else 60.0)


def test_one_answer_too_many_is_nobody_s() -> None:
    async def story(hop: EvilHop, phase: Smtp) -> None:
        found = await outcome(phase, work("alice@here.test", "twice-at-dot@here.test"))
        assert kinds(found) == "DD"
        again = await outcome(phase, work("alice@here.test", id="69212ad0-0000a1f4"))
        assert kinds(again) == "D"
        assert hop.connections == 2, "who says more than he is asked is not talked to any more"

    against(story)


def test_when_nobody_is_accepted_nothing_is_sent() -> None:
    async def story(hop: EvilHop, phase: Smtp) -> None:
        found = await outcome(phase, work("550-at-rcpt@here.test", "451-at-rcpt@here.test"))
        assert kinds(found) == "Fd"
        assert not hop.messages
        assert kinds(await outcome(phase, work("alice@here.test", id="69212ad0-0000a1f4"))) == "D"

    against(story)


def test_a_server_that_wants_text_for_nobody_is_left() -> None:
    """There would be no answer to the dot, and to wait for one would take ten minutes."""
    transaction = LmtpTransaction(b"MAIL FROM:<>\r\n", [(0, b"RCPT TO:<a@b>\r\n")], pipelining=True)
    assert transaction.replied(250, b"ok") is Deed.WAIT
    assert transaction.replied(550, b"5.1.1 nobody") is Deed.WAIT
    assert transaction.replied(354, b"go ahead") is Deed.CLOSE
    assert [str(reply) for _, reply in transaction.verdicts] == ["550 5.1.1 nobody"]


def test_a_server_of_another_kind_is_a_trouble_of_the_queue() -> None:
    async def play() -> None:
        async with EvilHop() as hop, asyncio.timeout(60):
            phase = Smtp({"local": local("lmtp", hosts=(hop.address,))}, "mx.here.test", Allotment(5))
            found = await outcome(phase, work("alice@here.test"))
            assert found.unavailable is not None
            assert "500 5.5.2 what?" in found.unavailable.text
            await phase.close(0)

    LOOPS["uvloop"](play())


@pytest.mark.parametrize("there", [False, True])
def test_a_socket_where_nobody_listens_is_a_trouble_of_the_queue(tmp_path: Path, there: bool) -> None:
    if there:
        (tmp_path / "lmtp").write_bytes(b"")
    (found,) = locally(local("lmtp", socket=f"{tmp_path}/lmtp"), work("alice@here.test"))
    assert found.unavailable is not None
    assert str(found.unavailable).startswith(f"451 4.4.1 connect to {tmp_path}/lmtp: ")


# --- Dovecot ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def store() -> Iterator[Dovecot]:
    full = "userdb_quota_rule=*:bytes=1"
    with dovecot({"alice": "", "bob": "", "carol": "", "full": full}) as running:
        yield running


def deliver(store: Dovecot, *works: Any) -> list[Outcome]:
    return locally(local("lmtp", socket=str(store.socket)), *works, patience=60)


def test_dovecot_has_what_it_was_given(store: Dovecot) -> None:
    edit = HeaderEdit(how="set", name="X-Spam", value="no")
    (found,) = deliver(store, work("alice@here.test", "bob@here.test", "none@here.test", edits=(edit,), dots=True))
    assert kinds(found) == "DDF"
    assert results(found)[0][1].startswith("250 2.0.0 <alice@here.test>")
    assert results(found)[2][1].startswith("550 5.1.1")
    for user in ("alice", "bob"):
        (message,) = store.messages(user)
        assert message.endswith(b"X-Spam: no\nSubject: x\n\nhello\n.dot\nend\n")
        assert message.startswith(b"Return-Path: <sender@kmq.test>\n")


def test_dovecot_refuses_one_of_two(store: Dovecot) -> None:
    """Its answers come behind the dot: one that is full is told apart from one that is not."""
    (found,) = deliver(store, work("full@here.test", "carol@here.test", id="69212ad0-0000a1f5"))
    assert kinds(found)[1] == "D"
    assert "4.2.2" in results(found)[0][1] or "5.2.2" in results(found)[0][1]
    assert len(store.messages("carol")) == 1
    assert store.messages("full") == []


def test_dovecot_takes_many_over_few_connections(store: Dovecot) -> None:
    before = store.log.read_text().count("Connect from local")
    works = [
        work("bob@here.test", "carol@here.test", id=f"69212ad1-{n:08x}", text=b"X: y\r\n\r\n%d\r\n" % n)
        for n in range(40)
    ]
    assert {kinds(one) for one in deliver(store, *works)} == {"DD"}
    texts = {message.rpartition(b"\n\n")[2] for message in store.messages("carol")}
    assert {b"%d\n" % n for n in range(40)} <= texts
    assert store.log.read_text().count("Connect from local") - before <= 5
