"""A disk that is full or fails at any single operation, while the spool is at work.

What fails is owed and done later; what follows of the same message waits, all others go on. A batch that was not synced
is not told, its puts are refused, its results are written again.
"""

import errno
import os
import resource
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from kmq.errors import StorageFailed
from kmq.model.envelope import fold, lines_of, read_event
from kmq.model.event import Deferred
from kmq.spool import checkpoint, journal, layout, loading
from kmq.spool.disk import Disk
from tests.spool.explore import empty_spool
from tests.spool.ghost import Fault, GhostDisk, Kernel
from tests.spool.ledger import Ledger
from tests.spool.life import SEGMENT, Life
from tests.spool.stories import Failing
from tests.spool.world import World


def a_life(kind: str = "journal") -> Life:
    return Life(empty_spool(), Ledger(atomic=kind == "journal"), kind)


def operations(life: Life, work: Callable[[], object]) -> list[str]:
    """The kinds of changes that `work` makes to the disk."""
    seen: list[str] = []
    life.disk.watch = lambda kind, name: seen.append(kind)
    work()
    life.disk.watch = None
    return seen


#: What a full disk cannot do; it can unlink and sync.
NEEDS_ROOM = frozenset({"create", "write", "append", "link", "make_folder", "rename", "write_at"})


class Nth:
    """The n-th change from now on fails, whatever it is, half done if it can be; then the disk is full until `over`."""

    def __init__(self, n: int, half: bool = False, number: int = errno.ENOSPC) -> None:
        self.n, self.over, self.half, self.number = n, False, half, number
        self.struck = ""

    def __call__(self, kind: str, name: str) -> Fault | None:
        self.n -= 1
        if self.over or self.n >= 0 or (self.struck and kind not in NEEDS_ROOM):
            return None
        self.struck = self.struck or kind
        return Fault(self.number, self.half)


# --- effects that are owed (J13) -------------------------------------------------------------------------------------


def put(life: Life) -> int:
    return life.put(b"Subject: fresh\r\n\r\n")


def deferred(life: Life) -> int:
    number = put(life)
    life.settle()
    life.defer(number)
    return number


def poisoned(life: Life) -> int:
    number = put(life)
    life.settle()
    life.move(number)
    return number


def back_again(life: Life) -> int:
    number = poisoned(life)
    life.settle()
    life.move(number, "queue")
    return number


def removed(life: Life) -> int:
    number = put(life)
    life.settle()
    life.remove(number)
    return number


def large(life: Life) -> int:
    return life.put_large("1-1-1-1")


VERBS = (put, deferred, poisoned, back_again, removed, large)
SYNCS = ("sync_folder", "sync_all", "sync", "datasync")


@pytest.mark.parametrize("half", [False, True], ids=["before", "half-done"])
@pytest.mark.parametrize("verb", VERBS, ids=lambda verb: verb.__name__)
def test_a_full_disk_at_any_change_of_an_effect(verb: Callable[[Life], int], half: bool) -> None:
    for n in range(100):
        life = a_life()
        other = life.put(b"Subject: other\r\n\r\n")
        life.settle()
        number = verb(life)
        life.sync_all()
        full = Nth(n, half)
        life.disk.fault = lambda kind, name, full=full: None if kind in SYNCS else full(kind, name)
        life.effects.apply_next()
        if not full.struck:
            break
        assert list(life.effects.owed) == [number] and life.effects.trouble is not None
        life.disk.fault = None
        owed_then_others(life, number, other, gone=verb is removed)
    assert n, "no change of an effect was failed"


def owed_then_others(life: Life, number: int, other: int, gone: bool) -> None:
    """While a message's effect is owed its next one waits, another message's does not; then all is as it should be."""
    if not gone:
        life.defer(number)
    life.defer(other)
    life.sync_all()
    while life.effects.apply_next():
        pass
    assert len(events(life, other)) == 1
    assert life.due is None, "a checkpoint would cover what is owed"
    assert life.effects.retry_owed() and life.effects.trouble is None and life.effects.waiting_bytes == 0
    life.turn()
    life.checkpoint()
    assert life.ledger.judge(life.disk) == []


def events(life: Life, number: int) -> list[object]:
    folded = fold(life.disk.read(layout.envelope(number, life.home[number])))
    assert folded is not None
    return list(folded[2])


@pytest.mark.parametrize("verb", [poisoned, back_again], ids=lambda verb: verb.__name__)
def test_a_sync_that_fails_in_a_change_of_home_ends_the_process(verb: Callable[[Life], int]) -> None:
    life = a_life()
    verb(life)
    life.sync_all()
    life.disk.fault = Failing("sync_folder")
    with pytest.raises(StorageFailed):
        life.effects.apply_next()
    assert life.kernel.noted, "the next start must write everything anew"


def test_what_can_never_be_done_keeps_nothing_else_waiting() -> None:
    """One file cannot be unlinked (immutable, say); what was owed for want of room is done all the same."""
    life = a_life()
    stuck, *rest = (life.put() for _ in range(4))
    life.settle()
    life.remove(stuck)
    for number in rest:
        life.defer(number)
    life.sync_all()

    def faults(kind: str, name: str) -> Fault | None:
        return Fault(errno.EPERM) if kind == "unlink" and stuck_name in name else Fault() if full else None

    full, stuck_name = True, layout.envelope(stuck)
    life.disk.fault = faults
    while life.effects.apply_next():
        pass
    full = False
    assert not life.effects.retry_owed()
    assert list(life.effects.owed) == [stuck] and life.effects.trouble is not None
    assert all(len(events(life, number)) == 1 for number in rest)


def test_a_torn_line_is_followed_by_the_whole_one() -> None:
    life = a_life()
    number = deferred(life)
    life.sync_all()
    life.disk.fault = Failing("append", errno.ENOSPC, half=True)
    life.apply_all()
    text = life.disk.read(layout.envelope(number))
    good = [event for line in lines_of(text) if (event := read_event(line))]
    assert len(lines_of(text)) == 3 and len(good) == 1 and isinstance(good[0], Deferred)


def test_bodies_that_wait_are_counted_to_the_byte() -> None:
    life = a_life()
    for size in (100, 3000, 70):
        life.put(b"x" * size)
    life.sync_all()
    assert life.effects.waiting_bytes == 3170
    life.disk.fault = Failing("write", errno.ENOSPC)
    life.apply(3)
    assert life.effects.waiting_bytes == 100
    life.apply_all()
    assert life.effects.waiting_bytes == 0 and life.effects.idle


def test_a_message_is_unmade_until_both_its_files_are_there() -> None:
    life = a_life()
    number = life.put()
    assert life.effects.unmade(number), "an assignment may come as soon as the put is durable"
    life.sync()
    while_made: list[bool] = []
    life.disk.watch = lambda kind, name: while_made.append(life.effects.unmade(number))
    life.apply()
    assert while_made and all(while_made) and not life.effects.unmade(number)


@pytest.mark.parametrize("kind", ["journal", "files"])
def test_nothing_is_remembered_of_puts_that_are_over(kind: str) -> None:
    life = a_life(kind)
    refused = life.put()
    life.disk.fault = Failing("write_at" if kind == "journal" else "create")
    life.sync()
    made, cancelled = life.put(), life.put()
    life.sync()
    life.remove(cancelled)
    life.settle()
    assert [life.effects.unmade(number) for number in (refused, made, cancelled)] == [False] * 3


def test_a_record_larger_than_a_segment_makes_it_longer() -> None:
    life = a_life()
    small, large = life.put(), life.put(b"x" * 3 * SEGMENT)
    life.sync()
    life.defer(small)
    life.sync()
    again = Life(life.kernel.copy(), life.ledger)
    assert life.ledger.judge(again.disk, again.recovered) == [] and again.durable == {small, large}


# --- batches that are not synced (J8) --------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "half"), [("write_at", False), ("write_at", True), ("datasync", False)])
@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC])
def test_a_batch_that_fails_refuses_puts_and_writes_results_again(kind: str, half: bool, number: int) -> None:
    life = a_life()
    first, second = life.put(), life.put()
    life.settle()
    refused, touched = life.put(), life.log._fd
    life.defer(first)
    told = life.fail(second)  # a notice is no put that anybody could be refused
    life.defer(first)
    segment = life.disk._open[touched].name
    life.disk.fault = Failing(kind, number, half=half)
    assert not life.sync() and life.refused == [refused]
    assert not any(one.told for one in life.ledger.records[2:]), "told though nothing was durable"
    writes: list[str] = []
    life.disk.watch = lambda kind, name: writes.append(name)
    life.settle()
    assert segment not in writes, "the failed segment was touched again"
    assert [event.seq for event in events(life, first)] == [1, 2]  # type: ignore[attr-defined]
    assert isinstance(loading.one(life.disk, told), loading.Loaded)
    assert loading.one(life.disk, refused) is None
    assert life.ledger.judge(life.disk) == []


def test_until_a_segment_can_be_begun_nothing_is_told() -> None:
    life = a_life()
    number = life.put()
    life.settle()
    life.defer(number)
    batch = life.take()
    assert batch
    broken = Nth(0, number=errno.EIO)
    life.disk.fault = broken
    with pytest.raises(OSError):
        life.store.sync(batch)
    for _ in range(5):
        with pytest.raises(OSError):
            life.store.abandon()
    broken.over = True
    life.store.abandon()
    assert life.store.refuse(batch) == []
    life.settle()
    assert len(events(life, number)) == 1 and life.ledger.judge(life.disk) == []


def test_a_generation_that_cannot_be_ended_is_ended_later() -> None:
    for kind in ("rename", "sync_folder", "write_at", "datasync"):
        life = a_life()
        number = life.put()
        life.settle()
        life.disk.fault = Failing(kind)
        life.turn()
        life.defer(number)
        life.settle()
        life.turn()
        life.checkpoint()
        assert life.due is None and life.ledger.judge(life.disk) == []


def test_segments_last_while_the_disk_is_full() -> None:
    """Two in reserve and one prepared: results are written on, without room for one byte more (J13)."""
    life = a_life()
    number = life.put()
    life.settle()
    life.prepare()
    life.disk.fault = lambda kind, name: Fault() if kind in ("create", "write", "link", "append") else None
    before = life.log.generation
    for _ in range(1 + journal.RESERVE):
        life.turn()
        life.defer(number)
        life.sync_all()
    assert life.log.generation == before + 1 + journal.RESERVE
    assert all(one.told for one in life.ledger.records)
    with pytest.raises(OSError):
        life.log.turn()
    life.disk.fault = None
    life.begin_anew()
    life.settle()
    life.prepare()
    life.turn()
    life.checkpoint()
    assert len(events(life, number)) == 3 and life.ledger.judge(life.disk) == []


@pytest.mark.parametrize("kind", ["create", "write", "sync", "rename", "sync_folder", "unlink"])
def test_a_checkpoint_that_fails_is_made_later(kind: str) -> None:
    life = a_life()
    number = life.put_large()
    life.settle()
    life.remove(life.put())
    life.settle()
    life.turn()
    known = checkpoint.read(life.disk)
    life.disk.fault = Failing(kind, errno.ENOSPC)
    life.checkpoint()
    if kind in ("create", "write", "sync"):
        assert checkpoint.read(life.disk) == known
    life.turn()
    life.defer(number)
    life.settle()
    life.turn()
    life.checkpoint()
    assert life.due is None and life.disk.names("incoming") == []
    again = Life(life.kernel.copy(), life.ledger)
    assert life.ledger.judge(again.disk, again.recovered) == []


def test_the_store_without_a_journal_takes_back_what_it_cannot_finish() -> None:
    life = a_life("files")
    first = life.put()
    life.settle()
    count = len(operations(life, lambda: (life.put(), life.defer(first), life.sync_all())))
    for n in range(count):
        life = a_life("files")
        first = life.put()
        life.settle()
        refused = life.put()
        life.defer(first)
        full = life.disk.fault = Nth(n)
        try:
            synced = life.sync()
        except StorageFailed:
            assert full.struck == "sync_all"
            continue
        full.over = True
        life.settle()
        assert synced or life.refused == [refused], full.struck
        assert len(events(life, first)) == 1
        if not synced:
            assert life.ledger.judge(life.disk) == [], full.struck


# --- the kernel's own ways -------------------------------------------------------------------------------------------


def test_short_writes_go_on_where_they_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = Disk(tmp_path)
    write, pwritev = os.write, os.pwritev
    monkeypatch.setattr(os, "write", lambda fd, text: write(fd, text[: max(1, len(text) // 3)]))

    def a_third(fd: int, parts: list[bytes], at: int) -> int:
        text = b"".join(parts)
        return pwritev(fd, [text[: max(1, len(text) // 3)]], at)

    monkeypatch.setattr(os, "pwritev", a_third)
    fd = disk.create("a")
    disk.write(fd, b"0123456789" * 50)
    disk.write_at(fd, [b"x" * 30, b"", memoryview(b"y" * 60), b"z" * 10], 200)
    disk.close_file(fd)
    assert disk.read("a") == b"0123456789" * 20 + b"x" * 30 + b"y" * 60 + b"z" * 10 + b"0123456789" * 20


def test_more_parts_than_the_kernel_takes_at_once_are_written_whole(tmp_path: Path) -> None:
    disk = Disk(tmp_path)
    parts = [b"%d," % number for number in range(2 * os.sysconf("SC_IOV_MAX") + 1)]
    fd = disk.create("a")
    disk.write_at(fd, parts, 0)
    disk.close_file(fd)
    assert disk.read("a") == b"".join(parts)


def test_a_short_append_is_an_error_and_spoils_only_its_own_line(tmp_path: Path) -> None:
    """RLIMIT_FSIZE makes the kernel write less than it was asked to, without an error."""
    (tmp_path / "a").write_bytes(b"x" * 90)
    pid = os.fork()
    if pid == 0:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
        try:
            Disk(tmp_path).append("a", b"\n" + b"y" * 50)
        except OSError:
            os._exit(7)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
    Disk(tmp_path).append("a", b"\n" + b"z" * 50)
    assert (tmp_path / "a").read_bytes().split(b"\n") == [b"x" * 90, b"y" * 9, b"z" * 50]


@pytest.mark.root
def test_a_file_that_cannot_be_unlinked_is_owed(tmp_path: Path) -> None:
    """The immutable flag holds against root too (reliability row 25)."""
    world = World(tmp_path)
    number = world.put()
    world.settle()
    body = tmp_path / layout.body(number)
    if subprocess.run(["chattr", "+i", str(body)], capture_output=True).returncode != 0:
        pytest.skip("this file system has no immutable flag")
    try:
        world.remove(number)
        world.settle()
        assert number in world.effects.owed and world.told[-1] == ("removed", number)
    finally:
        subprocess.run(["chattr", "-i", str(body)], check=True)
    assert world.effects.retry_owed() and not body.exists()


def test_a_ghost_is_as_harsh_as_it_says() -> None:
    """The disk of memory itself: what is not synced may go, what a failed sync forgot stays forgotten."""
    kernel = Kernel()
    disk = GhostDisk(kernel)
    disk.make_folder("a")
    disk.sync_folder(".")
    fd = disk.create("a/one")
    disk.write(fd, b"x" * 1000)
    disk.sync(fd)
    assert GhostDisk(kernel.after_cut(None)).names("a") == []
    disk.sync_folder("a")
    assert GhostDisk(kernel.after_cut(None)).read("a/one") == b"x" * 1000
    disk.rename("a/one", "a/two")
    names = {tuple(GhostDisk(kernel.after_cut(seed)).names("a")) for seed in range(200)}
    assert names == {(), ("one",), ("two",), ("one", "two")}
    disk.fault = Failing("datasync")
    disk.write_at(fd, [b"y" * 512], 0)
    with pytest.raises(OSError):
        disk.datasync(fd)
    disk.datasync(fd)
    assert disk.read("a/two")[:512] == b"y" * 512
    found = {GhostDisk(kernel.after_cut(seed)).read("a/two")[:1] for seed in range(60) if there(kernel, seed)}
    assert found >= {b"x", b"y"}
    disk.write_at(fd, [b"z" * 512], 0)
    disk.datasync(fd)
    found = {GhostDisk(kernel.after_cut(seed)).read("a/two")[:1] for seed in range(60) if there(kernel, seed)}
    assert found == {b"z"}


def there(kernel: Kernel, seed: int) -> bool:
    return "two" in GhostDisk(kernel.after_cut(seed)).names("a")
