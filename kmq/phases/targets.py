"""Where a connection may be opened to: the addresses of the configured hosts, or of those that the DNS names.

Promise:  targets come in the order of their trial, those that failed a moment ago last; where there is none a reply
          says why. Nothing is looked up before the targets ahead of it are used up.
On crash: nothing is kept.
Callers:  phases.smtp_hop.
"""

import asyncio
import socket
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import NamedTuple, Protocol

from kmq.config.sections import ConnectorSection
from kmq.model.reply import Reply
from kmq.phases.hosts import Host, Hosts
from kmq.phases.reasons import reason
from kmq.phases.replies import printable

ADDRESS_LIMIT = 5  #: addresses of one smart host that are tried

#: Of an address family; of a Unix socket it is the path.
Address = tuple[str, int] | tuple[str, int, int, int] | str

_FAMILIES = {"both": socket.AF_UNSPEC, "ipv4": socket.AF_INET, "ipv6": socket.AF_INET6}


class Target(NamedTuple):
    """One address of a server. name: what its certificate must be for; known: by which `Hosts` remembers it."""

    name: str
    port: int
    family: int
    address: Address
    known: Host

    @property
    def label(self) -> str:
        """As results name it."""
        return self.name if isinstance(self.address, str) else f"{self.name}[{self.address[0]}]:{self.port}"


class MailHost(Protocol):
    """What routing says of a server."""

    @property
    def name(self) -> str: ...

    @property
    def addresses(self) -> tuple[str, ...]: ...


#: The servers of a domain, as routing.mail_hosts finds them.
Servers = AsyncGenerator[MailHost | Reply, None]


async def configured(section: ConnectorSection, hosts: Hosts) -> AsyncGenerator[Target | Reply, None]:
    """The addresses of a connector's hosts, or its socket."""
    clock = asyncio.get_running_loop().time
    if section.socket:
        yield Target(section.socket, 0, socket.AF_UNIX, section.socket, (section.socket, 0))
    for host in hosts.order(clock()):
        name, port = host
        try:
            found = await _addresses(section, host)
        except (OSError, UnicodeError) as error:
            hosts.failed(host, clock(), tls=False)
            shown = printable(name.encode("utf-8", "replace"))
            yield Reply(451, "4.4.3", f"cannot find the address of {shown}: {reason(error)}")
            continue
        for family, address in found[:ADDRESS_LIMIT]:
            yield Target(name, port, family, address, host)


async def exchanged(servers: Servers, port: int, hosts: Hosts) -> AsyncGenerator[Target | Reply, None]:
    """The addresses of a domain's servers."""
    clock = asyncio.get_running_loop().time
    late: list[Target] = []
    async with aclosing(servers) as found:
        async for one in found:
            if isinstance(one, Reply):
                yield one
                continue
            for address in one.addresses:
                target = _target(one.name, address, port)
                if hosts.doubtful(target.known, clock()):
                    late.append(target)
                else:
                    yield target
    for target in late:
        yield target


def _target(name: str, address: str, port: int) -> Target:
    if ":" in address:
        return Target(name, port, socket.AF_INET6, (address, port, 0, 0), (address, port))
    return Target(name, port, socket.AF_INET, (address, port), (address, port))


async def _addresses(section: ConnectorSection, host: Host) -> list[tuple[int, Address]]:
    family = _FAMILIES[section.address_families]
    async with asyncio.timeout(section.connect_timeout):
        found = await asyncio.get_running_loop().getaddrinfo(*host, type=socket.SOCK_STREAM, family=family)
    return [(one, address) for one, _, _, _, address in found]  # type: ignore[misc]
