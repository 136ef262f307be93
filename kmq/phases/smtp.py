"""SMTP delivery: messages go to smart hosts or to the servers of their domain, over connections that are kept; and by
LMTP to servers of mailboxes.

Promise:  each Work is reported once; a server that cannot be reached is a trouble of the queue (Outcome.unavailable),
          not of the messages. Memory and connections are bounded by what the scheduler gives and by the allotment.
On crash: messages without a report are sent again (J9), also those whose final dot was on the way: the one allowed
          duplicate.
Callers:  run.walk. Everything happens in its loop; only files are read in threads.
"""

import asyncio
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor

from kmq.config.sections import ConnectorSection
from kmq.model.hop import DeliveryType, NextHop
from kmq.model.reply import Reply
from kmq.phases.allotment import Allotment
from kmq.phases.delivery import Delivery
from kmq.phases.outlet import Directory, Outlet
from kmq.phases.rewriting import NOTHING, Rewriting
from kmq.phases.smtp_hop import SmtpHop
from kmq.phases.work import Outcome, Report, Show, Work

READERS = 4  #: threads that read large bodies
FAREWELL = 0.5  #: seconds that servers have to answer QUIT when kmq stops
OPENINGS = 50  #: connections that are being opened while fresh mail may begin another queue
SWEEP = 1.0  #: seconds between two looks at the deadlines

STOPPING = Reply(421, "4.3.2", "kmq is stopping")


class Smtp:
    """The phase.

    connectors:  by name.
    hostname:    what EHLO says where a connector has no `helo`.
    allotment:   how many connections this worker may have.
    directory:   who knows the servers of domains, for connectors of type dns.
    rewriting:   which addresses are others on the way out.
    """

    def __init__(
        self,
        connectors: Mapping[str, ConnectorSection],
        hostname: str,
        allotment: Allotment,
        directory: Directory | None = None,
        rewriting: Rewriting = NOTHING,
    ) -> None:
        self._rewriting = rewriting
        self._connectors = connectors
        self._hostname = hostname
        self._allotment = allotment
        self._directory = directory
        self._outlets: dict[str, Outlet] = {}
        self._hops: dict[str, SmtpHop] = {}  # by connector, or connector;domain
        self._threads = ThreadPoolExecutor(READERS, thread_name_prefix="kmq-body")
        self._sweep: asyncio.TimerHandle | None = None
        self._stopped = False

    def ready(self, hop: NextHop) -> bool:
        """A fresh message for this hop could be begun now: nobody waits there, and it did not just fail.

        Nor are too many servers just being found out about: what waits for them would keep others out of the worker.
        """
        section = self._connectors.get(hop.connector)
        if section is None or section.messages_per_minute or section.messages_per_minute_per_domain:
            return False  # the scheduler process knows whose turn it is
        known = self._hops.get(_key(hop))
        if known is not None:
            return known.ready
        if not self._allotment.queue(section, hop.domain):
            return False
        if hop.delivery_type is not DeliveryType.DNS:
            return True
        return sum(outlet.openings for outlet in self._outlets.values()) < OPENINGS

    def deliver(self, work: Work, report: Report, show: Show) -> None:
        """Sends a message to its recipients as soon as a connection is free. Returns at once."""
        if self._stopped:
            return report(Outcome(unavailable=STOPPING))
        section = self._connectors.get(work.hop.connector)
        if section is None or (section.type == "dns") is not (work.hop.delivery_type is DeliveryType.DNS):
            return report(Outcome(unavailable=_no_connector(work.hop)))
        rewriter = self._rewriting.of(section.name) if section.type != "lmtp" else None
        if isinstance(rewriter, Reply):
            return report(Outcome(unavailable=rewriter))
        hop = self._hops.get(_key(work.hop)) or self._make(work.hop)
        if self._sweep is None:
            self._sweep = asyncio.get_running_loop().call_later(SWEEP, self._look)
        return hop.take(Delivery(work, report, show, rewriter))

    def configure(self, connectors: Mapping[str, ConnectorSection], directory: Directory | None = None) -> None:
        """The configuration was read again; what is busy goes on as it began."""
        before, self._connectors = self._connectors, connectors
        asked, self._directory = self._directory, directory
        for name, outlet in [*self._outlets.items()]:
            other = outlet.section.type == "dns" and asked is not directory
            if other or connectors.get(name) != before.get(name):
                del self._outlets[name]
        for hop in self._hops.values():
            section = hop.outlet.section
            if section.name not in connectors or connectors[section.name].type != section.type:
                hop.rest()
            elif hop.outlet is not self._outlets.get(section.name):
                hop.replace(self._outlet(section.name))

    def allot(self, allotment: Allotment) -> None:
        """So many connections from now on; those that are too many end by themselves."""
        self._allotment = allotment
        for outlet in self._outlets.values():
            outlet.allot(allotment)
        for hop in self._hops.values():
            hop.outlet.allotment = allotment
            hop.measure()

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

    def _make(self, hop: NextHop) -> SmtpHop:
        made = self._hops[_key(hop)] = SmtpHop(self._outlet(hop.connector), hop.domain)
        return made

    def _outlet(self, name: str) -> Outlet:
        found = self._outlets.get(name)
        if found is None:
            section = self._connectors[name]
            found = Outlet(section, self._hostname, self._allotment, self._threads, self._directory)
            self._outlets[name] = found
        return found

    def _look(self) -> None:
        """One timer for all deadlines of the process: a timer for each command would cost more than the command. There
        is none while there is nothing to look at."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        for hop in self._hops.values():
            hop.expire(now)
        for key in [key for key, hop in self._hops.items() if hop.unused and hop.outlet.section.type == "dns"]:
            del self._hops[key]
        for outlet in self._outlets.values():
            outlet.tidy()
        resting = all(hop.unused for hop in self._hops.values())
        self._sweep = None if resting else loop.call_later(SWEEP, self._look)


def _key(hop: NextHop) -> str:
    """A smart host's hosts may be others after a reload, and the queue is the connector's still."""
    return hop.connector if hop.delivery_type is not DeliveryType.DNS else f"{hop.connector};{hop.domain}"


def _no_connector(hop: NextHop) -> Reply:
    kind = "dns" if hop.delivery_type is DeliveryType.DNS else "smarthost"
    return Reply(451, "4.3.5", f"the configuration has no connector {hop.connector!r} of type {kind}")
