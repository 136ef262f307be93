"""All shares of all messages, and the line in which each one stands.

Does:     keeps the table of messages (an ID and the chain of its shares), the queues by next hop, the times at which
          queues are to be looked at; puts a share that nobody works on where it belongs: `line_up`.
Promise:  every share is in one state and one queue. A share that is suspended or is being removed is in no line,
          unless for the notice about its removal. A queue that is empty for max_idle seconds is forgotten, unless an
          operator suspended it.
On crash: nothing of this outlives the scheduler process; it is read back from the envelopes.
Callers:  kmq/run/scheduler, verbs, expiry.
"""

from collections import deque
from collections.abc import Iterable
from heapq import heappop, heappush
from math import ceil
from typing import Final

from kmq.model import hop as hops
from kmq.run import rates
from kmq.run.assignment import Held
from kmq.run.backoff import UNTRIED
from kmq.run.hopqueue import NEVER, HopQueue
from kmq.run.hours import Timetable
from kmq.run.limits import Limit, Limits
from kmq.run.rota import Rota
from kmq.run.schedule import Schedules
from kmq.run.share import (
    ALONE,
    ASSIGNED,
    HELD,
    IN_HAND,
    NDR,
    OWING,
    READY,
    RECORDING,
    REMOVING,
    REROUTE,
    SUSPENDED,
    TAKEN_OUT,
    WAITING,
    MessageStatus,
    Owed,
    Share,
    ShareFacts,
    chain,
    joined,
    shared,
    turn,
)
from kmq.run.suspects import Suspects
from kmq.run.throttle import Throttles

SUBMISSION: Final = str(hops.SUBMISSION)
UNREACHABLE: Final = str(hops.UNREACHABLE)

#: Shares whose time has come are put back in line so many at a time, so that a million of them do not stop the loop.
RIPEN = 1000


class Lines:
    """messages: an ID -> its first share. queues: text of a next hop -> queue.

    pending: messages to be removed or moved when nobody holds them any more; granted: being removed or moved now (J14).
    taken_out: shares whose recipients an operator removed, and that nobody has in hand any more. unreported: workers
    that have not said yet what they hold (J10).
    promised: recipients that are to be removed, of a share that a worker of an earlier run holds with others.
    owing: shares in line for a notice to their sender. warned: recipients of a message whose sender was told that it
    takes longer. closed: hops that get nothing now; closings counts its changes. marks: grows when a queue is not what
    it was.
    """

    def __init__(self, limits: Limits, schedules: Schedules, suspects: Suspects, now: float) -> None:
        self.limits = limits
        self.throttles = Throttles(limits)
        self.timetable = Timetable()
        self.timetable.configure(schedules.rules, schedules.zone)
        self.max_idle = 180.0
        self.schedules = schedules
        self.suspects = suspects
        self.rota = Rota()
        self.rota.parks = self.throttles.park
        self.messages: dict[int, Share] = {}
        self.queues: dict[str, HopQueue] = {}
        self.pending: set[int] = set()
        self.granted: set[int] = set()
        self.promised: dict[int, dict[int, int]] = {}  #: ID -> index -> word
        self.unreported: set[int] = set()
        self.owing: deque[Share] = deque()
        self.taken_out: deque[Share] = deque()
        self.warned: dict[int, frozenset[int]] = {}
        self.former: dict[str, str] = {}
        self.closed: set[str] = set()
        self.closings = self.marks = 0
        self._at_rest: list[int] = []
        self._measured = now
        self._widened = False
        self._alarms: list[tuple[float, int, HopQueue]] = []
        self._alarm_count = 0
        self._idle: deque[tuple[float, HopQueue]] = deque()
        self.submission = self.queue(SUBMISSION, now)

    # --- queues --------------------------------------------------------------------------------------------------

    def queue(self, hop: str, now: float) -> HopQueue:
        """The queue of a next hop, made when it is the first word of it. A hop that cannot be read is unreachable."""
        queue = self.queues.get(hop)
        if queue is None:
            try:
                target = hops.parse(hop)
                renamed = self.former.get(target.connector)
                if renamed is not None:
                    return self.queue(str(target.under(renamed)), now)
                queue = HopQueue(hop, _ahead(self.limits.of(target.connector)), now)
            except ValueError:
                return self.queue(UNREACHABLE, now)
            self.queues[hop] = queue
            if queue.remote:
                queue.throttle = self.throttles.of(queue)
            self._follow(queue)
            self._may_idle(queue, now)
        queue.touched = now
        return queue

    def _may_idle(self, queue: HopQueue, now: float) -> None:
        if not queue.idling:
            queue.idling = True
            self._idle.append((now, queue))

    def configure(self, schedules: Schedules, limits: Limits) -> None:
        """Queues follow these schedules from their next failure on, and these limits at once; each finds its way to a
        wider one by its conversations."""
        self.schedules, self.limits = schedules, limits
        self.throttles.configure(limits)
        self.timetable.configure(schedules.rules, schedules.zone)
        for queue in self.queues.values():
            self._follow(queue)
        self._widened = True

    def _follow(self, queue: HopQueue) -> None:
        """What the configuration says of the queue's connector, as it is named now."""
        queue.schedules = self.schedules.each(queue.connector)
        queue.hours = self.timetable.of(queue.connector)
        if queue.remote:
            queue.limit = _ahead(self.limits.of(queue.connector))
            queue.width = min(queue.width, queue.limit)
            queue.parts = self.limits.parts
            queue.carriers = self.limits.carriers(queue.connector, hops.parse(queue.hop).domain)
            self.throttles.renew(queue)
        elif queue.hop == SUBMISSION:
            queue.limit = queue.width = self.limits.submission

    def drop_idle(self, now: float) -> None:
        """Forgets queues that have been empty long enough."""
        while self._idle and self._idle[0][0] + self.max_idle <= now:
            since, queue = self._idle.popleft()
            if queue.count or queue.suspended or queue is self.submission:
                queue.idling = False
            elif queue.touched > since:
                self._idle.append((queue.touched, queue))
            else:
                del self.queues[queue.hop]
                self._mark(queue.hop, False)

    def look(self, now: float, wall: float) -> None:
        """Each second, or each five at rest: queues whose time has come are sent; how fast they fill and empty is
        measured now and then."""
        if self.timetable:
            for queue in self.timetable.look(now, wall, self.queues, self.rota):
                self.alarm(queue, now)
        if now >= self._measured + rates.STEP:
            self._measured = now
            rates.look(self.queues.values())

    def mark(self, queue: HopQueue) -> None:
        """Workers are to know which hops get nothing now; called when that may have changed."""
        self._mark(queue.hop, queue.suspended or queue.failures > 0 or queue.slow is not None)

    def _mark(self, hop: str, closed: bool) -> None:
        self.marks += 1
        if (hop in self.closed) != closed:
            self.closings += 1
            if closed:
                self.closed.add(hop)
            else:
                self.closed.remove(hop)

    def rename(self, old: str, new: str, now: float) -> list[HopQueue]:
        """A connector bears another name: its queues keep all that they hold, and how they stand; those queues.

        A queue that is there under the new name already is left as it is, and so is its like.
        """
        hop_of = {queue: str(hops.parse(queue.hop).under(new)) for queue in self.queues.values()}
        found = [queue for queue, hop in hop_of.items() if queue.connector == old and hop not in self.queues]
        for queue in found:
            before = queue.hop
            del self.queues[before]
            self._mark(before, False)
            queue.hop, queue.connector = hop_of[queue], new
            self._follow(queue)
            self.queues[queue.hop] = queue
            self.mark(queue)
        for first in self.messages.values():
            for share in chain(first):
                if share.forced == old:
                    share.forced = new
        return found

    def resumed(self, queue: HopQueue, now: float) -> None:
        """An operator's suspension of the queue has ended."""
        self.rota.list(queue, now)
        self.alarm(queue, now)
        if not queue.count:
            self._may_idle(queue, now)

    # --- shares --------------------------------------------------------------------------------------------------

    def enter(self, share: Share, now: float) -> None:
        """A new share counts from now on; its state is READY in no line yet, or RECORDING."""
        first = self.messages.get(share.mid)
        if first is None:
            self.messages[share.mid] = share
        else:
            share.sibling, first.sibling = first.sibling, share
        self._join(share, share.queue, now)

    def _join(self, share: Share, queue: HopQueue, now: float) -> None:
        share.queue = queue
        queue.tally[share.state] += 1
        queue.urgency[share.priority] += 1
        queue.count += 1
        queue.arrived += 1
        queue.touched = now

    def _part(self, share: Share, now: float) -> None:
        queue = share.queue
        queue.tally[share.state] -= 1
        queue.urgency[share.priority] -= 1
        queue.count -= 1
        queue.departed += 1
        queue.touched = now
        if not queue.count:
            self._may_idle(queue, now)

    def leave(self, share: Share, now: float) -> None:
        """A share is done with; with the last one the message is forgotten. Lines that still have it pass it over."""
        self._part(share, now)
        share.state = RECORDING
        mid, suspects = share.mid, self.suspects
        first = self.messages[mid]
        if first is not share:
            while first.sibling is not share:
                assert first.sibling is not None, "a share that is not in its message's chain"
                first = first.sibling
            first.sibling = share.sibling
        elif share.sibling is not None:
            self.messages[mid] = share.sibling
        else:
            del self.messages[mid]
            if self.pending or self.granted or self.warned or self.promised or suspects.mids or suspects.crashes:
                self._forget(mid)

    def _forget(self, mid: int) -> None:
        for mids in (self.pending, self.granted):
            mids.discard(mid)
        self.warned.pop(mid, None)
        self.promised.pop(mid, None)
        self.suspects.forget(mid)

    def cut(self, held: Held, now: float) -> Share | None:
        """The share that a worker holds from an earlier run (J10), cut out of what was loaded; in no line yet.

        None when its recipients have another attempt by now, or are gone.
        """
        wanted = set(held.rcpt)
        found = [
            (share, wanted.intersection(share.rcpt))
            for share in chain(self.messages.get(held.mid))
            if share.attempt == held.attempt and share.state not in IN_HAND
        ]
        found = [(share, part) for share, part in found if part]
        if not found:
            return None
        rcpt = shared(tuple(sorted(set().union(*(part for _, part in found)))))
        queue = self.queue(held.hop, now)
        word = joined([share for share, _ in found], queue)
        if word & REMOVING and not all(share.word & REMOVING for share, _ in found):  # others were not meant
            word &= ~(REMOVING | NDR)
            said = {index: share.word for share, part in found if share.word & REMOVING for index in part}
            self.promised.setdefault(held.mid, {}).update(said)
        first = found[0][0]
        whole = Share(held.mid, queue, rcpt, held.attempt, READY, 0, None, None, word, first.forced, first.priority)
        self.enter(whole, now)
        for share, part in found:
            share.rcpt = tuple(index for index in share.rcpt if index not in part)
            if not share.rcpt:
                self.leave(share, now)
        return whole

    def move(self, share: Share, queue: HopQueue, now: float) -> None:
        """A share that nobody works on goes to another queue; it stands in no line there yet."""
        self._part(share, now)
        self._join(share, queue, now)

    def line_up(self, share: Share, now: float, front: bool = False) -> None:
        """Puts a share that nobody works on where it belongs. front: it stood in line before."""
        mid = share.mid
        if mid in self.promised:
            self._set_apart(share, now)
        if (share.word or mid in self.pending or mid in self.granted) and self._stopped(share, now):
            return
        queue = share.queue
        if share.owed is not None and not (mid in self.suspects.mids and queue.limit):
            self._turn(share, OWING)
            self.owing.append(share)
        elif share.due > now:
            if share.state is not WAITING:
                queue.waits.add(share)
                self.alarm(queue, now)
        elif mid in self.suspects.mids and queue.limit:
            self._turn(share, ALONE)
            self.suspects.put(share)
            self.alarm(queue, now)
        else:
            share.due = 0
            self._turn(share, READY)
            queue.put(share, front, mid in self.warned)
            self.rota.list(queue, now)
            if queue.failures:
                self.alarm(queue, now)

    def _set_apart(self, share: Share, now: float) -> None:
        """Of a share that comes back from a worker's hands, the recipients that are to be removed get one of their
        own, unless they are all of it."""
        promised = self.promised[share.mid]
        part = tuple(index for index in share.rcpt if index in promised)
        if not part:
            return
        word = share.word
        for index in part:
            word |= promised.pop(index) & (REMOVING | NDR)
        if part == share.rcpt:
            share.word = word
            return
        share.rcpt = tuple(index for index in share.rcpt if index not in part)
        apart = Share(share.mid, share.queue, part, share.attempt, RECORDING, share.due)
        apart.word, apart.forced, apart.priority = word, share.forced, share.priority
        self.enter(apart, now)
        self.line_up(apart, now)

    def _stopped(self, share: Share, now: float) -> bool:
        """What operators said of the share, or of its message; whether it stands in no line because of that."""
        word = share.word
        if word & REROUTE:
            share.word = word & ~REROUTE
            share.due = 0
            if share.queue is not self.submission:
                self.move(share, self.submission, now)
        leaving = share.mid in self.pending or share.mid in self.granted
        if word & REMOVING and not leaving:
            if word & NDR:
                share.owed = Owed(True, TAKEN_OUT)
                share.due = min(share.due, ceil(now + UNTRIED))
                if share.due > now:  # a worker could not make the notice just now
                    share.owed = None
                return False
            self.taken_out.append(share)
        elif not leaving and not word & SUSPENDED:
            return False
        share.owed = None
        self._turn(share, HELD)
        share.queue.tidy()
        return True

    def warn(self, mid: int, rcpt: tuple[int, ...]) -> None:
        """The sender has been told that it takes longer for these recipients: once is enough."""
        self.warned[mid] = self.warned.get(mid, frozenset()).union(rcpt)

    def is_warned(self, mid: int, rcpt: tuple[int, ...]) -> bool:
        """Whether the sender has been told so. Recipients of one share have been told of together."""
        warned = self.warned.get(mid)
        return warned is not None and rcpt[0] in warned

    @staticmethod
    def _turn(share: Share, state: int) -> None:
        if share.state is not state:
            turn(share, state)

    def busy(self, mid: int) -> bool:
        """Whether a worker holds some of it (or may: not every worker has reported), or a result waits for its sync."""
        if self.unreported:
            return True
        return any(share.state in IN_HAND for share in chain(self.messages.get(mid)))

    def at_rest(self, mid: int) -> None:
        """A worker has let go of some of the message, or its result is durable: a pending removal may be granted."""
        if mid in self.pending:
            self._at_rest.append(mid)

    def reported(self, worker: int) -> None:
        """The worker has said what it holds, or is dead (J10)."""
        if worker in self.unreported:
            self.unreported.remove(worker)
            self._at_rest.extend(self.pending)

    @property
    def letting_go(self) -> bool:
        """Whether anything may leave now on an operator's word."""
        return bool(self._at_rest or self.taken_out)

    def released(self) -> list[int]:
        """The pending removals that may be written now; each is named once."""
        mids, self._at_rest = self._at_rest, []
        return self.freed(mids)

    def freed(self, mids: Iterable[int]) -> list[int]:
        """Which of these pending removals may be written now; from now on they count as granted."""
        free = [mid for mid in dict.fromkeys(mids) if mid in self.pending and not self.busy(mid)]
        self.pending.difference_update(free)
        self.granted.update(free)
        return free

    # --- time ----------------------------------------------------------------------------------------------------

    def alarm(self, queue: HopQueue, now: float) -> None:
        """The queue may have something to do earlier than thought."""
        at = queue.wake(now)
        if at < queue.alarm:
            queue.alarm = at
            self._alarm_count += 1
            heappush(self._alarms, (at, self._alarm_count, queue))

    def wake(self, now: float) -> None:
        """Does what the time has come for: shares that waited are lined up, queues may try their hop again, and those
        that nobody needs are forgotten."""
        if self._idle and self._idle[0][0] + self.max_idle <= now:
            self.drop_idle(now)
        budget = RIPEN
        while budget > 0 and self._alarms and self._alarms[0][0] <= now:
            at, _, queue = heappop(self._alarms)
            if at == queue.alarm:
                queue.alarm = NEVER
                budget -= 1 + self._ripen(queue, now)
                self.rota.list(queue, now)
                self.alarm(queue, now)
        self.throttles.wake(now, self.rota)
        if self._widened:
            self._widened = False
            for queue in self.queues.values():
                self.rota.list(queue, now)

    def _ripen(self, queue: HopQueue, now: float) -> int:
        shares = queue.waits.due(now)
        for share in shares:
            if share.state is WAITING:  # one that waited twice for this second stands in the list twice
                share.due = 0
                self.line_up(share, now)
        return len(shares)

    def next_alarm(self) -> float | None:
        """When `wake` has something to do next, None when only an event can tell."""
        while self._alarms and self._alarms[0][0] != self._alarms[0][2].alarm:
            heappop(self._alarms)
        throttled = self.throttles.next_due()
        if not self._alarms or (throttled is not None and throttled < self._alarms[0][0]):
            return throttled
        return self._alarms[0][0]

    # --- for tables ----------------------------------------------------------------------------------------------

    def facts(self, share: Share) -> ShareFacts:
        """A share for tables."""
        due: float | None = None
        status = STATUS[share.state]
        if share.state is WAITING:
            due = share.due
        elif share.state is READY and share.queue.failures and not share.queue.shut:
            status, due = MessageStatus.RETRY, share.queue.next_retry
        if share.word & REMOVING or share.mid in self.pending or share.mid in self.granted:
            status = MessageStatus.PENDING_REMOVE
        elif status is MessageStatus.ACTIVE and share.word & SUSPENDED:
            status = MessageStatus.PENDING_SUSPEND
        return ShareFacts(share.queue.hop, share.rcpt, status, share.attempt, due, share.state is ALONE)


#: What people see of a share's state, before queue and operator are looked at.
STATUS: Final[dict[int, MessageStatus]] = {
    READY: MessageStatus.READY,
    ALONE: MessageStatus.READY,
    OWING: MessageStatus.READY,
    WAITING: MessageStatus.RETRY,
    HELD: MessageStatus.SUSPENDED,
    ASSIGNED: MessageStatus.ACTIVE,
    RECORDING: MessageStatus.ACTIVE,
}


def _ahead(limit: Limit) -> int:
    """Shares that one queue may have out."""
    return limit.connections.domain * limit.ahead
