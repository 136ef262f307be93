"""The receiver process: SMTP in, at one end; the scheduler process at the other.

Does:     serves the listeners that it was handed (gates), brings mail in through its doorway, and shows its counters in
          a status file.
Promise:  the scheduler process may die and come back while clients talk: none of them notices more than a pause. Asked
          to stop, it takes nobody in any more and lets messages under way come to their end, for `GRACE` seconds.
On crash: clients that had no 250 send again; the listeners live on in the supervisor, with those who wait there.
Callers:  cli.kmqd starts it; one loop (uvloop).
"""

import asyncio
import signal
import time
from collections.abc import Awaitable, Callable

from kmq import log
from kmq.errors import ConfigError
from kmq.run import rotation
from kmq.run.cord import Gift, Ward
from kmq.run.doorway import Doorway
from kmq.run.gates import Gates
from kmq.run.inheritance import Inheritance
from kmq.spool.disk import Disk
from kmq.spool.rhythm import pause
from kmq.spool.status import StatusFile

GRACE = 10.0


class Receiver:
    """One receiver process: its sections' servers, the door behind them, and the connection behind that."""

    def __init__(self, given: Inheritance, number: int, status: StatusFile, started: float) -> None:
        settings = self.settings = given.settings
        self.given = given
        self.ward = Ward(given.cord, given.number, self._make)
        self.number = number
        self.status = status
        self.disk = Disk(settings.kmq.spool)
        self.doorway = Doorway(settings, self.disk, "receiver", number, started)
        self.submission = self.doorway.submission
        self.gates = Gates(self.submission, number - 1)
        self._stopping = asyncio.Event()
        self._hasty = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    # --- the whole life ----------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Serves until told to stop. ConfigError when a certificate broke after the supervisor's look."""
        gift = Gift(self.settings, dict(self.given.sockets), dict(self.given.tallies))
        count = self.gates.make(gift)
        self.ward.begin()
        self.doorway.connect()
        await count()
        gift.close()
        self.ward.serves()
        self._tick()
        await self._stopping.wait()
        await self._close()

    def stop(self) -> None:
        """Takes nobody in any more; said again, waits for nobody."""
        (self._hasty if self._stopping.is_set() else self._stopping).set()

    def _make(self, gift: Gift) -> Callable[[], Awaitable[None]]:
        """A new configuration, ready to count for sessions that begin from then on."""
        ready = self.gates.make(gift)

        async def count() -> None:
            self.settings = gift.settings
            log.begin(f"receiver-{self.number}", gift.settings.kmq)
            await ready()

        return count

    async def _close(self) -> None:
        """Messages under way come to their end; what the door has not answered by then was not promised to anybody."""
        closing = asyncio.ensure_future(self.gates.close(GRACE))
        hasty = asyncio.ensure_future(self._hasty.wait())
        await asyncio.wait((closing, hasty), return_when=asyncio.FIRST_COMPLETED)
        hasty.cancel()
        closing.cancel()
        self.doorway.close()
        self.ward.close()

    # --- now and then ------------------------------------------------------------------------------------------------

    def _tick(self) -> None:
        self.submission.tick()
        counters = self.status.counters
        smtpds = list(self.gates)
        counters["sessions"] = sum(smtpd.sessions for smtpd in smtpds)
        for name in ("accepted", "refused", "turned-away"):
            counters[name] = sum(one.counts[name] for one in smtpds)
        counters["unanswered"] = self.submission.unanswered
        counters["log_lines_lost"] = log.lost()
        self.status.flush()
        self._loop.call_later(pause(time.monotonic(), self.status.stirred_at), self._tick)


def main(given: Inheritance, number: int, started: float) -> int:
    """The process; -> its exit status."""
    import uvloop

    status = StatusFile(given.settings.kmq.spool / "status", "receiver", number)

    async def receive() -> int:
        loop = asyncio.get_running_loop()
        log.gather(loop)
        rotation.heed(loop)
        receiver = Receiver(given, number, status, started)
        loop.add_signal_handler(signal.SIGTERM, receiver.stop)
        loop.add_signal_handler(signal.SIGINT, lambda: None)  # the supervisor says when
        try:
            await receiver.run()
        except ConfigError as error:  # said while the loop is there to say it: the certificate broke after kmqd's look
            for line in str(error).splitlines():
                log.error(line)
            return error.exit_status
        finally:
            receiver.submission.close()
        return 0

    ended = uvloop.run(receive())
    status.close()
    return ended
