"""What of a connector's line does not go together: how it logs in, and the hours in which mail leaves.

Promise:  pure; each mistake is (option, what is wrong and what would be right).
Callers:  `checks`.
"""

from collections.abc import Iterator

from kmq.config.local_connector import LOCAL
from kmq.config.sections import ConnectorSection, QueueSection, ReceiverSection
from kmq.config.timetable import DAY, Range

Wrong = tuple[str, str]


# --- logging in -------------------------------------------------------------------------------------------------------


def login_mistakes(connector: ConnectorSection) -> Iterator[Wrong]:
    """A name without a secret, a secret without a name, or one that the chosen way does not use."""
    secret = next((one for one in ("password_file", "token_file", "token_command") if getattr(connector, one)), "")
    token = bool(connector.token_file or connector.token_command)
    if connector.auth_user and not secret:
        yield "auth_user", "auth_user is set and password_file is not: write both or neither"
    if secret and not connector.auth_user:
        yield secret, f"{secret} is set and auth_user is not: write both or neither"
    if connector.token_file and connector.token_command:
        yield "token_command", "token_command stands beside token_file: the token comes from one of them"
    if connector.auth_user and connector.auth == "xoauth2" and not token:
        yield "auth", "auth = xoauth2 needs a token: write token_file or token_command"
    if token and connector.auth not in ("auto", "xoauth2"):
        yield "auth", f"auth = {connector.auth} has no use for a token: write auth = xoauth2, or password_file"
    if connector.auth_user and connector.tls not in ("must", "implicit") and connector.auth != "cram-md5":
        text = f"with tls = {connector.tls} the password could go in clear"
        yield "auth_user", f"auth_user needs tls = must or implicit: {text}"


# --- hours ------------------------------------------------------------------------------------------------------------


def offline(connector: ConnectorSection, queue: QueueSection) -> bool:
    """Whether mail waits to be sent, as the connector says, else as [queue] does."""
    return (connector.delivery or queue.delivery) == "offline"


def hour_mistakes(connector: ConnectorSection, queue: QueueSection) -> Iterator[Wrong]:
    """Times of sending where mail does not wait for any, or that never come."""
    if not connector.delivery and queue.delivery == "online":
        for option in ("send_every", "send_at", "dial_on_high"):
            if getattr(connector, option):
                yield option, f"{option} is for mail that waits: write delivery = offline beside it"
    for minute in connector.send_at if connector.between else ():
        if not any(within(minute, one) for one in connector.between):
            text = f"send_at = {clock(minute)} lies in no range of between, so nothing is sent then"
            yield "send_at", f"{text}: change one of them (the end of a range does not belong to it)"
    if connector.etrn_domains and not (offline(connector, queue) and (connector.send_every or connector.send_at)):
        text = "write delivery = offline, and when, with send_every or send_at"
        yield "etrn_domains", f"etrn_domains are asked for at the times of a timetable: {text}"
    if connector.etrn_servers and not connector.etrn_domains:
        yield "etrn_servers", "etrn_servers is set and etrn_domains is not: say what they are to be asked for"
    if connector.dial_on_high and not queue.priority_queuing:
        yield "dial_on_high", "dial_on_high knows no high priority without priority_queuing = yes in [queue]"


def within(minute: int, hours: Range) -> bool:
    """Whether a minute of the day lies in a range."""
    begin, end = hours
    return begin <= minute < end if begin < end else minute >= begin or minute < end


def clock(minute: int) -> str:
    """A minute of the day as 08:00."""
    return f"{minute // 60:02}:{minute % 60:02}" if minute < DAY else "24:00"


def doubts(
    queue: QueueSection, receivers: tuple[ReceiverSection, ...], connectors: tuple[ConnectorSection, ...]
) -> Iterator[tuple[str, str, str]]:
    """As (section, option, text): connectors that serve nobody now, and those whose mail may never leave."""
    asked = any(one.etrn_from for one in receivers)
    for connector in connectors:
        if not connector.enabled:
            yield (connector.name, "enabled", "enabled = no: it serves nobody")
        elif connector.type not in LOCAL and offline(connector, queue) and not _is_sent(connector, asked):
            text = "delivery is offline without send_every or send_at, and no receiver has etrn_from"
            yield (connector.name, "delivery", f"{text}: mail leaves only by kmq retry --queue or kmq flush")


def _is_sent(connector: ConnectorSection, asked: bool) -> bool:
    return bool(connector.send_every or connector.send_at or connector.dial_on_high or asked)
