"""Threads that run one at a time, from one change of the disk to the next, when the test says so.

What:     a `Track` carries a job of the store as its threads do in kmqd; it stands still before every change of the
          disk (`pause` is the disk's watch) until `step`. So two threads' changes can be led in any order, and again.
Callers:  walks.
"""

import threading
from collections.abc import Callable

from tests.spool.ghost import Dead


class Track:
    """One thread. `busy` from `begin` until the job's end has been seen by `step`; then `outcome` is what it returned.

    failure: what the job raised, None when it did not.
    """

    def __init__(self) -> None:
        self.busy = False
        self.outcome: object = None
        self.failure: BaseException | None = None
        self._job: Callable[[], object] | None = None
        self._dying = False
        self._go, self._back = threading.Lock(), threading.Lock()  # released by the one, acquired by the other
        self._go.acquire()
        self._back.acquire()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        _tracks[self._thread] = self

    def begin(self, job: Callable[[], object]) -> None:
        assert not self.busy
        self._job, self.busy = job, True

    def step(self) -> bool:
        """Up to the next change or the end; True at the end."""
        assert self.busy
        self._go.release()
        self._back.acquire()
        self.busy = self._job is not None
        return not self.busy

    def stop(self) -> None:
        """The thread ends; a job under way meets Dead."""
        self._dying = True
        while self._job is not None:
            self._go.release()
            self._back.acquire()
        self.busy = False
        self._go.release()
        self._thread.join()
        del _tracks[self._thread]

    def _run(self) -> None:
        while True:
            self._go.acquire()
            if self._job is None:
                return
            self.outcome, self.failure = None, None
            try:
                self.outcome = self._job()
            except (Exception, Dead) as error:
                self.failure = error
            self._job = None
            self._back.release()

    def pause(self) -> None:
        self._back.release()
        self._go.acquire()
        if self._dying:
            raise Dead


_tracks: dict[threading.Thread, Track] = {}


def pause(kind: str = "", name: str = "") -> None:
    """The disk's watch: a track stands still here, everybody else goes on."""
    track = _tracks.get(threading.current_thread())
    if track is not None:
        track.pause()


class PatientLock:
    """A lock between tracks: who waits for it stands still, so that the other can be led on."""

    def __init__(self) -> None:
        self._lock = threading.Lock()

    def __enter__(self) -> None:
        while not self._lock.acquire(blocking=False):
            pause()

    def __exit__(self, *trouble: object) -> None:
        self._lock.release()
