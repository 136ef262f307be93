"""What of the limits on connections is this worker's.

Promise:  values; a lookup is some arithmetic, done once for a queue or a server.
Callers:  phases.smtp, outlet and smtp_hop; run.walk makes it of a configuration.
"""

from typing import NamedTuple

from kmq.config.connections import connections_of, key_of, part
from kmq.config.sections import ConnectorSection
from kmq.model.priority import Parts


class Allotment(NamedTuple):
    """per_hop: as [queue] says; worker: the number of this one among so many `workers`, from 1; parts: of the
    connections of a queue, by priority."""

    per_hop: int
    worker: int = 1
    workers: int = 1
    parts: Parts = None

    def total(self, section: ConnectorSection) -> int:
        """Connections of a connector."""
        return self._mine(connections_of(section, self.per_hop).total, section.name)

    def queue(self, section: ConnectorSection, domain: str) -> int:
        """Connections of one queue; 0: what goes there is another worker's."""
        found = connections_of(section, self.per_hop)
        return self._mine(found.domain, key_of(found, section.name, domain, self.workers))

    def host(self, section: ConnectorSection, address: str) -> int:
        """Connections to one address, at least one: which servers a domain has nobody knows beforehand."""
        return max(1, self._mine(connections_of(section, self.per_hop).host, address))

    def _mine(self, limit: int, key: str) -> int:
        return part(limit, self.worker, self.workers, key)
