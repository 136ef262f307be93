"""What the MX records of a domain say, as a table of hosts in the order in which they are to be tried.

Law:      lower preference first, equals at random (RFC 5321 5.1); at most TEN hosts; without records the domain itself
          is the host (implicit MX); a record that names nobody says that the domain takes no mail (RFC 7505); where we
          are named ourselves, we and all that are no better than we are left out, and if nobody is left then, mail goes
          round in a loop.
Promise:  pure, but for chance. What says that mail can never arrive is a reply of 5xx; a fault of the DNS is 451.
Callers:  routing.mail_hosts.
"""

import random
from collections.abc import Callable
from itertools import groupby
from typing import NamedTuple

from kmq.model.domain import canonical
from kmq.model.reply import Reply
from kmq.routing.resolver import Absent, Answer, Fault, Found

TEN = 10  #: hosts of one domain that are tried


class Exchangers(NamedTuple):
    """groups: names of hosts, the most preferred group first, equals in one group in random order.

    refused: why a record was passed over, None when none was.
    """

    groups: tuple[tuple[str, ...], ...]
    refused: Reply | None = None


def failure(why: str, name: str) -> Reply:
    """Nobody could say what the DNS has about a name."""
    return Reply(451, "4.4.3", f"DNS lookup failure ({why}) for {name}")


def no_domain(domain: str) -> Reply:
    return Reply(550, "5.1.2", f"the domain {domain} does not exist")


def no_server(domain: str) -> Reply:
    return Reply(550, "5.1.2", f"the domain {domain} has no mail server: neither MX nor address")


def takes_no_mail(domain: str) -> Reply:
    return Reply(556, "5.1.10", f"the domain {domain} takes no mail (null MX)")


def loop(domain: str) -> Reply:
    return Reply(554, "5.4.6", f"mail for {domain} loops back to this server: it is its own best MX")


def exchangers(domain: str, answer: Answer, named: Callable[[str], bool]) -> Exchangers | Reply:
    """The hosts of a domain. named: whether a host of this name is we."""
    match answer:
        case Fault(why):
            return failure(why, domain)
        case Absent(nxdomain=True):
            return no_domain(domain)
        case Absent():
            return Exchangers(((domain,),)) if not named(domain) else loop(domain)
        case Found(records):
            return _listed(domain, list(records), named)


def _listed(domain: str, records: list[tuple[int, str]], named: Callable[[str], bool]) -> Exchangers | Reply:
    if all(not host for _, host in records):
        return takes_no_mail(domain)
    known: dict[str, int] = {}
    refused: Reply | None = None
    for preference, host in records:
        wrong = _wrong(domain, host)
        if wrong is not None:
            refused = wrong
        else:
            known[host] = min(preference, known.get(host, preference))
    ours = min((preference for host, preference in known.items() if named(host)), default=None)
    left = {host: preference for host, preference in known.items() if ours is None or preference < ours}
    if not left:
        return loop(domain) if ours is not None else refused or no_server(domain)
    return Exchangers(_groups(left), refused)


def _wrong(domain: str, host: str) -> Reply | None:
    """A record that names no host; one that names an address is a common mistake of those who write zones."""
    if host.replace(".", "").isdigit() or ":" in host:
        return Reply(550, "5.4.4", f"the MX record of {domain} names an address, {host}, where a name is needed")
    try:
        canonical(host)
    except ValueError:
        return Reply(550, "5.4.4", f"the MX record of {domain} names no host: {host[:100]!a}")
    return None


def _groups(known: dict[str, int]) -> tuple[tuple[str, ...], ...]:
    hosts = list(known)
    random.shuffle(hosts)
    hosts.sort(key=known.__getitem__)
    return tuple(tuple(group) for _, group in groupby(hosts[:TEN], key=known.__getitem__))
