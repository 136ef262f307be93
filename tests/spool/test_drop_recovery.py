"""What a start makes of dropped files: those that a record or a message names go, all others stay (J12)."""

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from kmq.model import envelope, moment, queue_id
from kmq.spool.record import Put
from tests.spool.world import NOW, Dropped, World

BODY = b"Subject: dropped\r\n\r\n"


def lay(folder: Path, name: str, named: str) -> Dropped:
    (folder / name).write_bytes(BODY)
    status = (folder / name).stat()
    return Dropped(named, status.st_ino, status.st_mtime_ns)


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[Path]:
    """A folder on another file system than the spool's."""
    folder = Path(tempfile.mkdtemp(prefix="kmq-drop.", dir="/dev/shm"))
    assert folder.stat().st_dev != tmp_path.stat().st_dev, "the tests run in /dev/shm themselves: no other disk is here"
    yield folder
    shutil.rmtree(folder)


def test_a_file_outside_the_spool_goes_with_its_effect(tmp_path: Path, elsewhere: Path) -> None:
    world = World(tmp_path)
    dropped = lay(elsewhere, "a.tmp", f"{elsewhere}/a.tmp")
    assert world.effects.claim(dropped) and not world.effects.claim(dropped)
    world.put(BODY, dropped=dropped)
    world.settle()
    assert os.listdir(elsewhere) == []


def test_a_file_outside_the_spool_goes_with_the_next_start(tmp_path: Path, elsewhere: Path) -> None:
    world = World(tmp_path)
    taken = lay(elsewhere, "a.tmp", f"{elsewhere}/a.tmp")
    lay(elsewhere, "b.tmp", f"{elsewhere}/b.tmp")
    assert world.effects.claim(taken)
    number = world.put(BODY, dropped=taken)
    world.sync()  # and killed: the effect never came
    again = World(tmp_path)
    assert os.listdir(elsewhere) == ["b.tmp"]
    assert again.body(number) == BODY
    assert len(again.found()) == 1


def test_a_folder_that_is_gone_hinders_no_start(tmp_path: Path, elsewhere: Path) -> None:
    world = World(tmp_path)
    (elsewhere / "pickup").mkdir()
    taken = lay(elsewhere / "pickup", "a.tmp", f"{elsewhere}/pickup/a.tmp")
    number = world.put(BODY, dropped=taken)
    world.sync()
    shutil.rmtree(elsewhere / "pickup")
    assert World(tmp_path).body(number) == BODY


def drop_in(world: World, root: Path) -> tuple[int, Path]:
    """A dropped file's put, whose head names it as the pickup process makes it."""
    dropped = lay(root / "pickup", "a.tmp", "pickup/a.tmp")
    assert world.effects.claim(dropped)
    number = world.store.new_id(NOW)
    source = envelope.Source(how="pickup", file=dropped.name, inode=dropped.inode, mtime_ns=dropped.mtime_ns)
    to = [envelope.Recipient("b@example.org")]
    head = envelope.Head("", "", moment.as_text(NOW), "a@example.org", to, len(BODY), source)
    line = envelope.head_line(queue_id.text(number), hashlib.sha256(BODY).hexdigest(), envelope.head_tail(head))
    world.store.add([Put(number, line, BODY, os.urandom(16), dropped=dropped)], "ticket", 0.0, refusable=True)
    return number, root / "pickup/a.tmp"


class Killed(Exception):
    """The process is gone."""


@pytest.mark.parametrize("kind", ["journal", "files"])
def test_a_kill_between_queueing_and_unlinking_makes_no_second_message(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(tmp_path, kind=kind)
    number, file = drop_in(world, tmp_path)

    def killed(dropped: Dropped) -> None:
        raise Killed

    monkeypatch.setattr(world.effects.homes, "unlink_dropped", killed)
    with pytest.raises(Killed):
        world.settle()
    assert file.exists()
    again = World(tmp_path, kind=kind)
    assert not file.exists()
    assert list(again.found()) == [number]


def test_without_a_journal_a_file_that_came_later_stays(tmp_path: Path) -> None:
    world = World(tmp_path, kind="files")
    number, file = drop_in(world, tmp_path)
    world.settle()
    assert not file.exists()
    file.write_bytes(b"another")
    os.utime(file, ns=(1, 1))
    again = World(tmp_path, kind="files")
    assert file.read_bytes() == b"another" and list(again.found()) == [number]
