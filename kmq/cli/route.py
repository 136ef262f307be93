"""`kmq route`: where mail for an address goes, and which line decides it.

Promise:  looks only. Exit status 0 when it goes to a next hop, 1 when it is refused, waits, or is unreachable.
Callers:  kmq.cli.kmq.
"""

from collections.abc import Iterator
from ipaddress import ip_address

from kmq import log
from kmq.admin.itinerary import Kind, Leg, Mail, canonical, itinerary
from kmq.cli.call import DONE, REFUSED, USAGE, Call
from kmq.view.words import harmless

#: Addresses of a list that are shown; --json shows all.
_SHOWN = 20

#: Type of a connector -> what people are told, where that is not its name.
_TYPES = {
    "smarthost": "smart host",
    "dns": "the servers of the domain, by DNS",
    "lmtp": "a server of mailboxes, by LMTP",
    "pipe": "a command",
    "agent": "a program that delivers",
    "foreign": "files for a gateway",
    "discard": "thrown away",
    "error": "refused",
}


def run(call: Call) -> int:
    """The verb."""
    log.start("kmq", "error")  # what is wrong with files is told by the legs, and by `kmq check`
    asked = call.arguments
    try:
        legs = list(itinerary(call.settings, asked.address, _mail(call)))
    except ValueError as wrong:
        call.warn(harmless(str(wrong)))
        return USAGE
    if call.json:
        call.tell_objects(_object(leg) for leg in legs)
    else:
        call.tell(map(harmless, _lines(legs)))
    ends = [leg for leg in legs if leg.kind not in (Kind.RCPT, Kind.ALIAS)]
    return DONE if all(leg.kind is Kind.HOP for leg in ends) else REFUSED


def _mail(call: Call) -> Mail:
    asked = call.arguments
    sender = asked.sender if asked.sender in ("", "<>") else canonical(asked.sender, call.settings.kmq.hostname)
    client = str(ip_address(asked.client)) if asked.client else ""
    return Mail("" if sender == "<>" else sender, asked.user, client)


def _lines(legs: list[Leg]) -> Iterator[str]:
    """A paragraph for each address."""
    before = ""
    shown = 0
    sender = legs[0].sender
    for leg in legs:
        if leg.kind not in (Kind.RCPT, Kind.ALIAS):
            shown += 1
            if shown > _SHOWN:
                continue
        if leg.address != before:
            yield leg.address
            before = leg.address
        yield from (f"  {name:11} {text}" for name, text in _said(leg) if text)
        if leg.sender != sender:
            yield f"  {'from':11} {leg.sender}"
    if shown > _SHOWN:
        yield f"and {shown - _SHOWN:,} more addresses (--json shows all)"


def _said(leg: Leg) -> Iterator[tuple[str, str]]:
    match leg.kind:
        case Kind.ALIAS:
            yield "alias", f"{leg.rule} -> {leg.goes_to}"
        case Kind.HOP:
            yield "rule", leg.rule
            yield "next hop", f"{leg.goes_to} ({_how(leg)})"
            yield "rewritten", leg.rewritten
        case Kind.UNREACHABLE:
            yield "unreachable", leg.rule
        case _:
            yield leg.kind.value, leg.goes_to


def _how(leg: Leg) -> str:
    return f"{_TYPES.get(leg.type, leg.type)}, connector {leg.hop.connector}" if leg.hop else ""


def _object(leg: Leg) -> dict[str, object]:
    hop = leg.hop
    return {
        "Address": leg.address,
        "Step": leg.kind.value,
        "Rule": leg.rule or None,
        "GoesTo": leg.goes_to,
        "FromAddress": leg.sender,
        "RewrittenAs": leg.rewritten or None,
        "DeliveryType": hop.delivery_type.value if hop else None,
        "NextHopDomain": hop.domain if hop else None,
        "NextHopConnector": hop.connector if hop else None,
    }
