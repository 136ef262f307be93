"""Some recipients of a message, out of the queue on an operator's word; the rest of the message goes on.

Promise:  J14: the record about them is written when no worker has them in hand and no result about them waits for its
          sync; from the word's arrival nothing new of them is assigned. Until then `Removing` stands in the envelope,
          durably, before the operator is answered, so that it comes about whoever crashes. With a notice to the sender
          they fail like any other recipient: a worker makes the notice, in one record with the failure.
          When they were all that was left, the message's removal is in the same record.
On crash: recipients that the envelope says are being removed are loaded as such (share.open_parts).
Callers:  run.queue, run.operators_messages.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

from kmq.log import mail
from kmq.model import moment, queue_id, recipients
from kmq.model.envelope import event_line
from kmq.model.event import Event, Removed, Removing
from kmq.run.numbers import Numbers
from kmq.run.outcasts import Outcasts
from kmq.run.scheduler import Scheduler
from kmq.run.share import IN_HAND, Share
from kmq.run.storage import Storage
from kmq.run.told import Told
from kmq.run.verbs import TakenOut
from kmq.spool.record import Append, Operation


class Entries:
    """What operators did, line by line in envelopes."""

    def __init__(self, storage: Storage, numbers: Numbers) -> None:
        self._storage = storage
        self._numbers = numbers

    def append(self, number: int, event: Event) -> Append:
        """The operation that makes it the next event of the message."""
        event.seq = self._numbers.next(number)
        event.at = moment.as_text(time.time())
        return Append(number, event.seq, event_line(event))

    def add(self, number: int, event: Event, told: Told) -> None:
        """A record of its own."""
        self._storage.add([self.append(number, event)], told)


@dataclass(slots=True)
class Withdrawn:
    """The ticket of a record. told: who waits for it, or None."""

    one: TakenOut
    by: str
    reason: str
    told: Told | None


class TakingOut:
    """left: called with the ID of a message of which nothing is left. entries: where it writes."""

    def __init__(self, core: Scheduler, storage: Storage, entries: Entries, outcasts: Outcasts) -> None:
        self._core = core
        self._storage = storage
        self.entries = entries
        self.left: Callable[[int], None] = lambda number: None
        self._outcasts = outcasts

    def ask(self, number: int, shares: list[Share], word: Removing) -> Told:
        """An operator's word about these shares, which have been told of it (`Verbs.take_out`).

        word.rcpt: which recipients they are.
        """
        self._outcasts.words[number] = (word.by, word.reason)
        told = Told(any(share.state in IN_HAND for share in shares))
        if told.pending or word.ndr:
            self.entries.add(number, word, told)
            self.release()
        elif not self.release(number, told):  # J10: not before every worker has said what it holds
            told.pending = True
            self.entries.add(number, word, told)
        return told

    def release(self, number: int = 0, told: Told | None = None) -> bool:
        """Those that nobody works on any more leave now; whether `number`, of which `told` is told, is among them."""
        among = False
        for one in self._core.verbs.taken_out():
            by, reason = self._outcasts.words.get(one.mid, ("", ""))
            event = Removed(rcpt=recipients.as_text(one.rcpt), by=by, reason=reason)
            operations: list[Operation] = [self.entries.append(one.mid, event)]
            if one.last:
                operations += self._outcasts.ends(one.mid)
            waits = told if one.mid == number else None
            among = among or one.mid == number
            self._storage.add(operations, Withdrawn(one, by, reason, waits))
        return among

    def durable(self, ticket: Withdrawn) -> None:
        """They are out."""
        one = ticket.one
        self._core.verbs.out(one, time.monotonic())
        name, rcpt = queue_id.text(one.mid), recipients.as_text(one.rcpt)
        mail.tell("removed", name, rcpt=rcpt, by=ticket.by, reason=ticket.reason or None)
        if one.last:
            self._outcasts.removed += 1
            self._outcasts.gone(one.mid)
            self.left(one.mid)
        if ticket.told is not None:
            ticket.told.tell()
