"""Questions to the DNS. dnspython speaks here, nobody else.

Promise:  each question ends within the given time, in one of three values: what was found, that there is nothing, or a
          fault. A fault says nothing about the domain: whoever asked asks again later. What cannot be read (garbage,
          a truncated answer where TCP is closed, a chain of CNAMEs without end) is a fault, never an answer.
          Each query has a port and a number of its own, and only the server that was asked is heard (RFC 5452).
On crash: nothing is kept.
Callers:  routing.lookups, which remembers; `kmq check` and `kmq doctor`, which look at the resolvers.
"""

import asyncio
import os
from collections.abc import Callable, Sequence
from ipaddress import ip_address
from typing import Any, NamedTuple

import dns.asyncbackend
import dns.asyncresolver
import dns.exception
import dns.message
import dns.name
import dns.nameserver
import dns.rcode
import dns.rdatatype
import dns.resolver

from kmq.config.kinds import DNS_PORT, Endpoint

SYSTEM = "/etc/resolv.conf"
#: Where a machine without `nameserver` lines asks, resolv.conf(5).
DEFAULT_SERVERS: tuple[Endpoint, ...] = (("127.0.0.1", DNS_PORT),)
SERVERS_LIMIT = 8  #: nameservers that are heeded
#: So many times a server that does not answer is asked within the time of one question.
TRIES = 4
#: Records of one answer that are heeded; an answer may have thousands, and is remembered.
RECORDS_LIMIT = 100
#: What fits into one unfragmented datagram everywhere; longer answers come by TCP.
PAYLOAD = 1232


class Found(NamedTuple):
    """The records. MX: (preference, host); others: text. Names are lower case without the last dot, the root is "".

    ttl: seconds for which they hold.
    """

    records: tuple[Any, ...]
    ttl: float


class Absent(NamedTuple):
    """There is nothing of this kind (RFC 2308). nxdomain: the name itself does not exist. ttl: as the zone says."""

    nxdomain: bool
    ttl: float


class Fault(NamedTuple):
    """Nobody could say. why: `SERVFAIL`, `timed out`."""

    why: str


Answer = Found | Absent | Fault


class _Connected(type(dns.asyncbackend.get_backend("asyncio"))):  # type: ignore[misc]
    """UDP over connected sockets: the kernel hears nobody else, and says at once when nobody is there."""

    def datagram_connection_required(self) -> bool:
        return True


class Resolver:
    """Asks. servers: () for those of /etc/resolv.conf. patience: seconds for each question."""

    def __init__(self, servers: Sequence[Endpoint], patience: float, system: str = SYSTEM) -> None:
        self._given = tuple(servers)
        self._patience = patience
        self._system = SystemServers(system)
        self._network = _Connected()

    @property
    def servers(self) -> tuple[Endpoint, ...]:
        """Who would be asked now."""
        return self._given or self._system.now()

    async def ask(self, name: str, kind: str) -> Answer:
        """kind: MX, A, AAAA, PTR, TXT. The name is taken as it is: no search list is applied."""
        try:
            question = dns.name.from_text(name)
        except (dns.exception.DNSException, UnicodeError, ValueError):
            return Absent(nxdomain=True, ttl=0)  # what cannot be asked for cannot be there
        answer = await self._ask(question, kind, edns=True)
        if isinstance(answer, Fault) and answer.why in _NO_EDNS:
            answer = await self._ask(question, kind, edns=False)
        return answer

    async def _ask(self, question: dns.name.Name, kind: str, edns: bool) -> Answer:
        asker = dns.asyncresolver.Resolver(configure=False)
        asker.nameservers = [dns.nameserver.Do53Nameserver(*server) for server in self.servers]
        asker.timeout, asker.lifetime = self._patience / TRIES, self._patience
        if edns:
            asker.use_edns(0, 0, PAYLOAD)
        try:
            async with asyncio.timeout(self._patience + 1):  # dnspython counts by the wall clock, which may jump
                found: Any = await asker.resolve(
                    question, kind, raise_on_no_answer=False, search=False, backend=self._network
                )
        except dns.resolver.NXDOMAIN as error:
            return Absent(nxdomain=True, ttl=_ttl_of_nothing(error, question))
        except (dns.resolver.NoNameservers, dns.resolver.LifetimeTimeout) as error:
            return Fault(_why(error.kwargs.get("errors") or ()))
        except TimeoutError:
            return Fault("timed out")
        except (dns.exception.DNSException, OSError, ValueError) as error:
            return Fault(_of(error))
        ttl = float(found.chaining_result.minimum_ttl)
        if found.rrset is None:
            return Absent(nxdomain=False, ttl=ttl)
        return Found(_heeded([_READ[kind](one) for one in found.rrset]), ttl)


def _heeded(records: list[Any]) -> tuple[Any, ...]:
    """All of them; of too many the least, which of MX are those with the best preference."""
    return tuple(records if len(records) <= RECORDS_LIMIT else sorted(records)[:RECORDS_LIMIT])


class SystemServers:
    """The resolvers of /etc/resolv.conf, read again when the file is another: machines change networks."""

    def __init__(self, path: str = SYSTEM) -> None:
        self._path = path
        self._stamp: tuple[int, int, int] | None = None
        self._servers = DEFAULT_SERVERS

    def now(self) -> tuple[Endpoint, ...]:
        """Who stands there now; a file that cannot be read leaves what was known."""
        try:
            found = os.stat(self._path)
            stamp = found.st_mtime_ns, found.st_ino, found.st_size
            if stamp != self._stamp:
                with open(self._path, encoding="utf-8", errors="replace") as file:
                    self._servers = nameservers(file.read(65536))
                self._stamp = stamp
        except OSError:
            self._stamp = None
        return self._servers


def nameservers(text: str) -> tuple[Endpoint, ...]:
    """The `nameserver` lines of a resolv.conf(5)."""
    found = []
    for line in text.splitlines():
        words = line.split()
        if len(words) >= 2 and words[0] == "nameserver" and _is_address(words[1]):
            found.append((words[1], DNS_PORT))
    return tuple(dict.fromkeys(found[:SERVERS_LIMIT])) or DEFAULT_SERVERS


def probe(servers: Sequence[Endpoint], patience: float) -> list[tuple[Endpoint, Answer]]:
    """Asks each server for the name servers of the root, which every resolver knows; no loop may run here."""

    async def each() -> list[tuple[Endpoint, Answer]]:
        answers = await asyncio.gather(*(Resolver([server], patience).ask(".", "NS") for server in servers))
        return list(zip(servers, answers, strict=True))

    return asyncio.run(each())


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


# --- dnspython's words in ours ----------------------------------------------------------------------------------------


def _name(name: Any) -> str:
    return str(name.to_text(omit_final_dot=True)).lower() if name != dns.name.root else ""


_READ: dict[str, Callable[[Any], Any]] = {
    "MX": lambda record: (int(record.preference), _name(record.exchange)),
    "A": lambda record: str(record.address),
    "AAAA": lambda record: str(record.address),
    "NS": lambda record: _name(record.target),
    "PTR": lambda record: _name(record.target),
    "TXT": lambda record: b"".join(record.strings).decode("utf-8", "replace"),
}

#: What a server answers that does not know EDNS (RFC 6891 7).
_NO_EDNS = frozenset(("FORMERR", "NOTIMP", "BADVERS"))


def _ttl_of_nothing(error: dns.resolver.NXDOMAIN, question: dns.name.Name) -> float:
    response: Any = error.kwargs.get("responses", {}).get(question)
    return float(response.resolve_chaining().minimum_ttl) if response is not None else 0.0


def _why(errors: Sequence[Any]) -> str:
    """What the servers' errors come to: an answer of theirs, be it a bad one, says more than silence."""
    said = [_of(error[3]) for error in errors]
    if not said:
        return "timed out"
    truncated = any(
        isinstance(error[3], dns.exception.DNSException) and _of(error[3]) == "truncated" for error in errors
    )
    spoken = [text for text in said if text not in ("timed out", "truncated")]
    last = spoken[-1] if spoken else "timed out"
    return f"truncated, and by TCP: {last}" if truncated else last


def _of(error: object) -> str:
    """One error of a server, or the code that it answered with."""
    match error:
        case str():
            return error
        case dns.exception.Timeout() | TimeoutError():
            return "timed out"
        case dns.message.Truncated():
            return "truncated"
        case dns.message.ChainTooLong():
            return "a chain of CNAMEs without end"
        case EOFError():
            return "the server ended the connection"
        case OSError() if error.errno:
            return os.strerror(error.errno).lower()
        case _:
            return "an answer that cannot be read"
