"""The routing table: from an address to its next hop, with the line of the configuration that decides.

Order:    a local address is what `local` says: an alias, or a mailbox of the connector that serves its domain. Any
          other goes to the connector that `spaces` finds, by its domain and by whose mail it is. What nobody serves
          waits in Unreachable, and its rule says why.
Promise:  a domain is looked up once; then it is a dict lookup in a cache that is bounded, whatever addresses the world
          writes. Whose mail it is costs nothing where no connector asks. Files are looked at once a second at most.
Callers:  receivers at RCPT, workers in Executing, `kmq route`.
"""

from collections.abc import Callable
from typing import NamedTuple

from kmq.config import ConnectorSection, Settings
from kmq.config.kinds import write_endpoint
from kmq.config.local_connector import LOCAL
from kmq.model.address import split
from kmq.model.domain import canonical
from kmq.model.envelope import Head, Recipient, Source
from kmq.model.hop import UNREACHABLE, DeliveryType, NextHop
from kmq.model.mailbox import POSTMASTER
from kmq.model.reply import Reply
from kmq.routing.alias_text import Entry, Meaning, Target
from kmq.routing.conditions import conditional, precision
from kmq.routing.expanding import Expansion, expand
from kmq.routing.local import Local
from kmq.routing.mailboxes import Mailboxes
from kmq.routing.spaces import Match, Spaces

CACHE_LIMIT = 10_000
#: What a connector says that is to serve nobody.
DISABLED = "enabled = no"
#: Tables for mail that meets different conditions.
WAYS_LIMIT = 100


class Route(NamedTuple):
    """Where mail for an address goes. rule: the place and text of the configuration that decides, for people."""

    hop: NextHop
    rule: str


class Known(NamedTuple):
    """What is known of one domain. mailboxes: when it is local; refusal: when it is no domain at all."""

    route: Route
    mailboxes: Mailboxes | None
    refusal: Reply | None


#: What is to become of a recipient: delivered there, expanded, or refused for now or for good.
Decision = Route | Expansion | Reply


class Ways:
    """The table for mail that meets the same conditions. precisions: connector's name -> how precisely, where it does.

    A domain is served by whichever connector is the best; by one without hosts yet, or disabled, it is not.
    """

    __slots__ = ("_filled", "_known", "_local", "_served", "_settings", "_unfilled")

    def __init__(self, settings: Settings, local: Local, precisions: dict[str, int]) -> None:
        remote = [one for one in settings.connectors if one.type not in LOCAL]
        remote = [one for one in remote if not conditional(one) or one.name in precisions]
        self._settings = settings
        self._local = local
        self._filled = Spaces((one for one in remote if not _lack_of(one)), precisions)
        self._unfilled = Spaces((one for one in remote if _lack_of(one)), precisions)
        self._known: dict[str, Known] = {}
        self._served: dict[Match | None, Known] = {}

    def route(self, address: str) -> Route:
        """The next hop of an address in canonical text, and why; aliases are not asked."""
        _local, at, domain = address.rpartition("@")
        if not at:
            return self._bare(address)
        known = self._known.get(domain)
        return known.route if known is not None else self.learn(domain).route

    def decide(self, recipient: Recipient) -> Decision:
        """What is to become of a recipient."""
        address = recipient.address
        local, at, domain = address.rpartition("@")
        if not at:
            return self._decide_bare(address, recipient)
        known = self._known.get(domain)
        if known is None:
            known = self.learn(domain)
        boxes = known.mailboxes
        if boxes is None:
            return known.route
        local_part = split(address).local if local[:1] == '"' else local
        if recipient.original:
            return self._decide_expanded(local_part, known, boxes)
        meaning = self._local.meaning(local_part, boxes, look=False)
        if meaning is None or (boxes.connector is None and isinstance(meaning, Reply)):
            return known.route
        return self._expanded(address, meaning, known, boxes) if isinstance(meaning, Entry) else meaning

    def _decide_expanded(self, local_part: str, known: Known, boxes: Mailboxes) -> Decision:
        """What came of an alias is not expanded again; who is nobody is told apart here, or by the mailboxes' phase."""
        if boxes.asks_disk or boxes.connector is None:
            return known.route
        return boxes.refusal(local_part) or known.route

    def _expanded(self, address: str, entry: Entry, known: Known, boxes: Mailboxes) -> Decision:
        found = expand(address, entry, boxes, self._local)
        if isinstance(found, Expansion) and len(found.finals) == 1:
            ((final, owner),) = found.finals
            if not owner and final.lower() == address.lower():
                return known.route  # an alias of itself
        return found

    def _decide_bare(self, address: str, recipient: Recipient) -> Decision:
        """`postmaster` alone: that of the first local domain; else the configured one, whoever he is."""
        if address.lower() != POSTMASTER or recipient.original:
            return self.route(address)
        meant = self._local.bare_postmaster()
        if self._local.home:
            found = self.decide(Recipient(str(meant)))
            if isinstance(found, Expansion):
                return found
        elif meant.local.lower() != POSTMASTER:
            final = Target(Meaning.ADDRESS, str(meant))
            nowhere = Mailboxes("", None, self._local.directory)
            return expand(address, Entry(POSTMASTER, (final,), self._local.place), nowhere, self._local)
        return self.route(address)

    # --- one domain, for the first time -------------------------------------------------------------------------------

    def learn(self, domain: str) -> Known:
        """What is known of a domain, however it is written."""
        known = self._known.get(domain)
        if known is not None:
            return known
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
        boxes = self._local.mailboxes(name)
        return self._elsewhere(name) if boxes is None else self._home(name, boxes)

    def _elsewhere(self, domain: str) -> Known:
        """Many domains share one answer: it is made once, and recipients of it stand in one line of an envelope."""
        found = self._filled.find(domain)
        if found is not None and found.connector.type == "dns":
            return Known(Route(NextHop(DeliveryType.DNS, domain, found.connector.name), self._rule(found)), None, None)
        match = found or self._unfilled.find(domain)
        known = self._served.get(match)
        if known is None:
            route = _whole(found.connector, self._rule(found)) if found else Route(UNREACHABLE, self._lack(match))
            known = self._served[match] = Known(route, None, None)
        return known

    def _home(self, name: str, boxes: Mailboxes) -> Known:
        local = self._place("kmq", "local_domains", f"local_domains = {boxes.domain}")
        if name != boxes.domain:
            local = f"{name} is this machine: {local}"
        connector = boxes.connector
        if connector is None:
            rule = f"{local}, and no connector of type mailbox serves it{self._disabled(boxes.domain)}"
            return Known(Route(UNREACHABLE, rule), boxes, None)
        hop = NextHop(DeliveryType.MAILBOX, boxes.domain, connector.name)
        heading = self._settings.origin(connector.name, "").heading
        return Known(Route(hop, f"{local} -> [{heading}]"), boxes, None)

    def _bare(self, address: str) -> Route:
        """An address without domain: there is a postmaster here; others are nobody."""
        if address.lower() != POSTMASTER:
            return Route(UNREACHABLE, "the address has no domain")
        return self.route(f"{POSTMASTER}@{self._local.bare_postmaster().domain}")

    # --- rules --------------------------------------------------------------------------------------------------------

    def _lack(self, match: Match | None) -> str:
        if match is None:
            return "no connector serves the domain"
        return f"{self._rule(match)} would serve the domain, but {_lack_of(match.connector)}"

    def _disabled(self, domain: str) -> str:
        """Who has the mailboxes of a domain, and may not serve it."""
        found = Spaces(one for one in self._settings.connectors if one.type in LOCAL and not one.enabled)
        match = found.find(domain)
        return f": {self._place(match.connector.name, 'enabled', DISABLED)}" if match is not None else ""

    def _rule(self, match: Match) -> str:
        connector, space = match
        text = f"address_spaces = {space}"
        for option in ("senders", "authenticated_users", "clients"):
            if getattr(connector, option):
                text += f", {option} = {self._settings.origin(connector.name, option).text}"
        return self._place(connector.name, "address_spaces", text)

    def _place(self, name: str, option: str, text: str) -> str:
        """`etc/kmq.conf:31 [isp : connector] address_spaces = *`."""
        origin = self._settings.origin(name, option)
        return f"{origin.place} [{origin.heading}] {text}"


class Routes:
    """The routes of a configuration."""

    __slots__ = ("_common", "_conditional", "_settings", "_ways", "local")

    def __init__(self, settings: Settings) -> None:
        self.local = Local(settings)
        self._settings = settings
        self._conditional = [one for one in settings.connectors if conditional(one)]
        self._common = Ways(settings, self.local, {})
        self._ways: dict[tuple[tuple[str, int], ...], Ways] = {(): self._common}

    @property
    def home(self) -> str:
        """The domain of addresses that have none: the first local one, else this server's name."""
        return self.local.home or self._settings.kmq.hostname

    def ways(self, sender: str, source: Source) -> Ways:
        """The table for mail of this sender that came in like this."""
        if not self._conditional:
            return self._common
        found = [(one.name, precision(one, sender, source)) for one in self._conditional]
        met = tuple((name, precise) for name, precise in found if precise >= 0)
        ways = self._ways.get(met)
        if ways is None:
            if len(self._ways) >= WAYS_LIMIT:
                self._ways = {(): self._common}
            ways = self._ways[met] = Ways(self._settings, self.local, dict(met))
        return ways

    def of(self, head: Head) -> Ways:
        """The table for a message."""
        return self.ways(head.sender, head.source) if self._conditional else self._common

    def forced(self, name: str, decide: Callable[[Recipient], Decision]) -> Callable[[Recipient], Decision]:
        """Decides for recipients that an operator gave to this connector: they go by it, aliases are not asked.

        Where it is no way out for them (any more), `decide` does.
        """
        connector = next((one for one in self._settings.connectors if one.name == name), None)
        if connector is None or connector.type in LOCAL or _lack_of(connector):
            return decide
        rule = f"an operator redirected it to [{self._settings.origin(name, '').heading}]"
        if connector.type != "dns":
            route = _whole(connector, rule)
            return lambda recipient: route

        def by_domain(recipient: Recipient) -> Decision:
            domain = recipient.address.rpartition("@")[2]
            try:
                domain = domain if domain[:1] == "[" else canonical(domain)
            except ValueError:
                return decide(recipient)
            return Route(NextHop(DeliveryType.DNS, domain, name), rule)

        return by_domain

    def route(self, address: str) -> Route:
        """The next hop of an address for mail that meets no condition; aliases are not asked."""
        return self._common.route(address)

    def accepts(self, address: str) -> Reply | None:
        """What RCPT answers about an address: None when nothing speaks against it.

        About domains that are not local nothing is known; whether the client may relay is not asked here.
        """
        local, at, domain = address.rpartition("@")
        if not at:
            return None if address.lower() == POSTMASTER else Reply(501, "5.1.3", "An address needs a domain")
        known = self._common.learn(domain)
        if known.mailboxes is None:
            return known.refusal
        return self.local.accepts(split(address).local if local[:1] == '"' else local, known.mailboxes)

    def is_local(self, domain: str) -> bool:
        """Whether the mailboxes of a domain are here, however it is written."""
        return self._common.learn(domain).mailboxes is not None


def _lack_of(connector: ConnectorSection) -> str:
    """Why it serves nobody now, "" when it does."""
    if not connector.enabled:
        return f"is disabled ({DISABLED})"
    return "has no hosts yet" if connector.type == "smarthost" and not connector.hosts else ""


def _whole(connector: ConnectorSection, rule: str) -> Route:
    """The one queue of a connector that does not ask which domain it is."""
    if connector.type == "smarthost":
        hosts = ",".join(write_endpoint(host, port) for host, port in connector.hosts)
        return Route(NextHop(DeliveryType.SMART_HOST, hosts, connector.name), rule)
    kind = DeliveryType.DELIVERY_AGENT if connector.type == "agent" else DeliveryType.NON_SMTP
    return Route(NextHop(kind, connector.name, connector.name), rule)
