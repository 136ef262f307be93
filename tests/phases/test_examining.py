"""The examiner as a process: what it finds, what it may not do, and what becomes of mail that it dies of."""

import asyncio
import base64
import dataclasses
import io
import os
import signal
import zipfile
from collections.abc import Callable, Coroutine
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import uvloop

from kmq.config.content import ContentSection
from kmq.model.envelope import Head, Recipient
from kmq.model.event import Deferred
from kmq.phases import examining
from kmq.phases.body import BodyDamaged
from kmq.phases.examiner_child import Child
from kmq.phases.examiner_line import Line
from kmq.phases.examining import Examiners, examiners_of, without_facts
from kmq.phases.facts import Cause, Facts, Trouble, Verdict
from kmq.phases.inspection import Matter
from kmq.phases.work import Body
from tests.phases import bombs
from tests.phases.bombs import TEXT, attachment, in_mail, multipart, zipped

Story = Callable[[Examiners], Coroutine[Any, Any, None]]


@pytest.fixture
def spool(tmp_path: Path) -> Path:
    (tmp_path / "incoming").mkdir()
    return tmp_path


def told(spool: Path, story: Story, section: ContentSection | None = None) -> None:
    """Runs a story with examiners, in the loop that workers have; none of them lives afterwards, no file is left."""

    async def whole() -> None:
        examiners = Examiners(section or ContentSection(), str(spool))
        try:
            await story(examiners)
        finally:
            pids = [child.pid for child in examiners._all]
            await examiners.close()
        assert not any(Path(f"/proc/{pid}").exists() for pid in pids)

    uvloop.run(asyncio.wait_for(whole(), 120))
    assert os.listdir(spool / "incoming") == []


def head_of(body: bytes, name: str = "6b03141c-00000001") -> Head:
    return Head(name, sha256(body).hexdigest(), "", "a@a.test", [Recipient("b@b.test")], len(body))


def small(body: bytes) -> Body:
    return Body(body, "", len(body))


async def facts_of(examiners: Examiners, body: bytes) -> Facts:
    found = await examiners.facts(head_of(body), small(body))
    assert isinstance(found, Facts), found
    return found


def child_of(examiners: Examiners) -> Child:
    (child,) = examiners._all
    return child


MAIL = multipart(TEXT, attachment("a.zip", zipped(("evil.exe", b"MZ")), b"application/zip"), attachment("b", b"text"))


def test_it_tells_of_parts_and_of_files_in_archives(spool: Path) -> None:
    async def story(examiners: Examiners) -> None:
        found = await facts_of(examiners, MAIL)
        assert [(one.name, one.inside, one.part) for one in found.attachments] == [
            ("a.zip", "", 2),
            ("evil.exe", "a.zip", 2),
            ("b", "", 3),
        ]
        assert found.parts[0].type == "multipart/mixed"

    told(spool, story)


@pytest.mark.parametrize("charset", ["koi8-r", "iso-2022-jp", "gb18030", "x-nobody-knows", "punycode"])
def test_what_it_may_not_read_any_more_it_has_read(spool: Path, charset: str) -> None:
    """Python reads the table of a charset when it is first met."""
    known = charset not in ("x-nobody-knows", "punycode")
    text = "Другое.exe".encode(charset if known else "utf-8")
    name = b"=?%b?b?%b?=" % (charset.encode(), base64.b64encode(text))
    body = multipart(b'Content-Disposition: attachment; filename="%b"\r\n\r\nx' % name)

    async def story(examiners: Examiners) -> None:
        found = await facts_of(examiners, body)
        assert found.parts[1].names == ("Другое.exe",)

    told(spool, story)


def test_a_part_is_handed_out_decoded(spool: Path) -> None:
    octets = os.urandom(3 << 20)
    body = multipart(
        TEXT, attachment("large", octets), b"Content-Transfer-Encoding: quoted-printable\r\n\r\ncaf=C3=A9=\r\n!"
    )
    path = spool / "body.eml"
    path.write_bytes(body)

    async def story(examiners: Examiners) -> None:
        head, large = head_of(body), Body(None, str(path), len(body))
        found = await examiners.facts(head, large)
        assert isinstance(found, Facts)
        for number, text in ((1, b"hello"), (2, octets), (3, "café!".encode())):
            fd = await examiners.extract(head, large, found.parts[number])
            assert isinstance(fd, int)
            with open(fd, "rb") as file:
                assert file.read() == text

    told(spool, story)


def test_one_process_answers_one_message_after_the_other_and_many_share_it(spool: Path) -> None:
    async def story(examiners: Examiners) -> None:
        bodies = [multipart(attachment(f"{number}.txt", b"x")) for number in range(20)]
        found = await asyncio.gather(*(facts_of(examiners, one) for one in bodies))
        assert [one.attachments[0].name for one in found] == [f"{number}.txt" for number in range(20)]
        child_of(examiners)

    told(spool, story)


def test_who_asks_again_is_told_what_is_known(spool: Path) -> None:
    async def story(examiners: Examiners) -> None:
        assert await facts_of(examiners, MAIL) is await facts_of(examiners, MAIL)

    told(spool, story)


def test_all_who_ask_have_the_same_examiners(spool: Path) -> None:
    first = examiners_of(ContentSection(), str(spool))
    assert first is examiners_of(ContentSection(), str(spool))
    assert first is not examiners_of(ContentSection(examiners=2), str(spool))


# --- what it may not do -----------------------------------------------------------------------------------------------


def test_it_is_confined(spool: Path) -> None:
    async def story(examiners: Examiners) -> None:
        await facts_of(examiners, MAIL)
        assert child_of(examiners).lacking == ()
        pid = child_of(examiners).pid
        status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
        assert status["NoNewPrivs"].strip() == "1"
        if os.uname().machine in ("x86_64", "aarch64"):
            assert status["Seccomp"].strip() == "2"
        if os.geteuid() == 0:
            assert set(status["Uid"].split()) == {"65534"}
        limits = {
            line[:25].strip(): line[26:].split()[0] for line in Path(f"/proc/{pid}/limits").read_text().splitlines()
        }
        assert int(limits["Max address space"]) < 200 << 20
        assert int(limits["Max cpu time"]) < 60
        assert int(limits["Max processes"]) == 0
        assert int(limits["Max core file size"]) == 0
        await facts_of(examiners, multipart(TEXT))
        assert len(os.listdir(f"/proc/{pid}/fd")) == 5, "its own, and nothing of what it was handed or we have"

    told(spool, story)


def test_20_mb_in_an_archive_take_less_than_64_mib_more(spool: Path) -> None:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(
            "inner.zip", zipped(("evil.exe", b"MZ" + os.urandom(10 << 20)), ("text", b"a word " * 1_500_000))
        )
        archive.writestr("other", os.urandom(10 << 20))
    body = in_mail(made.getvalue())
    path = spool / "body.eml"
    path.write_bytes(body)

    async def story(examiners: Examiners) -> None:
        await facts_of(examiners, MAIL)
        pid = child_of(examiners).pid
        before = _peak(pid)
        found = await examiners.facts(head_of(body), Body(None, str(path), len(body)))
        assert isinstance(found, Facts)
        assert [one.name for one in found.members] == ["inner.zip", "evil.exe", "text", "other"]
        assert found.verdict is Verdict.WHOLE
        assert _peak(pid) - before <= 64 << 20

    told(spool, story)


def _peak(pid: int) -> int:
    """Bytes that were resident at most."""
    (line,) = (one for one in Path(f"/proc/{pid}/status").read_text().splitlines() if one.startswith("VmHWM"))
    return int(line.split()[1]) << 10


MIME_ENDS = {
    "nested_multiparts": Verdict.LIMITS,
    "nested_messages": Verdict.LIMITS,
    "many_parts": Verdict.LIMITS,
    "many_headers": Verdict.LIMITS,
    "long_header": Verdict.LIMITS,
    "folds": Verdict.LIMITS,
    "encoded_words": Verdict.LIMITS,
    "recipients": Verdict.LIMITS,
}


def test_mail_that_is_made_to_hurt_ends_in_a_verdict(spool: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """reliability: each in less than 2 s of the processor, and 100 MB, in a defined state."""
    monkeypatch.setattr(examining, "_CLOCK", 60)  # others may have the processor meanwhile

    async def story(examiners: Examiners) -> None:
        for name, make in bombs.MIME.items():
            found = await facts_of(examiners, make())
            assert found.verdict is MIME_ENDS.get(name, found.verdict), f"{name}: {found.why}"
            assert (found.verdict is Verdict.WHOLE) == (not found.why), name
        for name, make in bombs.ZIPS.items():
            found = await facts_of(examiners, in_mail(make()))
            assert found.verdict is Verdict.LIMITS, f"{name}: {found.why}"
            assert found.parts[2].name == "a.zip", "where it lies is known all the same"
        assert _peak(child_of(examiners).pid) < 100_000_000

    told(spool, story, ContentSection(time_limit=2.0))


# --- what becomes of mail that it dies of -----------------------------------------------------------------------------


async def _stopped(examiners: Examiners) -> int:
    """The pid of an examiner that has answered once, and stands still from now on."""
    await facts_of(examiners, multipart(TEXT))
    pid = child_of(examiners).pid
    os.kill(pid, signal.SIGSTOP)
    return pid


async def _taken(examiners: Examiners) -> None:
    """All that is asked has been told to an examiner."""
    await asyncio.sleep(0)
    while examiners._waiting:
        await asyncio.sleep(0)


async def _asked_while_it_stands(examiners: Examiners, then: Callable[[int], None]) -> Facts | Trouble:
    """Asks about a message of which the examiner does nothing, until `then` has been done to it."""
    pid = await _stopped(examiners)
    asking = asyncio.create_task(examiners.facts(head_of(MAIL), small(MAIL)))
    await _taken(examiners)
    then(pid)
    return await asking


@pytest.mark.parametrize("by", [signal.SIGSEGV, signal.SIGXCPU, signal.SIGABRT])
def test_a_death_by_itself_is_a_crash_of_the_message(spool: Path, by: signal.Signals) -> None:
    async def story(examiners: Examiners) -> None:
        def die(pid: int) -> None:
            os.kill(pid, by)
            os.kill(pid, signal.SIGCONT)

        trouble = await _asked_while_it_stands(examiners, die)
        assert isinstance(trouble, Trouble)
        assert trouble.cause is Cause.CRASHED
        assert by.name in trouble.why
        if by is not signal.SIGXCPU:
            assert "examiner.py" in trouble.trace
        await facts_of(examiners, MAIL)  # by another one

    told(spool, story)


def test_who_is_ended_by_somebody_says_nothing_about_the_message(spool: Path) -> None:
    async def story(examiners: Examiners) -> None:
        trouble = await _asked_while_it_stands(examiners, lambda pid: os.kill(pid, signal.SIGKILL))
        assert isinstance(trouble, Trouble)
        assert trouble.cause is Cause.UNAVAILABLE
        await facts_of(examiners, MAIL)

    told(spool, story)


def test_what_it_was_asked_together_with_what_it_dies_of_is_asked_again(spool: Path) -> None:
    async def story(examiners: Examiners) -> None:
        pid = await _stopped(examiners)
        bodies = [multipart(attachment(f"{number}.txt", b"x")) for number in range(5)]
        asking = [asyncio.create_task(facts_of(examiners, one)) for one in bodies]
        await _taken(examiners)
        os.kill(pid, signal.SIGSEGV)
        os.kill(pid, signal.SIGCONT)
        found = await asyncio.gather(*asking)
        assert [one.attachments[0].name for one in found] == [f"{number}.txt" for number in range(5)]
        assert child_of(examiners).pid != pid

    told(spool, story)


def test_who_does_not_wait_any_more_leaves_others_their_answers(spool: Path) -> None:
    async def story(examiners: Examiners) -> None:
        pid = await _stopped(examiners)
        bodies = [multipart(attachment(f"{number}.txt", b"x")) for number in range(12)]
        asking = [asyncio.create_task(facts_of(examiners, one)) for one in bodies]
        await asyncio.sleep(0)
        for gone in (asking[3], asking[11]):  # one that is asked, one that waits
            gone.cancel()
        os.kill(pid, signal.SIGCONT)
        found = await asyncio.gather(*asking, return_exceptions=True)
        assert [type(one) for one in found] == [
            asyncio.CancelledError if number in (3, 11) else Facts for number in range(12)
        ]
        assert child_of(examiners).pid == pid

    told(spool, story)


def test_large_and_small_ones_have_their_answers_whatever_is_asked_together(spool: Path) -> None:
    """Also beyond what is asked together by number and by bytes, and with two examiners."""

    async def story(examiners: Examiners) -> None:
        asking = []
        for number in range(40):
            size = (10, 10, 30_000, 60_000, 90_000)[number % 5]
            body = multipart(attachment(f"{number}.txt", b"x" * size))
            asking.append(facts_of(examiners, body))
        found = await asyncio.gather(*asking)
        assert [one.attachments[0].name for one in found] == [f"{number}.txt" for number in range(40)]

    told(spool, story, ContentSection(examiners=2))


def test_one_that_ended_while_nobody_asked_is_followed_by_another(spool: Path) -> None:
    async def story(examiners: Examiners) -> None:
        await facts_of(examiners, multipart(TEXT))
        child = child_of(examiners)
        os.kill(child.pid, signal.SIGKILL)
        while child.lives:
            await asyncio.sleep(0.01)
        await facts_of(examiners, MAIL)

    told(spool, story)


def test_one_that_does_not_answer_is_ended_and_the_mail_tried_again(
    spool: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(examining, "_CLOCK", 1)

    async def story(examiners: Examiners) -> None:
        examiners._section = ContentSection(time_limit=1.0)
        trouble = await _asked_while_it_stands(examiners, lambda pid: None)
        assert isinstance(trouble, Trouble)
        assert (trouble.cause, "did not answer" in trouble.why) == (Cause.UNAVAILABLE, True)

    told(spool, story)


def test_too_much_memory_is_a_crash(spool: Path) -> None:
    names = (("x" * 490 + str(number), b"") for number in range(20_000))
    body = in_mail(zipped(*names, method=zipfile.ZIP_STORED))

    async def story(examiners: Examiners) -> None:
        trouble = await examiners.facts(head_of(body), small(body))
        assert isinstance(trouble, Trouble)
        assert trouble.cause is Cause.CRASHED  # by MemoryError, or by what a library makes of it
        await facts_of(examiners, MAIL)

    told(spool, story, ContentSection(memory=16 << 20, archive_files=100_000))


def test_too_much_of_the_processor_is_a_crash(spool: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(examining, "_CLOCK", 1000)
    body = multipart(*(b"X: y\r\n" * 2_000 + b"\r\nx" for _ in range(2_000)))

    async def story(examiners: Examiners) -> None:
        examiners._section = dataclasses.replace(ContentSection(), time_limit=0.05, parts=9_000)
        trouble = await examiners.facts(head_of(body), small(body))
        assert isinstance(trouble, Trouble)
        assert (trouble.cause, "processor" in trouble.why) == (Cause.CRASHED, True)

    told(spool, story)


def test_a_body_that_is_not_what_was_accepted(spool: Path) -> None:
    path = spool / "body.eml"
    path.write_bytes(MAIL)
    other = replace_byte(MAIL)
    link = spool / "link.eml"
    link.symlink_to(path)

    async def story(examiners: Examiners) -> None:
        for body in (
            small(other),
            Body(None, str(spool / "nowhere"), len(MAIL)),
            Body(None, str(spool), len(MAIL)),
        ):
            trouble = await examiners.facts(head_of(MAIL), body)
            assert isinstance(trouble, Trouble)
            assert trouble.cause is Cause.DAMAGED, trouble
        linked = await examiners.facts(head_of(MAIL), Body(None, str(link), len(MAIL)))
        assert isinstance(linked, Trouble), "no link is followed"
        await facts_of(examiners, MAIL)

    told(spool, story)


def replace_byte(body: bytes) -> bytes:
    return body[:-10] + b"?" + body[-9:]


def test_no_examiner_where_there_is_no_room_for_its_file(spool: Path) -> None:
    async def story(examiners: Examiners) -> None:
        examiners._folder = str(spool / "nowhere")
        trouble = await examiners.facts(head_of(MAIL), small(MAIL))
        assert isinstance(trouble, Trouble)
        assert trouble.cause is Cause.UNAVAILABLE

    told(spool, story)


def test_who_does_not_wait_any_more_takes_his_examiner_along(spool: Path) -> None:
    async def story(examiners: Examiners) -> None:
        pid = await _stopped(examiners)
        asking = asyncio.create_task(examiners.facts(head_of(MAIL), small(MAIL)))
        await _taken(examiners)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        assert not Path(f"/proc/{pid}").exists()
        await facts_of(examiners, MAIL)

    told(spool, story)


def test_who_does_not_wait_any_more_leaves_nobody_behind_him_waiting(spool: Path) -> None:
    """With nobody who asks later, and so begins another round."""

    async def story(examiners: Examiners) -> None:
        pid, asking, behind = await _one_asked_and_one_behind(examiners)
        asking.cancel()
        assert (await asyncio.wait_for(behind, 30)).attachments[0].name == "behind"
        assert child_of(examiners).pid != pid

    told(spool, story, ContentSection(examiners=1))


@pytest.mark.parametrize("answered", [False, True])
def test_who_stops_waiting_as_he_is_answered_leaves_the_next_one_his_examiner(
    spool: Path, monkeypatch: pytest.MonkeyPatch, answered: bool
) -> None:
    """Ahead of his answer, which has been heard, or behind it: the examiner is at work on something else then."""
    stops: list[Callable[[], object]] = []
    hear = Line.data_received

    def data_received(line: Line, data: bytes) -> None:
        hear(line, data)
        if line._answers.done() and stops:
            stop = stops.pop()
            if answered:
                line._answers.add_done_callback(lambda _: stop())
            else:
                stop()

    monkeypatch.setattr(Line, "data_received", data_received)

    async def story(examiners: Examiners) -> None:
        pid, asking, behind = await _one_asked_and_one_behind(examiners)
        stops.append(asking.cancel)
        os.kill(pid, signal.SIGCONT)
        with pytest.raises(asyncio.CancelledError):
            await asking
        assert (await asyncio.wait_for(behind, 30)).attachments[0].name == "behind"
        assert child_of(examiners).pid == pid

    told(spool, story, ContentSection(examiners=1))


def test_who_asks_while_it_is_closed_has_an_answer(spool: Path) -> None:
    async def story(examiners: Examiners) -> None:
        _, asking, behind = await _one_asked_and_one_behind(examiners)
        closing = asyncio.create_task(examiners.close())
        later = asyncio.create_task(facts_of(examiners, MAIL))
        await asyncio.wait_for(asyncio.gather(closing, later), 30)
        ended = await asyncio.gather(asking, behind, return_exceptions=True)
        assert [type(one) for one in ended] == [asyncio.CancelledError] * 2

    told(spool, story, ContentSection(examiners=1))


async def _one_asked_and_one_behind(examiners: Examiners) -> tuple[int, asyncio.Task[Facts], asyncio.Task[Facts]]:
    """An examiner that stands, what it has been asked, and what waits for it."""
    pid = await _stopped(examiners)
    asking = asyncio.create_task(facts_of(examiners, multipart(attachment("asked", b"x"))))
    await _taken(examiners)
    behind = asyncio.create_task(facts_of(examiners, multipart(attachment("behind", b"x"))))
    await asyncio.sleep(0)
    assert len(examiners._waiting) == 1
    return pid, asking, behind


# --- what a phase makes of it -----------------------------------------------------------------------------------------

MATTER = Matter(head_of(MAIL), small(MAIL), (0,), (), 3, lambda address: False)


def test_a_crash_is_told_as_one() -> None:
    finding = without_facts(Trouble(Cause.CRASHED, "it dies (SIGSEGV)", "File x"), MATTER)
    assert "SIGSEGV" in finding.crashed and "File x" in finding.crashed


def test_what_is_temporary_defers() -> None:
    finding = without_facts(Trouble(Cause.UNAVAILABLE, "no room"), MATTER)
    (event,) = finding.events
    assert isinstance(event, Deferred)
    assert (event.attempt, event.rcpt, event.reply[:9]) == (3, "0", "451 4.3.0")
    assert finding.passed is None


def test_damage_is_damage() -> None:
    with pytest.raises(BodyDamaged):
        without_facts(Trouble(Cause.DAMAGED, "the body is missing"), MATTER)
