"""What the effects and a start do for archived mail, step by step: names, envelopes, and what the disk refuses."""

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from kmq.spool import layout
from kmq.spool.disk import Disk
from kmq.spool.record import Append, Archive, Keep, Operation, Put, Remove
from tests.spool.world import NOW, World, event, message, tree

PLACE = "backup/2026-11-22"
SENT = "2026-11-22"


class Tight(Disk):
    """Refuses operations of a kind ("" for any) on names with this in them, as often as it is told; counts syncs of all
    and knows which files of messages were created."""

    refuses = ("", "", 0, 0)
    syncs = 0
    created: tuple[str, ...] = ()

    def _refuse(self, kind: str, name: str) -> None:
        wanted, part, number, times = self.refuses
        if wanted in ("", kind) and part in name and times:
            self.refuses = (wanted, part, number, times - 1)
            raise OSError(number, os.strerror(number), name)

    def create(self, name: str) -> int:
        self._refuse("create", name)
        fd = super().create(name)
        self.created += (name,) if name.startswith(("queue", "backup", "sent")) else ()
        return fd

    def link(self, old: str, new: str) -> None:
        self._refuse("link", new)
        super().link(old, new)

    def sync_all(self) -> None:
        self.syncs += 1
        super().sync_all()


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path, disk=Tight(tmp_path))


def refuse(world: World, kind: str, part: str, number: int, times: int = 1) -> None:
    world.disk.refuses = (kind, part, number, times)  # type: ignore[attr-defined]


def syncs(world: World) -> int:
    return world.disk.syncs  # type: ignore[attr-defined, no-any-return]


def created(world: World) -> tuple[str, ...]:
    return world.disk.created  # type: ignore[attr-defined, no-any-return]


def archive(world: World, number: int, *more: Operation) -> bytes:
    """The phase has passed; -> its line."""
    line = event(1, "passed", phase="Backup", archive=PLACE)
    world.record(Append(number, 1, line), Archive(number, 1, PLACE), *more)
    world.sync_all()
    return line


def put_large(world: World) -> int:
    """Its body lies in incoming/."""
    number = world.store.new_id(NOW)
    line, text = message(number, b"Subject: large\r\n\r\n")
    fd = world.disk.create("incoming/1-1-1-1")
    world.disk.write(fd, text)
    world.disk.close_file(fd)
    world.store.add([Put(number, line, None, incoming="1-1-1-1")], None, 0.0)
    return number


def inode(world: World, name: str) -> int:
    found = world.disk.status(name)
    assert found is not None
    return found.st_ino


def lies(world: World, number: int, line: bytes, text: bytes = b"Subject: x\r\n\r\nhello\r\n") -> None:
    """It is archived, with the lines that it had then."""
    assert world.disk.read(layout.body(number, PLACE)) == text
    assert world.disk.read(layout.envelope(number, PLACE)).split(b"\n")[1:] == [line]
    assert len(world.disk.names(PLACE)) == 2, "nothing half made is left"


def test_the_body_has_one_more_name_and_the_envelope_stays_as_it_was_then(world: World) -> None:
    number = world.put()
    world.settle()
    line = archive(world, number)
    world.append(number, 2, "deferred", rcpt="0", attempt=1, reply="451 later")
    world.settle()
    lies(world, number, line)
    assert inode(world, layout.body(number, PLACE)) == inode(world, layout.body(number))
    assert len(world.disk.read(layout.envelope(number)).split(b"\n")) == 3


@pytest.mark.parametrize("before", [World.sync_all, World.settle], ids=["at once", "after it waited"])
def test_mail_that_leaves_is_archived_and_kept_in_one_go(
    before: Callable[[World], None], world: World, tmp_path: Path
) -> None:
    """The net's envelope goes on where that of the archive ends."""
    number = world.put()
    before(world)
    delivered = event(2, "delivered", rcpt="0", attempt=1, reply="250 ok")
    line = archive(world, number, Append(number, 2, delivered), Keep(number, SENT), Remove(number))
    world.apply_all()
    lies(world, number, line)
    kept = layout.kept_on(SENT)
    assert inode(world, layout.body(number, PLACE)) == inode(world, layout.body(number, kept))
    assert world.disk.read(layout.envelope(number, kept)).split(b"\n")[1:] == [line, delivered]
    assert tree(tmp_path) == [] and world.effects.idle


def test_of_mail_that_leaves_at_once_nothing_is_made_in_the_queue(world: World) -> None:
    number = world.put()
    world.sync_all()
    line = archive(world, number, Append(number, 2, event(2, "delivered", rcpt="0", attempt=1)), Remove(number))
    world.apply_all()
    lies(world, number, line)
    assert created(world) == (layout.body(number, PLACE), layout.envelope(number, PLACE))
    world.checkpoint()
    assert World(Path(world.disk.root)).recovered.last_id >= number
    lies(world, number, line)


def test_a_large_body_that_leaves_at_once_is_one_more_name_of_what_came_in(world: World, tmp_path: Path) -> None:
    number = put_large(world)
    world.sync_all()
    came = inode(world, "incoming/1-1-1-1")
    line = archive(world, number, Remove(number))
    world.apply_all()
    lies(world, number, line, b"Subject: large\r\n\r\n")
    assert inode(world, layout.body(number, PLACE)) == came
    world.checkpoint()
    assert world.disk.names("incoming") == [] and tree(tmp_path) == []


def test_no_checkpoint_covers_a_put_whose_archive_has_not_had_its_turn(world: World, tmp_path: Path) -> None:
    number = world.put()
    world.sync_all()
    generation = world.store.log.generation
    line = archive(world, number, Remove(number))
    world.effects.apply_next()
    assert tree(tmp_path) == [] and not world.effects.finished(generation), "the put alone has had its turn"
    world.effects.apply_next()
    assert world.effects.finished(generation)
    lies(world, number, line)


@pytest.mark.parametrize("part", [".eml", ".env"])
def test_what_leaves_at_once_on_a_full_disk_is_owed(world: World, tmp_path: Path, part: str) -> None:
    number = world.put()
    world.sync_all()
    refuse(world, "create", part, errno.ENOSPC, 2)
    line = archive(world, number, Remove(number))
    world.apply_all()
    assert world.effects.trouble is not None and not world.effects.idle
    assert world.effects.retry_owed()
    lies(world, number, line)
    assert tree(tmp_path) == [] and world.effects.idle and world.effects.trouble is None


def test_what_leaves_at_once_is_durable_where_no_sync_of_the_spool_reaches(world: World, tmp_path: Path) -> None:
    number = world.put()
    world.sync_all()
    world.disk.make_folder(PLACE)
    world.disk.device += 1  # as if something were mounted there
    line = archive(world, number, Remove(number))
    world.apply_all()
    lies(world, number, line)
    assert all(name.endswith(".new") for name in created(world)), "synced, then named"
    assert tree(tmp_path) == [] and world.effects.idle


def test_mail_whose_files_are_there_leaves_its_envelope_to_the_archive(world: World, tmp_path: Path) -> None:
    number = world.put()
    world.settle()
    names = [
        (layout.envelope(number), layout.envelope(number, PLACE)),
        (layout.body(number), layout.body(number, PLACE)),
    ]
    were = [inode(world, name) for name, _ in names]
    line = archive(world, number, Append(number, 2, event(2, "delivered", rcpt="0", attempt=1)), Remove(number))
    world.apply_all()
    lies(world, number, line)
    assert [inode(world, name(number, PLACE)) for name in (layout.envelope, layout.body)] == were
    assert tree(tmp_path) == [] and world.effects.idle


def test_many_that_leave_share_one_sync_and_none_is_needed_after_a_checkpoint(world: World, tmp_path: Path) -> None:
    numbers = [world.put() for _ in range(5)]
    world.settle()
    for number in numbers:
        archive(world, number)
        world.remove(number)
    world.sync_all()
    before = syncs(world)
    while world.effects.next_at() is not None:
        world.effects.apply_next()
    assert (syncs(world) - before, tree(tmp_path)) == (1, [])
    number = world.put()
    world.settle()
    archive(world, number)
    world.settle()
    world.checkpoint()
    before = syncs(world)
    world.remove(number)
    world.settle()
    assert (syncs(world), tree(tmp_path)) == (before, [])


@pytest.mark.parametrize(("kind", "part"), [("link", ".eml"), ("", ".env")])
def test_on_a_full_disk_it_is_owed_and_the_message_stays_until_it_is_done(
    world: World, tmp_path: Path, kind: str, part: str
) -> None:
    number, other = world.put(), world.put()
    world.settle()
    refuse(world, kind, f"{PLACE}/{layout.stem(number, PLACE).rpartition('/')[2]}{part}", errno.ENOSPC, 2)
    line = archive(world, number, Remove(number))
    world.remove(other)
    world.settle()
    assert world.effects.trouble is not None and len(tree(tmp_path)) == 2, "others leave"
    assert world.effects.retry_owed()
    lies(world, number, line)
    assert tree(tmp_path) == [] and world.effects.idle and world.effects.trouble is None


@pytest.mark.parametrize("number", [errno.EXDEV, errno.EMLINK], ids=["mounted", "too-many-names"])
def test_where_no_name_can_be_had_it_is_copied_durably(world: World, tmp_path: Path, number: int) -> None:
    one = world.put()
    world.settle()
    refuse(world, "link", PLACE, number, 2)
    line = archive(world, one, Remove(one))
    world.apply_all()
    lies(world, one, line)
    assert tree(tmp_path) == [] and world.effects.idle


def test_a_copy_that_failed_half_way_is_made_anew(world: World) -> None:
    one = world.put()
    world.settle()
    refuse(world, "link", PLACE, errno.EXDEV, 9)
    line = archive(world, one)
    world.disk.make_folder(PLACE)
    for ending in (".eml.new", ".env.new", ".eml"):
        world.disk.close_file(world.disk.create(layout.stem(one, PLACE) + ending))
    world.apply_all()
    lies(world, one, line)


def test_what_somebody_took_away_by_hand_stops_nothing(world: World) -> None:
    number, other = world.put(), world.put()
    world.settle()
    world.disk.unlink(layout.body(number))
    archive(world, number, Remove(number))
    line = archive(world, other)
    world.apply_all()
    assert world.effects.trouble is None and world.effects.idle
    lies(world, other, line)


@pytest.mark.parametrize("lost", ["nothing", "folder", "envelope", "body"])
@pytest.mark.parametrize("removed", [False, True])
def test_a_start_makes_what_the_journal_says(world: World, tmp_path: Path, lost: str, removed: bool) -> None:
    number = world.put()
    world.sync_all()
    line = archive(world, number, *([Remove(number)] if removed else []))
    world.apply_all()
    names = {"envelope": [layout.envelope(number, PLACE)], "body": [layout.body(number, PLACE)]}
    for name in names.get(lost, [*names["envelope"], *names["body"]] if lost == "folder" else []):
        world.disk.unlink(name)
    if lost == "folder":
        world.disk.remove_folder(PLACE)
    again = World(tmp_path)
    lies(again, number, line)
    assert len(tree(tmp_path)) == (0 if removed else 2)
    if not removed:
        assert inode(again, layout.body(number, PLACE)) == inode(again, layout.body(number))


def test_a_start_copies_where_no_name_can_be_had(world: World, tmp_path: Path) -> None:
    number = world.put()
    world.settle()
    world.checkpoint()
    line = archive(world, number)
    disk = Tight(tmp_path)
    disk.refuses = ("link", PLACE, errno.EXDEV, 2)
    again = World(tmp_path, disk=disk)
    lies(again, number, line)


def test_what_was_compressed_meanwhile_is_not_missed_by_a_start(world: World, tmp_path: Path) -> None:
    number = world.put()
    world.settle()
    world.checkpoint()
    archive(world, number)
    world.remove(number)
    world.settle()
    for name in (layout.envelope(number, PLACE), layout.body(number, PLACE)):
        world.disk.unlink(name)
    again = World(tmp_path)
    assert again.disk.names(PLACE) == [] and again.recovered.damaged == {} and tree(tmp_path) == []


def test_an_id_of_what_is_archived_is_not_issued_again_when_the_checkpoint_is_lost(
    world: World, tmp_path: Path
) -> None:
    number = world.put()
    world.settle()
    archive(world, number, Remove(number))
    world.apply_all()
    world.checkpoint()
    for name in world.disk.names("journal"):
        world.disk.unlink(f"journal/{name}")
    assert World(tmp_path).recovered.last_id >= number
