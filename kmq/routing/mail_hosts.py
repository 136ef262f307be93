"""The servers of a domain with their addresses, one after the other as they are to be tried.

Promise:  what can be tried comes as soon as it is known: the addresses of less preferred servers are asked for only
          when the better ones are used up. Each entry is a server or a reply that says why one is none; after the last
          one nothing is left to try. Nobody comes who is we, nor an address that the connector forbids.
On crash: nothing is kept.
Callers:  run.directory makes it; phases.targets asks it.
"""

import asyncio
import random
from collections.abc import AsyncGenerator, Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address
from itertools import chain, zip_longest
from typing import NamedTuple, cast

from kmq.config.kinds import Endpoint, Network
from kmq.model.reply import Reply
from kmq.routing import mx
from kmq.routing.lookups import Lookups
from kmq.routing.ourselves import Ourselves
from kmq.routing.resolver import Absent, Answer, Fault, Found, Resolver

ADDRESSES = 5  #: of one host that are tried

_KINDS = {"both": ("AAAA", "A"), "ipv6": ("AAAA",), "ipv4": ("A",)}


class MailHost(NamedTuple):
    """A server. name: of the MX record, which its certificate must be for; addresses: in the order of their trial."""

    name: str
    addresses: tuple[str, ...]


class _Manner(NamedTuple):
    """How a connector wants it."""

    families: str
    forbidden: tuple[Network, ...]
    port: int


class MailHosts:
    """What one process knows of the DNS."""

    def __init__(self, servers: Sequence[Endpoint], patience: float, ourselves: Ourselves) -> None:
        self._resolver = Resolver(servers, patience)
        self._lookups = Lookups(self._resolver.ask, asyncio.get_running_loop().time)
        self._ourselves = ourselves

    def forget(self) -> None:
        """What was learned is asked for anew: an operator knows more than the zones said."""
        self._lookups.forget()

    async def close(self) -> None:
        await self._lookups.close()

    async def of(
        self, domain: str, families: str, forbidden: Sequence[Network], port: int
    ) -> AsyncGenerator[MailHost | Reply, None]:
        """The servers of a domain (canonical) or an address literal.

        families: `both`, `ipv4` or `ipv6`; forbidden: networks that no mail is sent to; port: of the servers.
        """
        manner = _Manner(families, tuple(forbidden), port)
        if domain[:1] == "[":
            yield self._literal(domain, manner)
            return
        found = mx.exchangers(domain, await self._lookups.look(domain, "MX"), self._ourselves.named)
        if isinstance(found, Reply):
            yield found
            return
        if found.refused is not None:
            yield found.refused
        for group in found.groups:
            hosts = await asyncio.gather(*(self._host(domain, name, manner) for name in group))
            if any(host is None for host in hosts):
                # RFC 5321 5.1: we, our equals and all that are less preferred would send it back to us.
                yield mx.loop(domain)
                return
            for host in hosts:
                if host is not None:
                    yield host

    async def _host(self, domain: str, name: str, manner: _Manner) -> MailHost | Reply | None:
        """One host; None when it is we."""
        answers = await asyncio.gather(*(self._lookups.look(name, kind) for kind in _KINDS[manner.families]))
        found = _interleaved(answers)
        if not found:
            return _addressless(domain, name, answers)
        allowed = tuple(address for address in found if not _forbidden(address, manner))
        if any(self._ourselves.reached(address, manner.port) for address in allowed):
            return None
        return MailHost(name, allowed[:ADDRESSES]) if allowed else _refused(name, found[0])

    def _literal(self, domain: str, manner: _Manner) -> MailHost | Reply:
        """`[192.0.2.1]`, `[IPv6:2001:db8::1]` (RFC 5321 4.1.3)."""
        text = domain.strip("[]")
        try:
            address = str(ip_address(text[5:] if text[:5].lower() == "ipv6:" else text))
        except ValueError:
            return Reply(550, "5.1.2", f"{domain} is no address literal")
        if _forbidden(address, manner):
            return _refused(domain, address)
        if self._ourselves.reached(address, manner.port):
            return mx.loop(domain)
        return MailHost(address, (address,))


def _interleaved(answers: Sequence[Answer]) -> tuple[str, ...]:
    """The addresses of both families by turns, as RFC 8305 4 has it, in random order within each."""
    families = []
    for answer in answers:
        if isinstance(answer, Found):
            records = list(cast(tuple[str, ...], answer.records))
            random.shuffle(records)  # what the resolver rotates is remembered here in one order
            families.append(records)
    return tuple(address for address in chain.from_iterable(zip_longest(*families)) if address is not None)


def _addressless(domain: str, name: str, answers: Sequence[Answer]) -> Reply:
    for answer in answers:
        if isinstance(answer, Fault):
            return mx.failure(answer.why, name)
    if name == domain:
        return mx.no_server(domain)
    gone = any(isinstance(answer, Absent) and answer.nxdomain for answer in answers)
    what = "does not exist" if gone else "has no address"
    return Reply(550, "5.4.4", f"the mail server {name} of {domain} {what}")


def _forbidden(address: str, manner: _Manner) -> bool:
    found: IPv4Address | IPv6Address = ip_address(address)
    if isinstance(found, IPv6Address) and found.ipv4_mapped is not None:
        found = found.ipv4_mapped  # the kernel would connect by IPv4
    return any(found.version == network.version and found in network for network in manner.forbidden)


def _refused(name: str, address: str) -> Reply:
    return Reply(550, "5.4.4", f"{name} is said to be at {address}, where no mail is sent (forbidden_addresses)")
