"""The workers: how many slots each has, what is in its hands, and who takes the next assignment.

Promise:  nobody gets more than its slots; the one with the least in hand is next, so a slow worker gets less. Of what
          costs less together, who has little in hand gets the next one too: it is awake, and the others may sleep on.
          A worker that is leaving, that has no slots (it may only tell what it has), or that is kept free for a suspect
          gets nothing in the ordinary way.
On crash: a worker that is gone is forgotten; what it had in hand is freed by the scheduler.
Callers:  kmq/run/scheduler, suspects.
"""


class Worker:
    """number: of the process; in_hand: assignments without a result. open: gets ordinary assignments (`Crew.count`)."""

    __slots__ = ("draining", "in_hand", "number", "open", "reserved", "slots")

    def __init__(self, number: int, slots: int) -> None:
        self.number = number
        self.slots = slots
        self.in_hand = 0
        self.draining = False
        self.reserved = False
        self.open = False


class Crew:
    """All workers. free: slots for ordinary assignments now; slots: of all workers that are not leaving."""

    __slots__ = ("_open", "free", "slots", "workers")

    def __init__(self) -> None:
        self.workers: dict[int, Worker] = {}
        self._open: list[Worker] = []
        self.free = 0
        self.slots = 0

    def up(self, number: int, slots: int) -> Worker:
        """A worker is there; one that is known gets its new number of slots."""
        worker = self.workers.get(number)
        if worker is None:
            worker = self.workers[number] = Worker(number, slots)
        worker.slots = slots
        self.count()
        return worker

    def leaving(self, number: int) -> None:
        """A worker takes nothing new any more."""
        if number in self.workers:
            self.workers[number].draining = True
            self.count()

    def gone(self, number: int) -> Worker | None:
        """A worker is dead and reaped."""
        worker = self.workers.pop(number, None)
        self.count()
        return worker

    def count(self) -> None:
        """Counts anew; after every change but `take` and `give`, which count for themselves."""
        for worker in self.workers.values():
            worker.open = worker.slots > 0 and not worker.draining and not worker.reserved
        self._open = [worker for worker in self.workers.values() if worker.open]
        self.slots = sum(worker.slots for worker in self.workers.values() if not worker.draining)
        self.free = sum(max(0, worker.slots - worker.in_hand) for worker in self._open)

    @property
    def opened(self) -> list[Worker]:
        """Those who get ordinary assignments."""
        return self._open

    def free_among(self, carriers: frozenset[int]) -> bool:
        """Whether one of these workers has a free slot; when none of them is open, any worker will do."""
        return any(worker.in_hand < worker.slots for worker in self._among(carriers))

    def _among(self, carriers: frozenset[int]) -> list[Worker]:
        return [worker for worker in self._open if worker.number in carriers] or self._open

    def next(self, carriers: frozenset[int] | None = None, little: int = 0) -> Worker:
        """Who takes the next assignment; only to be asked while `free` is not 0, and of some workers `free_among`.

        little: below so many in its hands a worker gets it whatever the others have.
        """
        best: Worker | None = None
        for worker in self._open if carriers is None else self._among(carriers):
            if worker.in_hand < min(little, worker.slots):
                return worker
            if worker.in_hand < worker.slots and (best is None or worker.in_hand < best.in_hand):
                best = worker
        assert best is not None, "asked for a worker although no slot is free"
        return best

    def take(self, worker: Worker) -> None:
        """The worker has one more in hand."""
        if worker.open and worker.in_hand < worker.slots:
            self.free -= 1
        worker.in_hand += 1

    def give(self, number: int) -> None:
        """The worker has one less in hand."""
        worker = self.workers.get(number)
        if worker is not None:
            worker.in_hand -= 1
            if worker.open and worker.in_hand < worker.slots:
                self.free += 1
