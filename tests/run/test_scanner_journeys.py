"""A real kmqd with Debian's clamd and rspamd: what becomes of clean mail, of viruses, and of spam; what people see."""

import email
import email.policy
import re
import smtplib
from collections.abc import Iterator
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest

from tests import debian_clamd, debian_rspamd
from tests.debian_clamd import EICAR, WORD
from tests.fake_clamd import FakeClamd
from tests.fakes import EvilHop
from tests.torture.kmqd import NO_DROPS, Kmqd
from tests.waiting import until

SENDER = "mallory@far.test"

SECTIONS = """

[virus : scanner]
type = clamd
address = {clamd}
header = yes
encrypted = infected
forward_original = admin@local.test
{clamd_more}

[junk : scanner]
type = rspamd
address = {rspamd}
{rspamd_more}
"""


@pytest.fixture(scope="session")
def daemons() -> Iterator[tuple[Path, Path]]:
    for one in (debian_clamd, debian_rspamd):
        if not one.PROGRAM:
            pytest.skip(one.MISSING)
    with debian_clamd.ground() as folder:
        (folder / "junk").mkdir()
        with debian_clamd.clamd(folder / "virus") as clamd, debian_rspamd.rspamd(folder / "junk") as rspamd:
            yield clamd, rspamd


class Place:
    def __init__(
        self, folder: Path, hop: EvilHop, daemons: tuple[Path, Path], clamd: str = "", rspamd: str = ""
    ) -> None:
        self.hop = hop
        names = dict(zip(("clamd", "rspamd"), daemons, strict=True))
        more = SECTIONS.format(**names, clamd_more=clamd, rspamd_more=rspamd)
        self.kmqd = Kmqd(folder / "k", hops={"far.test": hop.port}, drops=NO_DROPS + more, workers=1)
        self.kmqd.start()

    def send(self, text: bytes, *to: str) -> None:
        with smtplib.SMTP("127.0.0.1", self.kmqd.port, timeout=60) as client:
            client.sendmail(SENDER, to or ("bob@far.test",), text)

    def kmq(self, *words: str) -> str:
        done = self.kmqd.call(*words)
        return done.stdout + done.stderr

    def held(self) -> str:
        """The ID of the message that is held."""
        until(lambda: re.search(r"held (\S+) from", self.kmqd.log), f"something is held: {self.kmqd.log[-3000:]}")
        (found,) = set(re.findall(r"held (\S+) from", self.kmqd.log))
        return str(found)

    def arrived(self, count: int) -> list[EmailMessage]:
        until(lambda: len(self.hop.messages) >= count, f"far.test has {count} messages; {self.kmqd.log[-3000:]}")
        assert len(self.hop.messages) == count
        return [email.message_from_bytes(one.body, policy=email.policy.default) for one in self.hop.messages]

    def mailbox(self, user: str, count: int) -> list[EmailMessage]:
        folder = self.kmqd.mail / user / "new"
        until(lambda: len([*folder.glob("*")]) >= count, f"{user} has {count}; {self.kmqd.log[-3000:]}")
        files = sorted(folder.glob("*"))
        return [email.message_from_bytes(one.read_bytes(), policy=email.policy.default) for one in files]


@pytest.fixture
def hop() -> Iterator[EvilHop]:
    with EvilHop().threaded() as made:
        yield made


@pytest.fixture
def begin(tmp_path: Path, hop: EvilHop, daemons: tuple[Path, Path]) -> Iterator[Any]:
    places = []

    def begun(**more: str) -> Place:
        places.append(Place(tmp_path, hop, daemons, **more))
        return places[-1]

    yield begun
    for place in places:
        try:
            assert place.kmqd.accidents() == []
        finally:
            place.kmqd.close()


def letter(subject: str, text: bytes, **more: str) -> bytes:
    fields = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in more.items())
    header = f"From: m@far.test\r\nTo: bob@far.test\r\nSubject: {subject}\r\nDate: Sun, 22 Nov 2026 12:00:00 +0000\r\n"
    return (header + "Message-ID: <1@far.test>\r\n" + fields + "\r\n").encode() + text + b"\r\n"


def with_attachment(text: bytes, name: str = "evil.txt") -> bytes:
    made = EmailMessage()
    made["From"], made["To"], made["Subject"] = "m@far.test", "bob@far.test", "Two files"
    made.set_content("See the files.")
    made.add_attachment(b"a good one\n" * 30, maintype="application", subtype="x-good", filename="good.bin")
    made.add_attachment(text, maintype="application", subtype="octet-stream", filename=name)
    return made.as_bytes(policy=email.policy.SMTP)


def test_clean_mail_goes_on_and_a_virus_is_held_until_an_operator_lets_it_go(begin: Any) -> None:
    place = begin()
    place.send(letter("hello", b"hi"))
    (clean,) = place.arrived(1)
    assert clean["X-Virus-Status"] == "clean"
    assert clean["X-Spam-Status"].startswith("No, score=0.00 required=15.00")
    place.send(letter("bad", WORD), "bob@far.test", "carol@local.test")
    held = place.held()
    told = place.kmq("explain", held)
    assert "it is held by antivirus: infected: Kmq.Test-1.UNOFFICIAL (virus)" in told
    assert f"kmq resume {held}" in told
    history = place.kmq("history", held)
    assert "Antivirus control: by virus; infected: Kmq.Test-1.UNOFFICIAL" in history
    (report,) = place.mailbox("admin", 1)
    assert "Kmq.Test-1" in report["Subject"]
    assert report["Auto-Submitted"] == "auto-generated"
    attached = [part for part in report.walk() if part.get_content_type() == "message/rfc822"]
    assert WORD in attached[0].get_payload(0).get_payload(decode=True)
    assert place.kmq("resume", held).startswith(f"{held} resumed")
    _, let_go = place.arrived(2)
    assert (let_go["Subject"], let_go["X-Virus-Status"]) == ("bad", None)
    assert len(place.mailbox("carol", 1)) == 1
    place.kmqd.drain()
    assert not [*(place.kmqd.mail / "mallory" / "new").glob("*")]


def test_an_infected_attachment_is_taken_out_and_all_else_is_as_it_was(begin: Any) -> None:
    place = begin(clamd="infected = remove\nforward_filtered = second@local.test")
    text = with_attachment(b"x\n" + EICAR + b"\n" * 200)
    place.send(text)
    (out,) = place.arrived(1)
    parts = [*out.iter_parts()]
    assert [one.get_content_type() for one in parts] == ["text/plain", "application/x-good", "text/plain"]
    note = parts[2].get_content()
    assert "evil.txt" in note
    assert "Eicar-Test-Signature" in note
    received = place.hop.messages[0].body
    original = text[: text.rindex(b"Content-Type: application/octet-stream")]
    body = received[received.index(b"From: m@far.test") :]
    assert body.startswith(original), "byte by byte, up to the part that went"
    (report,) = place.mailbox("admin", 1)
    (filtered,) = place.mailbox("second", 1)
    assert "original" in report["Subject"]
    assert "filtered" in filtered["Subject"]
    inner = next(part for part in filtered.walk() if part.get_content_type() == "message/rfc822").get_payload(0)
    assert [one.get_content_type() for one in inner.iter_parts()] == [one.get_content_type() for one in parts]
    place.send(with_attachment(b"y" * 300_000 + b"\n" + WORD + b"\n" + b"z" * 300_000, "big.bin"))
    _, large = place.arrived(2)
    assert "big.bin" in [*large.iter_parts()][2].get_content()
    place.send(letter("all of it", WORD))
    *_, whole = place.arrived(3)
    assert WORD not in whole.get_payload(decode=True)
    assert whole["Subject"] == "all of it", "a message that is nothing but text keeps its header"
    place.kmqd.drain()


def test_spam_is_marked_by_default(begin: Any) -> None:
    place = begin()
    words = ("kmq-spam-header", "kmq-spam-subject", "kmq-spam-reject", "kmq-spam-milter", "kmq-spam-greylist")
    for word in words:
        place.send(letter(word, word.encode(), X_Spam_Flag="NO", X_Spam_Score="-99", X_Evil="1"))
    found = {next(iter(one.get_payload().split())): one for one in place.arrived(len(words))}
    assert [found[word]["X-Spam-Flag"] for word in words] == ["YES", "YES", "YES", None, None]
    assert [found[word]["X-Spam-Score"] for word in words] == ["7.00", "9.00", "20.00", "1.00", "5.00"]
    assert found["kmq-spam-subject"]["Subject"] == "[JUNK] kmq-spam-subject"
    assert found["kmq-spam-header"]["Subject"] == "kmq-spam-header"
    assert "tests=KMQ_REJECT" in found["kmq-spam-reject"]["X-Spam-Status"]
    assert [found[word]["X-Evil"] for word in words] == ["1", "1", "1", None, "1"]
    assert found["kmq-spam-milter"]["X-Kmq-Seen"], "rspamd was told of HELO, and its field was added"


def test_a_virus_ends_without_a_word_where_that_is_wanted(begin: Any) -> None:
    """And spam is held where that is wanted, and what rspamd wants to see later waits."""
    place = begin(clamd="infected = discard", rspamd="spam = quarantine\ngreylist = wait\nphase = antivirus")
    place.send(letter("bad", WORD), "bob@far.test", "carol@local.test")
    until(lambda: "discarded" in place.kmqd.log, "it ended")
    place.kmqd.drain()
    assert not place.hop.messages
    place.send(letter("spam", b"kmq-spam-reject"))
    assert "antispam: reject, score 20.0 of 15.0 (junk)" in place.kmq("explain", place.held())
    place.send(letter("grey", b"kmq-spam-greylist"))
    until(lambda: "451 4.7.1 junk says greylist, score 5.0" in place.kmqd.log, "it waits")
    assert not place.hop.messages


# --- a scanner that is stuck -----------------------------------------------------------------------------------------


def test_a_stuck_scanner_keeps_no_other_queue_and_nothing_is_lost(tmp_path: Path, hop: EvilHop) -> None:
    """Row 63. All slots that mail may have in front of the scanner are taken; what goes out goes out."""
    fake = FakeClamd(tmp_path / "clamd")
    more = (
        f"\n\n[virus : scanner]\ntype = clamd\naddress = {fake.path}\nconnections = 2\nremember = 0\ntime_limit = 10m\n"
    )
    kmqd = Kmqd(
        tmp_path / "k",
        hops={"far.test": hop.port},
        drops=NO_DROPS + more,
        workers=1,
        queue="worker_slots = 8",
    )
    hop.refusals["late@far.test"] = "450 4.2.0 not now"

    def send(to: str) -> None:
        with smtplib.SMTP("127.0.0.1", kmqd.port, timeout=60) as client:
            client.sendmail(SENDER, [to], letter(to, b"hi"))

    try:
        with fake.running():
            kmqd.start()
            send("late@far.test")
            until(lambda: "450 4.2.0 not now" in kmqd.log, "it waits in its queue")
            fake.mood = "hang"
            for number in range(20):
                send(f"stuck{number}@far.test")
            until(lambda: fake.busy == 2, "the scanner has as many as it may")
            hop.refusals.clear()
            until(lambda: hop.messages, f"the other queue goes on; {kmqd.log[-2000:]}")
            assert (fake.busy, fake.most) == (2, 2)
            assert [one.recipients for one in hop.messages] == [["late@far.test"]]
            fake.mood = "ok"
            fake.release()
            until(lambda: len(hop.messages) == 21, f"all of it comes; {kmqd.log[-2000:]}")
        kmqd.drain()
        assert kmqd.accidents() == []
        assert len({one.recipients[0] for one in hop.messages}) == 21
    finally:
        kmqd.close()
