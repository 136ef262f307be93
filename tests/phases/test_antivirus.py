"""Antivirus control by a clamd that does what it should not: no mail goes on unscanned, and none is lost."""

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeVar

import pytest
import uvloop

from kmq.config.sections import ScannerSection
from kmq.model.envelope import Head, Recipient, Source
from kmq.model.event import Deferred, Discarded, Failed, HeaderEdit, Suspended
from kmq.phases.antivirus import Antivirus
from kmq.phases.body import BodyDamaged
from kmq.phases.inspection import Finding, Matter
from kmq.phases.rules_letters import Office
from kmq.phases.work import Body
from tests.fake_clamd import FakeClamd

T = TypeVar("T")
Run = Callable[[Coroutine[Any, Any, T]], T]

TEXT = b"Received: from x by y with ESMTP id %d;\r\n\tnow\r\nSubject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\r\n\r\nhello\r\n"


def matter(text: bytes = TEXT, number: int = 1, path: Path | None = None) -> Matter:
    text = text.replace(b"%d", str(number).encode())
    to = [Recipient("bob@far.test"), Recipient("carol@far.test")]
    head = Head(
        id=f"0-{number}",
        created="2026-11-22T12:00:00.000Z",
        sender="m@far.test",
        sha256=sha256(text).hexdigest(),
        recipients=to,
        size=len(text),
        source=Source("smtp", "192.0.2.9"),
    )
    if path is not None:
        path.write_bytes(text)
    body = Body(None if path else text, str(path or ""), len(text))
    return Matter(head, body, (0, 1), (), 3, lambda address: False)


class Place:
    def __init__(self, folder: Path) -> None:
        self.fake = FakeClamd(folder / "s")
        self.folder = folder
        self.made: list[Antivirus] = []

    def antivirus(self, *more: dict[str, Any], places: int = 2, **options: Any) -> Antivirus:
        sections = [
            ScannerSection(name=f"v{n}", type="clamd", **{"address": str(self.fake.path), **options, **each})
            for n, each in enumerate(more or ({},))
        ]
        made = Antivirus(sections, {one.name: places for one in sections}, Office("pm@x.test", "mx.x.test"), None)
        self.made.append(made)
        return made


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def loop_runner(request: pytest.FixtureRequest) -> Iterator[Run[Any]]:
    """One loop for all of a test: scanners keep connections."""
    with asyncio.Runner(loop_factory=request.param) as runner:
        yield runner.run


@pytest.fixture
def place(tmp_path: Path, loop_runner: Run[Any]) -> Iterator[Place]:
    place = Place(tmp_path)
    yield place
    for one in place.made:
        loop_runner(one.close())
    if place.fake._server is not None:
        place.fake.stop()


FAULTS = {
    "close": "it closed the connection without an answer",
    "mute": "it closed the connection without an answer",
    "hang": "no answer within 0.3 s",
    "garbage": "it says nonsense: ?[2JHTTP/1.1 400 Bad Request",
    "error Can't open file": "it says Can't open file ERROR",
    "down": "no such file or directory",
}


def limit(mood: str) -> float:
    """Only who hangs has to be waited for."""
    return 0.3 if mood == "hang" else 60.0


@pytest.mark.parametrize("mood", FAULTS)
@pytest.mark.parametrize("large", [False, True])
def test_without_a_scanner_mail_waits(
    place: Place, loop_runner: Run[Any], mood: str, large: bool, tmp_path: Path
) -> None:
    """Row 63: never delivered unscanned."""
    place.fake.mood = mood
    if mood != "down":
        place.fake.start()
    one = matter(TEXT + b"x" * 400_000, path=tmp_path / "body") if large else matter()
    found = loop_runner(place.antivirus(time_limit=limit(mood)).inspect(one))
    assert found.passed is None
    (deferred,) = found.events
    assert isinstance(deferred, Deferred)
    assert (deferred.rcpt, deferred.attempt) == ("0-1", 3)
    where = f"v0 (clamd at {place.fake.path})"
    assert deferred.reply == f"451 4.7.1 Content scanner unavailable: {where}: {FAULTS[mood]}"
    assert not found.letters


@pytest.mark.parametrize("mood", FAULTS)
def test_unless_somebody_wants_it_delivered_unscanned(place: Place, loop_runner: Run[Any], mood: str) -> None:
    place.fake.mood = mood
    if mood != "down":
        place.fake.start()
    found = loop_runner(place.antivirus(time_limit=limit(mood), failure="open").inspect(matter()))
    assert found.events == []
    assert found.passed.verdict == f"unscanned: v0: {FAULTS[mood]}"
    assert found.passed.headers == (HeaderEdit("set", "X-Virus-Status", "unscanned (v0)"),)


def test_a_scanner_that_is_back_is_asked_again(place: Place, loop_runner: Run[Any]) -> None:
    antivirus = place.antivirus()

    async def play() -> None:
        assert (await antivirus.inspect(matter())).passed is None
        with place.fake.running():
            async with asyncio.timeout(60):
                while (await antivirus.inspect(matter())).passed is None:
                    await asyncio.sleep(0.02)

    loop_runner(play())


@pytest.mark.parametrize(
    ("policy", "event"),
    [("quarantine", Suspended), ("remove", Suspended), ("discard", Discarded), ("reject", Failed)],
)
def test_a_virus_ends_as_its_section_says(place: Place, loop_runner: Run[Any], policy: str, event: type) -> None:
    """Row 64. Nothing can take the mail apart here, so that removing it is holding it."""
    place.fake.mood = "found Evil.X"
    with place.fake.running():
        found = loop_runner(place.antivirus(infected=policy, forward_original="a@x.test").inspect(matter()))
    assert (found.passed.by, found.passed.verdict) == ("v0", "infected: Evil.X")
    assert [type(one) for one in found.events] == [event]
    assert found.events[0].rcpt == "0-1"
    (report,) = found.letters
    assert (report.sender, report.quiet, report.recipients[0].address) == ("", True, "a@x.test")
    text = b"".join(report.pieces())
    assert b"Subject: Virus found (original mail): Evil.X\r\n" in text
    assert b'\nFrom: "Virus scanner of ' in b"\n" + text, "a phrase with dots stands in quotes (RFC 5322, 3.2.5)"
    assert b"Client:     192.0.2.9" in text
    assert (matter().body.text or b"-") in text
    assert text.isascii()


WARNED = (
    HeaderEdit("set", "X-Virus-Status", "encrypted: Heuristics.Encrypted.Zip"),
    HeaderEdit("set", "Subject", "[not scanned] =?utf-8?q?Gr=C3=BC=C3=9Fe?="),
)


@pytest.mark.parametrize(
    ("name", "options", "headers", "held"),
    [
        ("Heuristics.Encrypted.Zip", {}, WARNED, False),
        ("Heuristics.Encrypted.Zip", {"warning_subject": ""}, WARNED[:1], False),
        ("Heuristics.Encrypted.Zip", {"encrypted": "accept"}, (), False),
        ("Heuristics.Encrypted.Zip", {"encrypted": "infected"}, (), True),
        ("Heuristics.Limits.Exceeded.MaxFiles", {"unscannable": "infected"}, (), True),
        ("Heuristics.Limits.Exceeded.MaxFiles", {"unscannable": "accept"}, (), False),
    ],
)
def test_what_cannot_be_looked_into_is_told_or_counts_as_a_virus(
    place: Place, loop_runner: Run[Any], name: str, options: dict[str, Any], headers: tuple[HeaderEdit, ...], held: bool
) -> None:
    place.fake.mood = f"found {name}"
    with place.fake.running():
        found = loop_runner(place.antivirus(**options).inspect(matter()))
    assert found.passed.headers == headers
    assert [type(one) for one in found.events] == ([Suspended] if held else [])


def test_what_is_too_large_is_not_sent_at_all(place: Place, loop_runner: Run[Any], tmp_path: Path) -> None:
    with place.fake.running():
        one = matter(TEXT + b"x" * 5000, path=tmp_path / "b")
        found = loop_runner(place.antivirus(size_limit=5000).inspect(one))
    assert found.passed.verdict == "unscannable: larger than size_limit"
    assert place.fake.shown == []


def test_the_first_scanner_that_finds_something_ends_the_round(place: Place, loop_runner: Run[Any]) -> None:
    with place.fake.running():
        antivirus = place.antivirus({}, {"infected": "discard"}, {"infected": "reject"})
        clean, found = (loop_runner(antivirus.inspect(matter(text))) for text in (TEXT, TEXT + b"kmq-virus\r\n"))
    assert clean.passed.by == "v0, v1, v2"
    assert len(place.fake.shown) == 3 + 1
    assert [type(one) for one in found.events] == [Suspended]


def test_a_scanner_that_is_down_counts_although_another_finds_nothing(place: Place, loop_runner: Run[Any]) -> None:
    gone = {"address": str(place.folder / "gone")}
    with place.fake.running():
        found = loop_runner(place.antivirus({}, gone).inspect(matter()))
        opened = loop_runner(place.antivirus({}, {**gone, "failure": "open"}).inspect(matter()))
    assert found.passed is None
    assert opened.passed.verdict.startswith("unscanned: v1")


def test_the_same_mail_is_scanned_once_until_there_are_other_signatures(
    place: Place, loop_runner: Run[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Our own Received: differs each time. kmq-virus is found all the same when clamd learns of it."""
    clock = [1000.0]
    monkeypatch.setattr("kmq.phases.antivirus_scanner.monotonic", lambda: clock[0])
    antivirus = place.antivirus()

    async def scanned(text: bytes) -> Finding:
        return await antivirus.inspect(matter(text, number=len(place.fake.shown) + 7))

    async def play() -> None:
        place.fake.mood = "ok"
        for _ in range(5):
            assert (await scanned(TEXT + b"kmq-virus")).events == []
        assert (len(place.fake.shown), place.fake.versions) == (1, 1)
        await scanned(TEXT.replace(b"hello", b"other"))
        await scanned(TEXT.replace(b"Subject", b"X-Subject"))
        assert len(place.fake.shown) == 3, "other bytes, and be it of the header, are another mail"
        place.fake.mood, place.fake.version = "by text", "ClamAV 1.4.6/27001/Mon"
        assert (await scanned(TEXT + b"kmq-virus")).events == [], "so far nobody has looked for other signatures"
        clock[0] += 10
        assert [type(one) for one in (await scanned(TEXT + b"kmq-virus")).events] == [Suspended]
        assert "Kmq.Test" in repr((await scanned(TEXT + b"kmq-virus")).passed)
        assert len(place.fake.shown) == 4
        clock[0] += 301
        await scanned(TEXT + b"kmq-virus")
        assert len(place.fake.shown) == 5, "a verdict has its time"

    with place.fake.running():
        loop_runner(play())


def test_nothing_is_remembered_where_that_is_not_wanted_nor_of_trouble(place: Place, loop_runner: Run[Any]) -> None:
    with place.fake.running():
        forgetful, antivirus = place.antivirus(remember=0.0), place.antivirus(places=9)
        for number in range(3):
            loop_runner(forgetful.inspect(matter(number=number)))
        assert (len(place.fake.shown), place.fake.versions) == (3, 0)
        place.fake.mood = "error busy"
        assert loop_runner(antivirus.inspect(matter())).passed is None
        place.fake.mood = "ok"
        assert loop_runner(antivirus.inspect(matter())).passed is not None


def test_a_body_that_is_damaged_is_no_trouble_of_the_scanner(
    place: Place, loop_runner: Run[Any], tmp_path: Path
) -> None:
    one = matter(TEXT + b"x" * 100_000, path=tmp_path / "b")
    (tmp_path / "b").write_bytes(b"y" * one.head.size)
    with place.fake.running():
        for remember in (0.0, 300.0):
            with pytest.raises(BodyDamaged):
                loop_runner(place.antivirus(remember=remember).inspect(one))
        (tmp_path / "b").unlink()
        antivirus = place.antivirus(remember=0.0)
        with pytest.raises(FileNotFoundError):
            loop_runner(antivirus.inspect(one))
        assert loop_runner(antivirus.inspect(matter())).passed is not None, "the scanner is asked as before"


def test_a_stuck_scanner_has_its_own_places_only(place: Place, loop_runner: Run[Any]) -> None:
    place.fake.mood = "hang"
    antivirus = place.antivirus(places=3, remember=0.0)

    async def play() -> list[Finding]:
        asked = [asyncio.ensure_future(antivirus.inspect(matter(number=n))) for n in range(20)]
        async with asyncio.timeout(60):
            while place.fake.busy < 3:
                await asyncio.sleep(0.01)
            place.fake.mood = "mute"  # who has his place next
            place.fake.release()
            return await asyncio.gather(*asked)

    with place.fake.running():
        found = loop_runner(play())
    assert all(one.passed is None for one in found), "three in a row without an answer"
    assert place.fake.most == 3
