"""The supervisor's children: what one is, what it died of, and when it is begun again.

What:     `places` says who is to be there; `Child` is one place (role and number) and the process in it now; `Exit`
          reads how a process ended; `Patience` says how long to wait before the next one.
Promise:  a child is reaped once, by its own descriptor (pidfd): no other process with its number is ever meant.
          Only a death by itself is called so: not an end in order, not a signal from outside.
On crash: of the supervisor: the children notice (family).
Callers:  the supervisor.
"""

import os
import signal
import time
from collections.abc import Sequence
from typing import NamedTuple

from kmq.config import Settings
from kmq.model.frame import Beat, Frame
from kmq.run import birth
from kmq.run.cord import Cord
from kmq.run.inheritance import Estate

#: Signals that a process is hit by for what it does itself.
_OWN_DOING = frozenset({signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGSYS})

#: sysexits: try again later; the configuration is wrong. An end in order, whatever the message in hand.
TEMPORARY, WRONG = 75, 78
_IN_ORDER = frozenset({0, TEMPORARY, WRONG})


class Exit(NamedTuple):
    """How a process ended. status: its exit status, or a signal's number, negative; itself: by its own doing."""

    status: int
    itself: bool
    cause: str


def read_exit(status: int) -> Exit:
    """What an exit status says."""
    if status >= 0:
        return Exit(status, status not in _IN_ORDER, f"exit status {status}")
    try:
        name = signal.Signals(-status).name.removeprefix("SIG")
    except ValueError:
        name = str(-status)
    itself = -status in _OWN_DOING
    return Exit(status, itself, f"signal {name}" if itself else f"ended from outside by signal {name}")


class Patience:
    """Waits before a process is begun again: at once, then longer each time, until one has lived for a minute."""

    WAITS = (0.0, 1.0, 2.0, 5.0, 10.0, 30.0)
    GOOD_LIFE = 60.0

    def __init__(self) -> None:
        self._deaths = 0

    def after(self, lived: float) -> float:
        """Seconds to wait, after a life of `lived` seconds."""
        if lived >= self.GOOD_LIFE:
            self._deaths = 0
        wait = self.WAITS[min(self._deaths, len(self.WAITS) - 1)]
        self._deaths += 1
        return wait


def places(settings: Settings) -> list[tuple[str, int]]:
    """Who is to be there under a configuration: (role, number), in the order of their birth."""
    return [
        ("scheduler", 1),
        *(("worker", number) for number in range(1, settings.kmq.workers + 1)),
        *(("receiver", number) for number in range(1, settings.kmq.receivers + 1)),
        *([("pickup", 1)] if settings.pickup.directory or settings.replay.directory else []),
        ("index", 1),
    ]


class Child:
    """One place among the children, and the process that fills it.

    hung: it is being ended because it stood still. lives: how many processes have been in this place.
    leaving: the place is given up, and nobody follows. pid: of the living process; 0 when there is none.
    What the process itself says (Beat): configuration, ready, queued, closed; heard: when it said something last,
    monotonic.
    """

    def __init__(self, role: str, number: int) -> None:
        self.role = role
        self.number = number
        self.patience = Patience()
        self.hung = False
        self.leaving = False
        self.lives = 0
        self.pidfd = -1
        self.cord: Cord | None = None
        self.pid = 0
        self._born = 0.0
        self._forget()

    def _forget(self) -> None:
        self.ready = False
        self.configuration = 0
        self.queued = -1
        self.closed = ""
        self.heard = time.monotonic()

    @property
    def name(self) -> str:
        return f"{self.role}-{self.number}"

    @property
    def lived(self) -> float:
        """Seconds since the last process began."""
        return time.monotonic() - self._born

    def begin(self, live: birth.Live, estate: Estate) -> None:
        """Starts a process; OSError when there is no room for one."""
        assert not self.pid, "one process in a place"
        self._born = time.monotonic()
        cord, theirs = Cord.pair()
        try:
            environment, descriptors = estate.share(self.role, theirs.fileno())
            self.pid, self.pidfd = birth.bear(self.role, self.number, live, environment, descriptors)
        except OSError:
            cord.close()
            raise
        finally:
            theirs.close()
        self.cord = cord
        self.hung = False
        self.lives += 1
        self._forget()
        self.configuration = estate.number

    def reap(self) -> Exit | None:
        """How it ended, and the place is free; None while it lives."""
        pid, status = os.waitpid(self.pid, os.WNOHANG)
        if not pid:
            return None
        os.close(self.pidfd)
        self.pidfd = -1
        self.pid = 0
        self.loosen()
        self._forget()
        ended = read_exit(os.waitstatus_to_exitcode(status))
        # The signal was ours, but what it did to deserve it was its own.
        return ended._replace(itself=True, cause=f"stood still, {ended.cause}") if self.hung else ended

    def send(self, number: signal.Signals) -> None:
        """Sends a signal to the process, if it still lives."""
        if self.pidfd >= 0:
            try:
                signal.pidfd_send_signal(self.pidfd, number)
            except ProcessLookupError:
                pass  # dead, and about to be reaped

    def tell(self, frame: Frame, descriptors: Sequence[int] = ()) -> bool:
        """Says something over the cord; False when nobody is there, or nobody reads."""
        return self.cord is not None and self.cord.send(frame, descriptors)

    def said(self, beat: Beat) -> None:
        """It beats."""
        self.configuration, self.ready = beat.configuration, beat.ready
        self.queued, self.closed = beat.queued, beat.closed

    def loosen(self) -> None:
        """The cord is of no use any more."""
        if self.cord is not None:
            self.cord.close()
            self.cord = None
