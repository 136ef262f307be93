"""What holds for all sessions of one receiver: its section, who is local, whether mail may come in now.

Promise:  nothing here changes; a new configuration makes new rules, for sessions that begin later.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple, Protocol

from kmq.config.sections import ReceiverSection
from kmq.intake import replies
from kmq.model.reply import Reply


class Routes(Protocol):
    """What the receiver asks of routing, at RCPT."""

    def accepts(self, address: str) -> Reply | None:
        """None, or why a recipient of a local domain is not taken. The bare `postmaster` is asked for as such."""

    def is_local(self, domain: str) -> bool:
        """Whether this server is responsible for a domain (lower case, or an address literal)."""


class Client(NamedTuple):
    """Who is there. ip: an IPv4-mapped address is shown as IPv4; trusted: may send to any domain."""

    ip: str
    trusted: bool


@dataclass(frozen=True)
class Rules:
    """The rules of one receiver.

    refusal:    the door's: what every client hears now instead of being served, or None.
    clock:      Unix time.
    small_body: larger content goes to a file.
    starttls:   there is a certificate.
    """

    section: ReceiverSection
    hostname: str
    routes: Routes
    refusal: Callable[[], Reply | None]
    clock: Callable[[], float]
    small_body: int
    starttls: bool

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
