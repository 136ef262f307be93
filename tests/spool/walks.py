"""Random walks: thousands of steps of one spool through many lives, all faults mixed.

What:     verbs, batches, effects, checkpoints, each change of the disk in any order of the two threads; power cuts,
          kills, failed syncs, full disks at any of them, in recovery too. The ledger judges every start.
          A walk is its seed: the same seed walks the same way.
Use:      python -m tests.spool.walks SECONDS [SEED] [journal|files]
"""

import errno
import sys
import time
from collections.abc import Callable
from random import Random

from kmq.errors import StorageFailed
from kmq.spool.store import Pending
from tests.spool.explore import Explorer, empty_spool
from tests.spool.ghost import Dead, Fault, Kernel
from tests.spool.ledger import Ledger
from tests.spool.life import Life
from tests.spool.tracks import PatientLock, Track, pause

MESSAGES = 10
#: Most walks go far and fast; some look at every corner of their way.
PEEKS = (0.0, 0.0, 0.0, 0.001, 0.01)
#: kind of operation -> (error, half of a write may be done). A failed syncfs ends the process (J7).
FAULTS = {
    "datasync": (errno.EIO, False),
    "write_at": (errno.EIO, True),
    "create": (errno.ENOSPC, False),
    "write": (errno.ENOSPC, True),
    "append": (errno.ENOSPC, True),
    "link": (errno.ENOSPC, False),
    "make_folder": (errno.ENOSPC, False),
    "rename": (errno.EIO, False),
    "unlink": (errno.EIO, False),
    "sync_folder": (errno.EIO, False),
    "sync": (errno.EIO, False),
    "sync_all": (errno.EIO, False),
}


class Walk:
    """One spool's way. faults: kinds of operations that may fail; peek: the share of steps that fork the world."""

    def __init__(self, seed: int, kind: str = "journal", faults: tuple[str, ...] = tuple(FAULTS), peek: float = 0.02):
        self.random = Random(seed)
        self.seed, self.kind, self.faults, self.peek = seed, kind, faults, peek
        self.kernel: Kernel = empty_spool()
        self.ledger = Ledger(atomic=kind == "journal")
        self.ledger.lossy = True  # what the disk has no room for is not kept
        self.broken: list[str] = []
        self.steps = self.lives = self.files = 0
        self.trace: list[str] = []
        self._begin()

    def run(self, steps: int) -> list[str]:
        """-> broken promises."""
        end = self.steps + steps
        while self.steps < end and not self.broken:
            self.steps += 1
            self._step()
        if not self.broken:
            self._rest()
        self._end()
        return [f"seed {self.seed}, step {self.steps}: {one}" for one in self.broken]

    # --- lives -------------------------------------------------------------------------------------------------------

    def _begin(self) -> None:
        """Starts until one comes to its end; some are cut, killed, or meet a full disk."""
        while True:
            self.lives += 1
            self.kernel.forget()
            left = self.random.randrange(120) if self.random.random() < 0.3 else -1
            try:
                self.life = Life(
                    self.kernel, self.ledger, self.kind, self._stopper(left), self.random.randrange(1 << 30)
                )
                break
            except Dead:
                self.trace.append("dead in recovery")
                self._fate()
            except StorageFailed as error:
                self.trace.append(f"recovery: {error}")
        self.life.disk.fault = None
        self.life.disk.watch, self.life.outside.watch = pause, None
        if self.kind == "journal":
            self.life.log._naming = PatientLock()  # type: ignore[assignment]
        self.broken += self.ledger.judge(self.life.disk, self.life.recovered)
        self.ledger.settle(self.life.disk)
        self.journal, self.effects = Track(), Track()
        self.batch: list[Pending] | None = None
        self.turning = self.checkpointing = False

    def _stopper(self, left: int) -> Callable[[str, str], None]:
        def stop(kind: str, name: str) -> None:
            nonlocal left
            left -= 1
            if left == 0:
                raise Dead

        return stop

    def _end(self) -> None:
        self.life.end()
        self.journal.stop()
        self.effects.stop()

    def _fate(self) -> None:
        """What the dead process leaves: all that it did, or what the power cut left of it."""
        if self.random.random() < 0.6:
            self.trace.append("power cut")
            self.kernel = self.kernel.after_cut(self.random.random())
            self.ledger = self.ledger.after_cut()
        else:
            self.trace.append("kill")
            self.kernel = self.kernel.copy()

    def _die(self) -> None:
        self._end()
        self._fate()
        self._begin()

    # --- one step ----------------------------------------------------------------------------------------------------

    def _step(self) -> None:
        dice = self.random.random()
        if dice < 0.012:
            self._die()
        elif dice < 0.012 + self.peek:
            self._peek()
        elif dice < 0.06 and self.faults:
            self._fault()
        elif dice < 0.25:
            self._verb()
        elif dice < 0.65:
            self._journal()
        else:
            self._files()

    def _peek(self) -> None:
        explorer = Explorer(lambda life: None, self.kind, depth=0.05, seed=self.random.randrange(1 << 30))
        dead = self.ledger.after_cut()
        explorer.start(self.kernel.after_cut(self.random.random()), dead, "forked: power cut", cut=True)
        explorer.start(self.kernel.copy(), self.ledger, "forked: kill", cut=False)
        self.broken += explorer.broken

    def _fault(self) -> None:
        kind = self.random.choice(self.faults)
        number, half = FAULTS[kind]
        self.trace.append(f"the next {kind} fails")
        fault = Fault(number, half and self.random.random() < 0.6)

        def strike(found: str, name: str) -> Fault | None:
            if found != kind:
                return None
            self.life.disk.fault = None
            return fault

        self.life.disk.fault = strike

    def _journal(self) -> None:
        life = self.life
        if self.journal.busy:
            if self.journal.step():
                self._journal_done()
        elif not self.turning and self.random.random() < 0.05:
            self.turning = True
            self.journal.begin(life.turn)
        elif batch := life.take():
            self.batch = batch
            self.journal.begin(lambda: life.write(batch))

    def _journal_done(self) -> None:
        if self.journal.failure is not None:
            self._failed(self.journal.failure)
            return
        if self.turning:
            self.turning = False
        elif self.batch is not None:
            batch, self.batch = self.batch, None
            generation = self.journal.outcome
            assert generation is None or isinstance(generation, int)
            self.life.finish_sync(batch, generation)

    def _files(self) -> None:
        life = self.life
        if self.effects.busy:
            if self.effects.step() and self.effects.failure is not None:
                self._failed(self.effects.failure)
            return
        if self.kind == "files":
            return
        job = self.random.choice((life.apply, life.apply, life.effects.retry_owed, life.prepare, life.checkpoint))
        self.effects.begin(job)

    def _failed(self, error: BaseException) -> None:
        """A thread has met what ends the process."""
        self.trace.append(repr(error))
        if not isinstance(error, StorageFailed):
            self.broken.append(f"a thread failed: {error!r}")
        self._die()

    # --- verbs -------------------------------------------------------------------------------------------------------

    def _verb(self) -> None:
        life, random = self.life, self.random
        if len(life.seq) < MESSAGES and random.random() < 0.5:
            self._arrival()
            return
        durable = [number for number in life.seq if number in life.durable]
        if not durable:
            return
        number = random.choice(durable)
        self.trace.append(f"verb on {number:x}")
        verbs: list[Callable[[int], object]] = [life.defer]
        if number not in self.ledger.archived and not life.waiting[number]:
            verbs += [life.archive, life.archive_and_keep] if life.home[number] == "queue" else []
        if not life.waiting[number]:
            other = "queue" if life.home[number] == "poison" else "poison"
            verbs += [life.deliver, life.remove, lambda one: life.move(one, other)]
            if life.home[number] == "queue":
                verbs += [life.fail, life.deliver, life.keep]
        random.choice(verbs)(number)

    def _arrival(self) -> None:
        life, random = self.life, self.random
        self.files += 1
        kind = random.randrange(6)
        self.trace.append(f"arrival of kind {kind}")
        if kind == 0:
            life.put_large(f"{self.lives}-1-1-{self.files}")
        elif kind == 1:
            name = f"pickup/{self.files % 10}.tmp"
            if life.outside.status(name) is None:
                life.put_dropped(life.drop(name))
        elif kind == 2 and self.ledger.offered:
            life.put_dropped(random.choice(list(self.ledger.offered)))
        else:
            life.put(b"y" * random.choice((10, 600, 5000)))

    # --- the end -----------------------------------------------------------------------------------------------------

    def _rest(self) -> None:
        """No fault any more: everything is carried out, and nothing is left to do or lies about."""
        self.life.disk.fault = None
        while self.journal.busy or self.effects.busy:
            if self.effects.busy:
                self.effects.step()
            if self.journal.busy and self.journal.step():
                self._journal_done()
        if self.broken:
            return
        life = self.life
        life.sync_all()
        life.apply_all()
        life.turn()
        life.checkpoint()
        if not life.effects.idle:
            self.broken.append(f"owed for ever: {life.effects.owed} {life.effects.trouble}")
        self.broken += self.ledger.judge(life.disk)


def main(seconds: float, seed: int, kind: str) -> int:
    """Walks until the time is over or a promise is broken."""
    faults = tuple(FAULTS) if kind == "journal" else ()
    end, first, steps = time.monotonic() + seconds, seed, 0
    while time.monotonic() < end:
        walk = Walk(seed, kind, faults, peek=PEEKS[seed % len(PEEKS)])
        broken = walk.run(2000)
        steps += walk.steps
        if broken:
            print(*walk.trace[-40:], "", *broken, sep="\n")
            return 1
        seed += 1
    print(f"{seed - first} walks, {steps} steps, no broken promise")
    return 0


if __name__ == "__main__":
    arguments = [*sys.argv[1:], "", "", ""]
    sys.exit(main(float(arguments[0] or 20), int(arguments[1] or 1), arguments[2] or "journal"))
