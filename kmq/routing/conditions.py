"""Whose mail a connector is for: senders, authenticated users, client networks.

Promise:  pure. A connector that names any of these serves only mail that meets them all; what names none serves all.
Callers:  routing.table.
"""

from collections.abc import Iterable
from ipaddress import ip_address

from kmq.config import ConnectorSection
from kmq.config.kinds import Network
from kmq.model.address import split
from kmq.model.domain import canonical
from kmq.model.envelope import Source

#: A condition counts two, so that an address in place of a domain decides only between equals.
_CONDITION, _EXACT = 2, 1


def conditional(connector: ConnectorSection) -> bool:
    """Whether it is for some mail alone."""
    return bool(connector.senders or connector.authenticated_users or connector.clients)


def precision(connector: ConnectorSection, sender: str, source: Source) -> int:
    """How precisely the mail meets the conditions: 0 when there are none, -1 when one is not met."""
    found = 0
    if connector.senders:
        met = _of_sender(connector.senders, sender)
        if not met:
            return -1
        found += met
    if connector.authenticated_users:
        if source.user not in connector.authenticated_users:
            return -1
        found += _CONDITION
    if connector.clients:
        if not _within(source.ip, connector.clients):
            return -1
        found += _CONDITION
    return found


def _of_sender(senders: tuple[str, ...], sender: str) -> int:
    if not sender:
        return _CONDITION + _EXACT if "<>" in senders else 0
    local, domain = split(sender)
    try:
        domain = canonical(domain)
    except ValueError:
        return 0  # a literal, or no domain: nobody names those
    if f"{local.lower()}@{domain}" in senders:
        return _CONDITION + _EXACT
    return _CONDITION if any(_is_in(domain, one) for one in senders) else 0


def _is_in(domain: str, named: str) -> bool:
    return domain.endswith(named[1:]) if named[:2] == "*." else domain == named


def _within(ip: str, networks: Iterable[Network]) -> bool:
    try:
        address = ip_address(ip)
    except ValueError:
        return False  # it came in by no network
    return any(address in network for network in networks)
