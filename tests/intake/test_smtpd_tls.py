"""STARTTLS: handed over at a command boundary, nothing of the clear text counts afterwards, failures leave nothing."""

import asyncio
import smtplib
import ssl
from contextlib import suppress
from pathlib import Path

import pytest

from kmq.errors import ConfigError
from kmq.intake.smtpd import Smtpd
from kmq.log import mail
from tests.intake.doors import NO_STORAGE, MemoryDoor, Routes, receiver
from tests.intake.serving import LOOPS, Peer, certificate, run, serving, until

LINE = b"x" * 70 + b"\r\n"


@pytest.fixture(params=LOOPS)
def loop(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def tls(tmp_path_factory) -> dict[str, str]:
    made, key = certificate(tmp_path_factory.mktemp("tls"))
    return {"tls_certificate": made, "tls_key": key}


def trusting() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


async def secure(peer: Peer) -> None:
    """The client's side of STARTTLS, up to its handshake."""
    await peer.hear()
    await peer.say("EHLO before\r\n")
    assert await peer.say("STARTTLS\r\n") == ["220 2.0.0 Ready to start TLS"]
    await peer.writer.start_tls(trusting())


def test_another_s_client_sends_by_tls(loop, tls):
    def send(port: int, content: bytes) -> None:
        with smtplib.SMTP("127.0.0.1", port, local_hostname="c.test") as client:
            client.starttls(context=trusting())
            assert not client.has_extn("starttls"), "an old EHLO is forgotten on both sides"
            for _ in range(3):
                client.sendmail("a@a.test", ["bob@us.test"], content)

    async def story() -> None:
        door = MemoryDoor()
        async with serving(door, small_body=200_000, **tls) as smtpd:
            small, large = b"Subject: x\r\n\r\nhi\r\n", b"Subject: x\r\n\r\n" + LINE * 20_000
            await asyncio.gather(asyncio.to_thread(send, smtpd.port, small), asyncio.to_thread(send, smtpd.port, large))
            assert sorted(message.content for message in door.messages) == sorted([small, large] * 3)
            assert all(b" with ESMTPS id " in message.trace for message in door.messages)
            await until(lambda: smtpd.sessions == 0, "all to be gone")

    run(loop, story)


def test_what_was_said_in_the_clear_counts_for_nothing(loop, tls):
    async def story() -> None:
        async with serving(**tls) as smtpd, Peer(smtpd.port) as peer:
            await secure(peer)
            assert await peer.say("MAIL FROM:<a@b>\r\n") == ["503 5.5.1 Bad sequence of commands"]
            assert await peer.say("STARTTLS\r\n") == ["502 5.5.1 Command not implemented"]
            assert (await peer.say("EHLO after\r\nQUIT\r\n", 2))[1][:3] == "221"
            assert await peer.ended() == b""

    run(loop, story)


@pytest.mark.parametrize("injected", ["NOOP\r\n", "MAIL FROM:<evil@b>\r\n", "N"])
def test_commands_in_the_same_segment_are_not_heard(loop, tls, injected):
    async def story() -> None:
        async with serving(**tls) as smtpd, Peer(smtpd.port) as peer:
            await peer.hear()
            await peer.say("EHLO c\r\n")
            assert await peer.say(f"STARTTLS\r\n{injected}") == ["554 5.5.0 Protocol synchronization error"]
            assert await peer.ended() == b""

    run(loop, story)


def test_commands_right_behind_starttls_are_taken_for_the_handshake(loop, tls):
    """A second segment, sent before our 220 is read: TLS reads it, not SMTP, and finds that it is no handshake."""

    async def story() -> None:
        door = MemoryDoor()
        async with serving(door, **tls) as smtpd, Peer(smtpd.port) as peer:
            await peer.hear()
            await peer.say("EHLO c\r\n")
            assert (await peer.say("STARTTLS\r\n"))[0][:3] == "220"
            peer.writer.write(b"MAIL FROM:<evil@b>\r\nRCPT TO:<bob@us.test>\r\nDATA\r\n")
            with suppress(ConnectionError):
                assert b"250" not in await peer.ended()
            await until(lambda: smtpd.sessions == 0, "the session to be gone")

    run(loop, story)


def test_the_server_s_end_does_not_wait_for_a_handshake(loop, tls):
    async def story() -> None:
        async with serving(**tls) as smtpd, Peer(smtpd.port) as peer:
            await peer.hear()
            await peer.say("EHLO c\r\n")
            await peer.say("STARTTLS\r\n")
            assert smtpd.sessions == 1
            await smtpd.close(0)
            assert smtpd.sessions == 0

    run(loop, story)


def test_who_has_not_read_our_replies_can_begin_tls_all_the_same(loop, tls):
    async def story() -> None:
        door = MemoryDoor()
        door.refusal = NO_STORAGE
        async with serving(door, **tls) as smtpd, Peer(smtpd.port) as peer:
            await peer.hear()
            await peer.say("EHLO c\r\n")
            (carrier,) = smtpd._carriers
            carrier.transport.set_write_buffer_limits(high=0)
            peer.writer.write(b"MAIL FROM:<>\r\n" * 100_000 + b"STARTTLS\r\n")
            reply = ""
            while reply != "220 2.0.0 Ready to start TLS":
                assert reply[:3] in ("", "452")
                reply = await peer.hear()
            await peer.writer.start_tls(trusting())
            for _ in range(3):
                assert await peer.say("NOOP\r\n") == ["250 2.0.0 Ok"]
            assert not carrier._brakes

    run(loop, story)


@pytest.mark.parametrize("end", ["close", "abort"])
def test_a_client_that_goes_during_the_handshake_leaves_nothing(loop, tls, end):
    async def story() -> None:
        async with serving(**tls) as smtpd, Peer(smtpd.port) as peer:
            await peer.hear()
            await peer.say("EHLO c\r\n")
            await peer.say("STARTTLS\r\n")
            assert smtpd.sessions == 1
            getattr(peer.writer.transport, end)()
            await until(lambda: smtpd.sessions == 0, "the session to be gone")

    run(loop, story)


def test_a_client_that_goes_after_the_dot_has_its_message_kept(loop, tls):
    async def story() -> None:
        door = MemoryDoor()
        door.slow = True
        async with serving(door, **tls) as smtpd, Peer(smtpd.port) as peer:
            await secure(peer)
            text = "EHLO c\r\nMAIL FROM:<a@a.test>\r\nRCPT TO:<bob@us.test>\r\nDATA\r\n"
            assert (await peer.say(text, 4))[3][:3] == "354"
            peer.writer.write(b"x\r\n.\r\n")
            await until(lambda: door.due, "the message to be handed over")
            peer.writer.transport.abort()
            await until(lambda: smtpd.sessions == 0, "the session to be gone")
            door.open_up()
            assert len(door.messages) == 1

    run(loop, story)


def test_limits_hold_behind_tls(loop, tls):
    async def story() -> None:
        options = {"command_timeout": 0.3, "sessions": 1}
        async with serving(**tls, **options) as smtpd, Peer(smtpd.port) as peer:
            await secure(peer)
            async with Peer(smtpd.port) as other:
                assert (await other.ended())[:3] == b"421"
            assert await peer.hear() == "421 4.4.2 Timeout"

    run(loop, story)


def test_while_the_disk_is_behind_nothing_is_read_by_tls(loop, tls):
    async def story() -> None:
        door = MemoryDoor()
        door.disk_full = True
        async with serving(door, small_body=1000, **tls) as smtpd, Peer(smtpd.port) as peer:
            await secure(peer)
            text = "EHLO c\r\nMAIL FROM:<a@a.test>\r\nRCPT TO:<bob@us.test>\r\nDATA\r\n"
            assert (await peer.say(text, 4))[3][:3] == "354"
            peer.writer.transport.set_write_buffer_limits(high=1 << 30)
            peer.writer.write(LINE * 100_000 + b".\r\n")
            await until(lambda: door.bodies, "the file to be opened")
            looks = smtpd.now + 0.3
            await until(lambda: smtpd.now > looks, "six looks")
            large = door.bodies[0]
            assert sum(map(len, large.pieces)) < 2 << 20
            large.full = False
            large.on_room()
            assert (await peer.hear())[:3] == "250"
            assert len(door.messages[0].content) == len(LINE) * 100_000

    run(loop, story)


@pytest.mark.parametrize(
    ("garbage", "why"), [(b"no handshake\r\n", "SSL: "), (b"", "the client ended the connection during the handshake")]
)
def test_why_a_handshake_failed_is_in_the_log(loop, tls, monkeypatch, garbage, why):
    told: list[str] = []
    monkeypatch.setattr(mail, "tell", lambda what, *_, **keys: told.append(f"{what} {keys.get('reason', '')}"))

    async def story() -> None:
        async with serving(**tls) as smtpd, Peer(smtpd.port) as peer:
            await peer.hear()
            await peer.say("EHLO c\r\n")
            await peer.say("STARTTLS\r\n")
            peer.writer.write(garbage)
            if not garbage:
                peer.writer.close()
            await until(lambda: any(line.startswith("tls-failed") for line in told), "it is said")
        (line,) = [line for line in told if line.startswith("tls-failed")]
        assert why in line
        assert "_ssl.c" not in line

    run(loop, story)


def test_old_tls_is_refused(loop, tls):
    async def story() -> None:
        async with serving(**tls) as smtpd:
            assert smtpd.tls_context.minimum_version == ssl.TLSVersion.TLSv1_2

    run(loop, story)


def test_a_certificate_is_renewed_without_a_restart(loop, tls, tmp_path):
    made, key = certificate(tmp_path)

    def presented(port: int) -> bytes:
        with smtplib.SMTP("127.0.0.1", port) as client:
            client.starttls(context=trusting())
            return client.sock.getpeercert(binary_form=True)

    async def story() -> None:
        async with serving(**tls) as smtpd:
            before = await asyncio.to_thread(presented, smtpd.port)
            smtpd.reload(receiver(tls_certificate=made, tls_key=key, relay_from=()), "mx.us.test", Routes())
            after = await asyncio.to_thread(presented, smtpd.port)
            assert before != after == ssl.PEM_cert_to_DER_cert(Path(made).read_text())

    run(loop, story)


@pytest.mark.parametrize("wrong", ["absent", "empty", "other"])
def test_a_certificate_that_cannot_be_used_is_said_at_the_start(tls, tmp_path, wrong):
    path = tmp_path / "certificate.pem"
    if wrong != "absent":
        path.write_text("" if wrong == "empty" else Path(tls["tls_key"]).read_text())
    section = receiver(tls_certificate=str(path), tls_key=tls["tls_key"])
    with pytest.raises(ConfigError, match=r"certificate\.pem"):
        Smtpd(section, "mx.us.test", Routes(), MemoryDoor())
