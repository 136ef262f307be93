"""Which messages get no further attempt because their time is over, and of which the sender is to hear that it takes
longer.

Does:     both only on a failed attempt made after the time: the message's own deferral, or the failed probe of its
          queue, which was everybody's attempt. The worker is then told to make the notice.
Promise:  a queue is looked through in portions, so that a hundred thousand messages that expire together stop nobody;
          a hop that speaks meanwhile ends the look, since what is left can be delivered. Looks through one queue are so
          far apart that they take a hundredth of the time, however often an operator has its hop tried. What the brake
          holds back is not given up, but tried again.
On crash: nothing is kept; the next failed attempt finds the same messages.
Callers:  kmq/run/scheduler.
"""

from collections import deque

from kmq.model import queue_id
from kmq.model.priority import NORMAL
from kmq.run.brake import Brake
from kmq.run.hopqueue import HopQueue
from kmq.run.lifetime import Lifetime
from kmq.run.line import Line
from kmq.run.lines import Lines
from kmq.run.share import OWING, READY, Owed, Share

#: Shares looked at in one portion.
PORTION = 500

#: Seconds from one look through a queue to the next, for each message in it: a look takes about 2 µs for each.
PAUSE = 0.0002

#: The look has not begun: all retries that are in line then are still to be looked at.
WHOLE = -1


class Expiry:
    """The looks that are under way, and the line of those that wait for their notice."""

    def __init__(self, lines: Lines, lifetime: Lifetime, brake: Brake) -> None:
        self.lifetime = lifetime
        self.brake = brake
        self._lines = lines
        self._looks: deque[HopQueue] = deque()

    # --- one share ---------------------------------------------------------------------------------------------------

    def given_up(self, share: Share, reply: str, now: float) -> Owed | None:
        """The notice about a share that is over, since its last attempt failed with this reply; None while the brake
        holds it back."""
        passes = self.brake.passes(self._end(share), now, len(self._lines.messages))
        return Owed(True, reply) if passes else None

    def late(self, share: Share, now: float) -> bool:
        """Whether the sender is to be told that it takes longer, if an attempt failed now."""
        after = share.queue.schedules[share.priority].warn_after
        if not after or not self.lifetime.older(share.mid, after, now):
            return False
        return not self._lines.is_warned(share.mid, share.rcpt)

    def over(self, queue: HopQueue, mid: int, attempts: int, now: float, priority: int = NORMAL) -> bool:
        """Whether the last of so many attempts was the last one altogether."""
        schedule = queue.schedules[priority]
        if self.lifetime.older(mid, schedule.lifetime, now):
            return True
        return 0 < schedule.attempts <= attempts + queue.silences_since(queue_id.created(mid))

    def _end(self, share: Share) -> float:
        """The Unix time at which a message came to its end; one that had too many attempts: at its beginning."""
        created, schedule = queue_id.created(share.mid), share.queue.schedules[share.priority]
        return created if schedule.attempts else created + schedule.lifetime

    # --- queues ------------------------------------------------------------------------------------------------------

    def begin(self, queue: HopQueue, reply: str, now: float) -> None:
        """The queue's attempt failed with this reply: those whose time has come get a notice, portion by portion.

        Soon after the last look nothing happens: whose time has come since then waits for the next failed attempt.
        """
        if now >= queue.next_look:
            self._begin(queue, reply, now)

    def _begin(self, queue: HopQueue, reply: str, now: float) -> None:
        queue.next_look = now + PAUSE * queue.count
        if not queue.sweeping:
            self._looks.append(queue)
        queue.sweeping = reply
        for line in queue.lines:
            line.sweep = WHOLE

    def begin_all(self, now: float) -> None:
        """The same for all queues whose last attempt failed, at once."""
        for queue in self._lines.queues.values():
            if queue.failures:
                self._begin(queue, queue.last_error, now)

    @property
    def looking(self) -> bool:
        """Whether `look` has more to do."""
        return bool(self._looks)

    def look(self, now: float) -> None:
        """One portion."""
        if self._looks:
            queue = self._looks[0]
            if self._portion(queue, now):
                self._looks.popleft()
                queue.sweeping = ""
            else:
                self._looks.rotate(-1)

    def _portion(self, queue: HopQueue, now: float) -> bool:
        """True when the look has come to its end."""
        budget = PORTION
        for line in queue.lines:
            if budget:
                budget = self._along(line, queue, budget, now)
        return budget > 0

    def _along(self, line: Line, queue: HopQueue, budget: int, now: float) -> int:
        """What is left of the budget when a line was looked along."""
        if line.sweep == WHOLE:  # counted now, not in `begin`: what failed together has come back into line
            line.sweep = len(line.again)
        while budget and queue.sweeping and line.fresh:
            share = line.fresh[0]
            if self._stays(share, queue, now):
                break  # the line of fresh mail is in order of age, and what was warned of is not fresh any more
            line.fresh.popleft()
            budget -= 1
        while budget and queue.sweeping and line.sweep and line.again:
            share = line.again.popleft()
            if self._stays(share, queue, now):
                line.again.append(share)
            line.sweep -= 1
            budget -= 1
        return budget

    def _stays(self, share: Share, queue: HopQueue, now: float) -> bool:
        """Whether the share stays in line; one that is owed a notice goes for it."""
        if share.state is not READY or share.queue is not queue:
            return False
        if self.over(queue, share.mid, share.attempt - 1, now, share.priority):
            share.owed = self.given_up(share, queue.sweeping, now)
        elif self.late(share, now):
            share.owed = Owed(False, queue.sweeping)
        if share.owed is None:
            return True
        self._lines.line_up(share, now)
        return False

    def next(self) -> Share | None:
        """The next share that is to get its notice; None when there is none."""
        line = self._lines.owing
        while line:
            share = line.popleft()
            if share.state is OWING:
                return share
        return None
