"""Whether the servers that mail goes to can be reached, and how long certificates are good.

Promise:  a connection is ended with QUIT after the greeting; each is bounded in time, all together too.
Callers:  admin.doctor.
"""

import asyncio
import os
import ssl
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

from kmq.admin.verdict import Grade, Verdict
from kmq.config import Settings
from kmq.config.kinds import Endpoint, write_endpoint

PATIENCE = 8.0  #: seconds for a connection and its greeting
SERVERS = 20  #: that are tried
_SOON = 21 * 86400.0  #: seconds before its end at which a certificate is told of
_SMTP = 25
_NO_PORT = 0  #: of a Unix socket

#: What to do about a server that cannot be reached, by its port.
_WHY_NOT = {
    _SMTP: "many providers block port 25: ask yours, or use a smart host on port 587",
    _NO_PORT: "start the server of mailboxes, and see what its log says",
}


# --- servers ----------------------------------------------------------------------------------------------------------


def servers(settings: Settings, to: str) -> Iterator[Verdict]:
    """The smart hosts, servers of mailboxes, and the mail servers of the domain `to`, if one is named."""
    wanted: list[tuple[Endpoint, bool]] = []  # whether TLS comes first, as one connector has it and another may not
    for connector in (one for one in settings.connectors if one.enabled):
        if connector.type in ("smarthost", "lmtp"):
            wanted += [(endpoint, connector.tls == "implicit") for endpoint in connector.hosts]
        if connector.socket:
            wanted.append(((connector.socket, _NO_PORT), False))
    if to:
        found = _servers_of(settings, to)
        if isinstance(found, Verdict):
            yield found
        else:
            wanted += [((name, _SMTP), False) for name in found]
    elif any(connector.type == "dns" for connector in settings.connectors):
        text = "whether port 25 of other servers can be reached was not tried"
        yield Verdict(Grade.NOTE, text, "kmq doctor --to example.org tries the servers of a domain that you know")
    tried = list(dict.fromkeys(wanted))[:SERVERS]
    greetings = asyncio.run(_greetings(tried))
    for (endpoint, _), greeting in zip(tried, greetings, strict=True):
        yield _verdict(endpoint, greeting)


def _servers_of(settings: Settings, domain: str) -> Sequence[str] | Verdict:
    from kmq.routing.resolver import Fault, Found, Resolver

    answer = asyncio.run(Resolver(settings.kmq.dns_servers, PATIENCE).ask(domain, "MX"))
    if isinstance(answer, Fault):
        return Verdict(Grade.WRONG, f"the mail servers of {domain} cannot be found: {answer.why}", "see the resolver")
    if isinstance(answer, Found):
        return [str(name) for _, name in sorted(answer.records)][:2]
    return [domain]  # RFC 5321 5.1: the domain itself


async def _greetings(wanted: Sequence[tuple[Endpoint, bool]]) -> list[str | OSError]:
    return list(await asyncio.gather(*(_greeting(endpoint, tls) for endpoint, tls in wanted)))


async def _greeting(endpoint: Endpoint, tls: bool) -> str | OSError:
    """The first line that a server says, or why there is none."""
    try:
        async with asyncio.timeout(PATIENCE):
            context = _unverified() if tls else None
            if endpoint[1] == _NO_PORT:
                reader, writer = await asyncio.open_unix_connection(endpoint[0], limit=4096)
            else:
                reader, writer = await asyncio.open_connection(*endpoint, ssl=context, limit=4096)
            try:
                line = await reader.readline()
                writer.write(b"QUIT\r\n")
                await writer.drain()
            finally:
                writer.close()
    except TimeoutError:
        return TimeoutError(f"no greeting within {PATIENCE:g} s")
    except OSError as error:
        return error
    except ValueError:
        return OSError("it says an endless line")
    return line.decode("ascii", "replace").strip() if line else OSError("it closes the connection without a word")


def _unverified() -> ssl.SSLContext:
    """Only the greeting is of interest; the connector says what is verified when mail is sent."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _reason(error: OSError) -> str:
    """asyncio says "Connect call failed ('192.0.2.1', 25)"; its number says what it was. Names' errors are negative."""
    number = error.errno or 0
    return os.strerror(number) if number > 0 else error.strerror or str(error)


def _verdict(endpoint: Endpoint, greeting: str | OSError) -> Verdict:
    name = f"server {write_endpoint(*endpoint) if endpoint[1] != _NO_PORT else endpoint[0]}"
    if isinstance(greeting, ssl.SSLError):
        why = (greeting.reason or str(greeting)).replace("_", " ").lower()
        return Verdict(Grade.WRONG, f"{name} does not begin with TLS: {why}", "see tls of its connector, and the port")
    if isinstance(greeting, OSError):
        remedy = _WHY_NOT.get(endpoint[1], "see firewall, name and port")
        return Verdict(Grade.WRONG, f"{name} cannot be reached: {_reason(greeting)}", remedy)
    if greeting.startswith("220"):
        return Verdict(Grade.GOOD, f"{name} says {greeting[:100]}")
    return Verdict(Grade.NOTE, f"{name} says {greeting[:200]}", "this server does not want mail from here now")


# --- certificates -----------------------------------------------------------------------------------------------------


def certificates(settings: Settings) -> Iterator[Verdict]:
    """How long each certificate that receivers show is good."""
    for path in dict.fromkeys(one.tls_certificate for one in settings.receivers if one.tls_certificate):
        try:
            begin, end = validity(Path(path).read_text("ascii", "replace"))
        except OSError as error:
            yield Verdict(Grade.NOTE, f"certificate {path}: {error.strerror}", "ask as root or as kmqd's user")
        except ValueError as error:
            yield Verdict(Grade.WRONG, f"certificate {path}: {error}", "a chain in PEM is needed, ours first")
        else:
            yield _good_until(path, begin, end, time.time())


def _good_until(path: str, begin: float, end: float, now: float) -> Verdict:
    day = datetime.fromtimestamp(end, UTC).strftime("%Y-%m-%d")
    remedy = "renew it, then kmq reload"
    if now >= end:
        return Verdict(Grade.WRONG, f"certificate {path} ended on {day}", remedy)
    if now < begin:
        first = datetime.fromtimestamp(begin, UTC).strftime("%Y-%m-%d")
        return Verdict(Grade.WRONG, f"certificate {path} begins on {first} only", "see the clock")
    if end - now < _SOON:
        return Verdict(Grade.NOTE, f"certificate {path} ends on {day}", remedy)
    return Verdict(Grade.GOOD, f"certificate {path} is good until {day}")


def validity(pem: str) -> tuple[float, float]:
    """Unix times between which the first certificate of a PEM file is good; ValueError when it is none (RFC 5280 4.1).

    Certificate { tbs { [0] version, serial, algorithm, issuer, validity { begin, end }, ... } ... }
    """
    begin = pem.find("-----BEGIN CERTIFICATE-----")
    end = pem.find("-----END CERTIFICATE-----", begin)
    if begin < 0 or end < 0:
        raise ValueError("there is no certificate in it")
    try:
        der = ssl.PEM_cert_to_DER_cert(pem[begin : end + len("-----END CERTIFICATE-----")] + "\n")
        fields = _items(_items(_items(der)[0][1])[0][1])
        times = _items(fields[4 if fields[0][0] == 0xA0 else 3][1])
        return _time(*times[0]), _time(*times[1])
    except (ValueError, IndexError) as error:
        raise ValueError(f"it cannot be read: {error}") from None


def _items(text: bytes) -> list[tuple[int, bytes]]:
    """(tag, content) of what stands in a DER value, one after the other."""
    found = []
    at = 0
    while at < len(text):
        tag, length, at = text[at], text[at + 1], at + 2
        if length & 0x80:
            size = length & 0x7F
            length, at = int.from_bytes(text[at : at + size]), at + size
        if at + length > len(text):
            raise ValueError("a value is longer than what it stands in")
        found.append((tag, text[at : at + length]))
        at += length
    return found


def _time(tag: int, text: bytes) -> float:
    """UTCTime (0x17: two digits of a year from 1950 to 2049) or GeneralizedTime."""
    digits = text.decode("ascii")
    if tag == 0x17:
        digits = ("19" if digits[:2] >= "50" else "20") + digits
    return datetime.strptime(digits, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC).timestamp()
