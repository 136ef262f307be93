"""The way into the queue for a process that brings mail in: its door, and the connection behind it.

Promise:  the connection is made anew whenever it ends, and what was sent over the last one is asked for (J10): the
          scheduler process may die and come back, and who waits for an answer notices no more than a pause.
On crash: what was not answered was promised to nobody.
Callers:  run.receiver and run.pickup, in their loops.
"""

import asyncio
import os

from kmq import log
from kmq.config import Settings
from kmq.intake.submission import Submission
from kmq.model.frame import AnyFrame, Frame, Hello
from kmq.run.link import Link
from kmq.spool.disk import Disk


class Doorway:
    """submission: the door. role, number, started: who we are, as in the status file."""

    def __init__(self, settings: Settings, disk: Disk, role: str, number: int, started: float) -> None:
        self.submission = Submission(self._send, disk, number)
        self._socket = settings.kmq.run_directory / "queue.sock"
        self._hello = Hello(role, number, os.getpid(), started)
        self._link: Link | None = None
        self._connecting: asyncio.Task[None] | None = None

    @property
    def connected(self) -> bool:
        """Whether the scheduler process is there, as far as we have heard."""
        return self._link is not None

    def connect(self) -> None:
        """Finds the scheduler process, now and whenever it was lost."""
        self._connecting = asyncio.get_running_loop().create_task(self._introduce())

    def close(self) -> None:
        """No more connections. The threads of the door are its own (`submission.close`)."""
        if self._connecting is not None:
            self._connecting.cancel()
        if self._link is not None:
            link, self._link = self._link, None
            link.close()

    async def _introduce(self) -> None:
        """Who we are, then what we want to know of before (J10), then what waited."""
        link: Link | None = None
        while link is None or not link.open:  # it may have ended by the time that we hear of it
            link = Link(self._heard, self._ended, lambda _: self.submission.resume())
            await link.connect(self._socket)
        self._link = link
        link.send(self._hello)
        self.submission.reconnected()

    def _ended(self, link: Link) -> None:
        """The scheduler process is gone; the supervisor begins another."""
        if link is self._link:
            self._link = None
            self.connect()

    def _heard(self, link: Link, frame: AnyFrame, raw: bytes) -> None:
        if not self.submission.heard(frame):
            log.warning(f"a frame that no {self._hello.role} understands", frame=type(frame).__name__)

    def _send(self, frame: Frame, raw: bytes) -> bool:
        link = self._link
        return link is not None and not link.full and link.send(frame, raw)
