"""rspamd: what its answers mean, one that answers what no rspamd should, and what becomes of mail by them."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import pytest

from kmq.config.sections import ScannerSection
from kmq.model.event import Deferred, Discarded, Failed, HeaderEdit, Suspended
from kmq.phases.antispam import Antispam
from kmq.phases.inspection import Finding
from kmq.phases.peers import Unanswered
from kmq.phases.rspamd import Change, Judgement, fields_of, judgement_of
from tests.phases.test_antivirus import TEXT, matter

T = TypeVar("T")
Run = Callable[[Coroutine[Any, Any, T]], T]

CLEAN = {"action": "no action", "score": 0.5, "required_score": 15.0}


def said(**more: object) -> bytes:
    return json.dumps({**CLEAN, **more}).encode()


# --- what an answer means --------------------------------------------------------------------------------------------


def test_an_answer_of_all_that_is_documented() -> None:
    answer = said(
        action="rewrite subject",
        score=9,
        symbols={"LOW": {"score": 0.1}, "HIGH": {"score": 5.5}, "NONE": {}},
        subject="[SPAM] hi",
        messages={"smtp_message": "Try\r\nlater"},
        milter={
            "add_headers": {
                "X-Top": {"value": "a", "order": 0},
                "X-End": {"value": "b"},
                "X-Two": [{"value": "1", "order": 1}, "2"],
            },
            "remove_headers": {"X-All": 0, "X-Second": 2, "X-Several": [1, -1]},
        },
        **{"dkim-signature": "v=1; a=rsa;\r\n\tb=xyz\r\nEvil: 1"},
    )
    assert judgement_of(answer) == Judgement(
        action="rewrite subject",
        score=9.0,
        required=15.0,
        symbols=("HIGH", "LOW", "NONE"),
        subject="[SPAM] hi",
        reply="Try  later",
        changes=(
            Change("remove", "X-All"),
            Change("replace", "X-Second", place=2),
            Change("replace", "X-Several", place=1),
            Change("remove", "X-Several"),
            Change("add", "X-Top", "a", 0),
            Change("append", "X-End", "b"),
            Change("add", "X-Two", "1", 1),
            Change("append", "X-Two", "2"),
            Change("add", "DKIM-Signature", "v=1; a=rsa;\r\n\tb=xyz  Evil: 1"),
        ),
    )


@pytest.mark.parametrize(
    "more",
    [
        {"symbols": [], "messages": [], "milter": []},  # as Lua writes empty tables
        {"symbols": None, "messages": "x", "milter": {"add_headers": [], "remove_headers": "x"}},
        {"subject": 7, "required_score": "x", "symbols": {"A": None}, "milter": {"add_headers": {"X": None}}},
        {"dkim-signature": [None, 5]},
    ],
)
def test_what_has_another_shape_counts_for_nothing(more: dict[str, Any]) -> None:
    found = judgement_of(said(**more))
    assert isinstance(found, Judgement)
    assert (found.action, found.score, found.subject, found.reply) == ("no action", 0.5, "", "")


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (b"", "it says what is no JSON"),
        (b"<html>", "it says what is no JSON"),
        (b"[" * 100_000, "it says what is no JSON"),
        (b"\xff\xfe", "it says what is no JSON"),
        (b"[]", "it says no action: nothing of what is documented"),
        (b'{"action": 1, "score": 2}', "it says no action: nothing of what is documented"),
        (b'{"action": "reject", "score": true}', "it says no action: nothing of what is documented"),
        (b'{"error": "Task\\nfailed"}', "it says no action: Task failed"),
    ],
)
def test_what_is_no_judgement_is_no_answer(answer: bytes, why: str) -> None:
    assert judgement_of(answer) == Unanswered(why)


def test_many_changes_and_symbols_are_bounded() -> None:
    found = judgement_of(
        said(
            symbols={f"S{n}": {"score": n} for n in range(500)},
            milter={
                "add_headers": {"X": [{"value": "v" * 20_000, "order": 1e300}] * 500},
                "remove_headers": {"Y": 1e300},
            },
        )
    )
    assert isinstance(found, Judgement)
    assert (len(found.symbols), len(found.changes)) == (100, 100)
    assert all(len(one.value) <= 8000 and one.place <= 100 for one in found.changes)


def test_no_stranger_ends_a_line_of_the_request() -> None:
    one = matter()
    source = msgspec.structs.replace(one.head.source, helo="x\r\nEvil: 1", ip="192.0.2.1", user="ü")
    head = msgspec.structs.replace(one.head, sender="a\r\n\r\nb@x.test", source=source)
    fields = [*fields_of(head, "mx.x.test", ("::1", 11333), (1,))]
    assert ("From", b"a????b@x.test") in fields
    assert ("Helo", b"x??Evil: 1") in fields
    assert ("User", "ü".encode()) in fields
    assert [value for name, value in fields if name == "Rcpt"] == [b"carol@far.test"]
    assert ("Host", b"[::1]:11333") in fields


@pytest.mark.parametrize(("apply", "concerned"), [("all", True), ("incoming", False), ("outgoing", True)])
def test_whose_mail_it_sees(apply: str, concerned: bool) -> None:
    """Both recipients of the message are elsewhere."""
    antispam = Antispam(ScannerSection(name="junk", type="rspamd", address="/s", apply=apply), 1, "mx.x.test")
    assert antispam.concerns(matter()) is concerned


# --- what becomes of mail --------------------------------------------------------------------------------------------


@asynccontextmanager
async def answering(path: Path, answer: bytes, status: str = "200 OK", mood: str = "") -> AsyncIterator[list[bytes]]:
    """A server that answers so. mood: hang, raw (the answer as it is), mute, endless. What it was asked."""
    asked: list[bytes] = []
    waiting: list[asyncio.StreamWriter] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.partition(b"Content-Length: ")[2].partition(b"\r")[0])
        asked.append(head + await reader.readexactly(length))
        waiting.append(writer)
        if mood == "hang":
            return
        if mood == "endless":
            answered = b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * (3 << 20)
        elif mood in ("raw", "mute"):
            answered = answer
        else:
            answered = b"HTTP/1.1 %b\r\nContent-Length: %d\r\n\r\n%b" % (status.encode(), len(answer), answer)
        writer.write(answered)
        writer.close()

    server = await asyncio.start_unix_server(serve, str(path))
    try:
        yield asked
    finally:
        server.close()
        for writer in waiting:
            writer.close()


def asked(
    path: Path, loop_runner: Run[Any], answer: bytes, status: str = "200 OK", mood: str = "", **options: Any
) -> Finding:
    section = ScannerSection(name="junk", type="rspamd", address=str(path), **{"time_limit": 20.0, **options})
    text = TEXT.replace(b"hello", b"y" * 300_000)

    async def play() -> Finding:
        antispam = Antispam(section, 2, "mx.x.test")
        try:
            async with answering(path, answer, status, mood) as heard:
                found = await antispam.inspect(matter(text))
                assert all(one.endswith(text.replace(b"%d", b"1")) for one in heard), "it was shown the message, whole"
                return found
        finally:
            await antispam.close()

    found = loop_runner(play())
    assert isinstance(found, Finding)
    return found


@pytest.mark.parametrize(
    ("answer", "status", "mood", "why"),
    [
        (b"", "500 Internal Error", "", "it says 500 Internal Error"),
        (b"{}", "200 OK", "", "it says no action: nothing of what is documented"),
        (b"\x00\xff\r\n", "", "raw", "it speaks no HTTP: BadStatusLine"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{}", "", "raw", "it broke off in mid-answer"),
        (b"", "", "mute", "connection"),
        (b"", "", "hang", "no answer within 0.4 s"),
        (b"", "", "endless", "it says more than 1048576 bytes"),
    ],
)
def test_without_an_answer_mail_waits_unless_it_is_to_go_on(
    tmp_path: Path, loop_runner: Run[Any], answer: bytes, status: str, mood: str, why: str
) -> None:
    limit = {"time_limit": 0.4} if mood == "hang" else {}
    found = asked(tmp_path / "s", loop_runner, answer, status, mood, **limit)
    assert found.passed is None
    (deferred,) = found.events
    assert isinstance(deferred, Deferred)
    place = f"junk (rspamd at {tmp_path / 's'})"
    assert deferred.reply.lower().startswith(f"451 4.7.1 Content scanner unavailable: {place}: {why}".lower()) or (
        mood == "mute" and "closed connection" in deferred.reply
    )
    (tmp_path / "s").unlink(missing_ok=True)
    opened = asked(tmp_path / "s", loop_runner, answer, status, mood, failure="open", **limit)
    assert opened.passed is not None
    assert opened.passed.verdict.startswith("unscanned: ")
    assert opened.passed.headers == (HeaderEdit("set", "X-Spam-Status", "Unknown, junk was not asked"),)


@pytest.mark.parametrize(
    ("action", "options", "event"),
    [
        ("no action", {}, None),
        ("add header", {}, None),
        ("greylist", {}, None),
        ("greylist", {"greylist": "wait"}, Deferred),
        ("soft reject", {}, Deferred),
        ("soft reject", {"soft_reject": "ignore"}, None),
        ("reject", {}, None),
        ("reject", {"spam": "quarantine"}, Suspended),
        ("reject", {"spam": "discard"}, Discarded),
        ("reject", {"spam": "reject"}, Failed),
        ("quarantine", {}, Suspended),
        ("something new", {}, None),
    ],
)
def test_each_action_comes_to_what_its_section_says(
    tmp_path: Path, loop_runner: Run[Any], action: str, options: dict[str, Any], event: type | None
) -> None:
    answer = said(action=action, score=7.25, messages={"smtp_message": "Go away"}, symbols={"A": {"score": 7.25}})
    found = asked(tmp_path / "s", loop_runner, answer, **options)
    assert [type(one) for one in found.events] == ([] if event is None else [event])
    if event is Deferred:
        assert found.passed is None
        return
    assert found.passed is not None
    assert found.passed.score == 7.25
    assert found.passed.verdict == f"{action}, score 7.2 of 15.0"
    spam = action in ("add header", "reject", "quarantine")
    assert (HeaderEdit("set", "X-Spam-Flag", "YES") in found.passed.headers) == spam
    assert HeaderEdit("set", "X-Spam-Score", "7.25") in found.passed.headers
    if event is Failed:
        assert [one.reply for one in found.events if isinstance(one, Failed)] == ["550 5.7.1 Go away"]


@pytest.mark.parametrize(
    ("given", "options", "subject"),
    [
        ("", {}, "[SPAM] =?utf-8?q?Gr=C3=BC=C3=9Fe?="),
        ("very %s bad", {}, "very %s bad"),
        ("ärgerlich", {}, "=?utf-8?b?w6RyZ2VybGljaA==?="),
        ("", {"spam_subject": ""}, None),
        ("", {"spam_subject": "(ü) %s"}, "=?utf-8?b?KMO8KSBHcsO8w59l?="),
    ],
)
def test_the_subject_is_rewritten(
    tmp_path: Path, loop_runner: Run[Any], given: str, options: dict[str, Any], subject: str | None
) -> None:
    found = asked(tmp_path / "s", loop_runner, said(action="rewrite subject", subject=given), **options)
    assert found.passed is not None
    subjects = [one.value for one in found.passed.headers if one.name == "Subject"]
    assert subjects == ([] if subject is None else [subject])


def test_what_is_too_large_is_not_shown_to_it(tmp_path: Path, loop_runner: Run[Any]) -> None:
    found = asked(tmp_path / "s", loop_runner, said(action="reject"), size_limit=1024)
    assert found.passed is not None
    assert found.passed.verdict == "not looked at: larger than size_limit"
