"""What is taken out of infected mail, by the real examiner: the infected parts alone, or nothing."""

import asyncio
from collections.abc import Iterator
from email.message import EmailMessage
from email.policy import SMTP
from pathlib import Path
from typing import Any

import pytest

from kmq.config.content import ContentSection
from kmq.config.sections import NoticesSection, ScannerSection
from kmq.model.event import Deferred, Suspended
from kmq.phases.antivirus import Antivirus
from kmq.phases.antivirus_removal import Remover
from kmq.phases.examining import Examiners
from kmq.phases.inspection import Finding
from kmq.phases.rules_letters import Office
from kmq.routing.languages import Languages
from tests.fake_clamd import FakeClamd
from tests.phases.test_antivirus import matter


@pytest.fixture
def fake(tmp_path: Path) -> Iterator[FakeClamd]:
    (tmp_path / "incoming").mkdir()
    with FakeClamd(tmp_path / "s").running() as made:
        yield made


def found_in(fake: FakeClamd, text: bytes, **options: Any) -> Finding:
    """What Antivirus control says of a message."""

    async def play() -> Finding:
        section = ScannerSection(name="v", type="clamd", address=str(fake.path), **{"infected": "remove", **options})
        examiners = Examiners(ContentSection(), str(fake.path.parent))
        remover = Remover(examiners, Languages(NoticesSection()), "mx.x.test")
        antivirus = Antivirus([section], {"v": 2}, Office("pm@x.test", "mx.x.test"), remover)
        try:
            async with asyncio.timeout(60):
                return await antivirus.inspect(matter(text))
        finally:
            await antivirus.close()

    return asyncio.run(play())


def mail(*texts: bytes, nested: bytes = b"") -> bytes:
    made = EmailMessage()
    made["Subject"] = "files"
    made.set_content("See the files.")
    for number, text in enumerate(texts):
        made.add_attachment(text, maintype="application", subtype="octet-stream", filename=f"f{number}.bin")
    if nested:
        inner = EmailMessage()
        inner["Subject"] = "inner"
        inner.set_content("fine")
        inner.add_attachment(nested, maintype="application", subtype="octet-stream", filename="deep.bin")
        made.add_attachment(inner)
    return made.as_bytes(policy=SMTP)


def rest_of(found: Finding) -> bytes:
    assert found.replacement is not None and found.replacement.pieces is not None
    return b"".join(found.replacement.pieces())


VIRUS = b"kmq-virus"


def test_each_infected_part_goes_and_no_other(fake: FakeClamd) -> None:
    """The virus is seen in the whole because a part of it is not encoded; the other one only when it is decoded."""
    plain = b"Content-Type: text/x-evil; name=evil.txt\r\n\r\nkmq-virus\r\n"
    text = mail(b"good", VIRUS * 3)
    boundary = text.partition(b'boundary="')[2].partition(b'"')[0]
    text = text.replace(
        b"\r\n--" + boundary + b"--", b"\r\n--" + boundary + b"\r\n" + plain + b"\r\n--" + boundary + b"--"
    )
    found = found_in(fake, text)
    rest = rest_of(found)
    assert b"kmq-virus" not in rest
    assert rest.count(b"has removed an attachment here") == 2
    assert found.passed is not None
    assert found.passed.verdict == "infected: Kmq.Test, removed f1.bin, evil.txt"
    before, _, after = text.partition(b"f0.bin")
    assert rest.startswith(before + b"f0.bin"), "what stands ahead is as it was"
    assert after[:60] in rest
    assert fake.shown[-1] == rest, "the rest was scanned again, as a whole"


def test_a_part_of_a_message_within_the_message(fake: FakeClamd) -> None:
    text = mail(b"good", nested=VIRUS) + b"kmq-virus behind the last boundary\r\n"
    found = found_in(fake, text)
    assert [type(one) for one in found.events] == [Suspended], "without the part it is infected still"
    assert isinstance(found.events[0], Suspended)
    assert "without its attachment it is still infected: Kmq.Test" in found.events[0].reason
    assert found.replacement is None


def test_where_no_part_alone_is_infected_it_is_held(fake: FakeClamd) -> None:
    text = mail(b"good") + b"kmq-virus behind the last boundary\r\n"
    found = found_in(fake, text)
    assert isinstance(found.events[0], Suspended)
    assert found.events[0].reason == "infected: Kmq.Test (v): no part alone is infected"


def test_a_scanner_that_goes_away_between_the_parts_has_it_wait(fake: FakeClamd) -> None:
    """The first question finds the virus; at the second one nobody answers."""

    class Fickle(FakeClamd):
        @property
        def mood(self) -> str:
            return "by text" if not self.shown else "mute"

        @mood.setter
        def mood(self, value: str) -> None:
            pass

    fickle = Fickle(fake.path.parent / "fickle")
    with fickle.running():
        found = found_in(fickle, mail(VIRUS) + b"kmq-virus\r\n")
    assert found.passed is None
    assert isinstance(found.events[0], Deferred)
    assert "closed the connection" in found.events[0].reply


class HangsAtParts(FakeClamd):
    """The first question finds the virus; the second one is never answered."""

    @property
    def mood(self) -> str:
        return "by text" if not self.shown else "hang"

    @mood.setter
    def mood(self, value: str) -> None:
        pass


def test_a_scanner_that_hangs_at_a_part_has_it_wait(fake: FakeClamd) -> None:
    slow = HangsAtParts(fake.path.parent / "slow")
    with slow.running():
        found = found_in(slow, mail(VIRUS) + b"kmq-virus\r\n", time_limit=0.5)
    assert found.passed is None, "one question that hangs is the scanner's trouble"


def test_parts_that_take_too_long_in_all_have_it_held(fake: FakeClamd, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kmq.phases.antivirus._QUESTIONS", 0.01)
    slow = HangsAtParts(fake.path.parent / "slow")
    with slow.running():
        found = found_in(slow, mail(VIRUS) + b"kmq-virus\r\n", time_limit=60.0)
    (held,) = found.events
    assert isinstance(held, Suspended)
    assert held.reason == "infected: Kmq.Test (v): its parts could not be scanned within 0.6 s"
