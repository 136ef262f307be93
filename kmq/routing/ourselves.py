"""Whether a mail server is we ourselves, so that mail handed to it would come back (RFC 5321 5.1).

Promise:  our name, or an address that one of our receivers listens on at this port. An address of this machine on which
          another program listens is not ours. Nothing is asked of the network.
Callers:  routing.mail_hosts.
"""

import socket
from collections.abc import Iterable
from ipaddress import ip_address

from kmq.config.kinds import Endpoint


class Ourselves:
    """hostname: our name; listen: what our receivers listen on."""

    def __init__(self, hostname: str, listen: Iterable[Endpoint]) -> None:
        self._hostname = hostname.lower()
        self._exact: set[tuple[str, int]] = set()
        self._wide: set[tuple[int, int]] = set()  # (IP version, port) on which all addresses are listened on
        for host, port in listen:
            address = ip_address(host)
            if address.is_unspecified:
                self._wide.add((address.version, port))
            else:
                self._exact.add((str(address), port))

    def named(self, host: str) -> bool:
        """Whether a host of this (canonical) name is we."""
        return host == self._hostname

    def reached(self, address: str, port: int) -> bool:
        """Whether who connects there talks to us."""
        found = ip_address(address)
        if (str(found), port) in self._exact:
            return True
        return (found.version, port) in self._wide and _of_this_machine(address)


def _of_this_machine(address: str) -> bool:
    """The kernel lets a socket have an address only when it is the machine's."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as probe:
            probe.bind((address, 0))
    except OSError:
        return False
    return True
