"""Address spaces: which connector serves a domain.

Law:      1. the most precise space wins: `example.org`, then `*.example.org` from the longest on, then `*`;
          2. of connectors with that space, those whose conditions (senders, authenticated_users, clients) the mail
             meets, more conditions before fewer, a sender's address before his domain; then those without conditions;
          3. the lowest cost; 4. the order of the file.
Promise:  a table made once; a lookup is as many dict lookups as the domain has labels.
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from kmq.config import ConnectorSection


class Match(NamedTuple):
    """The connector that serves a domain, and the address space that says so."""

    connector: ConnectorSection
    space: str


class Spaces:
    """Connectors by address space. Those without one (mailbox connectors) are taken for `*`.

    precision: name -> how precisely the mail meets a connector's conditions; 0 for those that have none.
    """

    __slots__ = ("_best",)

    def __init__(self, connectors: Iterable[ConnectorSection], precision: Mapping[str, int] | None = None) -> None:
        self._best: dict[str, ConnectorSection] = {}
        met = precision or {}
        for connector in sorted(connectors, key=lambda one: (-met.get(one.name, 0), one.cost)):
            for space in connector.address_spaces or ("*",):
                self._best.setdefault(space, connector)

    def find(self, domain: str) -> Match | None:
        """The connector for a canonical domain or an address literal; None when nobody serves it."""
        space = domain
        while space not in self._best:
            if space == "*":
                return None
            _, dot, rest = space.removeprefix("*.").partition(".")
            space = f"*.{rest}" if dot else "*"
        return Match(self._best[space], space)
