"""Local delivery: by the connector's type into Maildirs or mbox files, to a server of mailboxes, or to a command; or as
the user himself, by kmq-deliver.

Promise:  each Work is reported once. What no connector of this configuration stores is kept; a kind of delivery that no
          connector asks for costs nothing.
On crash: see phases.work.
Callers:  run.walk; LMTP goes over the connections of phases.smtp.
"""

import asyncio
from collections.abc import Mapping

from kmq.config.sections import ConnectorSection
from kmq.model.hop import NextHop
from kmq.model.reply import Reply
from kmq.phases.allotment import Allotment
from kmq.phases.as_user import AsUser
from kmq.phases.mailbox import Mailbox
from kmq.phases.mboxes import Mboxes
from kmq.phases.pipe import Pipe
from kmq.phases.smtp import Smtp
from kmq.phases.work import Outcome, Report, Show, Work


class LocalDelivery:
    """The phase. connectors: by name; hostname: part of the copies' names; smtp: who speaks LMTP."""

    def __init__(
        self, connectors: Mapping[str, ConnectorSection], hostname: str, smtp: Smtp, allotment: Allotment
    ) -> None:
        self._connectors = connectors
        self._smtp = smtp
        self._maildirs = Mailbox(connectors, hostname)
        self._mboxes = Mboxes(connectors, hostname)
        self._pipe = Pipe(connectors, allotment.worker, allotment.workers)
        self._as_user = AsUser(connectors, hostname, allotment.worker, allotment.workers)

    def ready(self, hop: NextHop) -> bool:
        """A fresh message could be begun now."""
        section = self._connectors.get(hop.connector)
        if section is None:
            return False
        return section.type != "lmtp" or self._smtp.ready(hop)

    def deliver(self, work: Work, report: Report, show: Show) -> None:
        """Brings a message to its recipients. Returns at once."""
        section = self._connectors.get(work.hop.connector)
        kind = "" if section is None else section.type if section.as_user == "no" else "as user"
        match kind:
            case "as user":
                self._as_user.deliver(work, report, show)
            case "mailbox":
                phase = self._mboxes if section is not None and section.mbox else self._maildirs
                phase.deliver(work, report, show)
            case "lmtp":
                self._smtp.deliver(work, report, show)
            case "pipe":
                self._pipe.deliver(work, report, show)
            case _:
                why = f"the configuration has no connector {work.hop.connector!r} for mailboxes"
                report(Outcome(unavailable=Reply(451, "4.3.5", why)))

    def configure(self, connectors: Mapping[str, ConnectorSection], allotment: Allotment) -> None:
        """The configuration was read again; what is under way ends as it began."""
        self._connectors = connectors
        self._maildirs.configure(connectors)
        self._mboxes.configure(connectors)
        self._pipe.configure(connectors, allotment.worker, allotment.workers)
        self._as_user.configure(connectors, allotment.worker, allotment.workers)

    async def close(self, grace: float) -> None:
        """Waits up to `grace` seconds for what is being written; what has not been begun is left to the next run."""
        ends = (phase.close(grace) for phase in (self._maildirs, self._mboxes, self._pipe, self._as_user))
        await asyncio.gather(*ends)
