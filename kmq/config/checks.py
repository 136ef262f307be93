"""What options must be together: mistakes and doubts that no value shows by itself.

Promise:  pure. Each finding names the section and the option where it is mended. Whether certificates can be used is
          looked at in `certificates`.
Callers:  `reading`, which knows the lines.
"""

from collections.abc import Iterable, Iterator
from ipaddress import ip_address
from typing import NamedTuple

from kmq.config import content, identity, line_checks, local_connector, milter, rule, scanner, way_out
from kmq.config.kinds import Endpoint, write_endpoint
from kmq.config.line_checks import hour_mistakes, login_mistakes
from kmq.config.local_connector import LOCAL
from kmq.config.sections import (
    AttachmentSection,
    ConnectorSection,
    KmqSection,
    MilterSection,
    QueueSection,
    ReceiverSection,
    RetrySection,
    RewriteSection,
    RuleSection,
    ScannerSection,
)

RECIPIENTS_AT_LEAST = 100


class Finding(NamedTuple):
    """Something to be told. name: of the section; option: where to mend it, "" for the heading."""

    name: str
    option: str
    text: str


# --- mistakes --------------------------------------------------------------------------------------------------------


def mistakes(
    queue: QueueSection | None, receivers: tuple[ReceiverSection, ...], connectors: tuple[ConnectorSection, ...]
) -> Iterator[Finding]:
    """What cannot be meant. queue: None when a value of it is wrong already."""
    if queue:
        yield from _queue_mistakes(queue)
    for receiver in receivers:
        yield from lacking(receiver)
        yield from _receiver_mistakes(receiver)
    for connector in connectors:
        yield from lacking(connector)
        yield from _connector_mistakes(connector)
        for option, text in hour_mistakes(connector, queue) if queue and connector.type not in LOCAL else ():
            yield Finding(connector.name, option, text)
    yield from _listen_conflicts(receivers)
    for name, other in identity.twice((one.name, one.guid) for one in connectors):
        yield Finding(name, "guid", f"[{other}] bears the same guid: leave one out, or give it another")


def lacking(
    section: ReceiverSection
    | ConnectorSection
    | RetrySection
    | RewriteSection
    | RuleSection
    | ScannerSection
    | MilterSection
    | AttachmentSection,
) -> Iterator[Finding]:
    """What a section needs to be of any use, and has not. One from which others inherit may lack it: a pattern."""
    match section:
        case ReceiverSection(listen=()):
            yield Finding(section.name, "listen", "listen is missing: write listen = 0.0.0.0:25, [::]:25")
        case ConnectorSection(type=""):
            text = "type is missing: write type = smarthost, dns, mailbox, lmtp, pipe, agent, foreign, discard or error"
            yield Finding(section.name, "type", text)
        case ConnectorSection(type="smarthost" | "dns", address_spaces=()):
            text = "address_spaces is missing: write address_spaces = * for all mail that is not local"
            yield Finding(section.name, "address_spaces", text)
        case ConnectorSection(type="mailbox" | "lmtp" | "pipe"):
            yield from (Finding(section.name, *found) for found in local_connector.lacking(section))
        case ConnectorSection(type="agent" | "foreign" | "discard" | "error"):
            yield from (Finding(section.name, *found) for found in way_out.lacking(section))
        case ScannerSection():
            yield from (Finding(section.name, *found) for found in scanner.lacking(section))
        case MilterSection():
            yield from (Finding(section.name, *found) for found in milter.lacking(section))
        case RuleSection():
            yield from (Finding(section.name, *found) for found in rule.lacking(section))
        case AttachmentSection():
            yield from (Finding(section.name, *found) for found in content.lacking(section))


def _queue_mistakes(queue: QueueSection) -> Iterator[Finding]:
    for option in ("retry_interval", "connection_retry_interval"):
        if getattr(queue, option) > queue.retry_interval_max:
            yield Finding("queue", option, f"{option} is longer than retry_interval_max, up to which it grows")
    if queue.priority_queuing and queue.high_priority_delay_warning >= queue.high_priority_lifetime:
        text = "high_priority_delay_warning is not before high_priority_lifetime: nobody would be warned"
        yield Finding("queue", "high_priority_delay_warning", f"{text}; write 0 if that is meant")


def _receiver_mistakes(receiver: ReceiverSection) -> Iterator[Finding]:
    for given, missing in (("tls_certificate", "tls_key"), ("tls_key", "tls_certificate")):
        if getattr(receiver, given) and not getattr(receiver, missing):
            yield Finding(receiver.name, given, f"{given} is set and {missing} is not: STARTTLS needs both")
    if receiver.sessions_per_client > receiver.sessions:
        text = f"sessions_per_client is more than sessions = {receiver.sessions}, which is for all clients together"
        yield Finding(receiver.name, "sessions_per_client", text)
    most = receiver.connections_per_minute
    if receiver.client_connections_per_minute > most > 0:
        text = f"client_connections_per_minute is more than connections_per_minute = {most}, which is for all clients"
        yield Finding(receiver.name, "client_connections_per_minute", text)


#: Options that have a meaning for one type of connector alone; written for another, something else was meant.
_ALONE = {
    "maildir": ("mailbox",),
    "hosts": ("smarthost", "lmtp"),
    "auth_user": ("smarthost",),
    "token_file": ("smarthost",),
    "etrn_domains": ("smarthost",),
}


#: Options that no mailbox connector has.
_ELSEWHERE = ("senders", "authenticated_users", "clients")


def _connector_mistakes(connector: ConnectorSection) -> Iterator[Finding]:
    for option, kinds in _ALONE.items():
        if connector.type not in ("", *kinds) and getattr(connector, option):
            text = f"{option} is for type = {' or '.join(kinds)}; this one is type = {connector.type}"
            yield Finding(connector.name, option, text)
    yield from (Finding(connector.name, *found) for found in local_connector.mistakes(connector))
    for option in _ELSEWHERE if connector.type in LOCAL else ():
        if getattr(connector, option):
            text = f"{option} is for mail that goes elsewhere; whose mailboxes are here is not a question of who writes"
            yield Finding(connector.name, option, text)
    for option in ("connections_per_domain", "connections_per_host"):
        if (getattr(connector, option) or 0) > connector.connections:
            text = f"{option} is more than connections = {connector.connections}, which is for all together"
            yield Finding(connector.name, option, text)
    if connector.messages_per_minute_per_domain > connector.messages_per_minute > 0:
        text = f"is more than messages_per_minute = {connector.messages_per_minute}, which is for all together"
        option = "messages_per_minute_per_domain"
        yield Finding(connector.name, option, f"{option} {text}")
    for option, text in _tls_mistakes(connector):
        yield Finding(connector.name, option, text)


def _tls_mistakes(connector: ConnectorSection) -> Iterator[tuple[str, str]]:
    """Options of TLS and of logging in that do not go together, as (option, what is wrong)."""
    for given, missing in (
        ("tls_certificate", "tls_key"),
        ("tls_key", "tls_certificate"),
    ):
        if getattr(connector, given) and not getattr(connector, missing):
            yield given, f"{given} is set and {missing} is not: write both or neither"
    if connector.type == "dns" and connector.tls == "implicit":
        yield "tls", "tls = implicit is for smart hosts: the servers of a domain speak STARTTLS; write tls = must"
    yield from login_mistakes(connector)
    if connector.tls == "may" and connector.tls_verify == "name" and connector.tls_failure == "clear":
        text = (
            "with tls = may a certificate that is wrong leads to mail in clear, which is worse than not to look at it"
        )
        yield "tls_verify", f"{text}: write tls = must, or tls_failure = wait"


def _listen_conflicts(receivers: Iterable[ReceiverSection]) -> Iterator[Finding]:
    """Two listeners that cannot be bound together. [::] is IPv6 alone, so it does not bar 0.0.0.0."""
    bound: list[tuple[Endpoint, str]] = []
    for receiver in receivers:
        for endpoint in receiver.listen:
            for other, name in bound:
                if _same_socket(endpoint, other):
                    mine, theirs = write_endpoint(*endpoint), write_endpoint(*other)
                    text = f"{mine} cannot be listened on: [{name}] listens on {theirs} already"
                    yield Finding(receiver.name, "listen", text)
            bound.append((endpoint, receiver.name))


def _same_socket(one: Endpoint, other: Endpoint) -> bool:
    here, there = ip_address(one[0]), ip_address(other[0])
    wide = here.is_unspecified or there.is_unspecified or here == there
    return one[1] == other[1] and here.version == there.version and wide


# --- doubts ----------------------------------------------------------------------------------------------------------


def doubts(
    kmq: KmqSection,
    queue: QueueSection,
    receivers: tuple[ReceiverSection, ...],
    connectors: tuple[ConnectorSection, ...],
) -> Iterator[Finding]:
    """What is allowed, and probably not meant."""
    yield from _receiver_doubts(receivers)
    yield from _connector_doubts(kmq, connectors)
    yield from (Finding(*one) for one in line_checks.doubts(queue, receivers, connectors))
    yield from loops(kmq, receivers, connectors)
    if not receivers and not connectors:
        text = "there is no receiver and no connector: no mail comes in and none goes out"
        yield Finding("kmq", "", text)
    for domain in kmq.local_domains:
        if not any(one.type in LOCAL and one.enabled and covers(one.address_spaces, domain) for one in connectors):
            text = f"no connector of type mailbox serves {domain}: its mail waits in the Unreachable queue"
            yield Finding("kmq", "local_domains", text)
    if "." not in kmq.hostname and any(one.hosts or one.type == "dns" for one in connectors):
        text = f"hostname = {kmq.hostname} is no full name: other servers may refuse it in HELO"
        yield Finding("kmq", "hostname", text)


def _receiver_doubts(receivers: Iterable[ReceiverSection]) -> Iterator[Finding]:
    for receiver in receivers:
        for network in receiver.relay_from:
            if network.prefixlen == 0:
                text = f"relay_from = {network} lets everybody send anywhere: an open relay"
                yield Finding(receiver.name, "relay_from", text)
        if receiver.recipient_limit < RECIPIENTS_AT_LEAST:
            text = (
                f"recipient_limit is less than {RECIPIENTS_AT_LEAST}, which every server must take (RFC 5321 4.5.3.1.8)"
            )
            yield Finding(receiver.name, "recipient_limit", text)


def _connector_doubts(kmq: KmqSection, connectors: Iterable[ConnectorSection]) -> Iterator[Finding]:
    for connector in connectors:
        spaces = ", ".join(connector.address_spaces)
        if connector.type == "smarthost" and not connector.hosts:
            text = f"hosts is not filled in yet: mail for {spaces} waits in the Unreachable queue"
            yield Finding(connector.name, "hosts", text)
        yield from _spaces_without_use(connector, kmq.local_domains)
        if connector.type == "dns" and 0 < (connector.connections_per_host or 0) < kmq.workers:
            text = f"connections_per_host is less than workers = {kmq.workers}: each worker may have one"
            yield Finding(connector.name, "connections_per_host", text)
    yield from _unreached(tuple(connectors))


def _unreached(connectors: tuple[ConnectorSection, ...]) -> Iterator[Finding]:
    """Connectors that no address comes to: for each of their spaces another one goes before them."""
    for kind in ("mailbox", "elsewhere"):
        same = [one for one in connectors if (one.type in LOCAL) == (kind == "mailbox") and not _asks_whose(one)]
        ready = [one for one in same if one.enabled and (one.type != "smarthost" or one.hosts)]
        taken: dict[str, ConnectorSection] = {}
        for connector in sorted(ready, key=lambda one: one.cost):
            for space in connector.address_spaces or ("*",):
                taken.setdefault(space, connector)
        for connector in ready:
            before = {taken[space].name: None for space in connector.address_spaces or ("*",)}
            if connector.name not in before:
                others = "], [".join(before)
                text = f"no address comes to this connector: [{others}] goes before it in all its address_spaces"
                yield Finding(connector.name, "address_spaces", text)


def _asks_whose(connector: ConnectorSection) -> bool:
    return any(getattr(connector, option) for option in _ELSEWHERE)


def loops(
    kmq: KmqSection, receivers: Iterable[ReceiverSection], connectors: Iterable[ConnectorSection]
) -> Iterator[Finding]:
    """Smart hosts that are this kmqd: each message goes round until `hop_limit` ends it."""
    listening = [(endpoint, receiver.name) for receiver in receivers for endpoint in receiver.listen]
    for connector in connectors:
        for host in connector.hosts:
            name = next((name for endpoint, name in listening if _is_ours(host, endpoint, kmq.hostname)), None)
            if name is not None:
                text = f"{write_endpoint(*host)} is our own receiver [{name}]: mail would go round until hop_limit"
                yield Finding(connector.name, "hosts", text)


def _is_ours(host: Endpoint, listener: Endpoint, hostname: str) -> bool:
    """Whether whoever connects to `host` surely, or by its name, reaches the listener. No name is looked up."""
    name, port = host
    address = ip_address(listener[0])
    if port != listener[1]:
        return False
    if name == "localhost":
        return address.is_loopback or address.is_unspecified
    if name == hostname:
        return not address.is_loopback
    try:
        there = ip_address(name)
    except ValueError:
        return False
    if address.is_unspecified:
        return there.version == address.version and (there.is_loopback or there.is_unspecified)
    return there == address


def _spaces_without_use(connector: ConnectorSection, local: tuple[str, ...]) -> Iterator[Finding]:
    if connector.type in LOCAL and not local:
        text = "local_domains is empty: no mail comes to this connector"
        yield Finding(connector.name, "type", text)
        return
    for space in connector.address_spaces:
        if connector.type not in LOCAL and space in local:
            text = f"{space} is one of local_domains: its mail goes to mailboxes and never to this connector"
            yield Finding(connector.name, "address_spaces", text)
        if connector.type in LOCAL and not any(covers((space,), domain) for domain in local):
            text = f"{space} is not in local_domains: no mail comes to this connector for it"
            yield Finding(connector.name, "address_spaces", text)


def covers(spaces: tuple[str, ...], domain: str) -> bool:
    """Whether address spaces have a domain in them; a mailbox connector without any serves all."""
    if not spaces or "*" in spaces or domain in spaces:
        return True
    return any(space[0] == "*" and domain.endswith(space[1:]) for space in spaces)
