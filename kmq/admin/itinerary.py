"""The way of mail to an address: each step, and the line of a file that decides it.

Promise:  the same tables that receivers and workers ask; nothing is connected to, and nothing changes. Files of aliases
          and users are read as they are now, where kmqd may still know what they said before.
Callers:  cli.route.
"""

from collections.abc import Iterator
from enum import Enum
from typing import NamedTuple

from kmq.config import Settings
from kmq.model.address import NotAnAddress, parse, split
from kmq.model.envelope import Recipient, Source
from kmq.model.hop import UNREACHABLE, DeliveryType, NextHop
from kmq.model.mailbox import POSTMASTER, folder, user_of
from kmq.model.reply import Reply
from kmq.phases.rewriting import Rewriter, Rewriting, shown
from kmq.routing.expanding import Expansion
from kmq.routing.table import Decision, Route, Routes


class Kind(Enum):
    """What a leg is; the value is what people see."""

    RCPT = "rcpt"  #: what RCPT answers
    ALIAS = "alias"
    HOP = "next hop"
    UNREACHABLE = "unreachable"
    REFUSED = "refused"
    DEFERRED = "deferred"


class Leg(NamedTuple):
    """One step. rule: what decided it; goes_to: targets, next hop or reply as text; sender: whose name it bears.

    rewritten: the addresses that are others on the way out, `one -> other`.
    """

    address: str
    kind: Kind
    rule: str
    goes_to: str
    sender: str
    hop: NextHop | None = None
    rewritten: str = ""


class Mail(NamedTuple):
    """Whose mail it would be."""

    sender: str = ""
    user: str = ""
    client: str = ""


def itinerary(settings: Settings, address: str, mail: Mail) -> Iterator[Leg]:
    """The legs, in the order of the way. ValueError when it is no address; a name alone is one of the first local
    domain."""
    routes = Routes(settings)
    whole = canonical(address, routes.home)
    source = Source(user=mail.user, ip=mail.client)
    yield _at_the_door(routes, whole, mail)
    decision = routes.ways(mail.sender, source).decide(Recipient(whole))
    if not isinstance(decision, Expansion):
        yield _leg(whole, _looked_up(whole, decision, routes), mail.sender, settings)
        return
    for step in decision.steps:
        yield Leg(step.address, Kind.ALIAS, step.place, step.targets, mail.sender)
    for final, owner in decision.finals:
        sender = owner if owner and mail.sender else mail.sender
        found = routes.ways(sender, source).decide(Recipient(final, original=whole))
        yield _leg(final, _looked_up(final, found, routes), sender, settings)


def _looked_up(address: str, decision: Decision, routes: Routes) -> Decision:
    """The same, and whether the mailbox is there, which kmqd leaves to the phase that delivers."""
    if not isinstance(decision, Route) or decision.hop.delivery_type is not DeliveryType.MAILBOX:
        return decision
    local_part, domain = split(address)
    boxes = routes.local.at(domain)
    return (boxes and boxes.refusal(local_part)) or decision


def canonical(text: str, home: str) -> str:
    """An address as tables know it; a name alone gets the domain `home`. ValueError when it is none."""
    try:
        if "@" not in text and text.lower() != POSTMASTER:
            text = f"{text}@{home}"
        return str(parse(text))
    except NotAnAddress as wrong:
        raise ValueError(f"{text!r} is no address: {wrong}") from None


def _at_the_door(routes: Routes, address: str, mail: Mail) -> Leg:
    domain = address.rpartition("@")[2] if "@" in address else ""
    refusal = routes.accepts(address)
    if refusal is not None:
        return Leg(address, Kind.RCPT, "", str(refusal), mail.sender)
    local = not domain or routes.is_local(domain)
    text = "taken in" if local else "taken in from clients in relay_from and from programs of this machine"
    return Leg(address, Kind.RCPT, "", text, mail.sender)


def _leg(address: str, decision: Decision, sender: str, settings: Settings) -> Leg:
    match decision:
        case Route(hop, rule):
            kind = Kind.UNREACHABLE if hop == UNREACHABLE else Kind.HOP
            goes_to = _maildir(address, hop, settings) if hop.delivery_type is DeliveryType.MAILBOX else hop.domain
            return Leg(address, kind, rule, goes_to, sender, hop, _rewritten(settings, hop, sender, address))
        case Reply():
            return Leg(address, Kind.REFUSED if decision.permanent else Kind.DEFERRED, "", str(decision), sender)
        case _:
            raise AssertionError("what came of an alias is not expanded again")


def _rewritten(settings: Settings, hop: NextHop, sender: str, address: str) -> str:
    """By [rewrite], whose files are read as they are now."""
    if hop.delivery_type not in (DeliveryType.SMART_HOST, DeliveryType.DNS):
        return ""
    match Rewriting(settings.rewrites).of(hop.connector):
        case Reply() as waiting:
            return f"mail waits: {waiting}"
        case Rewriter() as rewriter:
            return shown(rewriter, sender, address)
        case _:
            return ""


def _maildir(address: str, hop: NextHop, settings: Settings) -> str:
    template = next((one.maildir for one in settings.connectors if one.name == hop.connector), "")
    return folder(template, user_of(split(address).local) or "", hop.domain)
