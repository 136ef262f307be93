"""Milters: what they are shown, and what each of their words comes to."""

import asyncio
from collections.abc import Callable, Sequence
from hashlib import sha256
from pathlib import Path
from struct import pack

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kmq.config.milter import MilterSection
from kmq.model import fields
from kmq.model.envelope import Head, Recipient, Source
from kmq.model.event import Deferred, Discarded, Failed, HeaderEdit, Passed, Suspended
from kmq.phases.edits import edited
from kmq.phases.inspection import Finding, Matter
from kmq.phases.milter import Milter
from kmq.phases.milter_packets import Garbage, Reader, Step
from kmq.phases.work import Body
from tests.fake_milter import FakeMilter, change

HEADER = (
    b"Received: from x by us\r\n\tid 69212ad0-0000a1f3; now\r\nReceived: from y by x\r\n"
    b"Subject:  folded\r\n\tsubject\r\nFrom: me@here.test\r\n"
)
TEXT = HEADER + b"\r\nhello\r\n.dot\r\n"


def matter(tmp_path: Path, text: bytes = TEXT, earlier: tuple[Passed, ...] = (), small: bool = True) -> Matter:
    to = [Recipient("ada@far.test"), Recipient("bob@far.test", notify="NEVER")]
    source = Source(how="smtp", ip="192.0.2.7", helo="client.test", user="carol")
    head = Head("69212ad0-0000a1f3", sha256(text).hexdigest(), "", "me@here.test", to, len(text), source)
    path = tmp_path / "m.eml"
    path.write_bytes(text)
    body = Body(text if small else None, str(path), len(text))
    return Matter(head, body, (0, 1), earlier, 1, lambda address: address.endswith("@here.test"))


def shown(tmp_path: Path, milter: FakeMilter, one: Matter | None = None, **options: object) -> Finding:
    """What comes of a message that the milter sees."""

    async def ask() -> Finding:
        section = MilterSection(name="sign", address=milter.address, **{"reply_timeout": 60.0, **options})  # type: ignore[arg-type]
        step = Milter(section, 2, "mx.here.test")
        try:
            return await step.inspect(one or matter(tmp_path))
        finally:
            await step.close()

    with milter.listening(str(tmp_path / "milter")):
        milter.address = str(tmp_path / "milter")
        return asyncio.run(ask())


def headers(finding: Finding) -> tuple[HeaderEdit, ...]:
    assert finding.passed is not None
    return finding.passed.headers


def test_it_is_told_all_in_order(tmp_path: Path) -> None:
    milter = FakeMilter()
    earlier = (Passed(step="spam", headers=(HeaderEdit("add", "X-Spam", "no"),)),)
    finding = shown(tmp_path, milter, matter(tmp_path, earlier=earlier))
    assert finding.passed is not None and not finding.events and not headers(finding)
    assert "".join(command.decode() for command, _ in milter.heard) == "ODCDHDMDRDRDTLLLLDNBDEQ"
    assert milter.of(b"C") == [b"[192.0.2.7]\x004\x00\x00192.0.2.7\x00"]
    assert milter.of(b"H") == [b"client.test\0"]
    assert milter.of(b"M") == [b"<me@here.test>\0"]
    assert milter.of(b"R") == [b"<ada@far.test>\0", b"<bob@far.test>\0"]
    assert milter.of(b"L") == [
        b"X-Spam\0no\0",
        b"Received\0from y by x\0",
        b"Subject\0 folded\n\tsubject\0",
        b"From\0me@here.test\0",
    ]
    assert milter.of(b"B") == [b"hello\r\n.dot\r\n"]
    macros = {one[:1]: dict(zip(*[iter(one[1:].split(b"\0"))] * 2, strict=False)) for one in milter.of(b"D")}
    assert macros[b"M"] == {b"i": b"69212ad0-0000a1f3", b"{auth_authen}": b"carol", b"{mail_addr}": b"me@here.test"}
    assert macros[b"C"][b"j"] == b"mx.here.test" and macros[b"C"][b"{client_addr}"] == b"192.0.2.7"


def test_our_own_received_field_is_not_shown(tmp_path: Path) -> None:
    milter = FakeMilter()
    shown(tmp_path, milter)
    assert [one.partition(b"\0")[0] for one in milter.of(b"L")] == [b"Received", b"Subject", b"From"]
    assert b"from y by x" in milter.of(b"L")[0]


def test_a_large_body_comes_in_pieces_and_from_the_file(tmp_path: Path) -> None:
    milter = FakeMilter()
    text = TEXT + b"x" * 998 * 200 + b"\r\n"
    shown(tmp_path, milter, matter(tmp_path, text, small=False))
    pieces = milter.of(b"B")
    assert len(pieces) > 3 and max(map(len, pieces)) <= 65535
    assert b"".join(pieces) == text[len(HEADER) + 2 :]


def test_steps_that_it_does_not_want_are_left_out(tmp_path: Path) -> None:
    no = Step.NO_CONNECT | Step.NO_HELO | Step.NO_MAIL | Step.NO_RCPT | Step.NO_DATA | Step.NO_EOH | Step.NO_BODY
    milter = FakeMilter(steps=int(no | Step.SILENT_HEADER), silent=frozenset({b"D", b"A", b"Q", b"L"}))
    assert shown(tmp_path, milter).passed is not None
    assert "".join(command.decode() for command, _ in milter.heard) == "OLLLDEQ"


def test_skip_ends_the_body_alone(tmp_path: Path) -> None:
    milter = FakeMilter({b"B": [(b"s", b"")], b"E": [change(b"h", "X-Seen", "some"), (b"c", b"")]})
    finding = shown(tmp_path, milter, matter(tmp_path, TEXT + b"x" * 200_000 + b"\r\n", small=False))
    assert len(milter.of(b"B")) == 1
    assert headers(finding) == (HeaderEdit("append", "X-Seen", "some"),)


@pytest.mark.parametrize(
    ("said", "becomes"),
    [
        (change(b"h", "X-A", "1\n\t2"), HEADER + b"X-A: 1\r\n\t2\r\n"),
        (change(b"i", "X-A", "top", place=0), b"X-A: top\r\n" + HEADER),
        (
            change(b"i", "X-A", "under ours", place=1),
            HEADER.replace(b"Received: from y", b"X-A: under ours\r\nReceived: from y"),
        ),
        (
            change(b"m", "Subject", "other", place=1),
            HEADER.replace(b"Subject:  folded\r\n\tsubject", b"Subject: other"),
        ),
        (change(b"m", "Subject", "", place=1), HEADER.replace(b"Subject:  folded\r\n\tsubject\r\n", b"")),
        (change(b"m", "Received", "", place=1), HEADER.replace(b"Received: from y by x\r\n", b"")),
        (change(b"m", "X-New", "new", place=1), HEADER + b"X-New: new\r\n"),
        (change(b"h", "X-A", "1\r\n\r\nFrom: evil@x.test"), None),
    ],
    ids=["add", "insert on top", "insert", "change", "delete", "not ours", "change of none", "a field stays one"],
)
def test_changes_of_the_header(tmp_path: Path, said: tuple[bytes, bytes], becomes: bytes | None) -> None:
    finding = shown(tmp_path, FakeMilter({b"E": [said, (b"a", b"")]}))
    header = edited(HEADER, headers(finding))
    if becomes is None:
        assert [one.name for one in fields.read(header)].count(b"from") == 1
    else:
        assert header == becomes


def test_another_text_is_another_message(tmp_path: Path) -> None:
    pieces = [(b"b", b"new text\r\n" * 4000)] * 10
    finding = shown(tmp_path, FakeMilter({b"E": [*pieces, change(b"h", "X-A", "1"), (b"c", b"")]}))
    going = finding.replacement
    assert going is not None and going.pieces is not None
    for _ in range(2):
        assert b"".join(going.pieces()) == HEADER + b"\r\n" + b"new text\r\n" * 40_000, "also when it is read again"
    assert (going.rcpt, going.sender, going.why) == ((0, 1), None, "the milter changes its text")
    assert headers(finding) == (HeaderEdit("append", "X-A", "1"),)


def test_recipients_come_and_go(tmp_path: Path) -> None:
    said = [
        change(b"+", "<new@there.test>"),
        change(b"2", "<two@there.test>", "NOTIFY=NEVER"),
        change(b"+", "<ada@far.test>"),
        change(b"+", "no address"),
        change(b"-", "<BOB@far.test>"),
        (b"c", b""),
    ]
    finding = shown(tmp_path, FakeMilter({b"E": said}))
    (gone,) = finding.events
    assert isinstance(gone, Discarded) and (gone.rcpt, gone.by) == ("1", "milter sign")
    going = finding.replacement
    assert going is not None and going.rcpt == (0,) and going.pieces is None
    assert [one.address for one in going.added] == ["new@there.test", "two@there.test"]
    assert finding.passed is not None and "'no' is no address" not in finding.passed.verdict
    assert "'no address' is no address" in finding.passed.verdict


def test_another_sender(tmp_path: Path) -> None:
    finding = shown(tmp_path, FakeMilter({b"E": [change(b"e", "<other@here.test>", "SIZE=1"), (b"c", b"")]}))
    assert finding.replacement is not None and finding.replacement.sender == "other@here.test"
    finding = shown(tmp_path, FakeMilter({b"E": [change(b"e", "<me@here.test>"), (b"c", b"")]}))
    assert finding.replacement is None, "the same is no change"


def test_quarantine_holds_it(tmp_path: Path) -> None:
    finding = shown(tmp_path, FakeMilter({b"E": [change(b"q", "looks odd"), (b"b", b"other"), (b"c", b"")]}))
    (held,) = finding.events
    assert isinstance(held, Suspended) and held.rcpt == "0-1" and "looks odd" in held.reason
    assert finding.replacement is None, "whoever lets it go on lets go on what came"
    assert finding.passed is not None and "left out" in finding.passed.verdict


@pytest.mark.parametrize("step", [b"C", b"H", b"M", b"T", b"L", b"N", b"B", b"E"])
@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ((b"r", b""), Failed),
        ((b"y", b"554 5.7.0 no\r\n thanks\0"), Failed),
        ((b"t", b""), Deferred),
        ((b"d", b""), Discarded),
        ((b"y", b"450 4.7.1 later\0"), Deferred),
        ((b"4", b""), Deferred),
    ],
    ids=["reject", "reply 5xx", "tempfail", "discard", "reply 4xx", "shutdown"],
)
def test_it_may_end_a_message_at_each_step(tmp_path: Path, step: bytes, said: tuple[bytes, bytes], kind: type) -> None:
    finding = shown(tmp_path, FakeMilter({step: [said]}))
    (event,) = finding.events
    assert type(event) is kind and event.rcpt == "0-1"
    assert (finding.passed is None) is (kind is Deferred)
    if said[0] == b"y" and isinstance(event, Failed):
        assert event.reply == "554 5.7.0 no thanks"


def test_accept_ends_the_talk_early(tmp_path: Path) -> None:
    milter = FakeMilter({b"M": [(b"a", b"")]})
    assert shown(tmp_path, milter).passed is not None
    assert not milter.of(b"R") and milter.of(b"Q")


@pytest.mark.parametrize(("word", "kind"), [("quarantine", Suspended), ("discard", Discarded)])
def test_what_it_rejects_need_not_be_returned(tmp_path: Path, word: str, kind: type) -> None:
    (event,) = shown(tmp_path, FakeMilter({b"E": [(b"r", b"")]}), reject=word).events
    assert type(event) is kind and "550 5.7.1" in event.reason


def test_one_recipient_is_refused(tmp_path: Path) -> None:
    answers = iter([(b"y", b"550 5.1.1 not here\0"), (b"c", b"")])

    def moody(command: bytes, writer: asyncio.StreamWriter) -> bool:
        if command != b"R":
            return False
        kind, text = next(answers)
        writer.write(pack("!I", len(text) + 1) + kind + text)
        return True

    finding = shown(tmp_path, FakeMilter(moody=moody))
    (event,) = finding.events
    assert isinstance(event, Failed) and (event.rcpt, event.reply) == ("0", "550 5.1.1 not here")
    assert finding.passed is not None


def test_who_is_still_at_work_is_waited_for(tmp_path: Path) -> None:
    finding = shown(tmp_path, FakeMilter({b"E": [(b"p", b"")] * 5 + [change(b"h", "X-A", "1"), (b"c", b"")]}))
    assert headers(finding) == (HeaderEdit("append", "X-A", "1"),)


def _close(command: bytes, writer: asyncio.StreamWriter) -> bool:
    writer.close()
    return True


def _hang(command: bytes, writer: asyncio.StreamWriter) -> bool:
    return True


def _words(*packets: bytes) -> Callable[[bytes, asyncio.StreamWriter], bool]:
    def moody(command: bytes, writer: asyncio.StreamWriter) -> bool:
        if command == b"B":
            writer.write(b"".join(packets))
            return True
        return False

    return moody


@pytest.mark.parametrize(
    ("moody", "why"),
    [
        (_close, "it closed the connection"),
        (_hang, "no answer within"),
        (_words(b"\0\0\0\0"), "a packet of 0 bytes"),
        (_words(b"\xff\xff\xff\xffgarbage"), "a packet of 4294967295 bytes"),
        (_words(b"\0\0\0\x01Z"), "it answered b'Z'"),
        (_words(b"\0\0\0\x01h"), "it answered b'h'"),
    ],
    ids=["closes", "hangs", "empty packet", "huge packet", "unknown word", "a change ahead of the end"],
)
def test_a_milter_that_is_none_keeps_mail_waiting(
    tmp_path: Path, moody: Callable[[bytes, asyncio.StreamWriter], bool], why: str
) -> None:
    finding = shown(tmp_path, FakeMilter(moody=moody), reply_timeout=0.3)
    (event,) = finding.events
    assert finding.passed is None and isinstance(event, Deferred)
    assert event.reply.startswith("451 4.7.1 Content scanner unavailable: milter sign at /") and why in event.reply
    passed = shown(tmp_path, FakeMilter(moody=moody), reply_timeout=0.3, failure="open").passed
    assert passed is not None and "not shown to the milter" in passed.verdict


@pytest.mark.parametrize(
    "answer", [pack("!III", 1, 0, 0), pack("!III", 6, 0x8000, 0), pack("!III", 6, 0, 1 << 25), b"x"]
)
def test_options_that_nobody_offered_are_garbage(tmp_path: Path, answer: bytes) -> None:
    def moody(command: bytes, writer: asyncio.StreamWriter) -> bool:
        writer.write(pack("!I", len(answer) + 1) + b"O" + answer)
        return True

    (event,) = shown(tmp_path, FakeMilter(moody=moody)).events
    assert isinstance(event, Deferred) and "does not speak as a milter does" in event.reply


def test_nobody_listens(tmp_path: Path) -> None:
    async def ask() -> Sequence[object]:
        step = Milter(MilterSection(name="sign", address=str(tmp_path / "nothing")), 1, "mx.here.test")
        return (await step.inspect(matter(tmp_path))).events

    (event,) = asyncio.run(ask())
    assert isinstance(event, Deferred) and "no such file or directory" in event.reply


def test_a_body_without_end_is_cut_off(tmp_path: Path) -> None:
    finding = shown(tmp_path, FakeMilter({b"E": [(b"b", b"x" * 60_000)] * 30}), body_limit=1_000_000)
    (event,) = finding.events
    assert isinstance(event, Deferred) and "body_limit" in event.reply


@pytest.mark.parametrize(("apply", "concerned"), [("all", True), ("incoming", False), ("outgoing", True)])
def test_whose_mail_it_sees(tmp_path: Path, apply: str, concerned: bool) -> None:
    step = Milter(MilterSection(name="sign", address="/x", apply=apply), 1, "mx.here.test")
    assert step.concerns(matter(tmp_path)) is concerned


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(st.binary(max_size=200), st.integers(1, 50))
def test_any_bytes_are_packets_or_garbage(text: bytes, cut: int) -> None:
    """However they are cut."""

    def read(pieces: list[bytes]) -> object:
        reader = Reader()
        found = []
        try:
            for piece in pieces:
                found += reader.feed(piece)
        except Garbage as wrong:
            return found, str(wrong)
        return found

    assert read([text]) == read([text[at : at + cut] for at in range(0, len(text), cut)])
