"""kmq and its manual page say the same of a spool: a reader written from kmq-spool(5) alone agrees with kmq's own.

Whatever lies there (every stage of a message's life, what power cuts leave, what a killed kmqd leaves, damage of every
kind), both find the same messages, events and rows of LEGAL STATES. And the reader foretells what a start makes of it.
"""

import ast
import shutil
import smtplib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

import msgspec
import pytest

from kmq.errors import StorageFailed
from kmq.model import queue_id
from kmq.spool import archive_look, layout, look, net_look
from kmq.spool.checkpoint import Note
from kmq.spool.disk import Disk
from kmq.spool.fsck import Look
from kmq.spool.inspection import Log, read_log
from kmq.spool.record import Append, Archive, Keep, Mark, Move, Put, Remove
from kmq.spool.recovery import Recovery
from tests.spool import second_reader, staging, stories
from tests.spool.explore import empty_spool
from tests.spool.ghost import GhostDisk, Kernel
from tests.spool.ledger import Ledger
from tests.spool.life import Life, Story
from tests.spool.second_reader import Message, Reading, read_spool
from tests.spool.world import NOW, World, event, message
from tests.torture.kmqd import Kmqd
from tests.waiting import free_port, until

#: Rows in which nothing is to be done, and rows that a start brings to S3 or S5.
REST = ("S3", "S5", "S7")
LIVING = ("S1", "S2", "S3", "S4", "S5")


# --- what is compared -------------------------------------------------------------------------------------------------


def agree(spool: Path) -> Reading:
    """Holds both readers to each other; -> what they say."""
    reading = read_spool(spool)
    disk = Disk(spool)
    log = read_log(disk)
    findings = list(Look(disk).everything())
    disk.close()
    rows = {name: one.state for name, one in reading.messages.items() if one.state not in REST}
    assert rows == {
        queue_id.text(one.id): one.state for one in findings if one.id and one.state not in ("D8", "D11", "D13")
    }
    kept = {name: state for name, (_, state, _) in reading.kept.items() if state != "S9"}
    assert kept == {queue_id.text(one.id): one.state for one in findings if one.state == "D11"}
    archived = {name: state for name, (_, state, _) in reading.archived.items() if state != "S10"}
    assert archived == {queue_id.text(one.id): one.state for one in findings if one.state == "D13"}
    agree_on_archive(spool, reading)
    for name, (_, state, events) in reading.kept.items():
        found = net_look.find(spool, queue_id.parse(name))
        if state == "S9":
            assert isinstance(found, look.Found)
            told = [{key: line[key] for key in line if key != "sum"} for line in events]
            assert told == msgspec.to_builtins(found.events)
    torn = {name for name, one in reading.messages.items() if one.damaged_lines and one.state not in ("S2", "S4", "S6")}
    assert torn == {queue_id.text(one.id) for one in findings if one.state == "D8"}
    assert reading.damage == {one.state for one in findings if one.state in ("D7", "D9", "D10", "D12")}
    assert sorted(reading.strange) == sorted(one.path for one in findings if one.state == "D7")
    agree_on_journal(log, reading)
    for name, one in reading.messages.items():
        agree_on_history(spool, name, one)
    return reading


def agree_on_archive(spool: Path, reading: Reading) -> None:
    found = [one for one in archive_look.walk(spool / "backup") if isinstance(one, archive_look.Archived)]
    theirs = {one.found.head.id: (one.place, msgspec.to_builtins(one.found.events)) for one in found}
    for name, (place, state, events) in reading.archived.items():
        told = [{key: line[key] for key in line if key != "sum"} for line in events]
        assert state != "S10" or theirs[name] == (place, told)


def agree_on_journal(log: Log, reading: Reading) -> None:
    for number, traced in log.traced.items():
        one = reading.messages[queue_id.text(number)]
        assert (one.added, one.archived) == (dict(traced.lines), traced.archived)
        if not log.plain:
            assert (one.removed, one.kept) == (traced.removed, traced.kept)
            expected = (traced.put.line, traced.put.incoming) if traced.put else (b"", "")
            assert (one.put, one.head_line, one.incoming) == (traced.put is not None, *expected)


def agree_on_history(spool: Path, name: str, one: Message) -> None:
    """Of a message that lies in one home with a good envelope: head and events, word by word."""
    found = look.find(spool, queue_id.parse(name))
    if not isinstance(found, look.Found) or len({home for home, _ in one.files}) > 1:
        return
    assert one.head is not None
    assert {key: value for key, value in one.head.items() if key not in ("sum", "seq")} == msgspec.to_builtins(
        found.head
    )
    lines = [line for line in one.events if line["seq"] not in one.missing]
    assert [{key: line[key] for key in line if key != "sum"} for line in lines] == msgspec.to_builtins(found.events)


def start(spool: Path) -> None:
    """What kmqd does first."""
    disk = Disk(spool)
    layout.prepare(disk)
    _, log = Recovery(disk, Note(str(spool / "run" / "syncfs")), 1 << 18).recover()
    log.close()
    disk.close()


def foretells_a_start(spool: Path, reading: Reading) -> None:
    """A start makes of the spool what the second reader says that it is, and leaves nothing to be done."""
    explained = {path.name.removesuffix(".reason") for path in (spool / "poison").glob("*.reason")}
    start(spool)
    after = agree(spool)
    for name, one in reading.messages.items():
        later = after.messages.get(name, Message(name, state="S7"))
        if one.state in ("S6", "S7"):
            assert later.state == "S7", name
        elif one.state in LIVING and name not in explained:
            assert (later.state, later.home) == ({"queue": "S3", "poison": "S5"}[one.home], one.home), name
            assert (later.head, later.events, later.missing) == (one.head, one.events, []), name


def holds(spool: Path) -> Reading:
    """Both readers agree, and the second one foretells a start, which is made on a copy."""
    reading = agree(spool)
    copy = spool.with_name(spool.name + ".copy")
    shutil.copytree(spool, copy, symlinks=True)
    foretells_a_start(copy, reading)
    shutil.rmtree(copy)
    return reading


# --- every stage of a life --------------------------------------------------------------------------------------------

Stages = Callable[[World], Iterator[str]]


class FailingDisk(Disk):
    """Its next datasync fails when it is told so."""

    broken = False

    def datasync(self, fd: int) -> None:
        if self.broken:
            self.broken = False
            raise OSError(5, "Input/output error")
        super().datasync(fd)


def cover(world: World) -> None:
    world.settle()
    world.checkpoint()


def put_large(world: World, name: str = "1-1-1-1") -> int:
    """A body of its own in incoming/, and the put that names it."""
    text = b"Subject: large\r\n\r\n" + b"x" * 100_000
    Path(world.disk.root, "incoming", name).write_bytes(text)
    number = world.store.new_id(NOW)
    line, _ = message(number, text)
    world.record(Put(number, line, None, bytes(range(16)), name))
    return number


def next_effect(world: World) -> object:
    return next(iter(world.effects._waiting[0].operations), None)  # None: they were cancelled


def put_deferred_removed(world: World) -> Iterator[str]:
    number = world.put()
    world.sync()
    yield "S1"
    world.apply_all()
    yield "S3"
    world.append(number, 1, "deferred", rcpt="0", attempt=1, reply="451 4.3.0 later")
    world.sync()
    yield "S3"
    append = next_effect(world)
    assert isinstance(append, Append)
    world.disk.append(layout.envelope(number), b"\n" + append.line[:50])
    yield "S3"
    cover(world)
    yield "S3"
    world.remove(number)
    world.sync()
    yield "S6"
    world.apply_all()
    yield "S7"
    cover(world)
    yield ""


def kept_and_marked(world: World) -> Iterator[str]:
    """Delivered, kept, and one line more; then a part of what is kept is gone."""
    number = world.put()
    world.settle()
    cover(world)
    yield "S3"
    line = event(1, "delivered", rcpt="0", attempt=1, reply="250 2.0.0 ok")
    world.record(Append(number, 1, line), Keep(number, "2025-11-22"), Remove(number))
    world.sync()
    yield "S6"
    world.apply_all()
    yield "S7"
    later = event(2, "deferred", rcpt="0", reply="of the net")
    world.record(Mark(number, 2, later, "2025-11-22"))
    world.sync()
    yield "S7"
    world.apply_all()
    assert line in world.disk.read(layout.envelope(number, "sent/2025-11-22"))
    assert later in world.disk.read(layout.envelope(number, "sent/2025-11-22"))
    cover(world)
    yield ""
    world.disk.unlink(layout.body(number, "sent/2025-11-22"))
    yield ""


def archived(world: World) -> Iterator[str]:
    """Archived, deferred, removed; then a part of what is archived is gone."""
    number = world.put()
    cover(world)
    line = event(1, "passed", phase="Backup", archive="backup/2025-11-22")
    world.record(Append(number, 1, line), Archive(number, 1, "backup/2025-11-22"))
    world.append(number, 2, "deferred", rcpt="0", attempt=1, reply="451 4.3.0 later")
    world.sync()
    yield "S3"
    world.settle()
    assert world.disk.read(layout.envelope(number, "backup/2025-11-22")).split(b"\n")[1:] == [line]
    yield "S3"
    world.remove(number)
    world.sync()
    yield "S6"
    world.apply_all()
    yield "S7"
    cover(world)
    yield ""
    world.disk.unlink(layout.body(number, "backup/2025-11-22"))
    yield ""


def half_made(world: World) -> Iterator[str]:
    """What a power cut may leave of files that no sync has reached."""
    number = world.put(b"Subject: half\r\n\r\nmade\r\n")
    world.sync()
    put = next_effect(world)
    assert isinstance(put, Put)
    body, envelope = (Path(world.disk.root, name(number)) for name in (layout.body, layout.envelope))
    world.effects.homes.make_body(put, again=False)
    yield "S2"
    body.write_bytes(bytes(10))
    yield "S2"
    body.unlink()
    envelope.write_bytes(put.line[:40])
    yield "S2"
    envelope.write_bytes(put.line)
    yield "S2"
    envelope.write_bytes(b"")
    yield "S2"


def large(world: World) -> Iterator[str]:
    put_large(world)
    world.sync()
    yield "S1"
    world.apply_all()
    yield "S3"
    cover(world)
    yield "S3"


def poisoned_and_back(world: World) -> Iterator[str]:
    number = world.put()
    cover(world)
    world.move(number, 1)
    world.sync()
    yield "S3"
    move = next_effect(world)
    assert isinstance(move, Move)
    world.effects.homes.enter(move)
    yield "S4"
    world.disk.unlink(layout.envelope(number))
    yield "S4"
    world.apply_all()
    yield "S5"
    world.append(number, 2, "deferred", rcpt="0", attempt=1, reply="451 4.3.0 later")
    cover(world)
    yield "S5"
    world.move(number, 3, "queue")
    world.sync()
    yield "S5"
    world.apply_all()
    yield "S3"
    world.remove(number)
    world.sync()
    yield "S6"


def failed_sync(world: World) -> Iterator[str]:
    """J8: what a failed sync wrote is void, though it can be read; events are written again, a refused put is not."""
    number = world.put()
    world.settle()
    world.append(number, 1, "deferred", rcpt="0", attempt=1, reply="451 4.3.0 later")
    world.put(b"Subject: refused\r\n\r\n")
    assert isinstance(world.disk, FailingDisk)
    world.disk.broken = True
    world.sync()
    assert len(world.refused) == 1
    yield "S3"
    world.sync()
    yield "S3"
    world.apply_all()
    world.put(b"Subject: taken\r\n\r\n")
    world.sync()
    yield "S3 S1"


def generations(world: World) -> Iterator[str]:
    for count in range(1, 5):
        world.put()
        world.put()
        world.sync_all()
        world.store.turn()
        if count == 2:
            world.apply_all()
        yield " ".join(["S3"] * (4 if count > 1 else 0) + ["S1"] * (2 * count - (4 if count > 1 else 0)))


@pytest.mark.parametrize(
    "stages",
    [put_deferred_removed, kept_and_marked, archived, half_made, large, poisoned_and_back, failed_sync, generations],
    ids=lambda stages: stages.__name__,
)
def test_every_stage_of_a_life(tmp_path: Path, stages: Stages) -> None:
    spool = tmp_path / "spool"
    spool.mkdir()
    for expected in stages(World(spool, disk=FailingDisk(spool))):
        assert [one.state for one in holds(spool).messages.values()] == expected.split()


def test_a_torn_tail_holds_what_stands_before_it(tmp_path: Path) -> None:
    spool = tmp_path / "spool"
    spool.mkdir()
    world = World(spool)
    kept = [world.put() for _ in range(2)]
    world.sync()
    end = world.log._offset  # type: ignore[attr-defined]
    lost = [world.put(b"Subject: %d\r\n\r\n" % one + b"y" * 3000) for one in range(3)]
    world.sync()
    (segment,) = (spool / "journal").glob("*.log")
    whole = segment.read_bytes()
    seen = set()
    for cut in [end, end + 3, end + 20, end + 700, *range(end + 1000, end + 12000, 1700)]:
        segment.write_bytes(whole[:cut] + bytes(len(whole) - cut))
        names = set(holds(spool).messages)
        assert {queue_id.text(number) for number in kept} <= names
        seen.add(len(names & {queue_id.text(number) for number in lost}))
    assert seen == {0, 1, 2, 3}


def test_random_lives(tmp_path: Path) -> None:
    """Verbs, batches, effects and checkpoints in any order, with a look at times."""
    spool = tmp_path / "spool"
    rows = set()
    for seed in range(4):
        random = Random(seed)
        spool.mkdir()
        world = World(spool, disk=FailingDisk(spool))
        living: dict[int, tuple[int, str]] = {}  # ID -> next seq and home
        for step in range(60):
            live_on(world, random, living)
            if step % 7 == 6:
                rows |= {one.state for one in holds(spool).messages.values()}
        shutil.rmtree(spool)
    assert rows >= {"S1", "S3", "S4", "S5", "S6", "S7"}


def live_on(world: World, random: Random, living: dict[int, tuple[int, str]]) -> None:
    """One step."""
    dice = random.random()
    if dice < 0.3 or not living:
        number = (
            world.put(b"Subject: %d\r\n\r\n" % random.randrange(1000)) if dice < 0.25 else put_large(world, str(dice))
        )
        living[number] = (1, "queue")
    elif dice < 0.6:
        number = random.choice(list(living))
        seq, home = living[number]
        living[number] = (seq + 1, home)
        if dice < 0.38:
            del living[number]
            world.remove(number)
        elif dice < 0.5:
            world.append(number, seq, "deferred", rcpt="0", attempt=seq, reply="451 4.3.0 later")
        else:
            home = "poison" if home == "queue" else "queue"
            living[number] = (seq + 1, home)
            world.move(number, seq, home)
    elif dice < 0.8:
        world.sync()
    elif dice < 0.95:
        step_of_effects(world, random)
    else:
        world.settle()
        if random.random() < 0.5:
            world.checkpoint()
        else:
            world.store.turn()


def step_of_effects(world: World, random: Random) -> None:
    """One effect, or the first half of one."""
    if not world.effects._waiting:
        return
    operation = next_effect(world)
    if isinstance(operation, Move) and random.random() < 0.5:
        world.effects.homes.enter(operation)
    else:
        world.effects.apply_next()


# --- what is left when the power goes ---------------------------------------------------------------------------------


def dump(kernel: Kernel, spool: Path) -> None:
    """A spool of a disk of memory as files that anybody can read."""
    for folder in layout.FOLDERS:
        (spool / folder).mkdir(parents=True)
    disk = GhostDisk(kernel)
    (spool / "FORMAT").write_bytes(disk.read("FORMAT"))
    for name, text in disk.tree("queue", "poison", "incoming", "journal", "pickup").items():
        (spool / name).parent.mkdir(exist_ok=True)
        (spool / name).write_bytes(text)


@pytest.mark.parametrize("kind", ["journal", "files"])
@pytest.mark.parametrize("story", stories.STORIES, ids=lambda story: story.__name__)
def test_power_cuts_and_kills_leave_only_legal_states(tmp_path: Path, story: Story, kind: str) -> None:
    random = Random(story.__name__ + kind)
    kernel, looks, rows = empty_spool(), 0, set()

    def look_on(operation: str, name: str) -> None:
        nonlocal looks
        if random.random() > 0.3 or looks == 12:
            return
        looks += 1
        left = kernel.after_cut(random.random()) if random.random() < 0.7 else kernel.copy()
        spool = tmp_path / f"{looks}"
        dump(left, spool)
        reading = agree(spool)
        rows.update(one.state for one in reading.messages.values())
        assert not reading.damage
        if kind == "journal":
            assert not any(one.damaged_lines for one in reading.messages.values() if one.state in REST)
        foretells_a_start(spool, reading)
        shutil.rmtree(spool)

    life = Life(kernel, Ledger(atomic=kind == "journal"), kind)
    life.disk.watch = life.outside.watch = look_on
    try:
        story(life)
    except StorageFailed:
        pass
    assert looks > 1
    assert {row[0] for row in rows} <= {"S"}


# --- what a killed kmqd leaves ----------------------------------------------------------------------------------------


def test_what_a_killed_kmqd_leaves(tmp_path: Path) -> None:
    """Mail that stays, mail that is delivered at once, large mail; killed with all its processes, three times."""
    kmqd = Kmqd(tmp_path / "kmqd", hops={"far.test": free_port()}, workers=1)
    known: set[str] = set()
    try:
        for life in range(3):
            kmqd.start()
            accepted = send(kmqd.port, life)
            if life == 1:
                until(lambda: len(kmqd.queued()) >= 12, "the files of the queue are made")
            kmqd.kill_all()
            reading = holds(kmqd.spool)
            known |= accepted
            there = {name: one for name, one in reading.messages.items() if one.state in LIVING}
            assert known <= there.keys()
            assert all("local.test" in str(there[name].head) for name in there.keys() - known)  # not delivered yet
            assert not reading.damage
    finally:
        kmqd.close()


def send(port: int, life: int) -> set[str]:
    """A few messages; -> the IDs of those that cannot be delivered."""
    accepted = set()
    with smtplib.SMTP("127.0.0.1", port, timeout=20) as client:
        client.ehlo("client.test")
        for number in range(9):
            text = f"Subject: {life} {number}\r\n\r\n" + ("x" * 998 + "\r\n") * (150 if number % 3 == 2 else 1)
            domain = "local.test" if number % 3 == 1 else "far.test"
            client.mail("a@example.org")
            client.rcpt(f"b@{domain}")
            code, reply = client.data(text)
            assert code == 250, reply
            if domain == "far.test":
                accepted |= {word.decode() for word in reply.split() if queue_id.PATTERN.fullmatch(word.decode())}
    return accepted


# --- damage -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", staging.SCENES)
def test_both_readers_find_the_same_damage(tmp_path: Path, name: str) -> None:
    scene = staging.stage(tmp_path / "spool", name)
    reading = agree(scene.spool)
    found = reading.damage | {one.state for one in reading.messages.values()} - {"S3", "S5", "S7"}
    found |= {"D8" for one in reading.messages.values() if one.damaged_lines}
    assert found == ({scene.state} if scene.state not in ("S7", "S8", "D0") else set())
    foretells_a_start(scene.spool, reading) if scene.state != "D6" else None


def test_the_reader_is_one_file_that_needs_nothing_of_kmq() -> None:
    path = Path(second_reader.__file__)
    tree = ast.parse(path.read_text())
    modules = {name.name for node in ast.walk(tree) if isinstance(node, ast.Import) for name in node.names}
    modules |= {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {name.partition(".")[0] for name in modules} <= {*sys.stdlib_module_names}
    assert "write" not in path.read_text().partition('"""')[2].partition('"""')[2]
