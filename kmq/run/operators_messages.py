"""What operators say of messages, carried out: retry, suspend, resume, remove, resubmit, redirect, export.

Shapes:   a message is named by `ID`, all of it, or by `HOP\\ID`, those of its recipients that wait for that next hop.
          Each name is answered by one line: ID, Result (a word of model.outcome), Why.
Promise:  a change is answered when it stands durably in the envelope of the message, with who and why. What somebody
          has in hand ends first: that is answered as pending, and comes about whatever crashes (J14).
On crash: what was not answered may have happened or not; asking again does no harm.
Callers:  run.operators.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import NamedTuple

from kmq.log import mail
from kmq.model import queue_id, recipients
from kmq.model.envelope import event_line
from kmq.model.event import Event, Moved, Redirected, Removing, Resubmitted, Resumed, Retried, Suspended
from kmq.model.frame import Answer
from kmq.model.outcome import DONE, GONE, PENDING, REFUSED, RESULTS, SKIPPED
from kmq.run import tried
from kmq.run.loader import Loader
from kmq.run.outcasts import Outcasts
from kmq.run.scheduler import Scheduler
from kmq.run.share import HELD, IN_HAND, SUSPENDED, Share
from kmq.run.storage import Storage
from kmq.run.taking_out import TakingOut
from kmq.run.told import Told
from kmq.spool import loading
from kmq.spool.loading import Damaged
from kmq.spool.record import Move

#: Messages that a verb works on before the loop has its turn.
CHUNK = 200


class Deed(NamedTuple):
    """What an operator wants. by: who, as `uid 0`."""

    verb: str
    by: str
    reason: str = ""
    ndr: bool = False
    connector: str = ""


class Name(NamedTuple):
    """A message as it was named; hop: the text of a next hop, "" for all of it."""

    text: str
    number: int
    hop: str


class Outcome(NamedTuple):
    """What a name is answered. told: who waits for the record, None when there is none."""

    result: str
    why: str = ""
    told: Told | None = None


_ELSEWHERE = "it does not wait in this queue"
_REMOVED = Outcome(SKIPPED, "it is being removed")


def named(names: Sequence[str]) -> list[Name]:
    """The names of a question, whose form was checked before."""
    found = []
    for text in names:
        hop, _, name = text.rpartition("\\")
        found.append(Name(text, queue_id.parse(name), hop))
    return found


class MessageVerbs:
    """Each verb of one message; `carry_out` for many."""

    def __init__(
        self, core: Scheduler, storage: Storage, outcasts: Outcasts, loader: Loader, taking_out: TakingOut
    ) -> None:
        self._core = core
        self._storage = storage
        self._outcasts = outcasts
        self._loader = loader
        self._taking_out = taking_out
        self._entries = taking_out.entries
        self._of: dict[str, Callable[[Name, Deed], Outcome]] = {
            "remove": self._remove,
            "suspend": self._suspend,
            "resume": self._resume,
            "resubmit": self._resubmit,
            "redirect": self._redirect,
            "export": self._export,
        }

    async def carry_out(self, deed: Deed, chunks: Iterator[list[Name]]) -> AsyncIterator[dict[str, object] | Answer]:
        """One line for each name, and a sentence."""
        one = self._of[deed.verb]
        tally: dict[str, int] = {}
        whys: dict[str, int] = {}
        for chunk in chunks:
            found = [(name, one(name, deed)) for name in chunk]
            for name, outcome in found:
                result, why, told = outcome
                if told is not None:
                    await told.durable
                    result = PENDING if told.pending else result
                tally[result] = tally.get(result, 0) + 1
                if why and result == SKIPPED:
                    whys[why] = whys.get(why, 0) + 1
                yield {"ID": name.text, "Result": result, **({"Why": why} if why else {})}
            await asyncio.sleep(0)
        yield _sentence(deed, tally, whys)

    async def retry(
        self, deed: Deed, chunks: Iterator[list[Name]], refusable: bool = True
    ) -> AsyncIterator[dict[str, object] | Answer]:
        """What came of an attempt that was asked for. refusable: nothing tried is a refusal."""
        closed = tried.closed_queues(self._core, time.monotonic())
        tally = tried.Tally()
        for chunk in chunks:
            found = [(name, *self._retry(name, deed, closed)) for name in chunk]
            for name, outcome, told in found:
                tally.add(outcome, name.number)
                if told is not None:
                    await told.durable
                yield {"ID": name.text, **_of_attempt(outcome, name)}
            await asyncio.sleep(0)
        yield Answer(status=DONE if tally.tried or not refusable else REFUSED, text=str(tally))

    def of_queues(self, hops: Sequence[str]) -> Iterator[list[Name]]:
        """The messages that have recipients in one of these queues, as named there; some at a time."""
        wanted = frozenset(hops)
        for chunk in _chunks(self._core.mids):
            found = [
                Name(queue_id.text(mid), mid, hop)
                for mid in chunk
                for hop in dict.fromkeys(share.queue.hop for share in self._core.verbs.scope(mid))
                if hop in wanted
            ]
            yield found

    def of_all(self) -> Iterator[list[Name]]:
        """Every message of the queue."""
        for chunk in _chunks(self._core.mids):
            yield [Name(queue_id.text(mid), mid, "") for mid in chunk]

    def of_ids(self, names: Sequence[str]) -> Iterator[list[Name]]:
        """Those that are named."""
        for at in range(0, len(names), CHUNK):
            found = named(names[at : at + CHUNK])
            for name in found:
                self._loader.need(name.number)
            yield found

    # --- one message -------------------------------------------------------------------------------------------------

    def _suspend(self, name: Name, deed: Deed) -> Outcome:
        if name.number in self._outcasts.poison:
            return Outcome(SKIPPED, "it is set aside in poison/, where nothing is sent")
        if self._leaves(name):
            return _REMOVED
        shares = self._core.verbs.suspend(name.number, time.monotonic(), name.hop)
        return self._told(name, deed, shares, Suspended(by=deed.by, reason=deed.reason)) if shares else _gone(name)

    def _resume(self, name: Name, deed: Deed) -> Outcome:
        if name.number in self._outcasts.poison:
            return self._out_of_poison(name.number, deed)
        if self._leaves(name):
            return _REMOVED
        shares = self._core.verbs.resume(name.number, time.monotonic(), name.hop)
        if shares:
            return self._told(name, deed, shares, Resumed(by=deed.by, reason=deed.reason), waits=False)
        return Outcome(SKIPPED, "it is not suspended") if self._scope(name) else _gone(name)

    def _retry(self, name: Name, deed: Deed, closed: frozenset[str]) -> tuple[tried.Outcome, Told | None]:
        number = name.number
        shares = self._core.verbs.retry(number, time.monotonic(), name.hop)
        if not shares:
            return tried.Outcome.POISON if number in self._outcasts.poison else tried.Outcome.ABSENT, None
        hops = {share.queue.hop for share in shares}
        outcome = tried.outcome([one for one in self._core.state_of(number) if one.hop in hops], closed)
        if outcome is not tried.Outcome.TRIED or deed.verb == "flush":
            return outcome, None
        told = Told()
        self._entries.add(number, Retried(rcpt=_rcpt(shares) if name.hop else "", by=deed.by, reason=deed.reason), told)
        return outcome, told

    def _resubmit(self, name: Name, deed: Deed) -> Outcome:
        scope = self._scope(name)
        if not scope:
            return self._of_poison(name, f"it is set aside in poison/: kmq resume {queue_id.text(name.number)}")
        if self._leaves(name):
            return _REMOVED
        shares = self._core.verbs.resubmit(name.number, time.monotonic(), name.hop)
        if shares:
            return self._told(name, deed, shares, Resubmitted(by=deed.by, reason=deed.reason), names=True)
        if any(share.word & SUSPENDED for share in scope):
            return Outcome(SKIPPED, f"it is suspended: kmq resume {queue_id.text(name.number)}")
        return Outcome(SKIPPED, "it is in the Submission queue already")

    def _redirect(self, name: Name, deed: Deed) -> Outcome:
        if self._leaves(name):
            return _REMOVED
        shares = self._core.verbs.redirect(name.number, deed.connector, time.monotonic(), name.hop)
        if not shares:
            return self._of_poison(name, f"it is set aside in poison/: kmq resume {queue_id.text(name.number)}")
        event = Redirected(by=deed.by, reason=deed.reason, connector=deed.connector)
        return self._told(name, deed, shares, event, names=True)

    def _export(self, name: Name, deed: Deed) -> Outcome:
        """A copy may be made of what stands still; the log tells who wanted it."""
        scope = self._scope(name)
        poison = name.number in self._outcasts.poison
        if not scope and not poison:
            return _gone(name)
        if poison or all(share.state is HELD and share.word & SUSPENDED for share in scope):
            keys = {"rcpt": _rcpt(scope) if name.hop else None, "by": deed.by, "reason": deed.reason or None}
            mail.tell("export", queue_id.text(name.number), keys=keys)
            return Outcome(RESULTS["export"])
        if all(share.word & SUSPENDED for share in scope):
            return Outcome(SKIPPED, "it is in somebody's hands still")
        return Outcome(SKIPPED, f"it is not suspended: kmq suspend {queue_id.text(name.number)}")

    def _remove(self, name: Name, deed: Deed) -> Outcome:
        number = name.number
        if number in self._outcasts.poison:
            return self._remove_poison(number, deed)
        scope = self._scope(name)
        if not scope:
            return _gone(name)
        whole = len(scope) == len(self._core.verbs.scope(number))
        if whole and not deed.ndr:
            return self._remove_whole(number, deed)
        shares = self._core.verbs.take_out(number, time.monotonic(), name.hop, deed.ndr)
        word = Removing(rcpt=_rcpt(shares), by=deed.by, reason=deed.reason, ndr=deed.ndr)
        return Outcome(RESULTS["remove"], "", self._taking_out.ask(number, shares, word))

    def _remove_whole(self, number: int, deed: Deed) -> Outcome:
        told = Told()
        if not self._outcasts.remove(number, deed.by, deed.reason, told.tell):
            told = Told(pending=True)
            self._entries.add(number, Removing(by=deed.by, reason=deed.reason), told)
        return Outcome(RESULTS["remove"], "", told)

    def _remove_poison(self, number: int, deed: Deed) -> Outcome:
        """Nobody is told: what lies there is what the phases, those that make notices too, could not stand."""
        told = Told()
        self._outcasts.remove_from_poison(number, deed.by, deed.reason, told.tell)
        self._outcasts.poison.discard(number)  # who asks again hears that it is gone
        return Outcome(RESULTS["remove"], "out of poison/: its sender is not told" if deed.ndr else "", told)

    def _out_of_poison(self, number: int, deed: Deed) -> Outcome:
        """Once more from poison/ into the queue; its crashes are forgotten."""
        if not self._loader.number_of(number, "poison"):
            found = loading.one(self._loader.disk, number, "poison")
            why = found.reason if isinstance(found, Damaged) else "it has no envelope"
            return Outcome(SKIPPED, f"stays in poison/, it is damaged: {why}")
        told = Told()
        event = Moved(home="queue", reason=f"resumed by {deed.by} {deed.reason}".strip())
        line = self._entries.append(number, event)
        self._outcasts.poison.discard(number)
        self._loader.coming(number)
        self._storage.add([Move(number, line.seq, event_line(event), "queue")], told)
        told.durable.add_done_callback(lambda _: self._loader.when_made(number))
        self._log(told, "resume", number, deed)
        return Outcome(RESULTS["resume"], "", told)

    # --- parts of them -----------------------------------------------------------------------------------------------

    def _scope(self, name: Name) -> list[Share]:
        return self._core.verbs.scope(name.number, name.hop)

    def _leaves(self, name: Name) -> bool:
        """Whether all that is meant is being removed already."""
        scope = self._scope(name)
        return bool(scope) and all(self._core.verbs.leaves(share) for share in scope)

    def _of_poison(self, name: Name, why: str) -> Outcome:
        """Of what is not in the queue: it may lie in poison/."""
        return Outcome(SKIPPED, why) if name.number in self._outcasts.poison else _gone(name)

    def _told(
        self, name: Name, deed: Deed, shares: list[Share], event: Event, *, names: bool = False, waits: bool = True
    ) -> Outcome:
        """The event about these shares is written.

        names: it names their recipients also where they are all of the message. waits: for what is in hand to end.
        """
        rcpt = _rcpt(shares) if name.hop or names else ""
        event.rcpt = rcpt  # type: ignore[attr-defined]
        told = Told(waits and self._may_be_in_hand(shares))
        self._entries.add(name.number, event, told)
        self._log(told, deed.verb, name.number, deed, rcpt)
        return Outcome(RESULTS[deed.verb], "", told)

    def _may_be_in_hand(self, shares: list[Share]) -> bool:
        """A worker has some of it, or has not said yet what it has (J10)."""
        return bool(self._core.waiting_for) or any(share.state in IN_HAND for share in shares)

    def _log(self, told: Told, word: str, number: int, deed: Deed, rcpt: str = "") -> None:
        """A line of the mail log, when what it tells of is durable."""
        keys = {"rcpt": rcpt or None, "connector": deed.connector or None, "by": deed.by, "reason": deed.reason or None}
        told.durable.add_done_callback(lambda _: mail.tell(word, queue_id.text(number), keys=keys))


def _gone(name: Name) -> Outcome:
    """Nothing that was named is there; a message may be in the queue, and none of it where its name says."""
    return Outcome(GONE, _ELSEWHERE if name.hop else "")


def _rcpt(shares: list[Share]) -> str:
    return recipients.as_text(index for share in shares for index in share.rcpt)


def _chunks(numbers: list[int]) -> Iterator[list[int]]:
    for at in range(0, len(numbers), CHUNK):
        yield numbers[at : at + CHUNK]


def _of_attempt(outcome: tried.Outcome, name: Name) -> dict[str, object]:
    if outcome is tried.Outcome.TRIED:
        return {"Result": RESULTS["retry"]}
    if outcome is tried.Outcome.ABSENT:
        return {"Result": GONE, **({"Why": _ELSEWHERE} if name.hop else {})}
    return {"Result": SKIPPED, "Why": outcome.of_one(name.number)}


def _sentence(deed: Deed, tally: dict[str, int], whys: dict[str, int]) -> Answer:
    """`2 messages suspended; 1 pending: when it comes back from delivery; 1 skipped: it is not suspended`."""
    word = RESULTS[deed.verb]
    done = tally.get(word, 0)
    clauses = [f"{done:,} {'message' if done == 1 else 'messages'} {word}"] if done or not tally else []
    if pending := tally.get(PENDING, 0):
        clauses.append(f"{pending:,} pending: in somebody's hands, {word} when that comes back")
    if gone := tally.get(GONE, 0):
        clauses.append(f"{gone:,} not in the queue (any more)")
    if skipped := tally.get(SKIPPED, 0):
        why = f": {next(iter(whys))}" if len(whys) == 1 else ""
        clauses.append(f"{skipped:,} skipped{why}")
    acted = done + tally.get(PENDING, 0)
    return Answer(status=DONE if acted else REFUSED, text="; ".join(clauses))
