"""Milters with a real kmqd: what one changes arrives so, what it holds waits, and a signature of opendkim's is good."""

import os
import smtplib
from collections.abc import Iterator
from pathlib import Path

import dkim
import pytest

from kmq.admin.client import ask
from tests.debian_opendkim import MISSING, PROGRAM, opendkim, zone
from tests.fake_milter import FakeMilter, change
from tests.fakes import EvilHop
from tests.torture.kmqd import NO_DROPS, Kmqd
from tests.waiting import until

TEXT = (
    "From: ada@local.test\r\nTo: bob@far.test\r\nSubject: x\r\nDate: Sun, 22 Nov 2026 10:00:00 +0000\r\n\r\n.hello\r\n"
)


@pytest.fixture
def hop() -> Iterator[EvilHop]:
    with EvilHop().threaded() as hop:
        yield hop


@pytest.fixture
def milter(tmp_path: Path) -> Iterator[FakeMilter]:
    with FakeMilter().listening(str(tmp_path / "milter")) as milter:
        yield milter


@pytest.fixture
def kmqd(tmp_path: Path, hop: EvilHop, request: pytest.FixtureRequest) -> Iterator[Kmqd]:
    made = Kmqd(tmp_path / "kmqd", hops={"far.test, more.test": hop.port}, workers=1)
    address = tmp_path / "dkim" / "milter" if "dkim" in request.node.name else tmp_path / "milter"
    made.drops = f"{NO_DROPS}\n\n[filter : milter]\naddress = {address}\n"
    with made.running():
        yield made


def send(kmqd: Kmqd, *to: str, text: str = TEXT) -> None:
    with smtplib.SMTP("127.0.0.1", kmqd.port) as client:
        client.sendmail("ada@local.test", list(to), text)


def test_what_it_changes_arrives_so(kmqd: Kmqd, hop: EvilHop, milter: FakeMilter) -> None:
    milter.script[b"E"] = [
        change(b"i", "X-Filtered", "yes", place=0),
        change(b"m", "Subject", "[other] x", place=1),
        change(b"e", "<other@local.test>"),
        change(b"+", "<new@more.test>"),
        change(b"-", "<carl@far.test>"),
        (b"b", b"another\r\n.text\r\n"),
        (b"a", b""),
    ]
    send(kmqd, "bob@far.test", "carl@far.test")
    until(lambda: len(hop.messages) == 1, f"it is delivered: {kmqd.log[-3000:]}")
    kmqd.drain()
    (message,) = hop.messages
    assert message.sender == "other@local.test" and sorted(message.recipients) == ["bob@far.test", "new@more.test"]
    header, _, body = message.body.partition(b"\r\n\r\n")
    assert body == b"another\r\n.text\r\n"
    assert header.startswith(b"X-Filtered: yes\r\nReceived: ") and b"\r\nSubject: [other] x\r\n" in header
    until(lambda: "replaced" in kmqd.log, "the log tells of it")
    assert "discarded" in kmqd.log and 'reason="the milter takes the recipient away"' in kmqd.log
    assert len(milter.of(b"E")) == 1, "what goes on instead is not shown again"


def test_what_it_changed_of_the_header_outlives_everybody(kmqd: Kmqd, hop: EvilHop, milter: FakeMilter) -> None:
    milter.script[b"E"] = [change(b"h", "X-Filtered", "yes"), (b"a", b"")]
    hop.banner = "421 not now"
    send(kmqd, "bob@far.test")
    until(lambda: kmqd.queued(), "it waits")
    until(lambda: "passed" in (kmqd.spool / "queue" / kmqd.queued()[0]).read_text(), "it has passed the milter")
    before = kmqd.kill("scheduler-1")
    until(lambda: kmqd.children().get("scheduler-1", before) != before, "there is another scheduler process")
    kmqd.ready()
    kmqd.kill("worker-1")
    hop.banner = "220 evil.test ESMTP"
    until(lambda: hop.messages, f"it is delivered: {kmqd.log[-3000:]}")
    assert b"\r\nX-Filtered: yes\r\n" in hop.messages[0].body
    assert len(milter.of(b"E")) == 1, "it was shown once"


def test_what_it_holds_waits_for_an_operator(kmqd: Kmqd, hop: EvilHop, milter: FakeMilter) -> None:
    milter.script[b"E"] = [change(b"q", "looks odd"), (b"c", b"")]
    send(kmqd, "bob@far.test")
    until(lambda: "held" in kmqd.log, "it is held")
    name = Path(kmqd.queued()[0]).stem
    assert 'reason="quarantined by the milter: looks odd"' in kmqd.log
    assert ask(kmqd.run, "resume", {"ids": [name]}).status == 0
    until(lambda: hop.messages, f"it goes on: {kmqd.log[-3000:]}")
    assert len(milter.of(b"E")) == 1


def test_mail_waits_for_a_milter_that_is_away(kmqd: Kmqd, hop: EvilHop, tmp_path: Path) -> None:
    send(kmqd, "bob@far.test")
    until(lambda: "Content scanner unavailable: milter filter" in kmqd.log, "it is tried")
    assert not hop.messages
    with FakeMilter().listening(str(tmp_path / "milter")):
        until(lambda: hop.messages, f"it goes on: {kmqd.log[-3000:]}")


@pytest.mark.skipif(not PROGRAM, reason=MISSING)
def test_a_message_that_was_signed_by_opendkim_with_dkim_is_good(
    tmp_path: Path, hop: EvilHop, request: pytest.FixtureRequest
) -> None:
    folder = tmp_path / "dkim"
    with opendkim(folder):
        if os.geteuid() != 0:
            until(lambda: os.access(folder / "milter", os.W_OK), "its socket is ours")
        kmqd = request.getfixturevalue("kmqd")
        send(kmqd, "bob@far.test")
        until(lambda: hop.messages, f"it is delivered: {kmqd.log[-3000:]}")
    body = hop.messages[0].body
    assert b"DKIM-Signature: v=1; a=rsa-sha256;" in body and b"d=local.test" in body
    assert dkim.verify(body, dnsfunc=zone(folder)), "the signature is good where it arrives"
    assert not dkim.verify(body.replace(b"hello", b"hallo"), dnsfunc=zone(folder))
