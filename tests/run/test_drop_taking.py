"""A drop directory at work: files come in every way, and each becomes one message, waits, or is set aside."""

import asyncio
import errno
import os
import re
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from watchdog.observers.inotify_c import InotifyFD

from kmq.config.drop import PickupSection, ReplaySection
from kmq.intake.completion import Completion
from kmq.intake.door import ANOTHER_FILE, Answer, DroppedFile
from kmq.intake.pickup import Pickup
from kmq.intake.replay import Replay
from kmq.model.reply import Reply
from kmq.run import drop_taking
from kmq.run.drop_file import Ground
from kmq.run.drop_taking import Taking
from kmq.spool.disk import Disk
from kmq.spool.drop import Survey
from tests.intake.doors import MemoryDoor

LETTER = b"From: alice@us.test\nTo: bob@us.test\nSubject: one\n\nHello.\n"
FULL = Reply(452, "4.3.1", "Insufficient system storage")


class Door(MemoryDoor):
    """Takes messages, and does with their files what the scheduler process does: it unlinks them, unless `lazy`."""

    def __init__(self, spool: Path) -> None:
        super().__init__()
        self.spool = spool
        self.lazy = False
        self.refused = 0
        self.dropped: list[DroppedFile] = []

    def put(
        self, raw: bytes, tail: int, count: int, stamp: int, answer: Answer, dropped: DroppedFile | None = None
    ) -> None:
        super().put(raw, tail, count, stamp, self._unlinking(answer, dropped), dropped)

    def open_large(self, on_room: Callable[[], None], dropped: DroppedFile | None = None):
        self.large_file = dropped
        return super().open_large(on_room, dropped)

    def put_large(self, queue_id: str, tail: bytes, count: int, sha256: str, large, answer: Answer) -> None:
        super().put_large(queue_id, tail, count, sha256, large, self._unlinking(answer, self.large_file))

    def _unlinking(self, answer: Answer, dropped: DroppedFile | None) -> Answer:
        def answered(name: str, refused: Reply | None) -> None:
            assert dropped is not None, "each put names its file"
            self.refused += refused is not None
            if refused is None:
                self.dropped.append(dropped)
                if not self.lazy:
                    (self.spool / dropped[0]).unlink()
            answer(name, refused)

        return answered


class Place:
    """A spool with its pickup directory, and what takes files out of it, in the loop of a test."""

    def __init__(self, folder: Path, **options: object) -> None:
        self.spool = folder
        self.directory = folder / "pickup"
        self.directory.mkdir()
        self.door = Door(folder)
        self.ready = True
        self.threads = ThreadPoolExecutor(4)
        given = {"directory": str(self.directory), "scan_interval": 0.05, "messages_per_minute": 20_000, **options}
        self.section = PickupSection(**given)
        self.ground = Ground(Disk(folder), self.door, self.threads, lambda: self.ready, 64 << 10)
        self.taking = Taking("pickup", self.section, self.reader, self.ground)
        self.running = asyncio.get_running_loop().create_task(self.taking.run())

    @property
    def reader(self) -> Pickup:
        return Pickup(self.section, Completion("mx.us.test", "us.test"))

    async def watched(self) -> None:
        await comes(lambda: self.taking._folder is not None, "the directory is open")

    def rename_in(self, name: str = "letter.eml", text: bytes = LETTER) -> None:
        (self.spool / "elsewhere").write_bytes(text)
        (self.spool / "elsewhere").rename(self.directory / name)

    @property
    def names(self) -> set[str]:
        return set(os.listdir(self.directory))

    async def end(self) -> None:
        self.running.cancel()
        await self.taking.stop(1)
        self.threads.shutdown(wait=False)


async def comes(true: Callable[[], object], what: str, seconds: float = 10) -> None:
    deadline = asyncio.get_running_loop().time() + seconds
    while not true():
        assert asyncio.get_running_loop().time() < deadline, f"in vain: {what}"
        await asyncio.sleep(0.002)


def opened(folder: Path) -> int:
    """How many descriptors of a folder this process has."""
    descriptors = (Path("/proc/self/fd") / name for name in os.listdir("/proc/self/fd"))
    return sum(os.path.realpath(one) == str(folder) for one in descriptors)


def play(folder: Path, story: Callable[[Place], Awaitable[None]], **options: object) -> None:
    async def played() -> None:
        place = Place(folder, **options)
        try:
            await place.watched()
            await story(place)
        finally:
            await place.end()

    asyncio.run(played())


# --- which files -----------------------------------------------------------------------------------------------------


def test_a_file_that_is_renamed_in_is_taken_without_a_look(tmp_path: Path) -> None:
    async def story(place: Place) -> None:
        place.rename_in()
        await comes(lambda: place.door.messages and not place.names, "it is taken, and gone")
        [message] = place.door.messages
        assert message.head.sender == "alice@us.test"
        assert [one.address for one in message.head.recipients] == ["bob@us.test"]
        assert message.body.endswith(b"\r\n\r\nHello.\r\n") and b"\r\nSubject: one\r\n" in message.body
        source = message.head.source
        assert (source.file, source.inode, source.mtime_ns) == place.door.dropped[0]
        assert place.door.dropped[0][0] == "pickup/letter.tmp"

    play(tmp_path, story, scan_interval=0)


def test_a_file_that_is_being_written_is_taken_when_it_is_closed(tmp_path: Path) -> None:
    async def story(place: Place) -> None:
        with open(place.directory / "letter.eml", "wb", buffering=0) as writer:
            writer.write(LETTER[:20])
            place.rename_in("other.eml")
            await comes(lambda: place.door.messages, "the other one, which came later, is taken")
            writer.write(LETTER[20:])
        await comes(lambda: len(place.door.messages) == 2, "now this one")
        assert place.door.messages[1].body.endswith(b"Hello.\r\n")

    play(tmp_path, story, scan_interval=0)


def test_without_hints_a_look_finds_what_has_not_changed_since_the_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Row 43: the kernel has no more watches to give."""

    def no_more(*given: object) -> None:
        raise OSError(errno.ENOSPC, "inotify watch limit reached")

    monkeypatch.setattr(InotifyFD, "add_callback", no_more)
    looked: list[int] = []

    async def story(place: Place) -> None:
        compare = place.taking._compare

        def compared(survey: Survey) -> None:
            looked.append(len(place.door.messages))
            compare(survey)

        place.taking._compare = compared  # type: ignore[method-assign]
        with open(place.directory / "letter.eml", "wb", buffering=0) as writer:
            for at in range(0, len(LETTER), 10):
                writer.write(LETTER[at : at + 10])
                count = len(looked)
                await comes(lambda count=count: len(looked) > count, "one more look")
            assert place.door.messages == []
        await comes(lambda: place.door.messages, "it has not changed for a look")
        assert place.door.messages[0].body.endswith(b"Hello.\r\n")

    play(tmp_path, story)
    told = [line for line in capfd.readouterr().err.splitlines() if "files are not taken at once" in line]
    assert len(told) == 1 and "watch limit" in told[0]


def test_what_was_being_taken_when_kmqd_ended_is_taken_now(tmp_path: Path) -> None:
    (tmp_path / "pickup").mkdir()
    (tmp_path / "pickup/letter.tmp").write_bytes(LETTER)
    (tmp_path / "pickup/letter-20260921141320250.tmp").write_bytes(LETTER)
    (tmp_path / "pickup").rename(tmp_path / "was")

    async def played() -> None:
        place = Place(tmp_path)
        for file in (tmp_path / "was").iterdir():
            file.rename(place.directory / file.name)
        try:
            await comes(lambda: len(place.door.messages) == 2 and not place.names, "both are taken")
        finally:
            await place.end()

    asyncio.run(played())


def test_somebody_s_own_tmp_is_not_touched_while_kmqd_runs(tmp_path: Path) -> None:
    async def story(place: Place) -> None:
        place.rename_in("letter.tmp", b"not finished")
        place.rename_in("letter.eml")
        await comes(lambda: place.door.messages, "the letter is taken")
        await comes(lambda: place.names == {"letter.tmp"}, "the other stays")
        assert (place.directory / "letter.tmp").read_bytes() == b"not finished"

    play(tmp_path, story)


# --- when ------------------------------------------------------------------------------------------------------------


def test_what_is_above_the_limit_waits_and_is_seen_to(tmp_path: Path) -> None:
    async def story(place: Place) -> None:
        for number in range(7):
            place.rename_in(f"{number}.eml")
        await comes(lambda: len(place.door.messages) == 3, "three are taken")
        await comes(lambda: len(place.names) == 4 and not place.taking._tasks, "four stay")
        place.taking.tick()
        assert place.taking.counts["waiting"] == 4 and place.taking.counts["taken"] == 3
        place.taking.configure(PickupSection(directory=str(place.directory), messages_per_minute=100), place.reader)
        place.taking.tick()
        await comes(lambda: len(place.door.messages) == 7, "a new limit lets the others in")
        await comes(lambda: not place.names, "all are gone")

    play(tmp_path, story, messages_per_minute=3)


def test_nothing_is_begun_while_nothing_may_come_in(tmp_path: Path) -> None:
    async def story(place: Place) -> None:
        place.door.refusal = FULL
        place.rename_in()
        await comes(lambda: place.taking._waiting, "it is known")
        place.taking.tick()
        assert place.names == {"letter.eml"}, "not even renamed"
        place.door.refusal = None
        place.ready = False
        place.taking.tick()
        assert place.names == {"letter.eml"}
        place.ready = True
        place.taking.tick()
        await comes(lambda: not place.names, "it is taken")

    play(tmp_path, story)


def test_a_refused_file_waits_again_and_is_tried_with_the_next_look(tmp_path: Path) -> None:
    async def story(place: Place) -> None:
        place.door.refuses = FULL
        place.rename_in()
        await comes(lambda: place.door.refused and place.names == {"letter.eml"}, "it has its name back")
        await comes(lambda: place.taking._folder and not place.taking._folder.given_back, "our own hint was heard")
        assert place.door.messages == [] and place.door.refused == 1, "which is no reason to try again"
        place.door.refuses = None
        await comes(lambda: place.door.messages and not place.names, "it is taken")
        assert len(place.door.messages) == 1

    play(tmp_path, story, scan_interval=2)


# --- what becomes of them --------------------------------------------------------------------------------------------


def test_what_the_queue_can_never_take_is_set_aside(tmp_path: Path) -> None:
    """As recipients without end are, which no record has room for: trying again would never end."""

    async def story(place: Place) -> None:
        place.door.refuses = Reply(552, "5.3.4", "Too many recipients")
        place.rename_in()
        await comes(lambda: place.taking.counts["bad"] == 1, "it is bad")
        assert place.names == {"letter.bad", "letter.bad.reason"}
        assert (place.directory / "letter.bad.reason").read_text() == "Too many recipients\n"

    play(tmp_path, story)


def test_a_file_that_is_a_message_already_is_left_for_its_unlinking(tmp_path: Path) -> None:
    """J12: the scheduler process has the put, and says so; the file is not taken again."""

    async def story(place: Place) -> None:
        place.door.refuses = ANOTHER_FILE
        place.rename_in()
        await comes(lambda: "letter.tmp" in place.taking._leaving, "it is known to be leaving")
        assert place.names == {"letter.tmp"}
        place.door.refuses = None
        (place.directory / "letter.tmp").unlink()
        place.taking.tick()
        await comes(lambda: not place.taking._leaving, "it has left")
        assert place.door.messages == []

    play(tmp_path, story)


def test_a_file_that_is_written_to_after_it_was_taken_is_set_aside(tmp_path: Path) -> None:
    """Row 44: the writer keeps his descriptor."""

    async def story(place: Place) -> None:
        place.door.lazy = True
        place.rename_in()
        await comes(lambda: "letter.tmp" in place.taking._leaving, "its message is there")
        with open(place.directory / "letter.tmp", "ab") as writer:
            writer.write(b"more")
        place.taking.tick()
        await comes(lambda: "letter.bad.reason" in place.names, "it is set aside")
        await comes(lambda: "letter.bad" in place.names, "with its reason")
        assert (place.directory / "letter.bad").read_bytes() == LETTER + b"more"
        assert "written to after it had been taken" in (place.directory / "letter.bad.reason").read_text()
        assert len(place.door.messages) == 1

    play(tmp_path, story)


BAD = [
    (b"To: bob@us.test\n\nx\n", "there is no From and no Sender"),
    (b"", "the file is empty"),
    (b"\x7fELF" + bytes(range(256)), "NUL|CR|no field"),
    (b"From: a@x\nTo: b@x\n\nnul\0here\n", "NUL received"),
    (b"From: a@x\nTo: b@x\n\ncr\rhere\n", "line 4 has a CR within"),
    (b"From: a@x\nTo: b@x\n\n" + b"x" * 1200 + b"\n", "Line too long"),
    (b"From: a@x\nTo: b@x\nX: " + b"h" * 70_000 + b"\n\n", "the header has more than 65536 bytes"),
    (b"From: a@x\nTo: b@x\n\n" + b"x\n" * 120_000, "240.* bytes are more than 200000"),
    (b"From: a@x\nTo: b@x\n\n" + b"\n" * 180_000, "Message too big"),
    (b"From: a@x\nTo: " + b", ".join(b"r%d@x" % n for n in range(101)) + b"\n\n", "101 recipients are more than 100"),
]


@pytest.mark.parametrize(("text", "why"), BAD, ids=[why[:20] for _, why in BAD])
def test_a_bad_file_is_set_aside_once_with_its_reason(
    tmp_path: Path, text: bytes, why: str, capfd: pytest.CaptureFixture[str]
) -> None:
    async def story(place: Place) -> None:
        place.rename_in("letter.eml", text)
        await comes(lambda: "letter.bad" in place.names, "it is bad")
        seen = place.taking._seen
        await comes(lambda: place.taking._seen is not seen, "one more look")
        assert place.names == {"letter.bad", "letter.bad.reason"}
        assert (place.directory / "letter.bad").read_bytes() == text
        reason = (place.directory / "letter.bad.reason").read_text()
        assert reason.endswith("\n") and len(reason.splitlines()) == 1
        assert re.search(why, reason), reason
        assert place.taking.counts["bad"] == 1
        assert place.door.messages == [] and not any(one.state == "open" for one in place.door.bodies)

    play(tmp_path, story, size_limit=200_000)
    assert capfd.readouterr().err.count("bad-file") == 1


def test_a_large_file_is_streamed(tmp_path: Path) -> None:
    text = LETTER + b"0123456789\n" * 50_000

    async def story(place: Place) -> None:
        place.door.disk_full = True  # each write says: no more, please
        place.rename_in("letter.eml", text)
        await comes(lambda: place.door.bodies, "it is written to a file")
        place.door.bodies[0].full = False
        place.door.bodies[0].on_room()
        await comes(lambda: place.door.messages and not place.names, "it is taken")
        [message] = place.door.messages
        assert message.body.endswith(text[len(LETTER) :].replace(b"\n", b"\r\n"))
        assert message.head.hops == 0 and message.head.longest > 30

    play(tmp_path, story)


def test_a_file_that_changes_while_it_is_read_waits_again(tmp_path: Path) -> None:
    async def story(place: Place) -> None:
        place.door.slow = True
        place.rename_in("letter.eml", LETTER + b"x" * 70_000 + b"\n")
        await comes(lambda: place.door.due, "an ID is asked for")
        with open(place.directory / "letter.tmp", "ab") as writer:
            writer.write(b"changed\n")
        place.door.slow = False
        place.door.open_up()
        await comes(lambda: place.door.messages and not place.names, "it is taken in its new form")
        assert len(place.door.messages) == 1
        assert place.door.messages[0].body.endswith(b"changed\r\n")
        assert place.door.bodies[0].state == "discarded"

    play(tmp_path, story, line_limit=100_000)


def test_our_own_mistake_makes_a_file_bad_and_not_a_loop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def fails(*given: object) -> None:
        raise RuntimeError("a mistake")

    monkeypatch.setattr(Pickup, "read", fails)

    async def story(place: Place) -> None:
        place.rename_in()
        await comes(lambda: "letter.bad" in place.names, "it is bad")
        assert "kmq failed on this file" in (place.directory / "letter.bad.reason").read_text()

    play(tmp_path, story)
    assert "our program failed on a dropped file" in capfd.readouterr().err


def test_what_cannot_be_taken_is_told_once_and_taken_when_it_can(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    async def story(place: Place) -> None:
        (place.directory / "trap.eml").symlink_to("/etc/passwd")
        with open(os.fsencode(place.directory) + b"/\xff\n.eml", "wb"):
            pass
        place.rename_in("twice.part")
        os.link(place.directory / "twice.part", place.directory / "twice.eml")
        for _ in range(4):
            seen = place.taking._seen
            await comes(lambda seen=seen: place.taking._seen is not seen, "one more look")
        assert place.taking.counts["unfit"] == 3 and place.door.messages == []
        (place.directory / "twice.part").unlink()
        await comes(lambda: len(place.door.messages) == 1, "it has one name now")

    play(tmp_path, story)
    told = [line for line in capfd.readouterr().err.splitlines() if "left alone" in line]
    assert len(told) == 3, told
    assert any("\\xff\\x0a.eml" in line for line in told), "a name cannot forge a line"


# --- the directory ---------------------------------------------------------------------------------------------------


def test_a_directory_that_is_exchanged_is_opened_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def story(place: Place) -> None:
        place.directory.rename(tmp_path / "old")
        await comes(lambda: place.taking._folder is None, "it is noticed")
        place.directory.mkdir()
        await place.watched()
        place.rename_in()
        await comes(lambda: place.door.messages and not place.names, "the new one is watched")
        await comes(lambda: not opened(tmp_path / "old"), "the old one is let go")

    play(tmp_path, story)


def test_a_directory_of_another_spool_s_kmqd_is_left_to_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Row 44: two kmqd, one directory; each file once."""
    told: list[str] = []
    shared = tmp_path / "shared"
    shared.mkdir()
    for name in ("one", "two"):
        (tmp_path / name).mkdir()

    async def played() -> None:
        first = Place(tmp_path / "one", directory=str(shared))
        await first.watched()
        second = Place(tmp_path / "two", directory=str(shared))
        await comes(lambda: "kmqd of another spool" in "".join(told), "the second one says so")
        for number in range(20):
            (tmp_path / "elsewhere").write_bytes(LETTER)
            (tmp_path / "elsewhere").rename(shared / f"{number}.eml")
        await comes(lambda: len(first.door.messages) == 20, "the first one takes all")
        assert second.door.messages == []
        assert all(name.startswith(f"{shared}/") for name, _, _ in first.door.dropped)
        await first.end()
        await second.end()

    monkeypatch.setattr(drop_taking.log, "warning", lambda text, **keys: told.append(f"{text} {keys}"))
    asyncio.run(played())
    assert str(tmp_path / "one") in told[0]


def test_replay_takes_its_envelope_from_x_headers(tmp_path: Path) -> None:
    async def played() -> None:
        place = Place(tmp_path)
        place.running.cancel()
        section = ReplaySection(directory=str(place.directory), scan_interval=0)
        place.taking = Taking("replay", section, Replay(section, Completion("mx.us.test", "us.test")), place.ground)
        place.running = asyncio.get_running_loop().create_task(place.taking.run())
        try:
            await place.watched()
            place.rename_in("x.eml", b"X-Sender: <>\nX-Receiver: <bob@us.test>\nSubject: again\n\nHello.\n")
            await comes(lambda: place.door.messages, "it is taken")
            [message] = place.door.messages
            assert message.head.sender == "" and b"X-Receiver" not in message.body
            assert message.body.startswith(b"Received: from localhost\r\n\tby mx.us.test (kmq Replay) with local id ")
        finally:
            await place.end()

    asyncio.run(played())
