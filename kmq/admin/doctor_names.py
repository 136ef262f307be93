"""What the DNS says of this machine: its name, the name of its address, and the mail servers of the local domains.

Other servers look at the same: a name that is unknown, or an address whose name leads elsewhere, has mail refused.
Promise:  asks the resolvers of the configuration, all questions at the same time, for a few seconds at most.
Callers:  admin.doctor.
"""

import asyncio
import socket
from collections.abc import Iterator
from ipaddress import ip_address
from typing import NamedTuple

from kmq.admin.verdict import Grade, Verdict
from kmq.config import Settings
from kmq.config.kinds import DNS_PORT, write_endpoint

PATIENCE = 4.0  #: seconds that a question may take
DOMAINS = 50  #: local domains that are asked for

#: Addresses that belong to nobody (RFC 5737, RFC 3849): a socket that is pointed there has the address of the way out.
_OUTSIDE = {socket.AF_INET: "192.0.2.1", socket.AF_INET6: "2001:db8::1"}


class Said(NamedTuple):
    """An answer, be it an empty one. records: texts, for MX the names; why: what went wrong instead, or ""."""

    records: tuple[str, ...]
    why: str = ""


#: (name, kind) -> what was said.
Answers = dict[tuple[str, str], Said]


def examine(settings: Settings) -> Iterator[Verdict]:
    """The resolvers, then names."""
    from kmq.routing.resolver import Fault, Resolver, probe  # 85 ms that nobody else needs

    kmq = settings.kmq
    resolver = Resolver(kmq.dns_servers, PATIENCE)
    if not any(one.type == "dns" for one in settings.connectors):  # else kmq check has asked them
        for server, answer in probe(resolver.servers, PATIENCE):
            shown = server[0] if server[1] == DNS_PORT else write_endpoint(*server)
            if isinstance(answer, Fault):
                yield Verdict(Grade.NOTE, f"resolver {shown} does not answer: {answer.why}", "mend /etc/resolv.conf")
            else:
                yield Verdict(Grade.GOOD, f"resolver {shown} answers")
    ours, sources = addresses(), sources_of(settings)
    hosts = {kmq.hostname, *(helo for _, helo in sources)}
    known = {*ours, *(address for address, _ in sources)}
    asked = [*((name, kind) for name in hosts for kind in _KINDS), *((_reverse(one), "PTR") for one in known)]
    first = _ask(resolver, asked)
    domains = [one for one in kmq.local_domains if "." in one][:DOMAINS]
    second = _ask(resolver, [(domain, "MX") for domain in domains])
    leads = _ask(resolver, [(name, kind) for name in _pointed(first, second) for kind in _KINDS])
    answers = first | second | leads
    yield from of_host(kmq.hostname, ours, answers)
    for address in ours:
        yield of_address(address, kmq.hostname, answers)
    for address, helo in sources:
        yield of_address(address, helo, answers)
        yield from of_source(address, helo, answers)
    for domain in domains:
        yield of_domain(domain, kmq.hostname, ours, answers)


_KINDS = ("A", "AAAA")


def addresses() -> list[str]:
    """The addresses from which this machine goes out; nothing is sent."""
    found = []
    for family, outside in _OUTSIDE.items():
        try:
            with socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as probe:
                probe.connect((outside, 9))
                address = str(probe.getsockname()[0])
        except OSError:
            continue  # no way out of this family
        if not ip_address(address).is_loopback:
            found.append(address)
    return found


def sources_of(settings: Settings) -> list[tuple[str, str]]:
    """The addresses that connectors speak from, each with the name that they say there."""
    enabled = (one for one in settings.connectors if one.enabled)
    return list(dict.fromkeys((address, one.helo) for one in enabled for address in one.source_address))


def _reverse(address: str) -> str:
    return ip_address(address).reverse_pointer


def _pointed(*found: Answers) -> list[str]:
    """Names that answers lead to: of the address, and of mail servers."""
    return sorted({name for answers in found for said in answers.values() for name in said.records if _is_name(name)})


def _is_name(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return bool(text)
    return False


def _ask(resolver: object, questions: list[tuple[str, str]]) -> Answers:
    from kmq.routing.resolver import Fault, Found, Resolver

    assert isinstance(resolver, Resolver)

    async def all_of_them() -> Answers:
        found = await asyncio.gather(*(resolver.ask(name, kind) for name, kind in questions))
        said: Answers = {}
        for question, answer in zip(questions, found, strict=True):
            if isinstance(answer, Fault):
                said[question] = Said((), answer.why)
            elif isinstance(answer, Found):
                said[question] = Said(tuple(str(one[1]) if question[1] == "MX" else str(one) for one in answer.records))
            else:
                said[question] = Said(())
        return said

    return asyncio.run(all_of_them())


# --- pure -------------------------------------------------------------------------------------------------------------


def of_host(hostname: str, ours: list[str], answers: Answers) -> Iterator[Verdict]:
    """Whether our name is known, and leads here."""
    leads = _addresses(hostname, answers)
    why = answers[hostname, "A"].why or answers[hostname, "AAAA"].why
    if leads and set(leads) & set(ours):
        yield Verdict(Grade.GOOD, f"hostname {hostname} leads to {', '.join(leads)}")
    elif leads:
        text = f"hostname {hostname} leads to {', '.join(leads)}, and we go out from {_listed(ours)}"
        yield Verdict(Grade.NOTE, text, "right behind a NAT; else let the name lead to this machine")
    elif why:
        yield Verdict(Grade.NOTE, f"hostname {hostname}: the DNS does not answer: {why}")
    else:
        remedy = f"give it an A or AAAA record ({_listed(ours)}): other servers refuse a HELO that they cannot find"
        yield Verdict(Grade.NOTE, f"hostname {hostname} is not in the DNS", remedy)


def of_source(address: str, helo: str, answers: Answers) -> Iterator[Verdict]:
    """Whether the name that is said from an address leads to it."""
    leads = _addresses(helo, answers)
    if ip_address(address).is_global and address not in leads:
        text = f"helo = {helo} leads to {_listed(leads)}, and is said from {address}"
        yield Verdict(Grade.NOTE, text, f"let it lead there, or give the connector the helo that {address} is called")


def of_address(address: str, hostname: str, answers: Answers) -> Verdict:
    """Whether the address has a name that leads back to it (what large providers ask of a mail server)."""
    if not ip_address(address).is_global:
        text = f"we go out from {address}, a private address: what others see is known there where it is translated"
        return Verdict(Grade.GOOD, text)
    said = answers[_reverse(address), "PTR"]
    remedy = f"ask whoever gave you {address} to let it have the name {hostname}"
    if said.why:
        return Verdict(Grade.NOTE, f"{address}: the DNS does not say its name: {said.why}")
    if not said.records:
        return Verdict(Grade.NOTE, f"{address} has no name (PTR): many servers refuse mail from it", remedy)
    name = said.records[0]
    if address not in _addresses(name, answers):
        return Verdict(Grade.NOTE, f"{address} is called {name}, which does not lead back to it", remedy)
    if name.lower() != hostname.lower():
        return Verdict(Grade.GOOD, f"{address} is called {name}, which leads back to it, and we say {hostname}")
    return Verdict(Grade.GOOD, f"{address} is called {name}, which leads back to it")


def of_domain(domain: str, hostname: str, ours: list[str], answers: Answers) -> Verdict:
    """Whether mail for a local domain is brought here."""
    said = answers[domain, "MX"]
    if said.why:
        return Verdict(Grade.NOTE, f"{domain}: the DNS does not say its mail servers: {said.why}")
    if not said.records:
        text = f"{domain} has no mail servers (MX) in the DNS"
        return Verdict(Grade.NOTE, text, f"{domain}. MX 10 {hostname}. if its mail is to come from other servers")
    names = [name.lower() for name in said.records]
    here = hostname.lower() in names or any(set(_addresses(name, answers)) & set(ours) for name in said.records)
    text = f"{domain} has its mail brought to {', '.join(said.records)}"
    if here:
        return Verdict(Grade.GOOD, text)
    return Verdict(Grade.NOTE, f"{text}, which is not this machine", "right when they hand it on to this one")


def _addresses(name: str, answers: Answers) -> list[str]:
    return [one for kind in _KINDS for one in answers.get((name, kind), Said(())).records]


def _listed(ours: list[str]) -> str:
    return ", ".join(ours) or "no address"
