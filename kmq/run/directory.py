"""Who tells a worker where the servers of a domain are.

Promise:  a reload forgets what was learned of the DNS, so that an operator who knows better need not wait for it. A
          worker without connectors of type dns loads nothing of it.
On crash: forgotten.
Callers:  run.walk.
"""

from typing import TYPE_CHECKING

from kmq.config import Settings
from kmq.config.kinds import Endpoint

if TYPE_CHECKING:
    from kmq.routing.mail_hosts import MailHosts

#: What makes two directories differ: the resolvers, patience, our name, our listeners.
Question = tuple[tuple[Endpoint, ...], float, str, tuple[Endpoint, ...]]


class Directories:
    """The directory of the configuration that counts."""

    def __init__(self) -> None:
        self._asked: Question | None = None
        self._made: MailHosts | None = None

    def of(self, settings: Settings) -> "MailHosts | None":
        """None when no connector asks the DNS."""
        if not any(one.type == "dns" for one in settings.connectors):
            return None
        listen = tuple(endpoint for receiver in settings.receivers for endpoint in receiver.listen)
        kmq = settings.kmq
        asked = (kmq.dns_servers, kmq.dns_timeout, kmq.hostname, listen)
        if self._made is None or asked != self._asked:
            from kmq.routing.mail_hosts import MailHosts  # dnspython: 85 ms and 10 MB that smart hosts do not need
            from kmq.routing.ourselves import Ourselves

            self._asked = asked
            self._made = MailHosts(kmq.dns_servers, kmq.dns_timeout, Ourselves(kmq.hostname, listen))
        else:
            self._made.forget()
        return self._made

    async def close(self) -> None:
        if self._made is not None:
            await self._made.close()
