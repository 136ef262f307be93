"""The options of a connector, a way out.

Promise:  as in `sections`, where they are exported with the others.
"""

from kmq.config import kinds
from kmq.config.kinds import Endpoint
from kmq.config.options import option, section


@section
class ConnectorSection:
    """A way out: to a smart host, or into the mailboxes of this machine.

    A connector is any section whose line of parents ends in [connector]; what [connector] itself says holds for all.
    """

    name: str
    type: str = option(
        kinds.choice("smarthost", "mailbox"),
        derived="",
        doc="`smarthost`: hands mail to the servers in `hosts`. `mailbox`: puts it into Maildirs. Needed.",
    )
    address_spaces: tuple[str, ...] = option(
        kinds.spaces(),
        default="",
        doc="Domains it serves. The most precise connector wins, then the lowest `cost`, then the first in the file. A"
        " smart host needs this; a mailbox connector serves all local domains when it is left out.",
    )
    cost: int = option(kinds.whole(1, 1000), default="1", doc="Of connectors equally precise, the cheapest serves.")
    hosts: tuple[Endpoint, ...] = option(
        kinds.hosts(),
        default="",
        doc="Smart host: the servers, the next one tried when one cannot be reached. Empty: not filled in yet, so"
        " that the connector serves nobody and mail waits in the Unreachable queue.",
    )
    tls: str = option(
        kinds.choice("never", "may", "must"),
        default="may",
        doc="Smart host: STARTTLS `never`, when it is offered (`may`), or always (`must`). `must` verifies the server:"
        " its certificate has to be valid for the name in `hosts` and issued by an authority that this machine trusts"
        " (/etc/ssl/certs; the environment variables SSL_CERT_FILE and SSL_CERT_DIR name others); otherwise mail waits."
        " `may` verifies nothing, and tries in clear later where TLS fails.",
    )
    helo: str = option(kinds.domain(), derived="${kmq:hostname}", doc="Smart host: the name that EHLO says.")
    maildir: str = option(
        kinds.maildir(), default="", doc="Mailbox: the Maildir of a user; it is made when the first mail comes. Needed."
    )
    users: str | tuple[str, ...] = option(
        kinds.users(),
        default="existing",
        doc="Mailbox: who has a mailbox: `*` everybody, `existing` whose Maildir is there, or a list of names. The"
        " postmaster always has one. What follows a `+` in an address does not count.",
    )
    connect_timeout: float = option(kinds.duration("100ms", "1h"), default="30s", doc="Longest wait for a connection.")
    greeting_timeout: float = option(
        kinds.duration("100ms", "1h"), default="300s", doc="Longest wait for the greeting (RFC 5321 4.5.3.2.1)."
    )
    ehlo_timeout: float = option(
        kinds.duration("100ms", "1h"), default="300s", doc="Longest wait for the reply to EHLO and STARTTLS."
    )
    mail_timeout: float = option(
        kinds.duration("100ms", "1h"), default="300s", doc="Longest wait for the reply to MAIL (RFC 5321 4.5.3.2.2)."
    )
    rcpt_timeout: float = option(
        kinds.duration("100ms", "1h"), default="300s", doc="Longest wait for the reply to RCPT (RFC 5321 4.5.3.2.3)."
    )
    data_timeout: float = option(
        kinds.duration("100ms", "1h"), default="180s", doc="Longest wait while sending a block (RFC 5321 4.5.3.2.5)."
    )
    final_timeout: float = option(
        kinds.duration("100ms", "1h"),
        default="600s",
        doc="Longest wait for the reply to the final dot; too short a one sends mail twice (RFC 5321 4.5.3.2.6).",
    )
    messages_per_connection: int = option(
        kinds.whole(1, 1000000), default="100", doc="Messages over one connection before it is closed."
    )
    connection_idle: float = option(
        kinds.duration("0", "5m"), default="5s", doc="How long a connection is kept open without mail."
    )
