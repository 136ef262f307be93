"""Messages that leave the queue by another door than delivery: removed by an operator, or set aside in poison/.

Promise:  J14: the record is written only when no worker holds any of the message and no result about it waits for its
          sync; from the word's arrival nothing new of it is assigned. An answer follows the sync.
          Poison: a message that killed workers alone `threshold` times goes to poison/ with phase and trace.
On crash: what was not written was not answered, and the message is as before.
Callers:  run.queue, run.results, run.operators.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from kmq import log
from kmq.log import mail
from kmq.model import moment, queue_id
from kmq.model.envelope import State, event_line
from kmq.model.event import Crashed, Moved
from kmq.run.keeping import Keeping
from kmq.run.numbers import Numbers
from kmq.run.scheduler import Scheduler
from kmq.run.storage import Storage
from kmq.spool.record import Move, Operation, Remove

#: Characters of a traceback that an envelope keeps.
_TRACE = 4000


@dataclass(slots=True)
class Leaving:
    """Why a message leaves, and who wants to be told. home: "poison", or "" when it is removed.

    after: an operator's removal that came while it was on its way to poison/.
    """

    id: int
    home: str
    reason: str
    by: str = ""
    tell: list[Callable[[], None]] = field(default_factory=list)
    after: "Leaving | None" = None


class Outcasts:
    """Those that leave, waiting until nobody works on them."""

    def __init__(self, core: Scheduler, storage: Storage, numbers: Numbers, threshold: int) -> None:
        self.core = core
        self.storage = storage
        self.threshold = threshold
        self.poison: set[int] = set()
        self.unnoticed: set[int] = set()  # messages of which a recipient failed, with nobody to tell
        self.words: dict[int, tuple[str, str]] = {}  # of whose recipients some are to be removed: by whom, and why
        self.crash_numbers: dict[int, int] = {}  # the last assignment whose crash was counted
        self.keeping = Keeping()
        self.removed = 0
        self._numbers = numbers
        self._leaving: dict[int, Leaving] = {}
        self._guilty: dict[int, str] = {}

    def to_poison(self, number: int, reason: str) -> None:
        """Set aside as soon as nobody works on it."""
        self._leave(Leaving(number, "poison", reason))

    def remove(self, number: int, by: str, reason: str, tell: Callable[[], None]) -> bool:
        """An operator's word; tell: called when it is durable. False: somebody works on it, it goes when that ended."""
        return self._leave(Leaving(number, "", reason, by, [tell]))

    def promised(self, number: int, state: State) -> None:
        """A message from the disk of which recipients are to be removed; so is all of it, when that was said of all."""
        last = max(state.removing.values(), key=lambda event: event.seq)
        self.words[number] = (last.by, last.reason)
        if removed_quietly(state):
            self.remove(number, last.by, last.reason, lambda: None)

    def remove_from_poison(
        self, number: int, by: str = "", reason: str = "", tell: Callable[[], None] | None = None
    ) -> bool:
        """Out of poison/, where nobody works on anything. False: it is not there."""
        if number not in self.poison:
            return False
        self._write(Leaving(number, "", reason, by, [tell] if tell else []))
        return True

    def _leave(self, leaving: Leaving) -> bool:
        before = self._leaving.get(leaving.id)
        if before is not None:
            before.tell += leaving.tell
            if before.home and not leaving.home:  # an operator's word goes before poison/
                before.after = leaving
            return False
        self._leaving[leaving.id] = leaving
        if self.core.verbs.remove(leaving.id, time.monotonic()):
            self._write(leaving)
            return True
        return False

    def release(self) -> None:
        """After results and deaths: those that nobody works on any more leave now."""
        for number in self.core.verbs.released():
            if number in self._leaving:
                self._write(self._leaving[number])

    def gone(self, number: int) -> None:
        """The message ended by itself before it could leave: it was delivered, or failed, to the last recipient."""
        leaving = self._leaving.pop(number, None) if self._leaving else None
        self._forget(number)
        if leaving is None:
            return
        if number in self.poison and (leaving.after or not leaving.home):
            self._write(leaving.after or leaving)
            return
        for tell in leaving.tell:
            tell()

    def _forget(self, number: int) -> None:
        self._numbers.forget(number)
        if self.keeping.on:
            self.keeping.forget(number)
        if self.unnoticed or self.words or self.crash_numbers:
            self.unnoticed.discard(number)
            self.words.pop(number, None)
            self.crash_numbers.pop(number, None)

    def ends(self, number: int) -> list[Operation]:
        """A message's end by itself, for the record of what ended it: it is kept when it was delivered (keeping), and
        nothing is deleted that failed and that nobody was told of."""
        last = self._last(number) if number in self.unnoticed else Remove(number)
        return self.keeping.ends(number, last) if self.keeping.on else [last]

    def finish(self, number: int) -> None:
        """The same for one from the disk whose recipients are all done, and whose end a crash cut short."""
        self.storage.add(self.ends(number), None)
        self._forget(number)

    def _last(self, number: int) -> Operation:
        self.poison.add(number)
        log.warning("a notice cannot be delivered, and is set aside in poison/", id=queue_id.text(number))
        return self._to_poison(number, "a notice that cannot be delivered")

    def _to_poison(self, number: int, reason: str) -> Move:
        seq = self._numbers.next(number)
        event = Moved(seq=seq, at=moment.as_text(time.time()), home="poison", reason=reason)
        return Move(number, seq, event_line(event), "poison")

    def _write(self, leaving: Leaving) -> None:
        end = self._to_poison(leaving.id, leaving.reason) if leaving.home else Remove(leaving.id)
        self.storage.add([end], leaving)

    def durable(self, leaving: Leaving) -> None:
        """It has left."""
        self._leaving.pop(leaving.id, None)
        self.core.verbs.removed(leaving.id, time.monotonic())
        self._forget(leaving.id)
        if leaving.home:
            mail.tell("poison", queue_id.text(leaving.id), reason=leaving.reason)
            log.error("a message is set aside in poison/", id=queue_id.text(leaving.id), why=leaving.reason)
            self.poison.add(leaving.id)
            if leaving.after is not None:
                leaving.after.tell = leaving.tell
                self._write(leaving.after)
                return
        else:
            mail.tell("removed", queue_id.text(leaving.id), by=leaving.by, reason=leaving.reason or None)
            self.poison.discard(leaving.id)
            self.removed += 1
        for tell in leaving.tell:
            tell()

    # --- crashes -----------------------------------------------------------------------------------------------------

    def counted(self, number: int, n: int) -> bool:
        """Whether the crash of this assignment was counted before: a result may be said again (J10)."""
        return n > 0 and self.crash_numbers.get(number) == n

    def crashed(self, number: int, phase: str, trace: str, n: int = 0) -> Crashed:
        """The message alone made a worker fail (in assignment n). When that is recorded, `judge` follows."""
        self.crash_numbers[number] = n
        count = self.core.crashed_alone(number)
        if count >= self.threshold:
            last = f": {trace.strip().splitlines()[-1]}" if trace.strip() else ""
            self._guilty[number] = f"{count} workers failed on it alone in phase {phase}{last}"
        return Crashed(at=moment.as_text(time.time()), phase=phase, count=count, trace=trace[-_TRACE:], n=n)

    def judge(self, number: int) -> None:
        """At the threshold it leaves."""
        reason = self._guilty.pop(number, "")
        if reason:
            self.to_poison(number, reason)


def removed_quietly(state: State) -> bool:
    """Whether all that is open of a message is to be removed, and nobody is to be told."""
    found = [state.removing.get(index) for index in state.open]
    return bool(found) and all(one is not None and not one.ndr for one in found)
