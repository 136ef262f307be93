"""The carrier over real sockets: connections, limits, slow and vanishing clients, the end of the server."""

import asyncio
import inspect
import smtplib
import socket
import struct
from contextlib import suppress

import pytest

from kmq.intake.carrier import LINGER_BYTES
from kmq.intake.session import Session
from tests.intake.doors import NO_STORAGE, MemoryDoor, Routes, receiver
from tests.intake.serving import LOOPS, Peer, run, serving, until

TRANSACTION = b"MAIL FROM:<a@a.test>\r\nRCPT TO:<bob@us.test>\r\nDATA\r\n"
LINE = b"x" * 70 + b"\r\n"


@pytest.fixture(params=LOOPS)
def loop(request) -> str:
    return request.param


# --- mail -----------------------------------------------------------------------------------------------------------


def test_many_messages_over_one_connection(loop):
    async def story() -> None:
        door = MemoryDoor()
        async with serving(door) as smtpd, Peer(smtpd.port) as peer:
            await peer.begin()
            for number in range(20):
                assert await peer.say(b"Subject: %d\r\n\r\nhi\r\n.\r\n" % number) == [
                    f"250 2.0.0 69212ad0-{number + 1:08x} accepted"
                ]
                assert (await peer.say(TRANSACTION, 3))[2][:3] == "354"
            assert [message.content for message in door.messages] == [
                b"Subject: %d\r\n\r\nhi\r\n" % number for number in range(20)
            ]
            assert smtpd.counts == {"accepted": 20, "refused": 0, "turned-away": 0, "etrn": 0}
            assert smtpd.sessions == 1

    run(loop, story)


def test_another_s_client_is_understood(loop):
    text = "From: a@a.test\r\nSubject: dots\r\n\r\n.\r\n..\r\n.x\r\n" + "word " * 10_000 + "\r\n"
    text = text.replace("word " * 20, "word " * 19 + "word\r\n")

    def send(port: int) -> None:
        with smtplib.SMTP("127.0.0.1", port) as client:
            assert client.sendmail("a@a.test", ["bob@us.test", "nobody@us.test"], text) == {
                "nobody@us.test": (550, b"5.1.1 No such user here")
            }
            client.sendmail("a@a.test", ["carol@us.test"], text[:100].encode() + b"\xff\r\n")

    async def story() -> None:
        door = MemoryDoor()
        async with serving(door, small_body=2000) as smtpd:
            await asyncio.to_thread(send, smtpd.port)
            large, small = door.messages
            assert large.content == text.encode()
            assert large.head.dots
            assert small.head.eight_bit

    run(loop, story)


def test_a_door_that_answers_at_once_is_no_recursion(loop):
    async def story() -> None:
        door = MemoryDoor()
        async with serving(door) as smtpd, Peer(smtpd.port) as peer:
            await peer.hear()
            await peer.say(b"EHLO c\r\n")
            one = b"MAIL FROM:<>\r\nRCPT TO:<b@us.test>\r\nBDAT 1 LAST\r\nx"
            replies = await peer.say(one * 3000, 9000)
            assert {reply[:3] for reply in replies} == {"250"}
            assert len(door.messages) == 3000

    run(loop, story)


def test_a_connection_costs_no_walk_through_members(loop, monkeypatch):
    def walk(*_: object) -> None:
        raise AssertionError("100 µs for each connection")

    async def story() -> None:
        async with serving() as smtpd:
            monkeypatch.setattr(inspect, "getmembers", walk)
            async with Peer(smtpd.port) as peer:
                await peer.begin()
            monkeypatch.undo()

    run(loop, story)


# --- limits ---------------------------------------------------------------------------------------------------------


def test_sessions_in_all_are_limited(loop):
    async def story() -> None:
        async with serving(sessions=2) as smtpd, Peer(smtpd.port) as one, Peer(smtpd.port) as two:
            assert (await one.hear())[:3] == (await two.hear())[:3] == "220"
            async with Peer(smtpd.port) as three:
                assert await three.ended() == b"421 4.3.2 Too many connections\r\n"
            assert smtpd.counts["turned-away"] == 1
            assert await one.say("QUIT\r\n") == ["221 2.0.0 mx.us.test closing connection"]
            await until(lambda: smtpd.sessions == 1, "the first to be gone")
            async with Peer(smtpd.port) as three:
                assert (await three.hear())[:3] == "220"

    run(loop, story)


def test_sessions_of_one_client_are_limited(loop):
    async def story() -> None:
        async with serving(sessions_per_client=2) as smtpd, Peer(smtpd.port) as one, Peer(smtpd.port) as two:
            assert (await one.hear())[:3] == (await two.hear())[:3] == "220"
            async with Peer(smtpd.port) as three:
                assert await three.ended() == b"421 4.3.2 Too many connections\r\n"
            other = socket.create_connection(("127.0.0.1", smtpd.port), source_address=("127.0.0.2", 0))
            other.setblocking(False)
            assert (await asyncio.get_running_loop().sock_recv(other, 100))[:3] == b"220"
            other.close()

    run(loop, story)


def test_trust_is_by_address(loop):
    async def story() -> None:
        networks = receiver().relay_from
        async with serving(relay_from=networks) as smtpd, Peer(smtpd.port) as peer:
            await peer.hear()
            text = "EHLO c\r\nMAIL FROM:<a@a.test>\r\nRCPT TO:<v@v.test>\r\n"
            assert (await peer.say(text, 3))[2][:3] == "250"
            assert smtpd.client("::ffff:127.0.0.1").trusted
            assert smtpd.client("::ffff:127.0.0.1").ip == "127.0.0.1"
            assert not smtpd.client("::ffff:192.0.2.1").trusted
            assert not smtpd.client("").trusted

    run(loop, story)


def test_an_early_talker_is_sent_away(loop):
    async def story() -> None:
        async with serving() as smtpd:
            # The loop does not run between connect and send, so that both are there before the greeting.
            early = socket.create_connection(("127.0.0.1", smtpd.port))
            early.sendall(b"EHLO spam\r\nMAIL FROM:<a@b>\r\n")
            early.setblocking(False)
            said = await asyncio.get_running_loop().sock_recv(early, 1000)
            assert said == b"554 5.5.0 Protocol synchronization error\r\n"
            assert await asyncio.get_running_loop().sock_recv(early, 1000) == b""
            early.close()

    run(loop, story)


def test_the_last_word_is_read_by_who_goes_on_talking(loop):
    async def story() -> None:
        async with serving() as smtpd, Peer(smtpd.port) as peer:
            await peer.hear()
            peer.writer.write(b"x" * (LINGER_BYTES // 2))
            await peer.writer.drain()
            assert await peer.ended() == b"500 5.5.2 Line too long\r\n"

    run(loop, story)


def test_who_goes_on_for_ever_is_cut_off(loop):
    async def story() -> None:
        async with serving() as smtpd, Peer(smtpd.port) as peer:
            await peer.hear()
            with pytest.raises(ConnectionError):
                while True:
                    peer.writer.write(b"x" * 65536)
                    await peer.writer.drain()
            await until(lambda: smtpd.sessions == 0, "the connection to be gone")

    run(loop, story)


def test_a_full_disk_is_heard_before_a_byte_is_sent(loop):
    async def story() -> None:
        door = MemoryDoor()
        async with serving(door) as smtpd, Peer(smtpd.port) as peer:
            await peer.hear()
            door.refusal = NO_STORAGE
            assert await peer.say("EHLO c\r\nMAIL FROM:<>\r\n", 2) == [
                "250 DSN",
                "452 4.3.1 Insufficient system storage",
            ]

    run(loop, story)


def test_a_mistake_of_ours_ends_one_session_and_no_other(loop):
    class Broken(Routes):
        def accepts(self, address: str) -> None:
            raise RuntimeError(f"no idea about {address}")

    async def story() -> None:
        async with serving() as smtpd, Peer(smtpd.port) as fine:
            await fine.begin()
            smtpd.reload(receiver(relay_from=()), "mx.us.test", Broken())
            asyncio.get_running_loop().set_exception_handler(lambda *_: None)
            async with Peer(smtpd.port) as unlucky:
                await unlucky.hear()
                unlucky.writer.write(b"EHLO c\r\nMAIL FROM:<>\r\nRCPT TO:<b@us.test>\r\n")
                assert await unlucky.ended() == b"", "closed without a word is for now, not for ever"
            await until(lambda: smtpd.sessions == 1, "the unlucky one to be gone")
            assert (await fine.say(".\r\n"))[0][:3] == "250"

    run(loop, story)


def test_a_mistake_over_an_answer_leaves_nobody_waiting(loop, monkeypatch):
    """Row 12: memory that ends there, for one."""

    def answered(*_: object) -> list[object]:
        raise MemoryError

    async def story() -> None:
        async with serving() as smtpd, Peer(smtpd.port) as peer:
            await peer.begin()
            monkeypatch.setattr(Session, "answered", answered)
            smtpd.door.slow = True
            peer.writer.write(b".\r\n")
            await until(lambda: smtpd.door.due, "the answer is due")
            with pytest.raises(MemoryError):
                smtpd.door.open_up()
            with suppress(ConnectionError):
                assert await peer.ended() == b""
            await until(lambda: smtpd.sessions == 0, "the session is gone")

    run(loop, story)


# --- slow clients ---------------------------------------------------------------------------------------------------


def test_a_silent_client_hears_421(loop):
    async def story() -> None:
        async with serving(command_timeout=0.2) as smtpd, Peer(smtpd.port) as peer:
            assert (await peer.ended()).endswith(b"421 4.4.2 Timeout\r\n")
            assert smtpd.sessions == 1, "until the client has read our last word"
            peer.writer.close()
            await until(lambda: smtpd.sessions == 0, "the session to be gone")

    run(loop, story)


def test_nobody_looks_at_the_time_while_nobody_is_here(loop):
    """And it is the right one again when somebody comes."""

    async def story() -> None:
        async with serving(command_timeout=0.2) as smtpd:
            for _ in range(2):
                async with Peer(smtpd.port) as peer:
                    assert (await peer.ended()).endswith(b"421 4.4.2 Timeout\r\n")
                await until(lambda: smtpd.sessions == 0 and smtpd._timer is None, "no timer for nobody")

    run(loop, story)


def test_our_last_word_is_not_waited_for_long(loop, monkeypatch):
    async def story() -> None:
        monkeypatch.setattr("kmq.intake.carrier.LINGER", 0.2)
        async with serving(command_timeout=0.1) as smtpd, Peer(smtpd.port) as peer:
            assert (await peer.ended()).endswith(b"421 4.4.2 Timeout\r\n")
            await until(lambda: smtpd.sessions == 0, "the session to be gone, though the client does not close")

    run(loop, story)


def test_a_byte_now_and_then_is_silence(loop):
    async def story() -> None:
        async with serving(command_timeout=0.3) as smtpd, Peer(smtpd.port) as peer:
            await peer.hear()
            ended = asyncio.ensure_future(peer.ended())
            while not ended.done():
                peer.writer.write(b"N")
                await asyncio.sleep(0.01)
            assert ended.result() == b"421 4.4.2 Timeout\r\n"

    run(loop, story)


def test_a_transaction_has_its_time(loop):
    async def story() -> None:
        door = MemoryDoor()
        options = {"command_timeout": 60, "transaction_timeout": 0.3, "minimum_rate": 1_000_000}
        async with serving(door, small_body=50, **options) as smtpd, Peer(smtpd.port) as peer:
            await peer.begin()
            ended = asyncio.ensure_future(peer.ended())
            while not ended.done():
                peer.writer.write(b"drip\r\n")
                await asyncio.sleep(0.01)
            assert ended.result() == b"421 4.4.2 Timeout\r\n"
            assert [body.state for body in door.bodies] == ["discarded"]

    run(loop, story)


def test_a_commit_takes_as_long_as_it_takes(loop):
    async def story() -> None:
        door = MemoryDoor()
        door.slow = True
        async with serving(door, command_timeout=0.1, transaction_timeout=0.1) as smtpd, Peer(smtpd.port) as peer:
            await peer.begin()
            peer.writer.write(b"x\r\n.\r\n")
            await until(lambda: door.due, "the message to be handed over")
            looks = smtpd.now + 0.5
            await until(lambda: smtpd.now > looks, "ten looks")
            door.open_up()
            assert (await peer.hear())[:3] == "250"

    run(loop, story)


def test_who_does_not_read_is_not_read_from_and_not_waited_for(loop):
    async def story() -> None:
        async with serving(command_timeout=0.5) as smtpd:
            rude = socket.create_connection(("127.0.0.1", smtpd.port))
            rude.setblocking(False)
            rude.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            await until(lambda: smtpd.sessions, "the connection to be made")
            (carrier,) = smtpd._carriers
            wire = b"EHLO c\r\nMAIL FROM:<>\r\n" + b"RCPT TO:<b@us.test>\r\n" * 1_000_000
            sent = 0
            while smtpd.sessions:
                with suppress(BlockingIOError, ConnectionError):
                    sent += rude.send(wire[sent : sent + 65536])
                if carrier.transport is not None:
                    assert carrier.transport.get_write_buffer_size() < 1 << 20
                await asyncio.sleep(0.001)
            assert sent < len(wire), "only what the kernel's buffers hold"
            rude.close()

    run(loop, story)


def test_while_the_disk_is_behind_nothing_is_read(loop):
    async def story() -> None:
        door = MemoryDoor()
        door.disk_full = True
        async with serving(door, small_body=1000, command_timeout=0.2) as smtpd, Peer(smtpd.port) as peer:
            await peer.begin()
            peer.writer.transport.set_write_buffer_limits(high=1 << 30)
            peer.writer.write(LINE * 300_000 + b".\r\n")
            await until(lambda: door.bodies, "the file to be opened")
            looks = smtpd.now + 0.4
            await until(lambda: smtpd.now > looks, "eight looks")
            large = door.bodies[0]
            assert sum(map(len, large.pieces)) < 2 << 20
            assert smtpd.sessions == 1, "that is not the client's fault"
            large.full = False
            large.on_room()
            assert (await peer.hear())[:3] == "250"
            assert len(door.messages[0].content) == len(LINE) * 300_000

    run(loop, story)


def test_what_is_sent_while_the_answer_is_due_is_bounded(loop):
    async def story() -> None:
        door = MemoryDoor()
        door.slow = True
        async with serving(door) as smtpd, Peer(smtpd.port) as peer:
            await peer.begin()
            peer.writer.transport.set_write_buffer_limits(high=1 << 30)
            peer.writer.write(b".\r\n" + b"NOOP\r\n" * 2 + b"X" * (20 << 20))
            await until(lambda: door.due, "the message to be handed over")
            (carrier,) = smtpd._carriers
            await until(lambda: carrier._brakes, "the client to be held back")
            unsent: list[int] = []  # at each look; the kernel takes some megabytes on the way, and then no more
            while len(unsent) < 5 or len({*unsent[-4:]}) > 1:
                looks = smtpd.now
                await until(lambda: smtpd.now > looks, "the next look")  # noqa: B023
                unsent.append(peer.writer.transport.get_write_buffer_size())
            assert unsent[-1] > 8 << 20
            assert len(carrier._session._kept) < 1 << 20
            door.open_up()
            assert [reply[:3] for reply in (await peer.say(b"", 4))] == ["250", "250", "250", "500"]

    run(loop, story)


# --- vanishing clients ----------------------------------------------------------------------------------------------


def vanish(peer: Peer) -> None:
    """The connection is reset."""
    sock = peer.writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    peer.writer.transport.abort()


@pytest.mark.parametrize("end", ["reset", "closed"])
def test_a_client_that_goes_in_the_middle_leaves_nothing(loop, end):
    async def story() -> None:
        door = MemoryDoor()
        async with serving(door, small_body=1000) as smtpd, Peer(smtpd.port) as peer:
            await peer.begin()
            peer.writer.write(LINE * 100)
            await until(lambda: door.bodies and door.bodies[0].pieces, "the body to be written")
            if end == "reset":
                vanish(peer)
            else:
                peer.writer.write_eof()
            await until(lambda: smtpd.sessions == 0, "the session to be gone")
            assert [body.state for body in door.bodies] == ["discarded"]
            assert door.messages == []

    run(loop, story)


def test_a_client_that_goes_after_the_dot_has_its_message_kept(loop):
    async def story() -> None:
        door = MemoryDoor()
        door.slow = True
        async with serving(door) as smtpd:
            for _ in range(20):
                async with Peer(smtpd.port) as peer:
                    await peer.begin()
                    due = door.due
                    peer.writer.write(b"x\r\n.\r\n")
                    await until(lambda due=due: door.due > due, "the message to be handed over")
                    vanish(peer)
            await until(lambda: smtpd.sessions == 0, "all to be gone")
            door.open_up()
            assert len(door.messages) == 20
            assert smtpd.counts["accepted"] == 20

    run(loop, story)


def test_who_says_that_he_is_done_still_hears_his_answer(loop):
    async def story() -> None:
        door = MemoryDoor()
        door.slow = True
        async with serving(door) as smtpd, Peer(smtpd.port) as peer:
            await peer.begin()
            peer.writer.write(b"x\r\n.\r\nQUIT\r\n")
            peer.writer.write_eof()
            await until(lambda: door.due, "the message to be handed over")
            looks = smtpd.now + 0.15
            await until(lambda: smtpd.now > looks, "three looks")
            door.open_up()
            said = await peer.ended()
            assert said == b"250 2.0.0 69212ad0-00000001 accepted\r\n221 2.0.0 mx.us.test closing connection\r\n"

    run(loop, story)


# --- the end of the server ------------------------------------------------------------------------------------------


def test_at_the_end_messages_on_their_way_come_to_their_end(loop):
    async def story() -> None:
        door = MemoryDoor()
        async with serving(door) as smtpd, Peer(smtpd.port) as busy, Peer(smtpd.port) as idle:
            await busy.begin()
            await idle.hear()
            busy.writer.write(b"x\r\n")
            closing = asyncio.ensure_future(smtpd.close(10))
            assert await idle.ended() == b"421 4.3.2 Shutting down, try again later\r\n"
            assert not closing.done()
            busy.writer.write(b"y\r\n.\r\n")
            said = await busy.ended()
            assert said.startswith(b"250 2.0.0 ")
            assert said.endswith(b"421 4.3.2 Shutting down, try again later\r\n")
            await closing
            assert len(door.messages) == 1
            with pytest.raises(ConnectionRefusedError):
                await asyncio.open_connection("127.0.0.1", smtpd.port)

    run(loop, story)


def test_at_the_end_nobody_is_waited_for_longer_than_the_grace(loop):
    async def story() -> None:
        door = MemoryDoor()
        async with serving(door, small_body=100) as smtpd, Peer(smtpd.port) as busy:
            await busy.begin()
            busy.writer.write(LINE * 10)
            await until(lambda: door.bodies, "the body to be written")
            await smtpd.close(0.1)
            assert await busy.ended() == b"421 4.3.2 Shutting down, try again later\r\n"
            assert door.bodies[0].state == "discarded"

    run(loop, story)


def test_a_new_configuration_is_for_new_sessions(loop):
    async def story() -> None:
        async with serving() as smtpd, Peer(smtpd.port) as old:
            await old.hear()
            smtpd.reload(receiver(size_limit=77_000, relay_from=()), "new.us.test", Routes(["new.test"]))
            async with Peer(smtpd.port) as new:
                assert await new.hear() == "220 new.us.test ESMTP kmq"
                assert (await new.say("EHLO c\r\nMAIL FROM:<> SIZE=77001\r\n", 2))[1][:3] == "552"
                assert (await new.say("MAIL FROM:<>\r\nRCPT TO:<b@us.test>\r\n", 2))[1][:3] == "554"
            assert (await old.say("EHLO c\r\nMAIL FROM:<>\r\nRCPT TO:<b@us.test>\r\n", 3))[2][:3] == "250"

    run(loop, story)
