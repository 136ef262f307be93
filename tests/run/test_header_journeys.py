"""A real kmqd and the headers of mail: from a user's program to a server that knows neither home nor 8 bits."""

import email
import email.policy
import os
import signal
import smtplib
from collections.abc import Iterator
from email.message import EmailMessage
from pathlib import Path

import pytest

from tests.fakes import EXTENSIONS, EvilHop
from tests.torture.kmqd import NO_DROPS, Kmqd
from tests.waiting import free_port, listening, until

MORE = """

[users : receiver]
listen = 127.0.0.1:{users}
relay_from = 127.0.0.0/8
submission = yes

[outside : rewrite]
connectors = to-0
addresses = @host.local.test @public.test
senders = file:{generic}
"""
NARROW = tuple(one for one in EXTENSIONS if one != "8BITMIME")


class Place:
    """kmqd with both receivers, and far.test's server, which offers no 8BITMIME."""

    def __init__(self, folder: Path, hop: EvilHop) -> None:
        self.hop = hop
        self.users = free_port()
        self.generic = folder / "generic"
        self.generic.write_text("alice@local.test alice.liddell@public.test\n")
        more = MORE.format(users=self.users, generic=self.generic)
        self.kmqd = Kmqd(folder / "k", hops={"far.test": hop.port}, drops=NO_DROPS + more, workers=1)
        self.kmqd.names = lambda: ["scheduler-1", "index-1", "worker-1", "receiver-1"]  # type: ignore[method-assign]

    def send(self, port: int, *to: str, text: bytes, sender: str = "alice@local.test") -> None:
        with smtplib.SMTP("127.0.0.1", port, timeout=20) as client:
            client.sendmail(sender, to, text, mail_options=["BODY=8BITMIME"])

    def sent(self, count: int) -> list[EmailMessage]:
        until(lambda: len(self.hop.messages) == count, f"far.test has {count} messages")
        return [email.message_from_bytes(one.body, policy=email.policy.default) for one in self.hop.messages]

    def mailbox(self, user: str) -> list[EmailMessage]:
        files = sorted((self.kmqd.mail / user / "new").glob("*"))
        return [email.message_from_bytes(one.read_bytes(), policy=email.policy.default) for one in files]


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with EvilHop(extensions=NARROW).threaded() as hop:
        made = Place(tmp_path, hop)
        try:
            made.kmqd.start()
            until(lambda: listening(made.users), "the receiver for users listens")
            yield made
            assert made.kmqd.accidents() == []
        finally:
            made.kmqd.close()


TEXT = "To: Bob <bob@far.test>, carol\r\nReturn-Path: <x@y>\r\nSubject: Grüße\r\n\r\nHallöchen\r\n.\u00fc\r\n".encode()


def test_one_message_of_a_program_to_the_world_and_to_a_mailbox(place: Place) -> None:
    place.send(place.users, "bob@far.test", "carol@local.test", text=TEXT)
    (out,) = place.sent(1)
    assert (out["From"], out["Subject"]) == ("alice.liddell@public.test", "Grüße")
    assert out["To"] == "Bob <bob@far.test>, carol@local.test"
    assert out.get_payload(decode=True) == "Hallöchen\r\n.\u00fc\r\n".encode()
    assert place.hop.messages[0].lines[0].startswith(b"MAIL FROM:<alice.liddell@public.test> SIZE=")
    until(lambda: place.mailbox("carol"), "carol has it")
    (home,) = place.mailbox("carol")
    assert (home["From"], home["Return-Path"]) == ("alice@local.test", "<alice@local.test>")
    assert home["Message-ID"] == out["Message-ID"]
    assert home.get_payload(decode=True) == "Hallöchen\n.\u00fc\n".encode()
    until(lambda: "alice@local.test -> alice.liddell@public.test" in place.kmqd.log, "the log names both addresses")


def test_port_25_leaves_headers_alone(place: Place) -> None:
    place.send(place.kmqd.port, "carol@local.test", text=b"To: carol\r\nFrom: a\r\nFrom: b\r\n\r\nx\r\n")
    until(lambda: place.mailbox("carol"), "carol has it")
    (home,) = place.mailbox("carol")
    assert home.keys() == ["Return-Path", "Delivered-To", "X-Original-To", "Received", "To", "From", "From"]


def test_a_notice_goes_to_the_sender_as_he_wrote(place: Place) -> None:
    signed = b"DKIM-Signature: v=1\r\nSubject: x\r\n\r\n\xc3\xbc\r\n"
    place.send(place.users, "550-at-rcpt@far.test", text=TEXT)
    place.send(place.users, "bob@far.test", text=signed)
    until(lambda: len(place.mailbox("alice")) == 2, "alice was told of both")
    told = "\n".join(str(one) for one in place.mailbox("alice"))
    assert "550-at-rcpt@far.test" in told
    assert "5.6.3" in told
    assert "public.test" not in told
    assert not place.hop.messages


def test_a_large_message_and_a_file_that_changes(place: Place) -> None:
    text = TEXT + "Zeile für Zeile\r\n".encode() * 100_000
    place.send(place.users, "bob@far.test", text=text)
    (out,) = place.sent(1)
    assert out.get_payload(decode=True).endswith("Zeile für Zeile\r\n".encode() * 1000)
    place.generic.write_text("alice@local.test other@public.test\n")

    def other() -> bool:
        place.send(place.users, "bob@far.test", text=TEXT)
        return any(b"<other@public.test>" in one.lines[0] for one in place.hop.messages)

    until(other, "the new file counts, without a reload")


def test_a_reload_takes_rewriting_away(place: Place) -> None:
    path = place.kmqd.folder / "kmq.conf"
    ahead, _, behind = path.read_text().partition("[outside : rewrite]")
    path.write_text(ahead + behind[behind.index("[in : receiver]") :])
    os.kill(place.kmqd.pid, signal.SIGHUP)

    def plain() -> bool:
        place.send(place.users, "bob@far.test", text=TEXT)
        return any(b"<alice@local.test>" in one.lines[0] for one in place.hop.messages)

    until(plain, "mail goes out as it is")
