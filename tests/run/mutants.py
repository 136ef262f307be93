"""kmq with one clause of a rule left out, for tests that must notice.

Each function changes the process that it is called in; tests/run/within calls it there. They name the rule that is
broken, as docs/ARCHITECTURE.md has it.
"""

import os
import time
from collections.abc import Callable

MUTANTS: dict[str, Callable[[], None]] = {}


def mutant(name: str) -> Callable[[Callable[[], None]], Callable[[], None]]:
    def enter(change: Callable[[], None]) -> Callable[[], None]:
        MUTANTS[name] = change
        return change

    return enter


def closed_gate(path: str) -> None:
    """No mutant: a disk that takes as long as the test wants."""
    from kmq.spool.disk import Disk

    good = Disk.datasync

    def datasync(self, fd):
        while os.path.exists(path):
            time.sleep(0.002)
        good(self, fd)

    Disk.datasync = datasync


# --- J9 ---------------------------------------------------------------------------------------------------------------


@mutant("J9 freed before it is reaped")
def freed_before_reaped() -> None:
    from kmq.model.frame import Reaped
    from kmq.run.roll import Roll

    good = Roll.ended

    def ended(self, link):
        for worker in self.workers.values():
            if worker.link is link:
                worker.reaped = Reaped("worker", worker.n, worker.pid, itself=False)
        good(self, link)

    Roll.ended = ended


@mutant("J9 result of a dead worker dropped")
def result_of_dead_dropped() -> None:
    from kmq.run.queue import QueueProcess

    good = QueueProcess._done

    def done(self, link, done, raw):
        if os.path.exists(f"/proc/{self._roles[link].pid}"):
            good(self, link, done, raw)

    QueueProcess._done = done


# --- J10 --------------------------------------------------------------------------------------------------------------


@mutant("J10 does not wait for reports")
def waits_for_nobody() -> None:
    from kmq.run.lines import Lines
    from kmq.run.scheduler import Scheduler

    good = Scheduler.__init__

    def begin(self, *given):
        good(self, *given)
        lines: Lines = self._lines
        lines.unreported.clear()

    Scheduler.__init__ = begin


@mutant("J10 unbegun not reported")
def unbegun_not_reported() -> None:
    from kmq.model.frame import Holding
    from kmq.run import worker

    worker.Holding = lambda held: Holding(held[:1])


@mutant("J10 result forgotten before it is known")
def forgotten_before_known() -> None:
    from kmq.run.worker import Worker

    good = Worker._done

    def done(self, job):
        good(self, job)
        self.jobs.pop(job.done.n, None)

    Worker._done = done


@mutant("J10 acknowledged before the sync")
def acknowledged_before_sync() -> None:
    from kmq.model.frame import Known
    from kmq.run.results import Results

    good = Results.done

    def done(self, worker, link, done, raw):
        good(self, worker, link, done, raw)
        link.send(Known([done.n]))

    Results.done = done


@mutant("J10 passed phase not recognised")
def passed_not_recognised() -> None:
    from kmq.run.passed import PassedBefore

    PassedBefore.knows = lambda self, number, events: False


@mutant("J10 known result not recognised")
def known_not_recognised() -> None:
    from kmq.run.scheduler import Scheduler

    good = Scheduler.adopt

    def adopt(self, number, held, now):
        share = self._lines.messages.get(held.mid)
        return good(self, number, held._replace(attempt=share.attempt) if share else held, now)

    Scheduler.adopt = adopt


@mutant("J10 unknown message not acknowledged")
def unknown_not_acknowledged() -> None:
    from kmq.run.results import Results

    good = Results.done

    def done(self, worker, link, done, raw):
        if self.core.is_out(done.n):
            good(self, worker, link, done, raw)

    Results.done = done


@mutant("J10 attempt not counted from the log")
def attempt_in_memory() -> None:
    from kmq.run import loader

    good = loader.open_parts
    loader.open_parts = lambda state, *more: [part._replace(attempt=1) for part in good(state, *more)]


@mutant("J10 no token")
def no_token() -> None:
    from kmq.run.arrivals import Arrivals

    good = Arrivals.__init__
    Arrivals.__init__ = lambda self, storage, tokens: good(self, storage, {})


# --- J14 --------------------------------------------------------------------------------------------------------------


@mutant("J14 remove does not wait")
def remove_does_not_wait() -> None:
    from kmq.run.lines import Lines

    Lines.busy = lambda self, mid: bool(self.unreported)


@mutant("J14 remove does not wait for reports")
def remove_does_not_wait_for_reports() -> None:
    from kmq.run.lines import Lines

    good = Lines.busy

    def busy(self, mid):
        unreported, self.unreported = self.unreported, set()
        try:
            return good(self, mid)
        finally:
            self.unreported = unreported

    Lines.busy = busy


@mutant("J14 remove answered before the sync")
def remove_answered_early() -> None:
    from kmq.run.outcasts import Outcasts

    good = Outcasts._write

    def write(self, leaving):
        for tell in leaving.tell:
            tell()
        good(self, leaving)

    Outcasts._write = write


@mutant("J14 pending removal forgotten")
def pending_removal_forgotten() -> None:
    from kmq.run.outcasts import Outcasts
    from kmq.run.share import REMOVING

    Outcasts.promised = lambda self, number, state: None
    without_words(REMOVING)


@mutant("J14 pending removal while in hand")
def pending_removal_while_in_hand() -> None:
    remove_does_not_wait_for_reports()


@mutant("J14 pending suspension forgotten")
def pending_suspension_forgotten() -> None:
    from kmq.run.share import SUSPENDED

    without_words(SUSPENDED)


@mutant("J14 removed before it is told")
def removed_before_told() -> None:
    from kmq.run.share import NDR

    without_words(NDR)


def without_words(bits: int) -> None:
    """What operators said is not read back from envelopes."""
    from kmq.run import loader

    good = loader.open_parts
    loader.open_parts = lambda *of: [part._replace(word=part.word & ~bits) for part in good(*of)]


@mutant("J14 redirection forgotten")
def redirection_forgotten() -> None:
    from kmq.run import loader

    good = loader.open_parts
    loader.open_parts = lambda *of: [part._replace(forced="") for part in good(*of)]


@mutant("J14 suspended queue forgotten")
def suspended_queue_forgotten() -> None:
    from kmq.run.holds import Holds

    Holds.load = lambda self: 0


@mutant("J14 removal forgotten in poison")
def removal_forgotten_in_poison() -> None:
    from kmq.run.loader import Loader

    Loader._promised = lambda self, poison: []
