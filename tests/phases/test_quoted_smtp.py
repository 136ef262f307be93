"""Mail on its way to a server without 8BITMIME: converted on the wire, with a size that is right, in bounded memory."""

import email
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kmq.phases.smtp import Smtp
from tests.fakes import EXTENSIONS, EvilHop
from tests.phases.sending import against, kinds, outcome, results, section, send, smtp, until, work

NARROW = tuple(one for one in EXTENSIONS if one != "8BITMIME")
TEXT = "Subject: x\r\n\r\nGrüße\r\n.dots\r\n".encode()
QUOTED = (
    b"Subject: x\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=unknown-8bit\r\n"
    b"Content-Transfer-Encoding: quoted-printable\r\n\r\nGr=C3=BC=C3=9Fe\r\n.dots\r\n"
)


def large(size: int) -> bytes:
    """Two parts of 8-bit text, with lines that begin with a dot only when they are folded."""
    line = ("ü" * 23 + "x." * 23 + "\r\n.dot\r\n").encode()
    part = b"Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
    lines = line * (size // 2 // len(line))
    head = b"Subject: x\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n"
    return head + b"--b\r\n" + part + lines + b"--b\r\n" + part + lines + b"--b--\r\n"


def read(text: bytes) -> list[bytes]:
    return [part.get_payload(decode=True) for part in email.message_from_bytes(text).walk() if not part.is_multipart()]


def test_a_small_message_is_quoted_on_the_wire(loop_runner: Callable[[Any], Any]) -> None:
    async def story(hop: EvilHop, phase: Smtp) -> None:
        assert kinds(await outcome(phase, work("a@b.test", text=TEXT))) == "D"
        assert hop.messages[0].body == QUOTED
        assert hop.messages[0].lines[0] == b"MAIL FROM:<sender@kmq.test> SIZE=%d" % len(QUOTED)
        assert kinds(await outcome(phase, work("a@b.test"))) == "D", "the next message is not"
        assert hop.messages[1].body.startswith(b"Message-ID: ")
        assert hop.connections == 1

    against(EvilHop(extensions=NARROW), story, loop_runner)


def test_a_server_with_8bitmime_gets_it_as_it_is() -> None:
    async def story(hop: EvilHop, phase: Smtp) -> None:
        assert kinds(await outcome(phase, work("a@b.test", text=TEXT))) == "D"
        assert hop.messages[0].lines[0].endswith(b" BODY=8BITMIME")
        assert hop.messages[0].body == TEXT

    against(EvilHop(), story)


def test_a_large_message_is_quoted_as_it_goes_by(tmp_path: Path, loop_runner: Callable[[Any], Any]) -> None:
    text = large(2_000_000)

    async def story(hop: EvilHop, phase: Smtp) -> None:
        shown: list[tuple[str, int]] = []
        one = work("a@b.test", "b@b.test", "c@b.test", text=text, file=tmp_path / "x.eml")
        assert kinds(await send(phase, one, shown)) == "DDD"
        for message in hop.messages:
            assert message.body.isascii()
            assert read(message.body) == read(text)
            assert b" SIZE=%d" % len(message.body) in message.lines[0]
        assert len(hop.messages) == 2, "two recipients at a time"
        assert max(map(len, hop.messages[0].body.split(b"\r\n"))) <= 80
        assert [percent for _, percent in shown][-1] == 100

    against(EvilHop(extensions=NARROW, recipients_limit=2), story, loop_runner)


def test_25_megabytes_need_no_more_memory_than_a_few_pieces(tmp_path: Path) -> None:
    from kmq.phases.rendering import render

    one = work("a@b.test", text=large(25 << 20), file=tmp_path / "x.eml")
    tracemalloc.start()
    try:
        render(one, None, True)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 2 << 20


def test_signed_mail_is_returned_with_the_reason(tmp_path: Path) -> None:
    signed = b"DKIM-Signature: v=1; a=rsa-sha256\r\n" + TEXT
    sealed = large(300_000).replace(b"multipart/mixed", b"multipart/signed")

    async def story(hop: EvilHop, phase: Smtp) -> None:
        for one in (work("a@b.test", text=signed), work("a@b.test", text=sealed, file=tmp_path / "x.eml")):
            ((kind, reply),) = results(await outcome(phase, one)).values()
            assert (kind, reply[:9]) == ("Failed", "554 5.6.3")
            assert "signed" in reply
        assert not any(line.startswith(b"MAIL") for line in hop.commands)
        assert kinds(await outcome(phase, work("a@b.test"))) == "D", "the connection lives on"
        assert hop.connections == 1

    against(EvilHop(extensions=NARROW), story)


def test_dots_that_only_folding_brings_to_the_beginning_of_a_line_arrive(tmp_path: Path) -> None:
    text = b"Subject: x\r\n\r\n" + ("ü" + "." * 300 + "\r\n").encode() * 1000

    async def story(hop: EvilHop, phase: Smtp) -> None:
        for one in (work("a@b.test", text=text[:1000] + b"\r\n"), work("a@b.test", text=text, file=tmp_path / "x.eml")):
            assert not one.head.dots
            assert kinds(await outcome(phase, one)) == "D"
        assert all(b"\r\n." in message.body for message in hop.messages)
        assert read(hop.messages[1].body) == read(text)

    against(EvilHop(extensions=NARROW), story)


def test_what_becomes_too_large_is_not_sent() -> None:
    text = b"Subject: x\r\n\r\n" + "ü".encode() * 400 + b"\r\n"

    async def story(hop: EvilHop, phase: Smtp) -> None:
        ((kind, reply),) = results(await outcome(phase, work("a@b.test", text=text))).values()
        assert (kind, reply[:9]) == ("Failed", "552 5.3.4")

    against(EvilHop(extensions=("SIZE 1000",)), story)


def test_utf8_headers_have_no_other_form() -> None:
    """RFC 6531 3.2: who asked for SMTPUTF8 gets it, or his message back."""
    text = "Subject: ü\r\n\r\nx\r\n".encode()

    async def story(hop: EvilHop, phase: Smtp) -> None:
        ((kind, reply),) = results(await outcome(phase, work("a@b.test", text=text, smtputf8=True))).values()
        assert (kind, reply[:9]) == ("Failed", "554 5.6.7")

    against(EvilHop(extensions=("PIPELINING",)), story)


@pytest.mark.parametrize("change", [b"", b"short"])
def test_a_damaged_file_is_not_converted(tmp_path: Path, change: bytes) -> None:
    one = work("a@b.test", text=large(300_000), file=tmp_path / "x.eml")
    body = (tmp_path / "x.eml").read_bytes()
    (tmp_path / "x.eml").write_bytes(change or body.replace(b"x.x", b"y.y"))

    async def story(hop: EvilHop, phase: Smtp) -> None:
        found = await outcome(phase, one)
        assert found.damaged
        assert not hop.messages
        assert kinds(await outcome(phase, work("a@b.test"))) == "D"

    against(EvilHop(extensions=NARROW), story)


def test_a_file_that_cannot_be_read_waits(tmp_path: Path) -> None:
    one = work("a@b.test", text=large(300_000), file=tmp_path / "x.eml")
    (tmp_path / "x.eml").unlink()

    async def story(hop: EvilHop, phase: Smtp) -> None:
        ((kind, reply),) = results(await outcome(phase, one)).values()
        assert (kind, reply[:9]) == ("Deferred", "451 4.3.0")
        assert "No such file" in reply

    against(EvilHop(extensions=NARROW), story)


def test_a_server_that_leaves_while_the_message_is_read_has_heard_nothing_of_it(tmp_path: Path) -> None:
    one = work("a@b.test", text=large(6_000_000), file=tmp_path / "x.eml")

    async def story(hop: EvilHop, phase: Smtp) -> None:
        sending = send(phase, one)
        await until(lambda: hop.connections == 1 and any(line.startswith(b"EHLO") for line in hop.commands), "EHLO")
        hop.extensions = EXTENSIONS
        for session in tuple(hop._sessions):
            session.end(abort=True)
        assert kinds(await sending) == "D"
        assert [message.lines[0].endswith(b"8BITMIME") for message in hop.messages] == [True], "the other one has it"
        assert hop.messages[0].body == (tmp_path / "x.eml").read_bytes()

    against(EvilHop(extensions=NARROW), story)


def test_stopping_while_a_message_is_read_leaves_it_in_the_queue(tmp_path: Path) -> None:
    one = work("a@b.test", text=large(6_000_000), file=tmp_path / "x.eml")

    async def story(hop: EvilHop, phase: Smtp) -> None:
        sending = send(phase, one)
        await until(lambda: any(line.startswith(b"EHLO") for line in hop.commands), "EHLO")
        await phase.close(0)
        assert (await sending).unavailable is not None
        assert not hop.messages

    against(EvilHop(extensions=NARROW), story)


def test_each_server_gets_what_it_can_take() -> None:
    """The first server refuses the recipient for now; the second one offers 8BITMIME."""

    async def story(hop: EvilHop, phase: Smtp) -> None:
        one = work("421-at-rcpt-1@b.test", text=TEXT)
        assert kinds(await outcome(phase, one)) == "d"
        hop.extensions = EXTENSIONS
        again = smtp(section(hop.address))
        assert kinds(await outcome(again, one)) == "D"
        assert hop.messages[-1].body == TEXT
        await again.close(1)

    against(EvilHop(extensions=NARROW), story)
