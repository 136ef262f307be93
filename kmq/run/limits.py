"""What the configuration allows each connector: connections, messages per minute, and connections by priority.

Promise:  values, made once for a configuration; a lookup is that of a dict.
Callers:  kmq/run/lines (a queue gets its limits when it is made, and with each configuration), scheduler.
"""

from collections.abc import Iterable
from typing import NamedTuple

from kmq.config.connections import Connections, connections_of, key_of, part
from kmq.config.local_connector import LOCAL
from kmq.config.sections import ConnectorSection, QueueSection, Settings
from kmq.model.priority import Parts

#: A remote hop gets so many assignments for each of its connections, so that the next message is there when one ends.
AHEAD = 2

#: Of a queue that hands out whatever there is.
NO_LIMIT = 1 << 30

#: The part of all slots that the Submission queue may have while others outside look at mail: one of so many.
SUBMISSION_PART = 2

#: Fresh messages that one worker has in hand before another is woken for the next: fewer than it has connections to one
#: next hop by default, so that each still finds one.
TOGETHER = 8


class Limit(NamedTuple):
    """Of a connector. rate, domain_rate: messages per minute, of all of it and of one queue; 0 for no limit.

    slow_down: it goes slower where a next hop asks for that. each: messages that a connection carries at once, which
    is more than one for the programs of an agent alone; counts: the option that says how many connections there are.
    """

    connections: Connections
    rate: int = 0
    domain_rate: int = 0
    slow_down: bool = True
    each: int = 1
    counts: str = "connections"

    @property
    def ahead(self) -> int:
        """Assignments for each connection. A message that is counted by the minute is not handed out ahead of time."""
        return self.each if self.rate or self.domain_rate else self.each + AHEAD - 1


class Limits:
    """Of a whole configuration. parts: of connections, by priority; submission: messages of the Submission queue in
    workers' hands.

    inspected: scanners or milters look at mail: one that is stuck leaves room for what goes out. together: fresh
    messages that one worker gets before the others are woken; 0 where it has more to do with each than to send it on.
    """

    __slots__ = ("_default", "_of", "_workers", "parts", "submission", "together")

    def __init__(
        self,
        queue: QueueSection,
        connectors: Iterable[ConnectorSection] = (),
        workers: int = 1,
        inspected: bool = False,
        together: int = TOGETHER,
    ) -> None:
        self.together = together
        self.submission = max(1, queue.worker_slots * workers // SUBMISSION_PART) if inspected else NO_LIMIT
        self._workers = workers
        self.parts: Parts = queue.priority_connections if queue.priority_queuing else None
        self._default = Limit(Connections(queue.per_hop, queue.per_hop, queue.per_hop))
        self._of = {one.name: _limit(one, queue.per_hop) for one in connectors if one.type not in LOCAL}

    def of(self, connector: str) -> Limit:
        """Those of a connector; one that the configuration has no more has what [queue] says."""
        return self._of.get(connector, self._default)

    def carriers(self, connector: str, domain: str) -> frozenset[int] | None:
        """The workers that may have a connection for a queue; None when all may."""
        found = self.of(connector).connections
        if min(found.domain, found.total) >= self._workers:
            return None
        key = key_of(found, connector, domain, self._workers)
        every = range(1, self._workers + 1)
        return frozenset(one for one in every if part(found.domain, one, self._workers, key))


def limits_of(settings: Settings) -> Limits:
    """Those of a configuration."""
    inspected = bool(settings.scanners or settings.milters)
    together = 0 if inspected or settings.rules or settings.attachments else TOGETHER
    return Limits(settings.queue, settings.connectors, settings.kmq.workers, inspected, together)


def _limit(one: ConnectorSection, per_hop: int) -> Limit:
    return Limit(
        connections_of(one, per_hop),
        one.messages_per_minute,
        one.messages_per_minute_per_domain,
        one.slow_down,
        *((one.in_flight, "processes") if one.type == "agent" else (1, "connections")),
    )
