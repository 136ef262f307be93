"""Handing mail over: every put is answered once, whoever is away meanwhile, and no large body is durable by half."""

import asyncio
import errno
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from kmq.intake import large as bodies
from kmq.intake import submission
from kmq.intake.large import Large
from kmq.intake.submission import Submission
from kmq.model.frame import Ask, Frame, Intake, Put, Refused, Reserve, Reserved, Stored
from kmq.model.reply import Reply
from kmq.spool import incoming, layout
from kmq.spool.disk import Disk

ID = "69212ad0-0000a1f3"


class Watched(Disk):
    """A disk that notes what is done to it, fails when told to, and can be held up."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.done: list[str] = []
        self.fails: dict[str, int] = {}
        self.loses = 0
        self.free_to_go = threading.Event()
        self.free_to_go.set()

    def _act(self, what: str) -> None:
        assert self.free_to_go.wait(20)
        self.done.append(what)
        if what in self.fails:
            raise OSError(self.fails[what], os.strerror(self.fails[what]))

    def create(self, name: str) -> int:
        self._act("create")
        return super().create(name)

    def write(self, fd: int, text: bytes) -> None:
        self._act("write")
        super().write(fd, text[self.loses :])

    def sync(self, fd: int) -> None:
        self._act("sync folder" if os.path.isdir(f"/proc/self/fd/{fd}") else "sync file")
        super().sync(fd)

    def unlink(self, name: str) -> None:
        self._act("unlink")
        super().unlink(name)


class Bench:
    """A submission between a disk and a connection that the test holds in its hands."""

    def __init__(self, root: Path) -> None:
        layout.prepare(Disk(root))
        self.folder = root / "incoming"
        self.disk = Watched(root)
        self.connected = True
        self.sent: list[tuple[Frame, bytes]] = []
        self.now = 1000.0
        self.answers: list[tuple[str, str | Reply]] = []
        self.room = 0
        self.door = Submission(self._send, self.disk, 1, lambda: self.now)

    def _send(self, frame: Frame, raw: bytes) -> bool:
        if self.connected:
            self.sent.append((frame, raw))
            self.disk.done.append(type(frame).__name__)
        return self.connected

    def answer(self, name: str) -> Callable[[str, Reply | None], None]:
        """Notes what is answered as (name, ID or reply)."""

        def note(queue_id: str, refused: Reply | None) -> None:
            assert (refused is None) == bool(queue_id)
            self.answers.append((name, refused or queue_id))

        return note

    def put(self, name: str, body: bytes = b"body") -> None:
        self.door.put(b"tail" + body, 4, 2, 30, self.answer(name))

    def open(self) -> Large:
        def room() -> None:
            self.room += 1

        return self.door.open_large(room)

    def token(self, place: int = -1) -> str:
        frame = self.sent[place][0]
        assert isinstance(frame, Put | Reserve)
        return frame.token

    @property
    def files(self) -> list[str]:
        return os.listdir(self.folder)

    async def until(self, true: Callable[[], object]) -> None:
        async with asyncio.timeout(20):
            while not true():
                await asyncio.sleep(0.001)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


# --- small ones -------------------------------------------------------------------------------------------------------


def test_a_put_is_sent_and_answered_once_when_it_is_durable(bench: Bench) -> None:
    bench.put("one", b"Received: ...")
    (frame, raw) = bench.sent[0]
    token = bench.token()
    assert frame == Put(token, 4, 2, 30) and raw == b"tailReceived: ..."
    assert len(bytes.fromhex(token)) == 16
    assert bench.answers == [] and bench.door.unanswered == 1
    for _ in range(2):
        assert bench.door.heard(Stored([(token, ID), ("f" * 32, ID)]))
    assert bench.answers == [("one", ID)]
    assert bench.door.unanswered == 0


def test_tokens_of_one_receiver_and_of_two_are_all_different(bench: Bench, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other = Bench(tmp_path / "other")
    for _ in range(100):
        bench.put("x")
        other.put("x")
    assert len({one.token(place) for one in (bench, other) for place in range(100)}) == 200


def test_a_refusal_is_heard_as_the_scheduler_process_says_it(bench: Bench) -> None:
    bench.put("one")
    bench.door.heard(Refused(bench.token(), "452 4.3.1 Insufficient system storage"))
    assert bench.answers == [("one", Reply(452, "4.3.1", "Insufficient system storage"))]
    assert bench.door.refused == 1


def test_intake_is_closed_and_opened_again(bench: Bench) -> None:
    assert bench.door.refusal is None
    bench.door.heard(Intake("452 4.3.1 Insufficient system storage"))
    assert bench.door.refusal == Reply(452, "4.3.1", "Insufficient system storage")
    bench.door.heard(Intake(""))
    assert bench.door.refusal is None
    assert not bench.door.heard(Ask([])), "no frame for a receiver"


def test_one_sessions_mistake_is_not_anothers(bench: Bench) -> None:
    def mistaken(queue_id: str, refused: Reply | None) -> None:
        raise LookupError("a mistake")

    bench.door.put(b"", 0, 1, -1, mistaken)
    bench.put("good")
    bench.door.heard(Stored([(bench.token(0), ID), (bench.token(1), ID)]))
    assert bench.answers == [("good", ID)]


# --- nobody there -----------------------------------------------------------------------------------------------------


def test_what_has_no_connection_waits_and_goes_in_order_when_there_is_one(bench: Bench) -> None:
    bench.connected = False
    for name in "abc":
        bench.put(name, name.encode())
    bench.door.reserve(bench.answer("reserve"))
    assert bench.sent == [] and bench.answers == []
    bench.connected = True
    bench.door.reconnected()
    assert [raw for _, raw in bench.sent] == [b"taila", b"tailb", b"tailc", b""], "none of them is asked for"
    bench.door.heard(Stored([(bench.token(1), ID)]))
    bench.door.heard(Reserved(bench.token(3), "69212ad0-0000a1f4"))
    assert bench.answers == [("b", ID), ("reserve", "69212ad0-0000a1f4")]


def test_a_connection_that_fills_up_half_way_keeps_the_order(bench: Bench) -> None:
    bench.connected = False
    for name in "abcd":
        bench.put(name, name.encode())
    room = iter([True, True, False])
    send = bench._send
    bench.connected = True
    bench.door._send = lambda frame, raw: next(room, True) and send(frame, raw)
    bench.door.reconnected()
    assert [raw for _, raw in bench.sent] == [b"taila", b"tailb"]
    bench.put("e", b"e")  # there is room now, but others came before
    bench.door.resume()
    bench.put("f", b"f")
    assert [raw[4:] for _, raw in bench.sent] == [b"a", b"b", b"c", b"d", b"e", b"f"]


def test_too_many_that_wait_are_refused_at_once(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(submission, "WAITING", 3)
    bench.connected = False
    for name in "abc":
        assert bench.door.refusal is None
        bench.put(name)
    assert bench.door.refusal == submission.UNAVAILABLE
    bench.put("d")
    assert bench.answers == [("d", Reply(451, "4.3.0", "Queue is not available, try again later"))]
    bench.connected = True
    bench.door.reconnected()
    assert len(bench.sent) == 3 and bench.door.refusal is None


def test_so_many_bytes_that_wait_are_refused_at_once(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(submission, "WAITING_BYTES", 10_000)
    bench.connected = False
    bench.put("a", b"x" * 9_000)
    bench.put("b", b"x" * 9_000)
    assert bench.answers == []
    bench.put("c", b"")
    assert bench.answers == [("c", submission.UNAVAILABLE)]
    bench.connected = True
    bench.door.resume()
    bench.connected = False
    bench.put("d", b"x" * 9_000)
    assert len(bench.answers) == 1, "what is sent waits no more"


def test_nobody_waits_for_ever(bench: Bench) -> None:
    bench.connected = False
    bench.put("early")
    bench.door.reserve(bench.answer("reserve"))
    bench.now += 40
    bench.put("late")
    bench.door.tick()
    assert bench.answers == []
    bench.now += 30
    bench.door.tick()
    assert bench.answers == [("early", submission.UNAVAILABLE), ("reserve", submission.UNAVAILABLE)]
    bench.connected = True
    bench.door.reconnected()
    assert len(bench.sent) == 1, "who heard 451 is not put in all the same"


def test_after_the_scheduler_process_died_its_puts_are_asked_for(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """J10: durable -> 250, unknown -> 451; without it a client would send what we have, or lose what we have not."""
    monkeypatch.setattr(submission, "ASKED", 2)
    for name in "abc":
        bench.put(name)
    bench.door.reserve(bench.answer("reserve"))
    bench.door.heard(Stored([(bench.token(0), ID)]))
    tokens = [bench.token(place) for place in range(4)]
    bench.connected = False
    bench.put("d")
    bench.connected = True
    bench.sent.clear()
    bench.door.reconnected()
    asked, reserve, put = (frame for frame, _ in bench.sent)
    assert asked == Ask(tokens[1:3])
    assert reserve == Reserve(tokens[3])
    assert isinstance(put, Put) and put.token not in tokens
    bench.door.heard(Stored([(tokens[1], "69212ad0-0000a1f4")]))
    bench.door.heard(Refused(tokens[2], "451 4.3.0 Local storage error, try again later"))
    bench.door.heard(Reserved(tokens[3], "69212ad0-0000a1f9"))
    assert bench.answers == [
        ("a", ID),
        ("b", "69212ad0-0000a1f4"),
        ("c", Reply(451, "4.3.0", "Local storage error, try again later")),
        ("reserve", "69212ad0-0000a1f9"),
    ]


def test_so_many_are_asked_for_in_several_frames(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(submission, "ASKED", 2)
    for name in "abcde":
        bench.put(name)
    tokens = [bench.token(place) for place in range(5)]
    bench.sent.clear()
    bench.door.reconnected()
    assert [frame.tokens for frame, _ in bench.sent if isinstance(frame, Ask)] == [tokens[:2], tokens[2:4], tokens[4:]]


# --- large ones -------------------------------------------------------------------------------------------------------


def test_a_large_body_is_handed_over_when_file_and_name_are_synced(bench: Bench) -> None:
    async def story() -> None:
        body = bench.open()
        pieces = [bytes([number]) * 30_000 for number in range(50)]
        for piece in pieces:
            body.write(piece)
            await asyncio.sleep(0)
        bench.door.put_large(ID, b"the tail", 3, "ab" * 32, body, bench.answer("large"))
        await bench.until(lambda: bench.sent)
        assert bench.sent == [(Put(bench.token(), 8, 3, -1, ID, "ab" * 32, body.name), b"the tail")]
        steps = [step for place, step in enumerate(bench.disk.done) if step != bench.disk.done[place - 1]]
        assert steps == ["create", "write", "sync file", "sync folder", "Put"]
        file = bench.folder / body.name
        assert file.read_bytes() == b"".join(pieces)
        assert file.stat().st_mode & 0o7777 == 0o600
        assert incoming.lives(body.name)
        bench.door.heard(Stored([(bench.token(), ID)]))
        assert bench.answers == [("large", ID)]
        await asyncio.sleep(0)
        assert bench.files == [body.name], "the scheduler process's now"

    asyncio.run(story())
    bench.door.close()


def test_a_slow_disk_holds_the_client_up_and_not_the_loop(bench: Bench) -> None:
    async def story() -> None:
        bench.disk.free_to_go.clear()
        body = bench.open()
        assert body.write(b"x" * 100_000)
        taken = 0
        while body.write(b"y" * 60_000):
            taken += 1
        assert taken * 60_000 <= bodies.HIGH
        assert not body.write(b"z"), "until there is room"
        assert bench.room == 0
        bench.disk.free_to_go.set()
        await bench.until(lambda: bench.room)
        assert bench.room == 1
        assert body.write(b"more")
        bench.door.put_large(ID, b"", 1, "", body, bench.answer("large"))
        await bench.until(lambda: bench.sent)
        assert (bench.folder / body.name).stat().st_size == 100_000 + (taken + 1) * 60_000 + 1 + 4

    asyncio.run(story())
    bench.door.close()


@pytest.mark.parametrize("step", ["create", "write", "sync file", "sync folder"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.EMFILE])
def test_a_disk_that_fails_is_a_refusal_and_leaves_nothing(bench: Bench, step: str, number: int) -> None:
    async def story() -> None:
        bench.disk.fails[step] = number
        body = bench.open()
        for _ in range(20):
            body.write(b"x" * 10_000)
            await asyncio.sleep(0.0005)
        bench.door.put_large(ID, b"tail", 1, "", body, bench.answer("large"))
        await bench.until(lambda: bench.answers)
        full = number in (errno.ENOSPC, errno.EDQUOT)
        assert bench.answers == [("large", bodies.NO_ROOM if full else bodies.NO_STORAGE)]
        assert bench.sent == [] and bench.files == []
        assert bench.disk.done.count("sync file") <= 1, "a file whose sync failed is never synced again"
        bench.disk.fails.clear()
        again = bench.open()
        again.write(b"there is room now")
        bench.door.put_large(ID, b"tail", 1, "", again, bench.answer("again"))
        await bench.until(lambda: bench.sent)

    asyncio.run(story())
    bench.door.close()


def test_a_file_that_lacks_bytes_is_not_handed_over(bench: Bench) -> None:
    async def story() -> None:
        bench.disk.loses = 7
        body = bench.open()
        body.write(b"x" * 100_000)
        bench.door.put_large(ID, b"tail", 1, "", body, bench.answer("large"))
        await bench.until(lambda: bench.answers)
        assert bench.answers == [("large", bodies.NO_STORAGE)]
        assert "sync file" not in bench.disk.done and bench.files == []

    asyncio.run(story())
    bench.door.close()


def test_a_client_that_goes_away_leaves_nothing(bench: Bench) -> None:
    async def story() -> None:
        never, busy, written = bench.open(), bench.open(), bench.open()
        written.write(b"x")
        await bench.until(lambda: bench.files)
        bench.disk.free_to_go.clear()
        busy.write(b"x" * 1_000_000)
        assert not busy.write(b"x" * 1_000_000)
        for body in (never, busy, written):
            body.discard()
            assert body.write(b"too late"), "who still talks is not held up"
        bench.disk.free_to_go.set()
        await bench.until(lambda: bench.disk.done.count("unlink") == 2)
        await bench.until(lambda: not bench.files)
        assert bench.room == 0, "there is nobody to be told"

    asyncio.run(story())
    bench.door.close()


def test_a_refused_large_put_is_removed_and_an_unanswered_one_stays(bench: Bench) -> None:
    """From the sending on the file is the scheduler process's: it may be durable although no answer came."""

    async def story() -> None:
        names = []
        for name in ("refused", "unanswered"):
            body = bench.open()
            body.write(b"x" * 70_000)
            names.append(body.name)
            bench.door.put_large(ID, b"tail", 1, "", body, bench.answer(name))
            await bench.until(lambda: len(bench.sent) == len(names))
        bench.door.heard(Refused(bench.token(0), "451 4.3.0 Local storage error, try again later"))
        await bench.until(lambda: bench.files == names[1:])
        bench.now += 1000
        bench.door.tick()
        bench.door.reconnected()
        await asyncio.sleep(0.01)
        assert bench.files == names[1:] and len(bench.answers) == 1
        bench.door.heard(Refused(bench.token(1), "451 4.3.0 unknown"))
        await bench.until(lambda: not bench.files)

    asyncio.run(story())
    bench.door.close()


def test_a_large_put_that_was_never_sent_is_removed(bench: Bench) -> None:
    async def story() -> None:
        bench.connected = False
        body = bench.open()
        body.write(b"x" * 70_000)
        bench.door.put_large(ID, b"tail", 1, "", body, bench.answer("large"))
        await bench.until(lambda: bench.door.unanswered)
        assert bench.files
        bench.now += 100
        bench.door.tick()
        assert bench.answers == [("large", submission.UNAVAILABLE)]
        await bench.until(lambda: not bench.files)

    asyncio.run(story())
    bench.door.close()


def test_a_file_that_was_there_before_is_left_alone(bench: Bench) -> None:
    async def story() -> None:
        body = bench.open()
        (bench.folder / body.name).write_bytes(b"somebody else's")
        body.write(b"ours")
        bench.door.put_large(ID, b"tail", 1, "", body, bench.answer("large"))
        await bench.until(lambda: bench.answers)
        assert bench.answers == [("large", bodies.NO_STORAGE)]
        assert (bench.folder / body.name).read_bytes() == b"somebody else's"

    asyncio.run(story())
    bench.door.close()


# --- whose file -------------------------------------------------------------------------------------------------------

TELLS_A_NAME = "from kmq.spool import incoming; print(incoming.name(incoming.maker_here(2), 7), flush=True); input()"


def test_a_name_tells_whether_its_receiver_lives() -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", TELLS_A_NAME], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert child.stdin and child.stdout
    name = child.stdout.readline().strip()
    made = incoming.maker(name)
    assert made is not None and made.number == 2 and made.pid == child.pid
    assert incoming.lives(name)
    assert not incoming.lives(incoming.name(made._replace(start=made.start - 1), 7)), "the pid is used again"
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert not incoming.lives(name), "a zombie writes nothing more"
    child.wait()
    assert not incoming.lives(name)
    child.stdin.close()
    child.stdout.close()


@pytest.mark.parametrize("name", ["", "README.md", "1-2-3", "1-2-3-4-5", "1-x-3-4", "1--3-4", "¹-2-3-4", "../1-2-3-4"])
def test_names_that_are_none_of_ours(name: str) -> None:
    assert incoming.maker(name) is None
    assert not incoming.lives(name)
