"""How long a batch waits for company where a sync takes long: a pure decision, time is an argument.

Clients whose message is stored send the next one a moment later. If the next sync has begun by then, they wait for the
rest of it and for one of their own, and from then on they fall into two groups that wait for each other's syncs for
ever. So a batch that follows upon another waits for those who were there a moment ago, and so does one of results
alone, for whose sync nobody waits.

Bounds:   at most as long behind a sync as one takes, and never once nobody is missing: what comes alone goes at once.
          Where too few come in time, mail in the next batches does not wait.
On crash: nothing of this is kept.
Callers:  run.storage.
"""

from collections import deque

#: Part of those who are expected for whom it was worth it.
ENOUGH = 0.9
#: Batches at most that go at once before one waits again.
REST = 32
#: The least that a timer of the loop waits; less would keep a processor busy until it is over.
TICK = 0.001


class Company:
    """awaited: records that wait to be written, and for which somebody waits: mail that comes in.

    expected: how many of those there were when the last sync ended, its own and the next one's. sync: how many seconds
    one takes.
    """

    def __init__(self) -> None:
        self.awaited = 0
        self.expected = 0
        self.sync = 0.0
        self._took: deque[float] = deque(maxlen=3)  #: seconds of the last syncs: one that was slow by chance is not it
        self._under_way = 0
        self._ended = 0.0
        self._came = 0.0
        self._waiting = False
        self._resting = 0  #: batches that go at once
        self._rest = 1

    def came(self, now: float) -> None:
        """Somebody hands in a record and waits."""
        self.awaited += 1
        self._came = now

    def begun(self, awaited: int) -> None:
        """A sync begins; somebody waits for so many of its records."""
        if self._waiting:
            self._judge()
        elif self._resting:
            self._resting -= 1
        self.awaited -= awaited
        self._under_way = awaited

    def ended(self, now: float, seconds: float) -> None:
        """That sync took so long; those who waited for it may come again."""
        self._took.append(seconds)
        self.sync, self._ended = min(self._took), now
        self.expected = self._under_way + self.awaited

    @property
    def complete(self) -> bool:
        """Nobody is missing."""
        return self.awaited >= self.expected

    def wait(self, now: float) -> float:
        """Seconds, at least what a timer can count; 0 when it is time to begin.

        Once they come, while the next one may follow within a sync's time divided by those who wait already: they all
        wait so long for it, and it is spared a whole sync.
        """
        if self.complete or (self._resting and self.awaited):
            return 0.0
        end = self._ended + self.sync
        if self.awaited and self._came > self._ended:
            end = min(end, self._came + self.sync / self.awaited)
        if end <= now:
            return 0.0
        self._waiting = not self._resting
        return max(end - now, TICK)

    def _judge(self) -> None:
        """Whether it was worth a wait. Clients that a busy processor keeps longer than a sync takes are better off in
        two groups: one is served while the other's messages are synced."""
        self._waiting = False
        if self.awaited >= ENOUGH * self.expected:
            self._rest = max(1, self._rest // 2)
        else:
            self._resting = self._rest
            self._rest = min(2 * self._rest, REST)
