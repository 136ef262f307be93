"""The way of mail to an address: each step, and the line of a file that decides it.

Promise:  the same tables that receivers and workers ask; nothing is connected to, and nothing changes. Files of aliases
          and users are read as they are now, where kmqd may still know what they said before.
Callers:  cli.route.
"""

import shlex
from collections.abc import Iterator
from enum import Enum
from typing import NamedTuple

from kmq.config import ConnectorSection, Settings
from kmq.config.kinds import write_endpoint
from kmq.config.way_out import drop_directory
from kmq.model.address import NotAnAddress, parse, split
from kmq.model.envelope import Recipient, Source
from kmq.model.hop import UNREACHABLE, DeliveryType, NextHop
from kmq.model.mailbox import POSTMASTER, folder, user_of
from kmq.model.reply import Reply
from kmq.phases.rewriting import Rewriter, Rewriting, shown
from kmq.routing.expanding import Expansion
from kmq.routing.table import Decision, Route, Routes

#: Types of connectors that hand the message on, so that its addresses may be others.
_CARRYING = ("smarthost", "dns", "agent", "foreign")


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

    rewritten: the addresses that are others on the way out, `one -> other`; type: of the next hop's connector.
    """

    address: str
    kind: Kind
    rule: str
    goes_to: str
    sender: str
    hop: NextHop | None = None
    rewritten: str = ""
    type: str = ""


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
            section = next((one for one in settings.connectors if one.name == hop.connector), None)
            goes_to = _target(address, hop, section, settings)
            changed = _rewritten(settings, section, sender, address)
            return Leg(address, kind, rule, goes_to, sender, hop, changed, section.type if section else "")
        case Reply():
            return Leg(address, Kind.REFUSED if decision.permanent else Kind.DEFERRED, "", str(decision), sender)
        case _:
            raise AssertionError("what came of an alias is not expanded again")


def _rewritten(settings: Settings, section: ConnectorSection | None, sender: str, address: str) -> str:
    """By [rewrite], whose files are read as they are now."""
    if section is None or section.type not in _CARRYING:
        return ""
    match Rewriting(settings.rewrites).of(section.name):
        case Reply() as waiting:
            return f"mail waits: {waiting}"
        case Rewriter() as rewriter:
            return shown(rewriter, sender, address)
        case _:
            return ""


def _as_user(user: str, section: ConnectorSection) -> str:
    """What kmq-deliver does as the user."""
    places = {"maildir": f"~{user}/Maildir", "mbox": f"/var/mail/{user}", "command": section.deliver_command}
    return f"{places[section.as_user]} as {user}, by kmq-deliver"


def _target(address: str, hop: NextHop, section: ConnectorSection | None, settings: Settings) -> str:
    """Where the mail itself goes: a folder, servers, a program; of what goes nowhere, why."""
    match section:
        case ConnectorSection(as_user="maildir" | "mbox" | "command"):
            return _as_user(user_of(split(address).local) or "", section)
        case ConnectorSection(type="mailbox"):
            return folder(section.mbox or section.maildir, user_of(split(address).local) or "", hop.domain)
        case ConnectorSection(type="lmtp"):
            return section.socket or ", ".join(write_endpoint(*one) for one in section.hosts)
        case ConnectorSection(type="pipe"):
            return shlex.join(section.command)
        case ConnectorSection(type="agent"):
            return shlex.join(section.command)
        case ConnectorSection(type="foreign"):
            return drop_directory(section, settings.kmq.spool)
        case ConnectorSection(type="discard"):
            return "nowhere"
        case ConnectorSection(type="error"):
            return str(section.reply)
        case _:
            return hop.domain
