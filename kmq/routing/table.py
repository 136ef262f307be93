"""The routing table: from an address to its next hop, with the line of the configuration that decides.

Order:    a local domain goes to the mailbox connector that serves it; any other to the smart host connector with the
          best address space (`spaces`); what nobody serves waits in Unreachable, and its rule says why.
Promise:  pure after construction, but for `users = existing`. A domain is looked up once; then it is a dict lookup in a
          cache that is bounded, whatever addresses the world writes.
Callers:  receivers at RCPT, workers in Executing, `kmq route`.
"""

from typing import NamedTuple

from kmq.config import Settings
from kmq.config.kinds import write_endpoint
from kmq.model.address import split
from kmq.model.domain import canonical
from kmq.model.hop import UNREACHABLE, DeliveryType, NextHop
from kmq.model.mailbox import POSTMASTER
from kmq.model.reply import Reply
from kmq.routing.mailboxes import Mailboxes
from kmq.routing.spaces import Match, Spaces

CACHE_LIMIT = 10_000


class Route(NamedTuple):
    """Where mail for an address goes. rule: the place and text of the configuration that decides, for people."""

    hop: NextHop
    rule: str


class Known(NamedTuple):
    """What is known of one domain. mailboxes: when it is local; refusal: when it is no domain at all."""

    route: Route
    mailboxes: Mailboxes | None
    refusal: Reply | None


class Routes:
    """The routes of a configuration."""

    __slots__ = ("_homes", "_known", "_mailboxes", "_served", "_settings", "_smart_hosts", "_unfilled")

    def __init__(self, settings: Settings) -> None:
        smart_hosts = [one for one in settings.connectors if one.type == "smarthost"]
        self._settings = settings
        self._mailboxes = Spaces(one for one in settings.connectors if one.type == "mailbox")
        self._smart_hosts = Spaces(one for one in smart_hosts if one.hosts)
        self._unfilled = Spaces(one for one in smart_hosts if not one.hosts)
        self._homes = frozenset(settings.kmq.local_domains)
        self._known: dict[str, Known] = {}
        self._served: dict[Match | None, Known] = {}

    @property
    def home(self) -> str:
        """The domain of addresses that have none: the first local one, else this server's name."""
        kmq = self._settings.kmq
        return kmq.local_domains[0] if kmq.local_domains else kmq.hostname

    def route(self, address: str) -> Route:
        """The next hop of an address in canonical text, and why."""
        _local, at, domain = address.rpartition("@")
        if not at:
            return self._bare(address)
        known = self._known.get(domain)
        return known.route if known is not None else self._learn(domain).route

    def accepts(self, address: str) -> Reply | None:
        """What RCPT answers about an address: None when nothing speaks against it.

        About domains that are not local nothing is known; whether the client may relay is not asked here.
        """
        local, at, domain = address.rpartition("@")
        if not at:
            return None if address.lower() == POSTMASTER else Reply(501, "5.1.3", "An address needs a domain")
        known = self._known.get(domain)
        if known is None:
            known = self._learn(domain)
        if known.mailboxes is None:
            return known.refusal
        return known.mailboxes.refusal(split(address).local if local[:1] == '"' else local)

    def is_local(self, domain: str) -> bool:
        """Whether the mailboxes of a domain are here, however it is written."""
        known = self._known.get(domain)
        return (known if known is not None else self._learn(domain)).mailboxes is not None

    # --- one domain, for the first time -------------------------------------------------------------------------------

    def _learn(self, domain: str) -> Known:
        known = self._look_up(domain)
        if len(self._known) >= CACHE_LIMIT:
            # To begin anew costs microseconds each; to keep track of use would cost as much each time.
            self._known.clear()
        self._known[domain] = known
        return known

    def _look_up(self, domain: str) -> Known:
        name = domain
        if domain[:1] != "[":
            try:
                name = canonical(domain)
            except ValueError as wrong:
                return Known(Route(UNREACHABLE, str(wrong)), None, Reply(501, "5.1.3", "Bad destination domain"))
        if name in self._homes:
            return self._home(name)
        return self._elsewhere(name)

    def _elsewhere(self, domain: str) -> Known:
        """Many domains share one answer: it is made once, and recipients of it stand in one line of an envelope."""
        found = self._smart_hosts.find(domain)
        match = found or self._unfilled.find(domain)
        known = self._served.get(match)
        if known is None:
            route = _to_smart_host(found, self._rule(found)) if found else Route(UNREACHABLE, self._lack(match))
            known = self._served[match] = Known(route, None, None)
        return known

    def _home(self, domain: str) -> Known:
        found = self._mailboxes.find(domain)
        local = self._place("kmq", "local_domains", f"local_domains = {domain}")
        if found is None:
            rule = f"{local}, and no connector of type mailbox serves it"
            return Known(Route(UNREACHABLE, rule), Mailboxes(domain, None), None)
        connector = found.connector
        hop = NextHop(DeliveryType.MAILBOX, domain, connector.name)
        heading = self._settings.origin(connector.name, "").heading
        return Known(Route(hop, f"{local} -> [{heading}]"), Mailboxes(domain, connector), None)

    def _bare(self, address: str) -> Route:
        """An address without domain: there is a postmaster here; others are nobody."""
        if address.lower() != POSTMASTER:
            return Route(UNREACHABLE, "the address has no domain")
        kmq = self._settings.kmq
        home = kmq.local_domains[0] if kmq.local_domains else kmq.postmaster.rpartition("@")[2]
        return self.route(f"{POSTMASTER}@{home}")

    # --- rules --------------------------------------------------------------------------------------------------------

    def _lack(self, match: Match | None) -> str:
        if match is None:
            return "no connector serves the domain"
        return f"{self._rule(match)} would serve the domain, but has no hosts yet"

    def _rule(self, match: Match) -> str:
        return self._place(match.connector.name, "address_spaces", f"address_spaces = {match.space}")

    def _place(self, name: str, option: str, text: str) -> str:
        """`etc/kmq.conf:31 [isp : connector] address_spaces = *`."""
        origin = self._settings.origin(name, option)
        return f"{origin.place} [{origin.heading}] {text}"


def _to_smart_host(match: Match, rule: str) -> Route:
    hosts = ",".join(write_endpoint(host, port) for host, port in match.connector.hosts)
    return Route(NextHop(DeliveryType.SMART_HOST, hosts, match.connector.name), rule)
