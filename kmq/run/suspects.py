"""Messages that may have killed a worker: each is run again alone, so that only the guilty one is counted.

Does:     keeps their shares in a line of their own; keeps one worker free of other work until it has nothing in hand,
          then lets it run one of them, and nothing else meanwhile.
Promise:  one at a time over all workers; the other workers go on with ordinary mail. A worker that is the only one
          alternates: after its turn for a suspect (or after waiting in vain to become empty, for a second at first,
          later for longer) ordinary mail has it for three times as long.
          A message is a suspect until a run alone ended normally and no share of it is left in line.
On crash: counts of crashes come back from the envelopes (Crashed); who was only a suspect is not one any more.
Callers:  kmq/run/lines (who stands in line), scheduler (who runs).
"""

from collections import deque

from kmq.run.crew import Crew, Worker
from kmq.run.share import ALONE, Share

#: How long the only worker is kept from other work to become empty, in seconds: at first, and at most.
PATIENCE = 1.0
PATIENCE_MAX = 60.0

#: How much longer ordinary mail has the only worker than a suspect had it.
REST = 3.0


class Suspects:
    """mids: the messages; crashes: how many workers a message has killed alone; running: the assignment that runs
    alone, or 0.
    """

    __slots__ = ("_line", "_patience", "_reserved", "_rest_until", "_since", "crashes", "mids", "running")

    def __init__(self) -> None:
        self.mids: set[int] = set()
        self.crashes: dict[int, int] = {}
        self.running = 0
        self._line: deque[Share] = deque()
        self._reserved: Worker | None = None
        self._since = 0.0
        self._rest_until = 0.0
        self._patience = PATIENCE

    def put(self, share: Share) -> None:
        """A share takes its place in line."""
        self._line.append(share)

    def next(self, now: float) -> Share | None:
        """The first share in line whose queue lets it go; None when there is none."""
        for _ in range(len(self._line)):
            share = self._line[0]
            if share.state is not ALONE:
                self._line.popleft()
            elif share.owed or share.queue.reachable(now):
                return share
            else:
                self._line.rotate(-1)
        return None

    def begin(self, n: int) -> None:
        """The share that `next` named is handed out with this number."""
        self._line.popleft()
        self.running = n

    def worker(self, crew: Crew, now: float, others_wait: bool) -> Worker | None:
        """The worker that may run a suspect now: it has nothing in hand. None when nobody is free for it yet.

        others_wait: ordinary mail is ready to be handed out.
        """
        worker = self._reserved
        if worker is None or worker.draining or crew.workers.get(worker.number) is not worker:
            worker = self._reserve(crew, now, others_wait)
        if worker is None:
            return None
        if worker.in_hand == 0:
            return worker
        if not crew.opened and now >= self._since + self._patience:
            self._patience = min(PATIENCE_MAX, 2 * self._patience)
            self._let_go(crew, now)
        return None

    def _reserve(self, crew: Crew, now: float, others_wait: bool) -> Worker | None:
        """Takes the least busy worker out of ordinary work, unless it is the only one and ordinary mail's turn."""
        self._reserved = None
        if not crew.opened or (len(crew.opened) == 1 and others_wait and now < self._rest_until):
            return None
        self._reserved = min(crew.opened, key=lambda worker: worker.in_hand)
        self._reserved.reserved = True
        self._since = now
        crew.count()
        return self._reserved

    def ended(self, crew: Crew, now: float) -> None:
        """The run alone is over, well or not."""
        self.running = 0
        self._patience = PATIENCE
        if self._reserved is not None and not crew.opened:
            self._let_go(crew, now)

    def idle(self, crew: Crew) -> None:
        """Nobody is in line: the worker goes back to ordinary work."""
        if self._reserved is not None and not self.running:
            self._reserved.reserved = False
            self._reserved = None
            crew.count()

    def _let_go(self, crew: Crew, now: float) -> None:
        self._rest_until = now + REST * (now - self._since)
        self.idle(crew)

    def wake(self, now: float) -> float | None:
        """When to ask again although nothing happened: the only worker's turn or its patience ends."""
        if not self._line or self.running:
            return None
        at = self._rest_until if self._reserved is None else self._since + self._patience
        return at if at > now else None

    @property
    def waiting(self) -> bool:
        """Whether anybody may be in line, or a worker is kept free."""
        return bool(self._line) or self._reserved is not None

    def crashed(self, mid: int) -> int:
        """The message was alone when its worker died; how often now. It stays a suspect."""
        self.mids.add(mid)
        self.crashes[mid] = self.crashes.get(mid, 0) + 1
        return self.crashes[mid]

    def quiet(self, mid: int) -> None:
        """No suspect any more; the crashes that were counted stay, as they do in the envelope."""
        self.mids.discard(mid)

    def forget(self, mid: int) -> None:
        """The message is gone."""
        self.mids.discard(mid)
        self.crashes.pop(mid, None)
