"""The options of a receiver, a way in.

Promise:  as in `sections`, where they are exported with the others.
"""

from kmq.config import kinds
from kmq.config.kinds import Endpoint, Network
from kmq.config.options import option, section


@section
class ReceiverSection:
    """A way in: addresses to listen on, who may send where, and limits.

    A receiver is any section whose line of parents ends in [receiver]; what [receiver] itself says holds for all.
    """

    name: str
    listen: tuple[Endpoint, ...] = option(
        kinds.listeners(), default="", doc="Where to listen: 0.0.0.0:25, [::]:25. Needed."
    )
    relay_from: tuple[Network, ...] = option(
        kinds.networks(), default="", doc="Clients that may send to any domain; all others to local domains alone."
    )
    submission: bool = option(
        kinds.yes_or_no(),
        default="no",
        doc="`yes`: for the programs of users, as on port 587 (RFC 6409): Date, Message-ID and From are added where"
        " they are missing, and addresses without a domain get the first local one. `no`: for other servers, as on"
        " port 25: nothing is touched, and `Received:` goes on top.",
    )
    etrn_from: tuple[Network, ...] = option(
        kinds.networks(),
        default="",
        doc="Clients that may have mail for a domain sent at once with ETRN (RFC 1985), such as a site that is on line"
        " now and then. Only domains that a connector names in `address_spaces` can be asked for, not what `*` alone"
        " covers, and each once in ten seconds. All others do not hear of ETRN at all.",
    )
    size_limit: int = option(kinds.size("1K", "2G"), default="25M", doc="Largest message (552 5.3.4).")
    recipient_limit: int = option(
        kinds.whole(1, 100000), default="1000", doc="Most recipients of one message (452 4.5.3; RFC 5321 4.5.3.1.8)."
    )
    sessions: int = option(
        kinds.whole(1, 100000), default="1000", doc="Sessions at once, over all receiver processes (421 4.3.2)."
    )
    sessions_per_client: int = option(
        kinds.whole(1, 100000), default="50", doc="Sessions at once from one address (421 4.3.2)."
    )
    connections_per_minute: int = option(
        kinds.whole(0, 1000000),
        default="0",
        doc="New connections of all clients together in a minute, over all receiver processes (421 4.3.2; Exchange's"
        " MaxConnectionRatePerMinute). 0: no limit.",
    )
    client_connections_per_minute: int = option(
        kinds.whole(0, 1000000), default="0", doc="The same of one client (421 4.7.0). 0: no limit."
    )
    client_messages_per_minute: int = option(
        kinds.whole(0, 1000000),
        default="0",
        doc="Messages that one client may begin in a minute, over all receiver processes (450 4.7.1; Exchange's"
        " MessageRateLimit). A client is an address, of IPv6 its first 64 bits; one that has logged in is its user,"
        " from wherever. 0: no limit.",
    )
    client_recipients_per_minute: int = option(
        kinds.whole(0, 10000000),
        default="0",
        doc="Recipients that one client may name in a minute (450 4.7.1). 0: no limit.",
    )
    unlimited_clients: tuple[Network, ...] = option(
        kinds.networks(),
        default="",
        doc="Clients for whom neither `sessions_per_client` nor a limit per minute holds, such as a relay that brings"
        " the mail of many.",
    )
    priority_from: str = option(
        kinds.choice("trusted", "everybody", "nobody"),
        default="trusted",
        doc="With `priority_queuing`, whose headers say how urgent mail is: `trusted`: those of clients in `relay_from`"
        " and of users; `everybody`; `nobody`. A stranger's mail is as urgent as any.",
    )
    error_limit: int = option(kinds.whole(1, 10000), default="20", doc="Errors before the session ends (421 4.7.0).")
    command_limit: int = option(
        kinds.whole(1, 10000), default="100", doc="Commands that do no mail (NOOP, RSET, VRFY) before the session ends."
    )
    command_timeout: float = option(
        kinds.duration("100ms", "1h"),
        default="300s",
        doc="Longest silence of a client (421 4.4.2; RFC 5321 4.5.3.2.7).",
    )
    transaction_timeout: float = option(
        kinds.duration("100ms", "1d"),
        default="10m",
        doc="Longest time from MAIL to the end of the message, beside the time that its bytes take at `minimum_rate`.",
    )
    minimum_rate: int = option(
        kinds.size("1"), default="500", doc="Bytes a second that a client must send to be waited for."
    )
    hop_limit: int = option(
        kinds.whole(1, 1000), default="50", doc="Most `Received:` lines; more is a loop (554 5.4.6)."
    )
    line_limit: int = option(
        kinds.size("998", "1M"),
        default="998",
        doc="Longest line of a message in bytes without its end (500 5.5.2). Lines are never broken up; a larger"
        " limit takes in mail that other servers may refuse (RFC 5322 2.1.1).",
    )
    tls_certificate: str = option(
        kinds.file(),
        default="",
        doc="Certificate chain (PEM), the server's own first, for STARTTLS, which is offered when this is set. It is"
        " loaded at the start and at each reload, so that a renewed one counts after `systemctl reload kmq`.",
    )
    tls_key: str = option(
        kinds.file(), default="", doc="Its private key (PEM), without a passphrase, which kmqd's user can read."
    )
