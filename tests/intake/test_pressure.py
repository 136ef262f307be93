"""Back pressure at MAIL: refusals by who it is, and the tarpit, in a conversation and over real sockets."""

import asyncio

import pytest

from kmq.intake.deeds import Pause
from kmq.intake.door import FREE, Pressed
from kmq.intake.submission import Submission
from kmq.model.frame import Intake
from kmq.model.reply import Reply
from kmq.spool.disk import Disk
from tests.intake.doors import NO_STORAGE, MemoryDoor, Talk, receiver
from tests.intake.serving import LOOPS, Peer, run, serving, until

SHORT = Reply(452, "4.3.1", "Insufficient system resources")
MAIL = b"MAIL FROM:<a@a.test>\r\n"
REST = b"RCPT TO:<bob@us.test>\r\nDATA\r\n"


@pytest.fixture(params=LOOPS)
def loop(request) -> str:
    return request.param


def pauses(talk: Talk) -> list[float]:
    return [deed.seconds for deed in talk.done if isinstance(deed, Pause)]


# --- refusals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("submission", "codes"), [(False, [452, 503]), (True, [250, 250])])
def test_servers_are_refused_and_users_are_not(submission: bool, codes: list[int]) -> None:
    talk = Talk(greeted=True, section=receiver(submission=submission))
    talk.door.servers = Pressed(SHORT)
    assert talk.codes(MAIL, b"RCPT TO:<bob@us.test>\r\n") == codes
    assert talk.codes(b"NOOP\r\n", b"QUIT\r\n") == [250, 221], "the conversation goes on"


def test_a_message_whose_sender_was_taken_is_taken() -> None:
    talk = Talk(greeted=True)
    assert talk.codes(MAIL) == [250]
    talk.door.servers = Pressed(SHORT)
    assert talk.codes(REST, b"hi\r\n.\r\n") == [250, 354, 250]
    assert talk.codes(MAIL) == [452]


def test_the_last_line_goes_before() -> None:
    talk = Talk(greeted=True)
    talk.door.servers, talk.door.refusal = Pressed(SHORT, 5.0), NO_STORAGE
    assert talk.send(MAIL) == [str(NO_STORAGE)]


# --- the tarpit -------------------------------------------------------------------------------------------------------


def test_mail_waits_and_is_answered_then() -> None:
    talk = Talk(greeted=True)
    talk.door.servers = Pressed(None, 10.0)
    assert talk.send(MAIL) == []
    assert pauses(talk) == [10.0] and talk.session.waiting
    talk.door.servers = Pressed(None, 15.0)
    talk.perform(talk.session.rested())
    assert talk.said.endswith(b"250 2.1.0 Sender ok\r\n") and not talk.session.waiting, (
        "nobody waits twice for one MAIL"
    )
    assert talk.codes(REST, b"hi\r\n.\r\n") == [250, 354, 250]


def test_what_was_sent_behind_mail_is_kept_and_answered_in_order() -> None:
    talk = Talk(greeted=True)
    talk.door.servers = Pressed(None, 10.0)
    assert talk.send(MAIL + b"RCPT TO:<nobody@us.test>\r\nRCPT TO:<bob@us.test>\r\n", b"NOOP\r\n") == []
    before = len(talk.said)
    talk.perform(talk.session.rested())
    assert [line[:3] for line in talk.said[before:].splitlines()] == [b"250", b"550", b"250", b"250"]


def test_it_may_have_become_worse_meanwhile() -> None:
    talk = Talk(greeted=True)
    talk.door.servers = Pressed(None, 10.0)
    talk.send(MAIL)
    talk.door.servers = Pressed(SHORT, 10.0)
    talk.perform(talk.session.rested())
    assert talk.said.endswith(b"452 4.3.1 Insufficient system resources\r\n")
    talk.door.servers = FREE
    assert talk.codes(MAIL) == [250]


def test_who_has_gone_or_was_sent_away_is_not_answered() -> None:
    gone, ended = Talk(greeted=True), Talk(greeted=True)
    for talk in (gone, ended):
        talk.door.servers = Pressed(None, 10.0)
        talk.send(MAIL)
    gone.perform(gone.session.gone())
    ended.perform(ended.session.stop())
    assert ended.said.endswith(b"421 4.3.2 Shutting down, try again later\r\n")
    for talk in (gone, ended):
        before = talk.said
        talk.perform(talk.session.rested())
        assert talk.said == before


def test_over_real_sockets_mail_waits_and_nothing_is_lost(loop: str) -> None:
    async def story() -> None:
        door = MemoryDoor()
        door.servers = Pressed(None, 0.7)
        async with serving(door, command_timeout=0.5) as smtpd, Peer(smtpd.port) as peer:
            began = asyncio.get_running_loop().time()
            await peer.begin()  # up to 354: our pause is no silence of the client's
            assert round(asyncio.get_running_loop().time() - began, 3) >= 0.7  # a difference of floats
            assert (await peer.say(b"hi\r\n.\r\n"))[0].startswith("250")
            async with Peer(smtpd.port) as other:
                other.writer.write(b"EHLO client.test\r\n" + MAIL)
                await other.writer.drain()
                await until(lambda: smtpd.sessions == 2, "the other is there")
            await until(lambda: smtpd.sessions == 1, "it has gone in the midst of its pause")
            assert [line[:3] for line in await peer.say(MAIL + b"NOOP\r\n", 2)] == ["250", "250"]
            assert len(door.messages) == 1

    run(loop, story)


# --- how it is heard --------------------------------------------------------------------------------------------------


def test_the_scheduler_process_says_what_each_kind_of_client_meets(tmp_path) -> None:
    door = Submission(lambda frame, raw: True, Disk(tmp_path), 1)
    assert (door.pressed(user=False), door.pressed(user=True), door.refusal) == (FREE, FREE, None)
    assert door.heard(Intake("", str(SHORT), "", 0.0, 15.0))
    assert door.pressed(user=False) == Pressed(SHORT, 0.0) and door.pressed(user=True) == Pressed(None, 15.0)
    assert door.refusal is None, "the last line is another"
    assert door.heard(Intake("421 4.3.2 no"))
    assert (door.pressed(user=False), door.refusal) == (FREE, Reply(421, "4.3.2", "no"))
    door.close()
