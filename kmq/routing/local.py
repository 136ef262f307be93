"""What is ours: the local domains, their mailboxes and aliases, and who is always there.

Order:    at a local address stands its alias; else its mailbox; else, for `root`, `abuse` and `postmaster`, the
          postmaster of the configuration; else the alias of the whole domain; else the connector's `catch_all`; else
          nobody. Only for `postmaster` does
          the configured one go before a mailbox that is merely there: it was made for want of anybody better. When the
          configured one is nobody he is the mailbox `postmaster`, so that somebody can always be told.
Promise:  an answer at RCPT is a few dict lookups (and, with `users = existing`, a look at the disk). Whoever is not
          found while a file of aliases was never good is not refused for good.
Callers:  routing.table, routing.expanding.
"""

from kmq.config import Settings
from kmq.config.local_connector import LOCAL
from kmq.model.address import Address, parse, split
from kmq.model.domain import canonical
from kmq.model.mailbox import POSTMASTER, user_of
from kmq.model.reply import Reply
from kmq.routing.alias_text import Entry, Meaning, Target
from kmq.routing.aliases import Aliases
from kmq.routing.mailboxes import LOOKUP_FAILED, Directory, Mailboxes
from kmq.routing.ourselves import Ourselves
from kmq.routing.spaces import Spaces

#: Every local domain has them (RFC 2142; programs write to root).
ALWAYS = frozenset({POSTMASTER, "root", "abuse"})
#: Domains that are known not to be ours.
ELSEWHERE = 10_000


class Local:
    """The local side of a configuration.

    postmaster: who looks after this server, canonical; place: the line of the configuration that says so.
    home:       the first local domain, "" when there is none.
    """

    def __init__(self, settings: Settings) -> None:
        kmq = settings.kmq
        self._settings = settings
        served = Spaces(one for one in settings.connectors if one.type in LOCAL and one.enabled)
        self.directory = Directory()
        self.aliases = Aliases(kmq.alias_files)
        self._aliased = bool(kmq.alias_files)
        self.home = kmq.local_domains[0] if kmq.local_domains else ""
        self.postmaster = _canonical(kmq.postmaster)
        self._caretaker = self._key(self.postmaster, kmq.local_domains)
        origin = settings.origin("kmq", "postmaster")
        self.place = f"{origin.place} [{origin.heading}] postmaster:"
        self._domains: dict[str, Mailboxes] = {}
        self._elsewhere: set[str] = set()
        for domain in kmq.local_domains:
            match = served.find(domain)
            self._domains[domain] = Mailboxes(domain, match.connector if match else None, self.directory)
        listen = [endpoint for receiver in settings.receivers for endpoint in receiver.listen]
        self._ports = {port for _, port in listen}
        self._ourselves = Ourselves(kmq.hostname, listen)

    @staticmethod
    def _key(address: str, domains: tuple[str, ...]) -> str:
        """A local address as it is compared, "" for one that is elsewhere."""
        local, domain = split(address)
        return f"{local.lower()}@{domain}" if domain in domains else ""

    def mailboxes(self, domain: str) -> Mailboxes | None:
        """Those of a canonical domain or an address literal, None when it is not ours.

        A literal that means an address on which a receiver listens is the first local domain (RFC 5321 4.1.3).
        """
        if domain[:1] != "[":
            return self._domains.get(domain)
        address = domain[1:-1].removeprefix("IPv6:")
        if self.home and any(self._ourselves.reached(address, port) for port in self._ports):
            return self._domains[self.home]
        return None

    def at(self, domain: str) -> Mailboxes | None:
        """The same for a domain however it is written."""
        boxes = self._domains.get(domain)
        if boxes is not None or domain in self._elsewhere:
            return boxes
        boxes = self._look_up(domain)
        if boxes is None:
            if len(self._elsewhere) >= ELSEWHERE:
                self._elsewhere.clear()
            self._elsewhere.add(domain)
        return boxes

    def _look_up(self, domain: str) -> Mailboxes | None:
        if domain[:1] == "[":
            return self.mailboxes(domain)
        try:
            return self._domains.get(canonical(domain))
        except ValueError:
            return None

    def accepts(self, local_part: str, boxes: Mailboxes) -> Reply | None:
        """What RCPT hears about a local part (unquoted): None when its mail is taken in."""
        name = local_part.lower()
        if self._aliased and self.aliases.find(name, boxes.domain) is not None:
            return None
        refusal = boxes.refusal(local_part)
        if refusal is None or user_of(name) in ALWAYS or self.aliases.catch_all(boxes.domain):
            return None
        if boxes.catch_all and refusal.permanent:
            return None
        if f"{name}@{boxes.domain}" == self._caretaker:
            return None
        return LOOKUP_FAILED if self.aliases.never_good and refusal.permanent else refusal

    def meaning(self, local_part: str, boxes: Mailboxes, look: bool = True) -> Entry | Reply | None:
        """What stands at an address: an alias, None for a mailbox, or why nobody is there.

        look: also where it costs a look at the disk; otherwise a mailbox that may be there is taken for one.
        """
        name = local_part.lower()
        catch_all = None
        if self._aliased:
            entry = self.aliases.find(name, boxes.domain)
            if entry is not None:
                return entry
            catch_all = self.aliases.catch_all(boxes.domain)
        user = user_of(name)
        if user in ALWAYS:
            return self._always(user, boxes)
        if not look and boxes.asks_disk and catch_all is None and not boxes.catch_all:
            return None
        refusal = boxes.refusal_of(user)
        if refusal is None or not refusal.permanent:
            return refusal
        if catch_all is None and f"{name}@{boxes.domain}" == self._caretaker:
            return Entry(self._caretaker, (Target(Meaning.FINAL, POSTMASTER),), self.place)
        file = self.aliases.never_good
        if file and catch_all is None:
            return Reply(451, "4.3.0", f"No such user, unless the aliases of {file} say so, which cannot be read")
        return catch_all or self._caught(boxes) or refusal

    def _caught(self, boxes: Mailboxes) -> Entry | None:
        """Whoever gets the rest of a domain by its connector."""
        if not boxes.catch_all:
            return None
        name = boxes.connector.name if boxes.connector is not None else ""
        origin = self._settings.origin(name, "catch_all")
        target = Target(Meaning.ADDRESS, boxes.catch_all)
        return Entry(f"@{boxes.domain}", (target,), f"{origin.place} [{origin.heading}] catch_all:")

    # --- who is always there ------------------------------------------------------------------------------------------

    def _always(self, user: str, boxes: Mailboxes) -> Entry | None:
        """Whoever stands in for root, abuse or postmaster of a domain; None for its own mailbox."""
        local, domain = split(self.postmaster)
        if user == POSTMASTER:
            if (user_of(local) == POSTMASTER and self.at(domain)) or (boxes.has(user) and not boxes.asks_disk):
                return None
        elif boxes.has(user):
            return None
        target = Target(Meaning.ADDRESS, self.postmaster)
        if not self._is_there(local, domain):
            if user == POSTMASTER:
                return None
            target = Target(Meaning.FINAL, POSTMASTER)
        return Entry(f"{user}@{boxes.domain}", (target,), self.place)

    def _is_there(self, local: str, domain: str) -> bool:
        """Whether the configured postmaster is somebody: elsewhere, an alias, or one with a mailbox."""
        boxes = self.at(domain)
        if boxes is None:
            return True
        name = local.lower()
        return self.aliases.find(name, boxes.domain) is not None or boxes.refusal(local) is None

    def bare_postmaster(self) -> Address:
        """Who is meant by `postmaster` without a domain (RFC 5321 4.5.1)."""
        return Address(POSTMASTER, self.home) if self.home else split(self.postmaster)


def _canonical(address: str) -> str:
    try:
        return str(parse(address))
    except ValueError:
        return address
