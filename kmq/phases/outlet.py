"""What all queues of one connector share in one process: its options, what is known of its servers, where they are.

Promise:  a queue of a smart-host connector is one; each domain has its own with type dns, and these share connections
          (phases.berths).
On crash: nothing is kept.
Callers:  phases.smtp, phases.smtp_hop.
"""

from collections.abc import AsyncGenerator, Sequence
from concurrent.futures import Executor
from typing import Protocol

from kmq.config.client_tls import verifies
from kmq.config.kinds import Network
from kmq.config.sections import ConnectorSection
from kmq.model.reply import Reply
from kmq.phases.allotment import Allotment
from kmq.phases.berths import Berth, Berths, Server
from kmq.phases.hosts import Hosts
from kmq.phases.places import Places
from kmq.phases.targets import Servers, Target, configured, exchanged

#: Targets of one opening; a domain that names more is not tried any longer for it.
TARGETS = 10

NO_HOSTS = Reply(451, "4.3.5", "the connector names no host; write one into `hosts` of its section")
NO_DNS = Reply(451, "4.3.5", "nothing is known of the DNS yet")


class Directory(Protocol):
    """Who knows the servers of domains: routing.mail_hosts, which need not be loaded where no connector asks."""

    def of(self, domain: str, families: str, forbidden: Sequence[Network], port: int) -> Servers: ...


class Outlet:
    """See above. allotment: connections that are this worker's; openings: those that are being opened.

    directory: None without connectors of type dns.
    """

    def __init__(
        self,
        section: ConnectorSection,
        helo: str,
        allotment: Allotment,
        threads: Executor,
        directory: Directory | None,
    ) -> None:
        self.section = section
        self.helo = section.helo or helo
        self.allotment = allotment
        self.places = Places(max(1, allotment.total(section)))
        self.threads = threads
        self.hosts = Hosts(section)
        self.openings = 0
        self._directory = directory
        self._berths = Berths(self._connections_to) if section.type == "dns" else None
        self._verifies = verifies(section)

    def targets(self, domain: str) -> AsyncGenerator[Target | Reply, None]:
        """Where a connection for a queue may go."""
        section = self.section
        if section.type != "dns":
            return configured(section, self.hosts)
        if self._directory is None:
            return _nowhere()
        servers = self._directory.of(domain, section.address_families, section.forbidden_addresses, section.port)
        return exchanged(servers, section.port, self.hosts)

    def berth(self, target: Target) -> Berth | None:
        """Where connections to this target are counted; None where only one queue has any.

        Servers whose names are verified are told apart by their names, too.
        """
        if self._berths is None:
            return None
        return self._berths.at((target.known, target.name if self._verifies else ""))

    def _connections_to(self, server: Server) -> int:
        (address, _), _ = server
        return self.allotment.host(self.section, address)

    def allot(self, allotment: Allotment) -> None:
        """So many connections from now on."""
        self.allotment = allotment
        self.places.limit = max(1, allotment.total(self.section))
        if self._berths is not None:
            self._berths.measure()

    def tidy(self) -> None:
        """Forgets what is not used; called now and then."""
        if self._berths is not None:
            self._berths.tidy()


async def _nowhere() -> AsyncGenerator[Target | Reply, None]:
    yield NO_DNS
