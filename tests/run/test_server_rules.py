"""A real kmqd with server rules: what becomes of mail, of its copies, and of its history."""

import email
import email.policy
import json
import re
import smtplib
from collections.abc import Iterator
from email.message import EmailMessage
from pathlib import Path

import pytest

from kmq.cli.kmq import main
from tests.fakes import EvilHop
from tests.torture.kmqd import NO_DROPS, Kmqd
from tests.waiting import until

RULES = """

[marked : rule]
description = mail that leaves
apply = outgoing
condition = all mail
action = set header Subject: [out] ${subject}

[audited : rule]
condition = subject contains contract
action = copy to audit@local.test

[moved : rule]
condition = envelope recipient is old@local.test
action =
    redirect to new@local.test
    add header X-Was: ${recipients}

[left : rule]
condition = envelope recipient is leaver@local.test
action = redirect to nobody@far.test

[again : rule]
condition = envelope recipient is new@local.test
action = redirect to old@local.test

[programs : rule]
condition = attachment is *.exe
action =
    notify boss@local.test subject "A program: ${subject}"
    reject We take no programs by mail.

[odd : rule]
condition = subject contains lottery
action = hold looks odd

[gone : rule]
condition = envelope sender is spammer@far.test
action = discard
"""

EXE = b"""\
From: Ada <ada@local.test>
To: eve@local.test
Subject: Setup
MIME-Version: 1.0
Content-Type: multipart/mixed; boundary=b

--b

hello
--b
Content-Type: application/octet-stream; name="SETUP.EXE"

MZ
--b--
""".replace(b"\n", b"\r\n")


class Place:
    def __init__(self, folder: Path, hop: EvilHop) -> None:
        self.hop = hop
        self.kmqd = Kmqd(folder / "k", hops={"far.test": hop.port}, drops=NO_DROPS + RULES, workers=1)
        self.kmqd.names = lambda: ["scheduler-1", "index-1", "worker-1", "receiver-1"]  # type: ignore[method-assign]

    def send(self, sender: str, *to: str, subject: str = "Hello", text: bytes = b"") -> str:
        """-> the ID."""
        text = text or f"From: {sender}\r\nTo: you\r\nSubject: {subject}\r\n\r\nhello\r\n".encode()
        with smtplib.SMTP("127.0.0.1", self.kmqd.port, timeout=60) as client:
            client.ehlo()
            client.mail(sender, ["ENVID=offer-5"])
            for one in to:
                assert client.rcpt(one)[0] == 250
            code, said = client.data(text)
        assert code == 250
        found = re.search(rb"[0-9a-f]{8}-[0-9a-f]{8}", said)
        assert found is not None
        return found[0].decode()

    def mailbox(self, user: str, count: int = 1) -> list[EmailMessage]:
        folder = self.kmqd.mail / user / "new"
        until(lambda: folder.is_dir() and len(list(folder.iterdir())) >= count, f"{user} has {count} messages")
        files = sorted(folder.iterdir())
        return [email.message_from_bytes(one.read_bytes(), policy=email.policy.default) for one in files]

    def empty(self) -> None:
        until(lambda: not list((self.kmqd.spool / "queue").rglob("*.env")), "the queue is empty")

    def kmq(self, capsys: pytest.CaptureFixture[str], *words: str) -> str:
        capsys.readouterr()
        main(["-c", str(self.kmqd.folder / "kmq.conf"), *words])
        return capsys.readouterr().out


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """One for all stories: each has people of its own."""
    with EvilHop(refusals={"nobody@far.test": "550 5.1.1 there is nobody"}).threaded() as hop:
        made = Place(tmp_path_factory.mktemp("rules"), hop)
        with made.kmqd.running():
            yield made


def test_what_rules_do_with_mail(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    place.send("ada@local.test", "bob@far.test", "eve@local.test", subject="the contract")
    until(lambda: len(place.hop.messages) == 1, "far.test has it")
    out = email.message_from_bytes(place.hop.messages[0].body, policy=email.policy.default)
    assert out["Subject"] == "[out] the contract"
    (copy,) = place.mailbox("audit")
    (mine,) = place.mailbox("eve")
    assert copy["Subject"] == mine["Subject"] == "[out] the contract", "a message has one header"

    place.send("spammer@far.test", "eve@local.test", subject="buy")
    moved = place.send("ada@local.test", "old@local.test", subject="for you")
    (at_new,) = place.mailbox("new")
    assert (at_new["Subject"], at_new["X-Was"]) == ("for you", "old@local.test")
    place.empty()
    assert len(place.mailbox("eve")) == 1, "what is discarded is gone"
    assert not (place.kmqd.mail / "old").exists(), "no rule answers a rule"
    until(
        lambda: "redirect to new@local.test" in place.kmq(capsys, "history", moved),
        "the tracking log, a moment later, has it",
    )
    told = place.kmq(capsys, "history", moved)
    assert "rule moved (" in told and "kmq.conf:" in told


def test_new_rules_count_with_a_reload(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    place.send("ada@local.test", "rita@local.test", subject="one")
    assert place.mailbox("rita")[0]["X-New"] is None
    path = place.kmqd.folder / "kmq.conf"
    path.write_text(path.read_text() + "\n[new : rule]\ncondition = all mail\naction = add header X-New: ${rule}\n")
    assert "[new] (new section)" in place.kmq(capsys, "reload")
    place.send("ada@local.test", "rita@local.test", subject="two")
    found = {one["Subject"]: one["X-New"] for one in place.mailbox("rita", 2)}
    assert found == {"one": None, "two": "new"}


def test_where_redirected_mail_fails_its_sender_hears_of_whom_he_wrote_to(place: Place) -> None:
    place.send("nora@local.test", "leaver@local.test")
    (notice,) = place.mailbox("nora")
    told = notice.as_string()
    assert "Original-Envelope-Id: offer-5" in told
    assert "Original-Recipient: rfc822; leaver@local.test" in told
    assert "Final-Recipient: rfc822; nobody@far.test" in told
    place.empty()


def test_a_program_is_rejected_and_somebody_told(place: Place) -> None:
    place.send("ada@local.test", "paul@local.test", text=EXE)
    (notice,) = place.mailbox("ada")
    assert notice["Auto-Submitted"] == "auto-replied"
    assert "550 5.7.1 We take no programs by mail." in notice.as_string()
    (letter,) = place.mailbox("boss")
    assert letter["Subject"] == "A program: Setup"
    place.empty()
    assert not (place.kmqd.mail / "paul").exists()


def test_what_a_rule_holds_waits_for_an_operator(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    held = place.send("ada@local.test", "lotte@local.test", subject="the lottery")
    until(lambda: "Suspended" in place.kmq(capsys, "mailq"), "it is held")
    told = place.kmq(capsys, "explain", held)
    assert "looks odd" in told and "rule odd (" in told and "kmq resume" in told
    tried = [json.loads(line) for line in place.kmq(capsys, "--json", "rules", "test", held).splitlines()]
    assert [one["Rule"] for one in tried if one["Applies"]] == ["odd"]
    place.kmq(capsys, "resume", held)
    (mine,) = place.mailbox("lotte")
    assert mine["Subject"] == "the lottery", "it is not held again by the same rule"
    place.empty()
