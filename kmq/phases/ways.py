"""The ways out that are no servers: delivery agents, folders of gateways, nowhere, no.

Does:     gives each Work to the one for its connector, which is made when the first comes; a process without such
          connectors loads nothing of them.
Promise:  as its ways: each Work is reported once.
On crash: see phases.work.
Callers:  run.walk.
"""

import asyncio
from collections.abc import Mapping
from itertools import count
from typing import Protocol

from kmq.config.sections import ConnectorSection
from kmq.model.hop import DeliveryType, NextHop
from kmq.model.reply import Reply
from kmq.phases.allotment import Allotment
from kmq.phases.delivery import Delivery
from kmq.phases.rewriting import NOTHING, Rewriting
from kmq.phases.work import Outcome, Report, Show, Work

STOPPING = Reply(421, "4.3.2", "kmq is stopping")

_TYPES = {DeliveryType.DELIVERY_AGENT: ("agent",), DeliveryType.NON_SMTP: ("foreign", "discard", "error")}
_AT_ONCE = ("discard", "error")


class Way(Protocol):
    """One connector."""

    @property
    def busy(self) -> bool: ...

    def take(self, delivery: Delivery) -> None: ...

    def replace(self, section: ConnectorSection) -> None: ...

    def allot(self, allotment: Allotment) -> None: ...

    def retire(self) -> None: ...

    async def close(self, grace: float, why: Reply) -> None: ...


class Ways:
    """All of them. spool: below which files for agents lie, and folders that no connector names."""

    def __init__(
        self,
        connectors: Mapping[str, ConnectorSection],
        spool: str,
        allotment: Allotment,
        rewriting: Rewriting = NOTHING,
    ) -> None:
        self._connectors = connectors
        self._spool = spool
        self._allotment = allotment
        self._rewriting = rewriting
        self._ways: dict[str, Way] = {}
        self._leaving: list[Way] = []
        self._numbers = count(1)
        self._stopped = self._cleared = False
        self._prepare()

    def ready(self, hop: NextHop) -> bool:
        """A fresh message could be answered now, in one go. What may take its time goes through its queue, so that it
        never keeps others out of the Submission queue."""
        section = self._connectors.get(hop.connector)
        if section is None or section.type not in _AT_ONCE:
            return False
        return not (section.messages_per_minute or section.messages_per_minute_per_domain)

    def deliver(self, work: Work, report: Report, show: Show) -> None:
        """Takes a message on. Returns at once."""
        if self._stopped:
            return report(Outcome(unavailable=STOPPING))
        section = self._connectors.get(work.hop.connector)
        if section is None or section.type not in _TYPES.get(work.hop.delivery_type, ()):
            why = f"the configuration has no connector {work.hop.connector!r} that leads to {work.hop}"
            return report(Outcome(unavailable=Reply(451, "4.3.5", why)))
        rewriter = None if section.type in _AT_ONCE else self._rewriting.of(section.name)
        if isinstance(rewriter, Reply):
            return report(Outcome(unavailable=rewriter))
        way = self._ways.get(section.name) or self._make(section)
        return way.take(Delivery(work, report, show, rewriter))

    def configure(self, connectors: Mapping[str, ConnectorSection], allotment: Allotment) -> None:
        """The configuration was read again; what is under way ends as it began."""
        before, self._connectors, self._allotment = self._connectors, connectors, allotment
        self._leaving = [way for way in self._leaving if way.busy]
        for name, way in [*self._ways.items()]:
            section = connectors.get(name)
            if section is None or section.type != before[name].type:
                way.retire()
                self._leaving.append(self._ways.pop(name))
            elif section != before[name]:
                way.replace(section)
        for way in self._ways.values():
            way.allot(allotment)
        self._prepare()

    async def close(self, grace: float) -> None:
        """Waits up to `grace` seconds for what is under way, then ends it."""
        self._stopped = True
        await asyncio.gather(*(way.close(grace, STOPPING) for way in [*self._ways.values(), *self._leaving]))

    def _make(self, section: ConnectorSection) -> Way:
        way: Way
        if section.type == "agent":
            from kmq.phases.agent import Agent  # like the others, only where there is one

            way = Agent(section, self._spool, self._allotment, self._numbers)
        elif section.type == "foreign":
            from kmq.phases.foreign import Foreign

            way = Foreign(section, self._spool)
        else:
            from kmq.phases.discard import Discard

            way = Discard(section)
        self._ways[section.name] = way
        return way

    def _prepare(self) -> None:
        """Folders of gateways are there before the first mail, so that somebody can say whose they are."""
        for section in self._connectors.values():
            if section.type == "foreign" and section.name not in self._ways:
                self._make(section)
            elif section.type == "agent" and not self._cleared:
                from kmq.phases.agent_file import clear

                clear(self._spool, self._allotment.worker)
                self._cleared = True
