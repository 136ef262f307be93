"""The store's two threads beside the loop: order, failed syncs, full disks, checkpoints and the end."""

import asyncio
import errno
import os
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from kmq.config import QueueSection
from kmq.run.storage import BROKEN, FAR_BEHIND, FULL, Storage
from kmq.spool import checkpoint, journal, layout
from kmq.spool.checkpoint import Note
from kmq.spool.disk import Disk
from kmq.spool.effects import Effects
from kmq.spool.record import Dropped, Put, Remove
from kmq.spool.recovery import Recovery
from kmq.spool.store import FileStore, JournalStore, Pending, Store
from tests.spool.world import NOW, SEGMENT, message, tree


class FaultyDisk(Disk):
    """Raises what a test asks for: operation name -> errors to raise, one per call."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.faults: dict[str, list[int]] = {}
        self.sync_seconds = 0.0
        self.free_to_create = threading.Event()
        self.free_to_create.set()

    def _maybe(self, what: str) -> None:
        if self.faults.get(what):
            number = self.faults[what].pop(0)
            raise OSError(number, os.strerror(number))

    def datasync(self, fd: int) -> None:
        self._maybe("datasync")
        time.sleep(self.sync_seconds)
        super().datasync(fd)

    def create(self, name: str) -> int:
        if name.startswith("queue/"):
            self.free_to_create.wait(20)
            self._maybe("create")
        return super().create(name)

    def sync_all(self) -> None:
        self._maybe("sync_all")
        super().sync_all()


class Desk:
    """A storage and what it said."""

    def __init__(self, root: Path, kind: str = "journal", **options: object) -> None:
        self.disk = FaultyDisk(root)
        layout.prepare(self.disk)
        note = Note(str(root / "run" / "syncfs"))
        recovered, log = Recovery(self.disk, note, SEGMENT).recover()
        effects = Effects(self.disk)
        last = recovered.last_id
        store: Store = JournalStore(self.disk, log, effects, note, last_id=last)
        if kind == "files":
            store = FileStore(self.disk, effects, note, last_id=last)
        self.durable: list[object] = []
        self.refused: list[object] = []
        self.fatal: list[str] = []
        self.changed = asyncio.Event()
        options = {"effects_delay": 0.0, "minimum_free": 0, "minimum_free_inodes": 0, **options}
        settings = QueueSection(**options)  # type: ignore[arg-type]
        self.storage = Storage(store, settings, self._durable, self._refused, self._fatal)

    def _durable(self, batch: list[Pending]) -> None:
        self.durable += [one.ticket for one in batch]
        self.changed.set()

    def _refused(self, batch: list[Pending]) -> None:
        self.refused += [one.ticket for one in batch]
        self.changed.set()

    def _fatal(self, why: str) -> None:
        self.fatal.append(why)
        self.changed.set()

    def put(self, refusable: bool = True, dropped: Dropped | None = None) -> int:
        number = self.storage.store.new_id(NOW)
        line, body = message(number)
        self.storage.add([Put(number, line, body, dropped=dropped)], number, refusable)
        return number

    async def until(self, reached: Callable[[], bool]) -> None:
        async with asyncio.timeout(20):
            while not reached():
                self.changed.clear()
                try:
                    await asyncio.wait_for(self.changed.wait(), 0.02)
                except TimeoutError:
                    continue


BOTH = pytest.mark.parametrize("kind", ["journal", "files"])


@BOTH
def test_records_become_durable_in_their_order_and_then_files(tmp_path: Path, kind: str) -> None:
    async def story() -> None:
        desk = Desk(tmp_path, kind)
        numbers = [desk.put() for _ in range(100)]
        await desk.until(lambda: len(desk.durable) == 100)
        assert desk.durable == numbers
        await desk.until(lambda: len(tree(tmp_path)) == 200)
        await desk.storage.stop()

    asyncio.run(story())


def test_on_a_slow_disk_results_wait_for_the_mail_that_is_coming_and_share_its_sync(tmp_path: Path) -> None:
    async def story() -> None:
        desk = Desk(tmp_path)
        desk.disk.sync_seconds = 0.5
        first = [desk.put(), desk.put()]
        await desk.until(lambda: len(desk.durable) == 2)
        assert desk.storage.syncs == 1
        desk.storage.add([Remove(first[0])], "gone")
        second = [desk.put()]
        await asyncio.sleep(0)
        assert not desk.storage.store.in_flight, "the other one is still missing"
        second.append(desk.put())
        await desk.until(lambda: len(desk.durable) == 5)
        assert (desk.durable, desk.storage.syncs) == ([*first, "gone", *second], 2)
        desk.storage.add([Remove(first[1])], "gone too")
        await desk.until(lambda: len(desk.durable) == 6)  # nobody comes any more
        desk.disk.sync_seconds = 0
        await desk.storage.stop()

    asyncio.run(story())


def test_what_is_to_be_done_meanwhile_begins_with_the_next_sync_and_once(tmp_path: Path) -> None:
    async def story() -> None:
        desk = Desk(tmp_path, queue_database_batch_timeout=1.0)
        done: list[bool] = []
        desk.storage.meanwhile(lambda: done.append(desk.storage.store.in_flight))
        await asyncio.sleep(0)
        assert done == [], "no sync is under way"
        desk.put()
        await desk.until(lambda: len(desk.durable) == 1)
        assert done == [True]
        desk.put()
        await desk.until(lambda: len(desk.durable) == 2)
        assert done == [True]
        await desk.storage.stop()

    asyncio.run(story())


def test_what_is_to_be_done_meanwhile_is_done_without_a_sync_too(tmp_path: Path) -> None:
    async def story() -> None:
        desk = Desk(tmp_path, queue_database_batch_timeout=0.001)
        done: list[int] = []
        desk.storage.meanwhile(lambda: done.append(desk.storage.syncs))
        await desk.until(lambda: bool(done))
        assert done == [0]
        await desk.storage.stop()

    asyncio.run(story())


def test_what_is_to_be_done_meanwhile_does_not_wait_while_a_sync_is_under_way(tmp_path: Path) -> None:
    async def story() -> None:
        desk = Desk(tmp_path, queue_database_batch_timeout=1.0)
        desk.disk.sync_seconds = 0.2
        desk.put()
        await desk.until(lambda: desk.storage.store.in_flight)
        done: list[bool] = []
        desk.storage.meanwhile(lambda: done.append(desk.storage.store.in_flight))
        await asyncio.sleep(0)
        assert done == [True]
        await desk.until(lambda: len(desk.durable) == 1)
        await desk.storage.stop()

    asyncio.run(story())


def test_the_end_leaves_every_effect_made_and_a_checkpoint(tmp_path: Path) -> None:
    async def story() -> None:
        desk = Desk(tmp_path, effects_delay=1.0)
        stays, goes = desk.put(), desk.put()
        await desk.until(lambda: len(desk.durable) == 2)
        desk.storage.add([Remove(goes)], "gone")
        await desk.storage.stop()
        assert desk.durable == [stays, goes, "gone"]
        assert len(tree(tmp_path)) == 2
        found = checkpoint.read(desk.disk)
        assert found is not None
        segments = journal.read(desk.disk)
        assert all(not one.records for one in segments if one.generation >= found.generation)

    asyncio.run(story())


def test_the_journal_waits_for_a_disk_that_falls_behind(tmp_path: Path) -> None:
    """What is durable and has no files yet is in memory: a slow disk slows the mail, and memory stays bounded."""

    async def story() -> None:
        desk = Desk(tmp_path)
        desk.disk.free_to_create.clear()
        effects = desk.storage.store.effects
        while effects.behind <= FAR_BEHIND:
            number = [desk.put() for _ in range(500)][-1]
            await desk.until(partial(lambda last: last in desk.durable or effects.behind > FAR_BEHIND, number))
        late = desk.put()
        synced = desk.storage.syncs
        await asyncio.sleep(0.2)
        assert (late in desk.durable, desk.storage.syncs) == (False, synced)
        desk.disk.free_to_create.set()
        await desk.until(lambda: late in desk.durable)
        await desk.storage.stop()

    asyncio.run(story())


def test_a_failed_sync_refuses_puts_and_writes_results_again(tmp_path: Path) -> None:
    async def story() -> None:
        desk = Desk(tmp_path)
        known = desk.put()
        await desk.until(lambda: desk.durable == [known])
        desk.disk.faults["datasync"] = [errno.EIO]
        refused = desk.put()
        desk.storage.add([Remove(known)], "result")
        await desk.until(lambda: "result" in desk.durable)
        assert (desk.refused, desk.durable) == ([refused], [known, "result"])
        after = desk.put()
        await desk.until(lambda: after in desk.durable)
        await desk.storage.stop()
        assert [name for name in tree(tmp_path) if name.endswith(".env")] == [layout.envelope(after)]

    asyncio.run(story())


def test_nothing_comes_in_while_no_segment_can_be_begun(tmp_path: Path) -> None:
    async def story() -> None:
        desk = Desk(tmp_path)
        desk.disk.faults["datasync"] = [errno.EIO] * 4  # the batch, and three new segments
        refused = desk.put()
        await desk.until(lambda: desk.storage.refusal == BROKEN)
        assert desk.refused == []  # a put is refused only when the journal says so durably
        await desk.until(lambda: desk.refused == [refused])
        later = desk.put()
        await desk.until(lambda: desk.durable == [later])
        assert desk.storage.refusal is None
        await desk.storage.stop()

    asyncio.run(story())


def test_a_disk_that_fails_again_and_again_gets_no_new_mail_for_a_minute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Row 7: three failed syncs."""

    async def story() -> None:
        desk = Desk(tmp_path)
        for failures in range(1, 4):
            desk.disk.faults["datasync"] = [errno.EIO]
            desk.put()
            await desk.until(lambda wanted=failures: len(desk.refused) == wanted)
            assert (desk.storage.refusal == BROKEN) == (failures == 3)
        assert not desk.storage.broken, "what is queued goes on"
        monkeypatch.setattr("kmq.run.storage._SICKNESS", 0.0)  # it is long ago
        assert desk.storage.refusal is None
        await desk.storage.stop()

    asyncio.run(story())


def test_an_owed_effect_closes_the_door_until_it_is_made(tmp_path: Path) -> None:
    async def story() -> None:
        desk = Desk(tmp_path)
        desk.disk.faults["create"] = [errno.ENOSPC] * 3  # two at once, then one a second later
        number = desk.put()
        await desk.until(lambda: desk.storage.refusal == FULL)
        assert desk.durable == [number]  # acknowledged: the journal has it
        await desk.until(lambda: desk.storage.refusal is None)
        assert len(tree(tmp_path)) == 2
        await desk.storage.stop()

    asyncio.run(story())


def test_a_dropped_file_elsewhere_that_cannot_be_unlinked_stops_no_mail(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever owns a folder outside the spool may close it to us; the unlinking is owed until he opens it (J12)."""
    file = tmp_path / "elsewhere" / "letter.tmp"
    file.parent.mkdir()
    file.write_bytes(b"x")
    (tmp_path / "spool").mkdir()

    async def story() -> None:
        desk = Desk(tmp_path / "spool")
        closed = True
        unlink = desk.disk.unlink

        def refuse(name: str) -> None:
            if closed and name == str(file):
                raise PermissionError(errno.EACCES, "Permission denied", name)
            unlink(name)

        monkeypatch.setattr(desk.disk, "unlink", refuse)
        found = file.stat()
        dropped = Dropped(str(file), found.st_ino, found.st_mtime_ns)
        assert desk.storage.store.effects.claim(dropped)
        desk.put(dropped=dropped)
        await desk.until(lambda: desk.storage.store.effects.stuck is not None)
        assert desk.storage.refusal is None
        assert not desk.storage.store.effects.claim(dropped), "it is no second message"
        desk.put()
        await desk.until(lambda: len(tree(tmp_path / "spool")) == 4)
        closed = False
        await desk.until(lambda: not file.exists())
        await desk.until(lambda: desk.storage.store.effects.stuck is None)
        await desk.storage.stop()

    asyncio.run(story())


def test_a_failed_syncfs_ends_the_process(tmp_path: Path) -> None:
    async def story() -> None:
        desk = Desk(tmp_path, checkpoint_interval=0.1)
        desk.disk.faults["sync_all"] = [errno.EIO]
        desk.put()
        await desk.until(lambda: bool(desk.fatal))
        assert "syncfs" in desk.fatal[0]
        assert desk.storage.store.note.found()

    asyncio.run(story())


def test_little_room_on_the_disk_closes_the_door(tmp_path: Path) -> None:
    async def story() -> None:
        desk = Desk(tmp_path, minimum_free=1 << 60)
        assert desk.storage.refusal == FULL
        await desk.storage.stop()

    asyncio.run(story())
