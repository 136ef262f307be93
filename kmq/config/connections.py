"""How many connections a connector may have, and how they are dealt out to workers, which know nothing of each other.

Law:      each worker has its part, and the parts add up to the limit. Where there are fewer connections than workers,
          some workers have none; which ones follows from the queue's key, so that queues spread over all.
Promise:  pure; everybody who asks about the same queue hears the same.
Callers:  kmq/run/limits (who may carry what), kmq/phases/allotment (how many connections that are).
"""

from typing import NamedTuple
from zlib import crc32

from kmq.config.sections import ConnectorSection


class Connections(NamedTuple):
    """total: of the connector; domain: of one of its queues; host: to one address of a server (type dns)."""

    total: int
    domain: int
    host: int


def connections_of(section: ConnectorSection, per_hop: int) -> Connections:
    """As the connector says, else as [queue] does. Of an agent the programs are what is connected to."""
    if section.type == "agent":
        return Connections(section.processes, section.processes, section.processes)
    total = section.connections
    domain = section.connections_per_domain or per_hop
    return Connections(total, min(domain, total), min(section.connections_per_host or per_hop, total))


def part(limit: int, worker: int, workers: int, key: str) -> int:
    """Of a limit, what worker 1, 2, .. has; one that is on its way out, beyond their number, has none."""
    if worker > workers:
        return 0
    whole, rest = divmod(limit, workers)
    return whole + ((worker - 1 + crc32(key.encode())) % workers < rest)


def key_of(found: Connections, connector: str, domain: str, workers: int) -> str:
    """By what the connections of a queue are dealt out: as those of the connector, where it has too few for all."""
    return connector if found.total < workers else f"{connector};{domain}"
