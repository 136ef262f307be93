"""The hosts of a smart-host connector: which one is tried first, and whether with TLS. Pure; time is an argument.

Promise:  hosts keep the order of the configuration, but one that failed a moment ago is tried after those that did
          not. With `tls = may`, a host whose STARTTLS failed is not spoken to in clear at once (whoever can break
          a handshake would have it too easily): only after an interval, and for a while.
On crash: forgotten; the next attempt finds out again.
Callers:  phases.smtp_hop.
"""

from kmq.config.sections import ConnectorSection

Host = tuple[str, int]

FAILED_MEMORY = 60.0  #: seconds for which a host that failed is tried last
CLEAR_AFTER = 60.0  #: seconds after a failed STARTTLS before the host may be spoken to in clear
CLEAR_UNTIL = 3600.0  #: seconds after a failed STARTTLS when TLS is tried again


class Hosts:
    """What is known of the hosts of one connector."""

    def __init__(self, section: ConnectorSection) -> None:
        self._section = section
        self._failed: dict[Host, float] = {}
        self._tls_failed: dict[Host, float] = {}

    def order(self, now: float) -> list[Host]:
        """The hosts as they are to be tried."""
        return sorted(
            self._section.hosts, key=lambda host: now - self._failed.get(host, -FAILED_MEMORY) < FAILED_MEMORY
        )

    def tls(self, host: Host, now: float) -> bool:
        """Whether STARTTLS is used when it is offered."""
        if self._section.tls != "may":
            return self._section.tls == "must"
        failed = self._tls_failed.get(host)
        return failed is None or not CLEAR_AFTER <= now - failed < CLEAR_UNTIL

    def succeeded(self, host: Host) -> None:
        self._failed.pop(host, None)

    def failed(self, host: Host, now: float, tls: bool) -> None:
        """It could not be reached, or would not talk; tls: STARTTLS was what failed."""
        self._failed[host] = now
        if tls and now - self._tls_failed.get(host, now - CLEAR_UNTIL) >= CLEAR_UNTIL:
            self._tls_failed[host] = now
