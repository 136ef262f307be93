"""The life of a message on disk, without any fault."""

from pathlib import Path

import pytest

from kmq.model import queue_id
from kmq.spool import checkpoint, journal, loading
from kmq.spool.record import Append, Remove
from tests.spool.world import World, event, tree

BOTH = pytest.mark.parametrize("kind", ["journal", "files"])


@BOTH
def test_a_put_is_two_files_named_by_its_id(tmp_path: Path, kind: str) -> None:
    world = World(tmp_path, kind=kind)
    number = world.put(b"Subject: two files\r\n\r\n")
    world.settle()
    name = queue_id.text(number)
    folder = f"queue/{queue_id.generation(number)}"
    assert tree(tmp_path) == [f"{folder}/{name}.eml", f"{folder}/{name}.env"]
    assert world.body(number) == b"Subject: two files\r\n\r\n"
    assert world.told == [("put", number)]


@BOTH
def test_events_are_lines_and_the_message_leaves_with_its_last_one(tmp_path: Path, kind: str) -> None:
    world = World(tmp_path, kind=kind)
    number = world.put()
    world.sync_all()
    world.append(number, 1, "deferred", rcpt="0", attempt=1, reply="451 4.3.0 later", until="2026-11-22T06:00:00.000Z")
    world.settle()
    found = world.found()[number]
    assert isinstance(found, loading.Loaded)
    assert (found.state.results, found.state.until, found.state.next_seq) == ([1], ["2026-11-22T06:00:00.000Z"], 2)
    world.record(Append(number, 2, event(2, "delivered", rcpt="0", attempt=2, reply="250 ok")), Remove(number))
    world.settle()
    assert tree(tmp_path) == []


def test_nothing_is_told_and_no_file_is_made_before_the_sync(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.put()
    world.apply_all()
    assert world.told == [] and tree(tmp_path) == []


def test_put_and_remove_that_wait_together_never_touch_a_file(tmp_path: Path) -> None:
    world = World(tmp_path)
    number = world.put()
    world.sync_all()
    world.remove(number)
    world.sync_all()
    world.apply_all()
    assert tree(tmp_path) == [] and not (tmp_path / "queue" / queue_id.generation(number)).exists()
    assert world.effects.idle


def test_a_remove_that_is_not_durable_cancels_nothing(tmp_path: Path) -> None:
    world = World(tmp_path)
    number = world.put()
    world.sync_all()
    world.remove(number)
    world.apply_all()
    assert len(tree(tmp_path)) == 2


@BOTH
def test_poison_and_back(tmp_path: Path, kind: str) -> None:
    world = World(tmp_path, kind=kind)
    number = world.put()
    world.sync_all()
    world.move(number, 1)
    world.settle()
    assert tree(tmp_path) == [f"poison/{queue_id.text(number)}.eml", f"poison/{queue_id.text(number)}.env"]
    world.append(number, 2, "deferred", rcpt="0", attempt=1, reply="451 x")
    world.settle()
    world.move(number, 3, "queue")
    world.settle()
    found = world.found()[number]
    assert isinstance(found, loading.Loaded)
    assert (found.state.home, found.state.next_seq, found.state.results) == ("queue", 4, [1])
    world.remove(number)
    world.settle()
    assert tree(tmp_path) == []


def test_checkpoint_recycles_segments_and_removes_empty_folders(tmp_path: Path) -> None:
    world = World(tmp_path)
    kept, gone = world.put(), world.put()
    world.settle()
    world.remove(gone)
    world.remove(kept)
    world.settle()
    before = {file for _, _, file in journal.segment_names(world.disk)}
    world.checkpoint()
    after = {file for _, _, file in journal.segment_names(world.disk)}
    assert not before & after
    assert len(journal.spares(world.disk)) >= 1
    assert not (tmp_path / "queue" / queue_id.generation(kept)).exists()
    assert checkpoint.read(world.disk) == (world.log.generation, world.store.last_id + 1, False)


def test_a_full_segment_ends_its_generation(tmp_path: Path) -> None:
    world = World(tmp_path)
    first = world.log.generation
    numbers = [world.put(b"x" * 60_000) for _ in range(40)]
    world.settle()
    assert world.log.generation > first + 1
    assert sorted(world.found()) == sorted(numbers)
    assert World(tmp_path).recovered.traced == set(numbers)


def test_ids_go_on_after_a_restart_even_when_the_clock_goes_back(tmp_path: Path) -> None:
    world = World(tmp_path)
    last = world.put()
    world.settle()
    world.checkpoint()
    world.remove(last)
    world.settle()
    world.checkpoint()
    again = World(tmp_path)
    assert again.store.new_id(0) > last


@BOTH
def test_a_restart_finds_everything(tmp_path: Path, kind: str) -> None:
    world = World(tmp_path, kind=kind)
    stays, poisoned, left = world.put(b"stays"), world.put(b"poisoned"), world.put(b"left")
    world.settle()
    world.move(poisoned, 1)
    world.remove(left)
    world.append(stays, 1, "deferred", rcpt="0", attempt=1, reply="451 x")
    world.settle()
    again = World(tmp_path)
    assert set(again.found()) == {stays} and set(again.found("poison")) == {poisoned}
    assert again.recovered.poison == {poisoned}
    assert again.recovered.repaired == 0
