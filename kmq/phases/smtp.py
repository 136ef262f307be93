"""SMTP delivery: messages go to the hosts of a smart-host connector over connections that are kept and shared.

Promise:  each Work is reported once; a server that cannot be reached is a trouble of the queue (Outcome.unavailable),
          not of the messages. Memory and connections are bounded by what the scheduler gives and by `connections`.
On crash: messages without a report are sent again (J9), also those whose final dot was on the way: the one allowed
          duplicate.
Callers:  run.worker. Everything happens in its loop; only files are read in threads.
"""

import asyncio
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor

from kmq.config.sections import ConnectorSection
from kmq.model.hop import NextHop
from kmq.model.reply import Reply
from kmq.phases.delivery import Delivery
from kmq.phases.smtp_hop import SmtpHop
from kmq.phases.work import Outcome, Report, Show, Work

READERS = 4  #: threads that read large bodies
FAREWELL = 0.5  #: seconds that servers have to answer QUIT when kmq stops
SWEEP = 1.0  #: seconds between two looks at the deadlines

STOPPING = Reply(421, "4.3.2", "kmq is stopping")


class Smtp:
    """The phase.

    connectors:  by name.
    hostname:    what EHLO says where a connector has no `helo`.
    connections: how many this worker may have to one next hop, its share of per_hop.
    """

    def __init__(self, connectors: Mapping[str, ConnectorSection], hostname: str, connections: int) -> None:
        self._connectors = connectors
        self._hostname = hostname
        self._width = max(1, connections)
        self._hops: dict[str, SmtpHop] = {}
        self._threads = ThreadPoolExecutor(READERS, thread_name_prefix="kmq-body")
        self._sweep: asyncio.TimerHandle | None = None
        self._stopped = False

    def ready(self, hop: NextHop) -> bool:
        """A fresh message for this hop could be begun now: nobody waits there, and it did not just fail."""
        if hop.connector not in self._connectors:
            return False
        known = self._hops.get(hop.connector)
        return known is None or known.ready

    def deliver(self, work: Work, report: Report, show: Show) -> None:
        """Sends a message to its recipients as soon as a connection is free. Returns at once."""
        if self._stopped:
            return report(Outcome(unavailable=STOPPING))
        name = work.hop.connector
        if name not in self._connectors:
            return report(Outcome(unavailable=Reply(451, "4.3.5", f"the configuration has no connector {name!r}")))
        hop = self._hops.get(name) or self._make(name)
        return hop.take(Delivery(work, report, show))

    def configure(self, connectors: Mapping[str, ConnectorSection]) -> None:
        """The configuration was read again; what is busy goes on as it began."""
        before, self._connectors = self._connectors, connectors
        for name, hop in self._hops.items():
            if name not in connectors:
                hop.rest()
            elif connectors[name] != before.get(name):
                hop.replace(connectors[name])

    async def close(self, grace: float) -> None:
        """Waits up to `grace` seconds for what is on its way, then ends it: deferred, or unavailable if not begun."""
        await self._until_none(lambda hop: hop.busy, grace)
        for hop in self._hops.values():
            hop.rest()
        await self._until_none(lambda hop: hop.leaving, FAREWELL)
        self._stopped = True
        for hop in self._hops.values():
            await hop.stop(STOPPING)
        if self._sweep is not None:
            self._sweep.cancel()
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _until_none(self, true: Callable[[SmtpHop], bool], patience: float) -> None:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + patience
        while any(map(true, self._hops.values())) and loop.time() < deadline:
            await asyncio.sleep(0.01)

    def _make(self, name: str) -> SmtpHop:
        hop = self._hops[name] = SmtpHop(self._connectors[name], self._hostname, self._width, self._threads)
        if self._sweep is None:
            self._look()
        return hop

    def _look(self) -> None:
        """One timer for all deadlines of the process: a timer for each command would cost more than the command."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        for hop in self._hops.values():
            hop.expire(now)
        self._sweep = loop.call_later(SWEEP, self._look)
