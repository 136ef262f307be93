"""What holds for all sessions of one receiver: its section, who is local, whether mail may come in now.

Promise:  nothing here changes; a new configuration makes new rules, for sessions that begin later.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple, Protocol

from kmq.config.sections import ReceiverSection
from kmq.intake import replies
from kmq.intake.completion import Completion
from kmq.intake.door import Door
from kmq.intake.priority import NOT_ASKED
from kmq.model.envelope import Source
from kmq.model.reply import Reply
from kmq.routing.table import Ways

if TYPE_CHECKING:
    from kmq.intake.rates import Rates


class Routes(Protocol):
    """What the receiver asks of routing, at RCPT."""

    @property
    def home(self) -> str:
        """The domain of addresses that have none."""

    def accepts(self, address: str) -> Reply | None:
        """None, or why a recipient of a local domain is not taken. The bare `postmaster` is asked for as such."""

    def is_local(self, domain: str) -> bool:
        """Whether this server is responsible for a domain (lower case, or an address literal)."""

    def ways(self, sender: str, source: Source) -> Ways:
        """The table for mail that comes in like this; asked by VRFY, where that says anything."""


class Client(NamedTuple):
    """Who is there. ip: an IPv4-mapped address is shown as IPv4, "" on this machine; trusted: may send to any domain.

    user, uid: on this machine, whom the kernel says; trusted_sender: he may send in any name.
    unlimited: no limit of one client holds for him; may_etrn: he may have the mail of a domain sent.
    """

    ip: str
    trusted: bool
    user: str = ""
    uid: int = -1
    trusted_sender: bool = False
    unlimited: bool = False
    may_etrn: bool = False

    @property
    def key(self) -> str:
        """By what the sessions of a client are counted."""
        return self.ip or f"uid:{self.uid}"


@dataclass(frozen=True)
class Rules:
    """The rules of one receiver.

    door:       says what every client hears now instead of being served, and which pressure there is.
    clock:      Unix time.
    small_body: larger content goes to a file.
    starttls:   there is a certificate.
    urgent_size: up to which mail may be of high priority; NOT_ASKED without priority queuing.
    rates:      limits per minute.
    """

    section: ReceiverSection
    hostname: str
    routes: Routes
    door: Door
    clock: Callable[[], float]
    small_body: int
    starttls: bool
    rates: "Rates"
    urgent_size: int = NOT_ASKED

    def urgent_size_for(self, client: Client) -> int:
        """Whether the header of a client's mail says how urgent it is: nobody buys his way ahead of others' mail."""
        whose = self.section.priority_from
        return self.urgent_size if whose == "everybody" or (whose == "trusted" and client.trusted) else NOT_ASKED

    @cached_property
    def completion(self) -> Completion | None:
        """How headers are completed; None where they are another server's."""
        return Completion(self.hostname, self.routes.home) if self.section.submission else None

    # Made once, said to everybody.

    @cached_property
    def greeting(self) -> bytes:
        return replies.greeting(self.hostname)

    @cached_property
    def goodbye(self) -> bytes:
        return replies.goodbye(self.hostname)

    @cached_property
    def hello(self) -> bytes:
        return replies.hello(self.hostname)

    @cached_property
    def extensions(self) -> bytes:
        return replies.extensions(self.hostname, self.section.size_limit, self.starttls)

    @cached_property
    def secure_extensions(self) -> bytes:
        """Behind STARTTLS, which is not offered again."""
        return replies.extensions(self.hostname, self.section.size_limit, False)

    def offers(self, secure: bool, may_etrn: bool) -> bytes:
        """The answer to EHLO."""
        if may_etrn:
            return replies.extensions(self.hostname, self.section.size_limit, self.starttls and not secure, True)
        return self.secure_extensions if secure else self.extensions
