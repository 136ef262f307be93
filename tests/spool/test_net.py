"""What the effects do for the safety net, step by step: links, files made there alone, and what the disk refuses."""

import errno
import itertools
import sys
import threading
from pathlib import Path

import pytest

from kmq.spool import layout
from kmq.spool.departures import TOGETHER
from kmq.spool.disk import Disk
from kmq.spool.effects import Durable
from kmq.spool.record import Append, Keep, Mark, Operation, Put, Remove
from tests.spool.world import World, event, message, tree

DAY = "2026-11-22"
SENT = layout.kept_on(DAY)


class Tight(Disk):
    """Refuses one operation on a name with this in it, as often as it is told."""

    refuses = ("", "", 0)

    def _refuse(self, kind: str, name: str) -> None:
        wanted, part, times = self.refuses
        if kind == wanted and part in name and times:
            self.refuses = (wanted, part, times - 1)
            raise OSError(errno.ENOSPC, "No space left on device", name)

    def create(self, name: str) -> int:
        self._refuse("create", name)
        return super().create(name)

    def link(self, old: str, new: str) -> None:
        self._refuse("link", new)
        super().link(old, new)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path, disk=Tight(tmp_path))


def deliver(world: World, number: int) -> bytes:
    """The last result, and that it is kept; -> its line."""
    line = event(1, "delivered", rcpt="0", attempt=1, reply="250 ok")
    world.record(Append(number, 1, line), Keep(number, DAY), Remove(number))
    world.sync_all()
    return line


def kept(world: World) -> list[str]:
    return world.disk.names(SENT)


def names(number: int) -> list[str]:
    stem = layout.stem(number, SENT).rpartition("/")[2]
    return [f"{stem}.eml", f"{stem}.env"]


def test_mail_that_leaves_at_once_is_made_there_alone(world: World, tmp_path: Path) -> None:
    number = world.put()
    world.sync_all()
    line = deliver(world, number)
    world.apply_all()
    assert kept(world) == names(number)
    assert world.disk.read(layout.envelope(number, SENT)).split(b"\n")[1:] == [line]
    assert tree(tmp_path) == [] and world.effects.idle
    assert not (tmp_path / layout.folder(number)).exists(), "it had no file in the queue"


def test_mail_that_waited_is_linked_and_leaves_the_queue_when_that_is_durable(world: World, tmp_path: Path) -> None:
    first, second = world.put(), world.put()
    world.settle()
    inode = world.disk.status(layout.body(first)).st_ino  # type: ignore[union-attr]
    deliver(world, first)
    deliver(world, second)
    world.effects.apply_next()
    assert len(tree(tmp_path)) == 4, "more is to come, and one sync will do for both"
    world.effects.apply_next()
    assert tree(tmp_path) == [] and kept(world) == names(first) + names(second)
    assert world.disk.status(layout.body(first, SENT)).st_ino == inode  # type: ignore[union-attr]
    assert world.effects.idle


def test_not_more_than_some_hundred_wait_for_one_sync(world: World, tmp_path: Path) -> None:
    numbers = [world.put() for _ in range(TOGETHER + 1)]
    world.settle()
    for number in numbers:
        deliver(world, number)
    for _ in numbers[:-1]:
        world.effects.apply_next()
    assert len(tree(tmp_path)) == 2, "all but the last have left"


@pytest.mark.parametrize(("kind", "part"), [("link", ".eml"), ("link", ".env")])
def test_what_cannot_be_kept_is_delivered_all_the_same(world: World, tmp_path: Path, kind: str, part: str) -> None:
    number, other = world.put(), world.put()
    world.settle()
    world.disk.refuses = (kind, f"{SENT}/{names(number)[0][:-4]}{part}", 1)  # type: ignore[attr-defined]
    deliver(world, number)
    deliver(world, other)
    world.apply_all()
    assert tree(tmp_path) == [] and kept(world) == names(other)
    assert world.effects.trouble is None and world.effects.idle, "mail does not wait for the net"
    assert (world.effects.net.kept, world.effects.net.lost) == (1, 1)


def test_one_whose_files_are_owed_is_kept_when_they_can_be_made(world: World, tmp_path: Path) -> None:
    number = world.put()
    world.sync_all()
    world.disk.refuses = ("create", ".eml", 2)  # type: ignore[attr-defined]
    world.effects.apply_next()
    assert world.effects.trouble is not None
    deliver(world, number)
    world.effects.apply_next()
    assert kept(world) == [] and not world.effects.retry_owed()
    assert world.effects.retry_owed()
    assert kept(world) == names(number)
    assert tree(tmp_path) == [] and world.effects.idle


def test_a_mark_for_what_is_not_kept_any_more_does_nothing(world: World) -> None:
    number = world.put()
    world.sync_all()
    deliver(world, number)
    world.apply_all()
    for name in names(number):
        world.disk.unlink(f"{SENT}/{name}")
    world.record(Mark(number, 2, event(2, "deferred", rcpt="0", reply="later"), DAY))
    world.settle()
    assert kept(world) == [] and world.effects.idle


def test_the_loop_adds_while_the_files_thread_asks_what_is_finished(world: World) -> None:
    """Two threads at the same tables: whoever looks at what waits is not disturbed by what comes."""
    numbers = iter(range(1 << 40, 1 << 41))
    added = threading.Event()

    def loop() -> None:
        for number in itertools.islice(numbers, 2000):
            line, body = message(number)
            ends: list[Operation] = [Append(number, 1, b"x"), Keep(number, DAY), Remove(number)]
            world.effects.add([Durable(5, [Put(number, line, body)], 0.0), Durable(6, ends, 0.0)])
        added.set()

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    thread = threading.Thread(target=loop)
    thread.start()
    try:
        while not added.is_set():
            assert world.effects.finished(4)
    finally:
        sys.setswitchinterval(before)
        thread.join()
    assert not world.effects.finished(5)
    world.apply_all()
    assert world.effects.finished(6) and len(kept(world)) == 4000


def test_a_put_that_is_kept_holds_the_checkpoint_until_its_files_are_there(world: World) -> None:
    first, second = world.put(), world.put()
    world.sync_all()
    generation = world.store.coverable + 1
    world.store.turn()
    deliver(world, first)
    deliver(world, second)
    for _ in range(3):
        assert not world.effects.finished(generation), "nothing of it is in a file yet"
        world.effects.apply_next()
    assert not world.effects.finished(generation), "one of the two is"
    world.effects.apply_next()
    assert world.effects.finished(generation)
