"""What is remembered of the servers of a connector: which failed a moment ago, and with which TLS did. Pure; time is an
argument.

Promise:  a server that failed a moment ago is tried after those that did not. With `tls = may`, one whose STARTTLS
          failed is not spoken to in clear at once (whoever can break a handshake would have it too easily): only after
          an interval, and for a while; with `tls_failure = wait` never. Memory is bounded.
On crash: forgotten; the next attempt finds out again.
Callers:  phases.outlet, phases.targets.
"""

from collections.abc import Iterable

from kmq.config.sections import ConnectorSection

#: (name, port) of a smart host, (address, port) of a server that the DNS names.
Host = tuple[str, int]

FAILED_MEMORY = 60.0  #: seconds for which a host that failed is tried last
CLEAR_AFTER = 60.0  #: seconds after a failed STARTTLS before the host may be spoken to in clear
CLEAR_UNTIL = 3600.0  #: seconds after a failed STARTTLS when TLS is tried again
LIMIT = 10_000  #: hosts that are remembered; beyond, those that are over are forgotten, or all


class Hosts:
    """What is known of the hosts of one connector."""

    def __init__(self, section: ConnectorSection) -> None:
        self._section = section
        self._failed: dict[Host, float] = {}
        self._tls_failed: dict[Host, float] = {}

    def order(self, now: float) -> list[Host]:
        """The hosts of the section as they are to be tried."""
        return sorted(self._section.hosts, key=lambda host: self.doubtful(host, now))

    def doubtful(self, host: Host, now: float) -> bool:
        """It failed a moment ago."""
        return now - self._failed.get(host, now - FAILED_MEMORY) < FAILED_MEMORY

    def tls(self, host: Host, now: float) -> bool:
        """Whether STARTTLS is used when it is offered."""
        if self._section.tls != "may":
            return self._section.tls == "must"
        if self._section.tls_failure == "wait":
            return True
        failed = self._tls_failed.get(host)
        return failed is None or not CLEAR_AFTER <= now - failed < CLEAR_UNTIL

    def succeeded(self, host: Host) -> None:
        self._failed.pop(host, None)

    def failed(self, host: Host, now: float, tls: bool) -> None:
        """It could not be reached, or would not talk; tls: STARTTLS was what failed."""
        _forget(self._failed, now - FAILED_MEMORY)
        self._failed[host] = now
        if tls and now - self._tls_failed.get(host, now - CLEAR_UNTIL) >= CLEAR_UNTIL:
            _forget(self._tls_failed, now - CLEAR_UNTIL)
            self._tls_failed[host] = now


def _forget(memory: dict[Host, float], before: float) -> None:
    if len(memory) < LIMIT:
        return
    for host in _over(memory.items(), before):
        del memory[host]
    if len(memory) >= LIMIT:
        memory.clear()


def _over(memory: Iterable[tuple[Host, float]], before: float) -> list[Host]:
    return [host for host, at in memory if at <= before]
