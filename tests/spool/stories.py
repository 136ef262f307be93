"""Short lives of messages, each the shortest that shows one way in which a spool may fail."""

import errno
from dataclasses import dataclass

from tests.spool.ghost import Fault
from tests.spool.life import Life, Story


def accept(life: Life) -> None:
    """Two messages in one batch, one in the next; their files; a checkpoint."""
    life.put()
    life.put()
    life.sync()
    life.put()
    life.sync_all()
    life.apply_all()
    life.turn()
    life.checkpoint()


def deferred_later(life: Life) -> None:
    """An event of a message whose put is covered by a checkpoint."""
    number = life.put()
    life.settle()
    life.turn()
    life.checkpoint()
    life.defer(number)
    life.sync()


def moved_later(life: Life) -> None:
    """Into poison/, when the put is covered by a checkpoint."""
    number = life.put()
    life.settle()
    life.turn()
    life.checkpoint()
    life.move(number)
    life.settle()


def results(life: Life) -> None:
    """Deferred before its files are made and after, delivered before a checkpoint and after."""
    first, second = life.put(), life.put()
    life.sync()
    life.defer(first)
    life.sync()
    life.apply_all()
    life.defer(first)
    life.defer(second)
    life.sync()
    life.apply(1)
    life.deliver(second)
    life.sync()
    life.turn()
    life.apply_all()
    life.checkpoint()
    life.deliver(first)
    life.settle()
    life.turn()
    life.checkpoint()


def notice(life: Life) -> None:
    """A notice and the failure that it tells of are one record; then the notice is delivered."""
    number = life.put()
    life.settle()
    told = life.fail(number)
    life.sync()
    life.apply_all()
    life.turn()
    life.checkpoint()
    life.deliver(told)
    life.deliver(number)
    life.settle()


def cancel(life: Life) -> None:
    """Put and removed before the files were begun; with an event between."""
    first, second = life.put(), life.put()
    life.sync()
    life.remove(first)
    life.defer(second)
    life.sync()
    life.deliver(second)
    life.sync()
    life.apply_all()
    life.turn()
    life.checkpoint()


def race(life: Life) -> None:
    """The remove becomes durable behind the put's effect, and is applied with it."""
    number = life.put()
    life.sync()
    life.apply(1)
    life.remove(number)
    life.settle()


def poison(life: Life) -> None:
    """Into poison/ and back, with events in each home and a checkpoint between."""
    number = life.put()
    life.settle()
    life.move(number)
    life.settle()
    life.defer(number)
    life.settle()
    life.turn()
    life.checkpoint()
    life.move(number, "queue")
    life.settle()
    life.defer(number)
    life.settle()
    life.turn()
    life.checkpoint()
    life.move(number)
    life.settle()
    life.remove(number)
    life.settle()


def large(life: Life) -> None:
    """Large bodies: kept, delivered, and one whose put never came."""
    first = life.put_large("1-1-1-1")
    life.sync()
    life.apply_all()
    second = life.put_large("1-1-1-2")
    life.sync()
    life.deliver(second)
    life.sync()
    life.apply_all()
    life.receive_large("1-1-1-3", b"nobody asks for it")
    life.turn()
    life.checkpoint()
    life.deliver(first)
    life.settle()
    life.turn()
    life.checkpoint()


def dropped(life: Life) -> None:
    """Dropped files: kept, removed at once, and one with the name of the one before."""
    first = life.put_dropped(life.drop("pickup/a.tmp"))
    life.sync()
    life.apply_all()
    second = life.put_dropped(life.drop("pickup/b.tmp"))
    life.sync()
    assert second is not None
    life.remove(second)
    life.sync()
    life.apply_all()
    life.put_dropped(life.drop("pickup/a.tmp"))
    life.settle()
    life.turn()
    life.checkpoint()
    assert first is not None
    life.remove(first)
    life.settle()


def dropped_elsewhere(life: Life) -> None:
    """The drop directory is on another file system, which syncfs does not reach; its own sync fails once."""
    life.disk.mount("pickup")
    life.put_dropped(life.drop("pickup/a.tmp"))
    life.disk.fault = Failing("sync_folder", name="pickup")
    life.settle()
    life.apply_all()
    life.turn()
    life.checkpoint()


def twice_offered(life: Life) -> None:
    """Pickup sees a file again whose put is written, and again when it is durable, and after its files are made."""
    file = life.drop()
    assert life.put_dropped(file) is not None
    life.put_dropped(file)
    life.sync()
    life.put_dropped(file)
    life.settle()
    life.put_dropped(file)
    life.settle()


def covered_early(life: Life) -> None:
    """A checkpoint is tried while effects wait, and while a remove is not synced."""
    life.put()
    second = life.put()
    life.sync()
    life.turn()
    life.checkpoint()
    life.remove(second)
    life.apply_all()
    life.checkpoint()
    life.sync()
    life.apply_all()


def remove_waits(life: Life) -> None:
    """A remove is written and not yet synced while the put has its turn and is covered."""
    number = life.put()
    life.sync()
    life.remove(number)
    life.apply_all()
    life.turn()
    life.checkpoint()
    life.settle()


def all_delivered(life: Life) -> None:
    """Nothing is left in the queue: the IDs stand in the checkpoint alone."""
    first, second = life.put(), life.put()
    life.sync()
    life.deliver(first)
    life.settle()
    life.deliver(second)
    life.settle()
    life.prepare()
    life.turn()
    life.checkpoint()
    life.prepare()
    life.turn()


def restarted(life: Life) -> None:
    """Events before a restart, and after it, of a message whose records are covered."""
    number = life.put()
    life.settle()
    life.defer(number)
    life.settle()
    life.turn()
    life.checkpoint()
    life.restart()
    life.defer(number)
    life.sync()
    life.apply_all()
    life.defer(number)
    life.settle()


def generations(life: Life) -> None:
    """Segments that fill up, are covered and used again."""
    kept = []
    for _ in range(3):
        kept += [life.put(b"x" * 3000) for _ in range(5)]
        life.sync_all()
        life.apply(3)
        life.prepare()
        life.deliver(kept.pop(0))
        life.settle()
        life.checkpoint()
    life.turn()
    life.checkpoint()


def kept_later(life: Life) -> None:
    """The safety net: delivered when the put is covered, with an event before."""
    number = life.put()
    life.settle()
    life.turn()
    life.checkpoint()
    life.defer(number)
    life.keep(number)
    life.settle()
    life.turn()
    life.checkpoint()


def kept_fresh(life: Life) -> None:
    """Delivered before the files were begun, in a later generation than the put."""
    small, large = life.put(), life.put_large("1-1-1-1")
    life.sync()
    life.turn()
    life.keep(small)
    life.keep(large)
    life.sync()
    life.apply(2)
    life.checkpoint()
    life.apply_all()
    life.turn()
    life.checkpoint()


def marked(life: Life) -> None:
    """A message of the net gets one more line, before its names are made and when all is covered."""
    number = life.put()
    life.sync()
    life.keep(number)
    life.mark(number)
    life.settle()
    life.turn()
    life.checkpoint()
    life.mark(number)
    life.settle()


def kept_on_a_full_disk(life: Life) -> None:
    """What cannot be kept is gone like what nobody keeps; what can is."""
    life.ledger.lossy = True
    first, second = life.put(), life.put()
    life.settle()
    life.disk.fault = Failing("link", errno.ENOSPC, 1)
    life.keep(first)
    life.keep(second)
    fresh = life.put()
    life.sync()
    life.keep(fresh)
    life.sync()
    life.disk.fault = Failing("create", errno.ENOSPC, 1)
    life.apply_all()
    life.turn()
    life.checkpoint()


def kept_unsynced(life: Life) -> None:
    """The sync of the new names fails (J7)."""
    first = life.put()
    life.settle()
    life.keep(first)
    life.disk.fault = Failing("sync_folder", name="sent")
    life.settle()


def archived_later(life: Life) -> None:
    """The phase Backup of a message that is covered, with an event before and after; then it leaves."""
    number, other = life.put(), life.put_large("1-1-1-1", b"Subject: large\r\n\r\n")
    life.settle()
    life.turn()
    life.checkpoint()
    life.defer(number)
    life.archive(number)
    life.archive(other)
    life.defer(number)
    life.settle()
    life.deliver(number)
    life.settle()
    life.turn()
    life.checkpoint()
    life.move(other)
    life.settle()


def archived_fresh(life: Life) -> None:
    """Archived and delivered before the files were begun: once in one go, and kept; once step by step."""
    first, second = life.put(), life.put_large("1-1-1-1", b"Subject: large\r\n\r\n")
    life.sync()
    life.archive(first)
    life.archive_and_keep(second)
    life.sync()
    life.deliver(first)
    life.sync()
    life.apply_all()
    life.turn()
    life.checkpoint()


def archived_in_one_go(life: Life) -> None:
    """Archived and delivered in one record: before its files were begun, and behind them; one of these is kept."""
    fresh, large = life.put(), life.put_large("1-1-1-1", b"Subject: large\r\n\r\n")
    life.sync()
    life.archive_and_deliver(fresh)
    life.archive_and_deliver(large)
    life.settle()
    plain, kept = life.put(), life.put()
    life.settle()
    life.turn()
    life.checkpoint()
    life.defer(plain)
    life.archive_and_deliver(plain)
    life.archive_and_keep(kept)
    life.settle()
    life.turn()
    life.checkpoint()


def archived_and_gone_before_a_checkpoint(life: Life) -> None:
    """A checkpoint is due while what was archived and delivered at once waits for its turn."""
    number = life.put()
    life.sync()
    life.turn()
    life.archive_and_deliver(number)
    life.sync()
    life.apply(1)
    life.checkpoint()
    life.settle()


def archived_and_leaving(life: Life) -> None:
    """A checkpoint is due while a removed message waits for its new names to be durable."""
    number = life.put()
    life.settle()
    life.archive(number)
    life.deliver(number)
    life.sync()
    life.turn()
    life.put()
    life.sync()
    life.apply(2)
    life.checkpoint()
    life.settle()


def archived_on_a_full_disk(life: Life) -> None:
    """What cannot be archived now is owed, and the message leaves the queue after that."""
    number, other = life.put(), life.put()
    life.settle()
    life.archive(number)
    life.archive(other)
    life.deliver(number)
    life.sync_all()
    life.disk.fault = Failing("create", errno.ENOSPC, name="backup")
    life.effects.apply_next()
    life.apply_all()
    life.turn()
    life.checkpoint()


def archived_unsynced(life: Life) -> None:
    """The sync before it leaves fails (J7)."""
    number = life.put()
    life.settle()
    life.archive(number)
    life.deliver(number)
    life.disk.fault = Failing("sync_all")
    life.settle()


def before(life: Life) -> None:
    """What a start finds that has work to do: covered messages, and records of every kind whose files are not made."""
    kept, deferred, large, poisoned = life.put(), life.put(), life.put_large("1-1-1-1"), life.put()
    life.settle()
    life.turn()
    life.checkpoint()
    life.move(poisoned)
    life.settle()
    life.defer(deferred)
    life.deliver(kept)
    life.put()
    life.put_dropped(life.drop("pickup/early.tmp"))
    life.sync_all()
    life.move(large)
    life.remove(life.put_large("1-1-1-2"))
    life.sync_all()


def everything(life: Life) -> None:
    """After `before`: every verb once, in as few steps of the disk as it takes."""
    deferred, _, poisoned, taken = sorted(life.seq)[:4]
    small, failed = life.put(), life.put(b"x" * 5000)
    life.put_large("2-1-1-1")
    life.put_dropped(life.drop("pickup/late.tmp"))
    life.sync()
    life.apply_all()
    life.defer(deferred)
    notice = life.fail(failed)
    life.move(small)
    life.move(poisoned, "queue")
    life.keep(life.put())
    life.sync_all()
    life.apply_all()
    life.prepare()
    life.turn()
    life.checkpoint()
    life.deliver(notice)
    life.keep(taken)
    life.move(small, "queue")
    life.defer(poisoned)
    life.sync()
    life.apply_all()
    life.turn()
    life.checkpoint()


@dataclass(slots=True)
class Failing:
    """One operation of a kind, on a name with this in it, fails: that which comes after so many others."""

    kind: str
    number: int = errno.EIO
    after: int = 0
    half: bool = False
    name: str = ""

    def __call__(self, kind: str, name: str) -> Fault | None:
        if kind != self.kind or self.name not in name or self.after < 0:
            return None
        self.after -= 1
        return Fault(self.number, self.half) if self.after < 0 else None


def failed_sync(life: Life) -> None:
    """A batch of a put and two results is not synced (J8); life goes on."""
    first, second = life.put(), life.put()
    life.settle()
    life.defer(first)
    life.put()
    life.deliver(second)
    life.disk.fault = Failing("datasync")
    life.sync()
    life.sync_all()
    life.apply_all()
    life.put()
    life.settle()
    life.turn()
    life.checkpoint()


def failed_put(life: Life) -> None:
    """The sync of a put fails (J8)."""
    life.put()
    life.disk.fault = Failing("datasync")
    life.sync()


def failed_checkpoint(life: Life) -> None:
    """The syncfs of a checkpoint fails (J7), and nothing else."""
    life.put()
    life.settle()
    life.turn()
    life.disk.fault = Failing("sync_all")
    life.checkpoint()


def failed_write(life: Life) -> None:
    """Half of a batch is written, then the disk fails; the next segment cannot be begun at once either."""
    first = life.put()
    life.settle()
    life.defer(first)
    life.put()
    life.disk.fault = Failing("write_at", half=True)
    life.sync()
    life.put()
    life.disk.fault = Failing("sync_folder")
    life.sync_all()
    life.apply_all()


def failed_syncfs(life: Life) -> None:
    """The checkpoint's syncfs fails: the process ends (J7)."""
    first, second = life.put(), life.put()
    gone = life.put_dropped(life.drop())
    large = life.put_large()
    life.settle()
    life.defer(first)
    life.move(second)
    assert gone is not None
    life.remove(gone)
    life.settle()
    life.remove(large)
    life.settle()
    life.turn()
    life.disk.fault = Failing("sync_all")
    life.checkpoint()


def full(kind: str, after: int = 0, half: bool = False, name: str = "") -> Story:
    """The disk is full at one step of an effect: what fails is owed (J13), what follows of its message waits."""

    def story(life: Life) -> None:
        first, other = life.put(), life.put_large()
        life.settle()
        third = life.put()
        life.sync()
        life.disk.fault = Failing(kind, errno.ENOSPC, after, half, name)
        life.defer(first)
        life.defer(first)
        life.move(other)
        life.defer(third)
        life.sync_all()
        while life.effects.apply_next():
            pass
        life.turn()
        life.checkpoint()
        life.effects.retry_owed()
        life.checkpoint()
        life.remove(third)
        life.settle()

    story.__name__ = f"full at {kind} {after}{' half done' if half else ''}"
    return story


def full_then_removed(life: Life) -> None:
    """A put's effect stops half-way, and the remove comes before it is tried again."""
    number = life.put()
    life.sync()
    life.disk.fault = Failing("create", errno.ENOSPC, name=".env")
    life.apply(1)
    life.remove(number)
    life.sync()
    life.apply_all()
    life.turn()
    life.checkpoint()


def owed_then_deferred(life: Life) -> None:
    """An event waits behind the put whose files could not be made."""
    number = life.put()
    life.sync()
    life.disk.fault = Failing("create", errno.ENOSPC)
    life.defer(number)
    life.sync()
    while life.effects.apply_next():
        pass
    life.effects.retry_owed()
    life.turn()
    life.checkpoint()


STORIES: tuple[Story, ...] = (
    accept,
    deferred_later,
    moved_later,
    results,
    notice,
    cancel,
    race,
    poison,
    large,
    dropped,
    dropped_elsewhere,
    twice_offered,
    covered_early,
    remove_waits,
    all_delivered,
    restarted,
    generations,
    kept_later,
    kept_fresh,
    marked,
    archived_later,
    archived_fresh,
    archived_in_one_go,
    archived_and_gone_before_a_checkpoint,
    archived_and_leaving,
)
FAILURES: tuple[Story, ...] = (
    failed_put,
    failed_sync,
    failed_checkpoint,
    failed_write,
    failed_syncfs,
    full_then_removed,
    owed_then_deferred,
    kept_on_a_full_disk,
    kept_unsynced,
    archived_on_a_full_disk,
    archived_unsynced,
    full("create"),
    full("create", 1),
    full("write", half=True),
    full("append"),
    full("append", half=True),
    full("link"),
    full("link", 1),
    full("sync_folder"),
    full("unlink", 1),
)
