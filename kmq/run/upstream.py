"""Asking for the mail that others keep for us: at the times of a connector's timetable, ETRN to its servers.

Does:     in one worker (a network is waited for), each second: whose time has come? A task for each such connector.
Promise:  a connector is asked for once at each of its times, and not while the last asking goes on. Without
          `etrn_domains` nothing of this runs. What servers said is in the mail log.
On crash: a time that passes while no worker is there is passed over; the next one asks for everything again.
Callers:  run.worker.
"""

import asyncio
import time
from collections.abc import Callable

from kmq import log
from kmq.config import ConnectorSection, Settings
from kmq.log import mail
from kmq.phases.smtp_etrn import Said, ask
from kmq.run.hours import Hours
from kmq.run.timetable import machine_zone, rule_of

#: Seconds between two looks.
LOOK = 1.0


class Upstream:
    """The connectors that ask, each with its hours."""

    def __init__(self, settings: Settings, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._hours: dict[str, Hours] = {}
        self._sections: dict[str, ConnectorSection] = {}
        self._asking: dict[str, asyncio.Task[None]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self.configure(settings)

    def configure(self, settings: Settings) -> None:
        """A configuration counts; what is being asked goes on as it began."""
        self._hostname = settings.kmq.hostname
        asking = [one for one in settings.connectors if one.enabled and one.etrn_domains]
        found = {one.name: (one, rule_of(one, settings.queue)) for one in asking}
        zone = machine_zone() if found else None
        before = self._hours
        self._sections = {name: section for name, (section, _) in found.items()}
        self._hours = {}
        for name, (_, rule) in found.items():
            if rule is not None and zone is not None:
                kept = before.get(name)
                self._hours[name] = kept if kept is not None and kept.rule == rule else Hours(rule, zone)
        self._wake()

    def _wake(self) -> None:
        if self._hours and self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(0.0, self._look)

    def _look(self) -> None:
        self._timer = None
        loop = asyncio.get_running_loop()
        for name, hours in self._hours.items():
            if hours.look(loop.time(), self._clock()):
                self.begin(name)
        if self._hours:
            self._timer = loop.call_later(LOOK, self._look)

    def begin(self, name: str) -> None:
        """The time of a connector has come."""
        if name not in self._asking:
            task = asyncio.get_running_loop().create_task(self._ask(self._sections[name]))
            self._asking[name] = task
            task.add_done_callback(lambda _: self._asking.pop(name, None))

    async def _ask(self, section: ConnectorSection) -> None:
        try:
            for said in await ask(section, self._hostname):
                _tell(said)
        except Exception as error:  # our own mistake is not the worker's end; the next time tries again
            log.error("our program failed while it asked for mail", connector=section.name, trace=log.traced(error))

    def close(self) -> None:
        """The process ends."""
        if self._timer is not None:
            self._timer.cancel()
        self._hours = {}
        for task in self._asking.values():
            task.cancel()


def _tell(said: Said) -> None:
    mail.tell("etrn", relay=said.server, tls=said.tls or None, reply=str(said.reply), node=said.node)
