"""The receiver process: SMTP in, at one end; the scheduler process at the other.

Does:     serves the listeners that it was handed, one Smtpd for each receiver section; keeps a connection to the
          scheduler process for the submission, made anew whenever it ends; shows its counters in a status file.
Promise:  the scheduler process may die and come back while clients talk: none of them notices more than a pause. Asked
          to stop, it takes nobody in any more and lets messages under way come to their end, for `GRACE` seconds.
On crash: clients that had no 250 send again; the listeners live on in the supervisor, with those who wait there.
Callers:  cli.kmqd starts it; one loop (uvloop).
"""

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import Mapping

from kmq import log
from kmq.config import ReceiverSection, Settings
from kmq.config.certificates import require
from kmq.errors import ConfigError
from kmq.intake.smtpd import Smtpd
from kmq.intake.submission import Submission
from kmq.intake.tally import Tally, shared
from kmq.model.frame import AnyFrame, Frame, Hello
from kmq.routing.table import Routes
from kmq.run import listeners, rotation
from kmq.run.link import Link
from kmq.run.reloading import reread
from kmq.spool.disk import Disk
from kmq.spool.status import StatusFile

GRACE = 10.0
_TICK = 1.0


class Receiver:
    """One receiver process: its sections' servers, the door behind them, and the connection behind that."""

    def __init__(self, settings: Settings, number: int, status: StatusFile, started: float) -> None:
        self.settings = settings
        self.number = number
        self.status = status
        self.started = started
        self.disk = Disk(settings.kmq.spool)
        self.submission = Submission(self._send, self.disk, number)
        self.smtpds: dict[str, Smtpd] = {}
        self._link: Link | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._stopping = asyncio.Event()
        self._hasty = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    # --- the whole life ----------------------------------------------------------------------------------------------

    async def run(self, sockets: dict[str, socket.socket], tallies: Mapping[str, int]) -> None:
        """Serves until told to stop. tallies: section -> memory in which all receivers count sessions together."""
        require(self.settings)
        self._connect()
        routes = Routes(self.settings)
        for section in self.settings.receivers:
            listening = listeners.of_section(sockets, section.name)
            smtpd = Smtpd(
                section,
                self.settings.kmq.hostname,
                routes,
                self.submission,
                self._tally(section, tallies),
                small_body=self.settings.queue.small_body,
            )
            await smtpd.serve(listening)
            self.smtpds[section.name] = smtpd
        self._tick()
        await self._stopping.wait()
        await self._close()

    def stop(self) -> None:
        """Takes nobody in any more; said again, waits for nobody."""
        (self._hasty if self._stopping.is_set() else self._stopping).set()

    def reload(self) -> None:
        """The configuration again, for sessions that begin from now on. A wrong one changes nothing."""
        try:
            new = reread(self.settings)
            self._work_by(new)
        except ConfigError as error:
            log.error("the new configuration is wrong, the old one stays", why=str(error))
            return
        self.settings = new
        log.start(f"receiver-{self.number}", new.kmq.log_level, new.kmq.mail_log)

    def _work_by(self, settings: Settings) -> None:
        """All sections by these settings; ConfigError and all as before when a certificate cannot be used."""
        routes, changed = Routes(settings), []
        try:
            for section in settings.receivers:
                if section.name in self.smtpds:
                    self.smtpds[section.name].reload(section, settings.kmq.hostname, routes)
                    changed.append(section.name)
        except ConfigError:
            old = Routes(self.settings)
            for section in self.settings.receivers:
                if section.name in changed:
                    with contextlib.suppress(ConfigError):
                        self.smtpds[section.name].reload(section, self.settings.kmq.hostname, old)
            raise

    def _tally(self, section: ReceiverSection, tallies: Mapping[str, int]) -> Tally:
        rows = self.settings.kmq.receivers
        memory = shared(tallies[section.name], rows) if section.name in tallies else None
        row = self.number - 1 if memory is not None else 0
        return Tally(section.sessions, section.sessions_per_client, memory, row, rows if memory is not None else 1)

    async def _close(self) -> None:
        """Messages under way come to their end; what the door has not answered by then was not promised to anybody."""
        closing = asyncio.gather(*(smtpd.close(GRACE) for smtpd in self.smtpds.values()))
        hasty = asyncio.ensure_future(self._hasty.wait())
        await asyncio.wait((closing, hasty), return_when=asyncio.FIRST_COMPLETED)
        hasty.cancel()
        closing.cancel()
        if self._connecting is not None:
            self._connecting.cancel()
        if self._link is not None:
            link, self._link = self._link, None
            link.close()

    # --- the scheduler process ---------------------------------------------------------------------------------------

    def _connect(self) -> None:
        self._connecting = self._loop.create_task(self._introduce())

    async def _introduce(self) -> None:
        """Who we are, then what we want to know of before (J10), then what waited."""
        link: Link | None = None
        while link is None or not link.open:  # it may have ended by the time that we hear of it
            link = Link(self._heard, self._ended, lambda _: self.submission.resume())
            await link.connect(self.settings.kmq.run_directory / "queue.sock")
        self._link = link
        link.send(Hello("receiver", self.number, os.getpid(), self.started))
        self.submission.reconnected()

    def _ended(self, link: Link) -> None:
        """The scheduler process is gone; the supervisor begins another."""
        if link is self._link:
            self._link = None
            self._connect()

    def _heard(self, link: Link, frame: AnyFrame, raw: bytes) -> None:
        if not self.submission.heard(frame):
            log.warning("a frame that no receiver understands", frame=type(frame).__name__)

    def _send(self, frame: Frame, raw: bytes) -> bool:
        link = self._link
        return link is not None and not link.full and link.send(frame, raw)

    # --- each second -------------------------------------------------------------------------------------------------

    def _tick(self) -> None:
        self.submission.tick()
        counters = self.status.counters
        counters["sessions"] = sum(smtpd.sessions for smtpd in self.smtpds.values())
        for smtpd in self.smtpds.values():
            for name in smtpd.counts:
                counters[name] = sum(one.counts[name] for one in self.smtpds.values())
        counters["unanswered"] = self.submission.unanswered
        counters["log_lines_lost"] = log.lost()
        self.status.flush()
        self._loop.call_later(_TICK, self._tick)


def main(
    settings: Settings,
    number: int,
    sockets: dict[str, socket.socket],
    started: float,
    tallies: Mapping[str, int] | None = None,
) -> int:
    """The process; -> its exit status."""
    import uvloop

    status = StatusFile(settings.kmq.spool / "status", "receiver", number)

    async def receive() -> int:
        loop = asyncio.get_running_loop()
        log.gather(loop)
        rotation.heed(loop)
        receiver = Receiver(settings, number, status, started)
        loop.add_signal_handler(signal.SIGTERM, receiver.stop)
        loop.add_signal_handler(signal.SIGINT, lambda: None)  # the supervisor says when
        loop.add_signal_handler(signal.SIGHUP, receiver.reload)
        try:
            await receiver.run(sockets, tallies or {})
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
