"""What workers say of their assignments: recorded, then acknowledged.

Promise:  a result counts once, however often it is sent, and also when its sender is dead (J9, J10). It is acknowledged
          when it is durable. A failed recipient and the notice about it are one record, and so are a message's last
          result and its removal.
On crash: workers keep what was not acknowledged, and say it again.
Callers:  run.queue.
"""

import time
from collections import Counter
from collections.abc import Callable
from hashlib import sha256

import msgspec

from kmq.model import queue_id, recipients
from kmq.model.envelope import event_line, head_line
from kmq.model.event import AnyEvent, Delayed, Failed, Passed
from kmq.model.frame import Child, Done, Known
from kmq.model.priority import of_line
from kmq.run.arrivals import Fresh
from kmq.run.assignment import Held, Ruling
from kmq.run.grace import Cause
from kmq.run.grace_evidence import HELD
from kmq.run.grace_holds import GraceHolds, eased
from kmq.run.link import Link
from kmq.run.numbers import Numbers
from kmq.run.outcasts import Outcasts
from kmq.run.passed import PassedBefore
from kmq.run.scheduler import Scheduler
from kmq.run.storage import Storage
from kmq.run.telling import NO_FATE, Fate, Troubles, complete, tell_of_a_child, tell_of_the_dead
from kmq.spool.record import Append, Archive, Operation, Put

_decode: Callable[[msgspec.Raw], AnyEvent] = msgspec.json.Decoder(AnyEvent).decode


class Result(msgspec.Struct, gc=False):
    """The ticket of a result's record. children: messages that it made, with the number of their recipients and their
    priority; events, fate: for the log."""

    link: Link
    n: int
    id: int
    complete: bool
    children: list[tuple[int, int, int]]
    events: list[AnyEvent]
    fate: Fate


class Results:
    """The workers' side of the scheduler process, on the way back."""

    def __init__(self, core: Scheduler, storage: Storage, fresh: Fresh, numbers: Numbers, outcasts: Outcasts) -> None:
        self.core = core
        self.storage = storage
        self.fresh = fresh
        self.numbers = numbers
        self.outcasts = outcasts
        self.named: Callable[[str], None] = lambda name: None  #: told of bodies in incoming/ that puts name (J6)
        self.passed = PassedBefore()
        self.keeping = outcasts.keeping
        self.grace: GraceHolds | None = None
        self.told: Counter[type[AnyEvent]] = Counter()  #: events, by kind
        self._troubles = Troubles()

    def done(self, worker: int, link: Link, done: Done, raw: bytes) -> bool:
        """One result; whether it is to be recorded. What we know already, or know nothing of, is acknowledged at once
        (J10)."""
        now = time.monotonic()
        events = list(map(_decode, done.events))
        held = self.grace.heed(done, events, now) if self.grace is not None else ""
        if held:
            events, raw = eased(done, events, raw, held)
        ruling = self.core.result(done, events, now) or self._of_an_earlier_run(worker, done, events, now)
        if ruling is None:
            link.send(self._said_again(done, held))
            return False
        if done.unavailable:
            self._troubles.tell(self.core.verbs.facts(done.hop), now)
        operations, children, fate = self._operations(done, events, raw, ruling, held)
        if done.damaged:
            self.outcasts.to_poison(ruling.mid, f"damaged: {done.damaged}")
        if operations:
            self.storage.add(operations, Result(link, done.n, ruling.mid, ruling.complete, children, events, fate))
            if done.crashed:
                self.outcasts.judge(ruling.mid)
            return True
        self.core.settled(done.n, now)
        link.send(Known([done.n]))
        return False

    def _said_again(self, done: Done, held: str) -> Known:
        """What is known already is forgotten. Where its failures were held, which the worker could not hear then, it
        hears so now, and tells no failure: whoever is still open did not fail."""
        if not done.blames:
            return Known([done.n])
        said = [one for one in map(_decode, done.events) if type(one) is Failed]
        failed = {index for one in said for index in recipients.from_text(one.rcpt)}
        if failed.isdisjoint(index for share in self.core.verbs.scope(queue_id.parse(done.m)) for index in share.rcpt):
            return Known([done.n])
        return Known([done.n], {done.n: ("", {HELD: [held or Cause[done.blames[0].cause].value]})})

    def _of_an_earlier_run(self, worker: int, done: Done, events: list[AnyEvent], now: float) -> Ruling | None:
        held = Held(done.n, queue_id.parse(done.m), done.hop, recipients.from_text(done.rcpt), done.attempt)
        warned = [recipients.from_text(one.rcpt) for one in events if type(one) is Delayed]
        if any(self.core.is_warned(held.mid, rcpt) for rcpt in warned) or self.passed.knows(held.mid, events):
            return None  # it is known: neither is an attempt, so the number of the attempt does not tell
        return self.core.result(done, events, now) if self.core.adopt(worker, held, now) else None

    def _operations(
        self, done: Done, events: list[AnyEvent], raw: bytes, ruling: Ruling, held: str
    ) -> tuple[list[Operation], list[tuple[int, int, int]], Fate]:
        number = ruling.mid
        operations: list[Operation] = []
        children: list[tuple[int, int, int]] = []
        named: dict[str, list[str]] = {}
        if done.children:
            puts = self._children(done.children, raw)
            operations += puts
            made = zip(puts, done.children, strict=True)
            children = [(put.id, child.count, of_line(put.line)) for put, child in made]
            named = _names(puts, done.children)
        if held:
            named[HELD] = [held]
        fate = (ruling.until, named) if ruling.until or named else NO_FATE
        told = self.told
        seq = self.numbers.next(number, len(events)) if events else 0
        for event in events:
            if fate is not NO_FATE:
                complete(event, fate)
            told[type(event)] += 1
            event.seq = seq
            operations.append(Append(number, seq, event_line(event)))
            if type(event) is Passed:
                self.passed.recorded(number, event)
                if event.headers:
                    self.numbers.edited.add(number)
                if event.archive:
                    operations.append(Archive(number, seq, event.archive))
            seq += 1
        if self.keeping.on:
            self.keeping.saw(number, done.hop, events)
        if done.crashed and not self.outcasts.counted(number, done.n):
            operations.append(self._crash(number, done))
        if done.unnoticed:
            self.outcasts.unnoticed.add(number)
        if ruling.complete:
            operations += self.outcasts.ends(number)
        return operations, children, fate

    def _children(self, children: list[Child], raw: bytes) -> list[Put]:
        """The messages that the worker made: put in the same record as what they belong to."""
        puts: list[Put] = []
        at = 0
        for child in children:
            body = at + child.tail
            end = body + child.body
            puts.append(self._child(child, raw[at:body], raw[body:end]))
            at = end
        return puts

    def _child(self, child: Child, tail: bytes, body: bytes) -> Put:
        number = self.storage.store.new_id(time.time())
        name = queue_id.text(number)
        if child.incoming:
            put = Put(number, head_line(name, child.sha256, tail), None, incoming=child.incoming)
            self.named(child.incoming)
        else:
            if child.stamp >= 0:
                body = body[: child.stamp] + name.encode() + body[child.stamp + queue_id.LENGTH :]
            put = Put(number, head_line(name, sha256(body).hexdigest(), tail), body)
        self.fresh.keep(number, put.line, body)
        return put

    def _crash(self, number: int, done: Done) -> Append:
        event = self.outcasts.crashed(number, done.crashed, done.trace, done.n)
        event.seq = self.numbers.next(number)
        return Append(number, event.seq, event_line(event))

    def durable(self, results: list[Result]) -> None:
        """They may be acknowledged; what is left of their messages goes on."""
        now = time.monotonic()
        settled, drop, gone = self.core.settled, self.fresh.drop, self.outcasts.gone
        told: dict[Link, Known] = {}
        for one in results:
            n, link = one.n, one.link
            settled(n, now)
            known = told.get(link)
            if known is None:
                known = told[link] = Known([])
            known.numbers.append(n)
            if one.fate is not NO_FATE:
                known.fates[n] = one.fate
            if not link.open:
                tell_of_the_dead(queue_id.text(one.id), one.events)
            if one.complete:
                drop(one.id)
                gone(one.id)
            for child, count, urgency in one.children:
                tell_of_a_child(self.fresh.line(child))
                self.core.accepted(child, count, now, urgency)
        for link, known in told.items():
            link.send(known)


def _names(puts: list[Put], children: list[Child]) -> dict[str, list[str]]:
    """kind -> IDs, in order."""
    named: dict[str, list[str]] = {}
    for put, child in zip(puts, children, strict=True):
        named.setdefault(child.kind, []).append(queue_id.text(put.id))
    return named
