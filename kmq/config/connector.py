"""The options of a connector, a way out.

Promise:  as in `sections`, where they are exported with the others.
"""

from kmq.config import identity, kinds, limits, login, people, steps, timetable, way_out
from kmq.config.kinds import Endpoint, Network
from kmq.config.local_connector import LocalOptions
from kmq.config.options import option, section
from kmq.config.timetable import Range
from kmq.model.reply import Reply


@section
class ConnectorSection(LocalOptions):
    """A way out: to a smart host, to the servers that the DNS names, into the mailboxes of this machine, to a program.

    A connector is any section whose line of parents ends in [connector]; what [connector] itself says holds for all.
    Those of type agent, foreign, discard and error have one queue each, which bears the connector's name: its
    DeliveryType is DeliveryAgent for an agent, NonSmtpGatewayDelivery for the others.
    """

    name: str
    type: str = option(
        kinds.choice("smarthost", "dns", "mailbox", "lmtp", "pipe", "agent", "foreign", "discard", "error"),
        derived="",
        doc="`smarthost`: hands mail to the servers in `hosts`. `dns`: hands mail for each domain to the servers that"
        " its MX records name, the domain itself where there are none. `mailbox`: puts it into Maildirs or"
        " mbox files. `lmtp`: hands it to a server of mailboxes, as Dovecot is one. `pipe`: has a command run for each"
        " message or recipient. The others are not for local domains: `agent`: hands it to a program of yours,"
        " kmq-agent(5), which answers for each recipient. `foreign`: writes it as files for a gateway, kmq-drop(5)."
        " `discard`: says that it is delivered, and throws it away. `error`: refuses it. Needed.",
    )
    address_spaces: tuple[str, ...] = option(
        kinds.spaces(),
        default="",
        doc="Domains it serves; which of several connectors serves one is told under ROUTING. A"
        " smart host and `dns` need this; a mailbox connector serves all local domains when it is left out.",
    )
    cost: int = option(kinds.whole(1, 1000), default="1", doc="Of connectors equally precise, the cheapest serves.")
    senders: tuple[str, ...] = option(
        people.senders(),
        default="",
        doc="Not for mailboxes: serves only mail of these envelope senders; `<>` is that of notices. Of connectors with"
        " the same address space, one that names senders, users or clients goes before one that does not.",
    )
    authenticated_users: tuple[str, ...] = option(
        people.accounts(),
        default="",
        doc="Not for mailboxes: serves only mail that came in from these users, as `kmq show` names them.",
    )
    clients: tuple[Network, ...] = option(
        kinds.networks(), default="", doc="Not for mailboxes: serves only mail that came in from these networks."
    )
    hosts: tuple[Endpoint, ...] = option(
        kinds.hosts(),
        default="",
        doc="Smart host: the servers, the next one tried when one cannot be reached. Empty: not filled in yet, so"
        " that the connector serves nobody and mail waits in the Unreachable queue.",
    )
    port: int = option(
        kinds.whole(1, 65535), default="25", doc="`dns`: the port of the servers; the world's is 25 (RFC 5321 4.5.4.2)."
    )
    address_families: str = option(
        kinds.choice("both", "ipv6", "ipv4"),
        default="both",
        doc="Which addresses of a server are tried: `both` takes turns and begins with IPv6.",
    )
    forbidden_addresses: tuple[Network, ...] = option(
        kinds.networks(),
        default="0.0.0.0/8, 127.0.0.0/8, 169.254.0.0/16, 224.0.0.0/3, ::/128, ::1/128, fe80::/10, ff00::/8",
        doc="`dns`: addresses that no mail is sent to, whatever a domain's owner writes into the DNS; when a domain has"
        " no other ones its mail is returned (5.4.4). Private networks may be added where no mail belongs there.",
    )
    tls: str = option(
        kinds.choice("never", "may", "must", "implicit"),
        default="may",
        doc="STARTTLS `never`, when it is offered (`may`), or always (`must`: mail waits where it cannot be had)."
        " `implicit`: TLS from the first byte, as smart hosts speak it on port 465.",
    )
    tls_verify: str = option(
        kinds.choice("auto", "name", "none"),
        default="auto",
        doc="`name`: the server's certificate has to be valid for its name in `hosts` or the MX record, and issued by"
        " an authority of `tls_ca_file`; otherwise TLS has failed. `none`: any certificate will do, which keeps out who"
        " only listens. `auto`: `name` with `tls = must` and `implicit`, `none` with `may`.",
    )
    tls_failure: str = option(
        kinds.choice("clear", "wait"),
        default="clear",
        doc="With `tls = may`, when STARTTLS is offered and fails: `wait` never sends in clear to that server. `clear`"
        " does, but not at once: the next attempts of a minute try TLS again, so that one broken handshake discloses"
        " nothing; after an hour TLS has its chance again. With `must` and `implicit` mail always waits.",
    )
    tls_minimum: str = option(
        kinds.choice("1.2", "1.3"), default="1.2", doc="The oldest version of TLS that is spoken (RFC 8996)."
    )
    tls_ca_file: str = option(
        kinds.file(),
        default="",
        doc="Certificates (PEM) of the authorities that are trusted; nothing: those that this machine trusts"
        " (/etc/ssl/certs; the environment variables SSL_CERT_FILE and SSL_CERT_DIR name others).",
    )
    tls_certificate: str = option(
        kinds.file(), default="", doc="Certificate chain (PEM) that kmq shows when a server asks for one."
    )
    tls_key: str = option(
        kinds.file(), default="", doc="Its private key (PEM), without a passphrase, which kmqd's user can read."
    )
    auth_user: str = option(
        kinds.word(),
        default="",
        doc="Smart host: the name to log in with (SMTP AUTH). Needs `tls = must` or `implicit`, so that the password"
        " goes to nobody else; only with `auth = cram-md5` it never crosses the line.",
    )
    password_file: str = option(
        kinds.file(),
        default="",
        doc="Smart host: the file whose first line is the password. It is read for each connection, so that a new one"
        " counts at once; only kmqd's user should be able to read it.",
    )
    auth: str = option(
        kinds.choice("auto", *login.MECHANISMS),
        default="auto",
        doc="Smart host: how to log in. `auto`: the strongest way that the server knows, too, of `xoauth2` (with a"
        " token; RFC 7628 has its like), `cram-md5` (RFC 2195), `plain` (RFC 4616), `login`; when one is refused for"
        " good the next is tried.",
    )
    token_file: str = option(
        kinds.file(),
        default="",
        doc="Smart host: the file whose first line is an OAuth 2 access token, for `xoauth2`. It is read for each"
        " connection; whoever renews the token writes a new file and renames it.",
    )
    token_command: tuple[str, ...] = option(
        way_out.command(),
        default="",
        doc="Smart host: a program that prints an access token as its first line, in place of `token_file`. It runs as"
        " kmqd's user when a connection is opened, once for those that are opened at the same time.",
    )
    token_timeout: float = option(
        kinds.duration("100ms", "5m"), default="10s", doc="Longest wait for `token_command`; then it is ended."
    )
    source_address: tuple[str, ...] = option(
        login.source_addresses(),
        default="",
        doc="Not for mailboxes: the address of this machine that connections come from, one of IPv4 and one of IPv6."
        " For a family that is not named the system chooses; `address_families` says which are spoken at all. While"
        " this machine has no such address mail waits.",
    )
    helo: str = option(
        kinds.domain(),
        derived="${kmq:hostname}",
        doc="The name that EHLO says. Where `source_address` is set, it should be the name of that address.",
    )
    enabled: bool = option(
        kinds.yes_or_no(),
        default="yes",
        doc="`no`: the connector serves nobody; mail goes to the next best one, or waits in the Unreachable queue. What"
        " waits for it is routed anew when this counts.",
    )
    delivery: str = option(
        timetable.line(),
        default="",
        doc="Not for mailboxes: `online`: mail leaves as it comes, within the hours of `between` and `days`."
        " `offline`: it waits until it is sent by `send_every` or `send_at`, by `kmq retry --queue` or `kmq flush`, or"
        " because its domain is asked for with ETRN (`etrn_from` of a receiver). Then all of the queue is tried once:"
        " what could not be sent waits for the next time. Left out, it is that of [queue]. TIMETABLES has more.",
    )
    send_every: float = option(
        timetable.interval(),
        default="",
        doc="With `delivery = offline`: so often, counted from midnight, or from the beginning of each range of"
        " `between`.",
    )
    send_at: tuple[int, ...] = option(timetable.times(), default="", doc="With `delivery = offline`: at these times.")
    between: tuple[Range, ...] = option(
        timetable.ranges(), default="", doc="The hours in which mail leaves; left out, all. The end is not one of them."
    )
    days: tuple[int, ...] = option(
        timetable.days(),
        default="",
        doc="The days on which it leaves; a range that goes on over midnight belongs to the day on which it begins.",
    )
    etrn_domains: tuple[str, ...] = option(
        kinds.domains(),
        default="",
        doc="Smart host, with `delivery = offline`: at each time of `send_every` and `send_at` its servers are asked"
        " with ETRN for the mail of these domains, which they keep for us and bring then (RFC 1985).",
    )
    etrn_servers: tuple[Endpoint, ...] = option(
        kinds.hosts(), default="", doc="Who is asked, each of them; left out, `hosts`. TLS and login are the same."
    )
    dial_on_high: bool = option(
        kinds.yes_or_no(),
        default="no",
        doc="With `delivery = offline` and `priority_queuing`: mail of high priority has the queue sent at once"
        " (Kerio's dial on high-priority message).",
    )
    maildir: str = option(
        kinds.maildir(),
        default="",
        doc="Mailbox: the Maildir of a user; it is made when the first mail comes, and belongs to the user that kmqd"
        " runs as. Needed.",
    )
    users: str | tuple[str, ...] = option(
        people.users(),
        default="existing",
        doc="Mailbox: who has a mailbox: `*` everybody, `existing` whose Maildir is there, `passwd` the machine's users"
        " (those who may log in, from uid 1000 on, and root), `file:/etc/kmq/users` who stands in that file, one name"
        " or address on a line, or a list of names. Files are read again when they change. The postmaster always has"
        " one. What follows a `+` in an address does not count.",
    )
    command: tuple[str, ...] = option(
        way_out.command(),
        default="",
        doc="Agent: the program that is handed the mail, with its arguments. It lives on from message to message, as"
        " kmqd's user, and is begun when the first one comes. Needed. `pipe`: the command that is run, as kmqd's"
        " user; what words in braces stand for is told under LOCAL DELIVERY. Needed.",
    )
    processes: int = option(
        kinds.whole(1, 100),
        default="1",
        doc="Agent: such programs at once, over all workers together. With 1 there is one for the whole machine.",
    )
    in_flight: int = option(
        kinds.whole(1, 1000),
        default="1",
        doc="Agent: messages that a program is handed before it has answered for the first of them.",
    )
    answer_timeout: float = option(
        kinds.duration("100ms", "1d"),
        default="5m",
        doc="Agent: longest wait for the answers about a message. Then it is tried again later, though it may have been"
        " delivered; what the program says of it after that does not count. When all that a program may have"
        " (`in_flight`) are overdue it is ended, and begun anew.",
    )
    drop_directory: str = option(
        kinds.file(),
        default="",
        doc="Foreign: the directory into which the files go. Left out, it is drop/NAME in the spool, which kmqd makes;"
        " any other has to be there, and writable for kmqd's user. With its set-group-ID bit the files belong to its"
        " group.",
    )
    drop_mode: int = option(
        way_out.file_mode(), default="640", doc="Foreign: the permissions of the files, whatever the umask."
    )
    drop_quota: int = option(
        kinds.size("0"),
        default="0",
        doc="Foreign: while the files in the directory have so many bytes together, none is added: the queue waits"
        " until the gateway has taken some (4.3.1; Exchange's DropDirectoryQuota). 0: no limit.",
    )
    drop_quota_files: int = option(
        kinds.whole(0, 1000000), default="0", doc="Foreign: the same for their number. 0: no limit."
    )
    reply: Reply = option(
        way_out.refusal(),
        default=way_out.REFUSAL,
        doc="Error: what each recipient gets. 5xx: the sender gets a notice with it; 4xx: it is tried again, until the"
        " lifetime is over.",
    )
    guid: str = option(
        identity.guid(),
        default="",
        doc="What programs know the connector by, also when it is renamed (NextHopConnector in `kmq queues --json`)."
        " kmq makes one and keeps it in the spool; it is told here where several machines are to have the same, or"
        " when a connector gets another name and other hosts at once.",
    )
    retry_profile: str = option(
        steps.profile(), default="", doc="As in [queue], for what goes this way; left out, it is that of [queue]."
    )
    message_lifetime: float | None = option(
        steps.own_duration("1s", "90d"), default="", doc="The same: left out, it is what the profile says."
    )
    delay_warning: float | None = option(
        steps.own_duration("0", "90d"), default="", doc="The same: left out, it is what the profile says."
    )
    safety_net: bool = option(
        kinds.yes_or_no(),
        default="yes",
        doc="Whether what was delivered this way is kept for as long as `safety_net_hold_time` in [queue] says.",
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
    connections: int = option(
        kinds.whole(1, 100000),
        default="1000",
        doc="Not for mailboxes: connections at once, to all its servers, over all workers together (Exchange's"
        " MaxOutboundConnections).",
    )
    connections_per_domain: int | None = option(
        limits.own_whole(1, 10000),
        default="",
        doc="The same for one next hop: a domain, or the smart host (Exchange's MaxPerDomainOutboundConnections). Left"
        " out, it is `per_hop` of [queue].",
    )
    connections_per_host: int | None = option(
        limits.own_whole(1, 10000),
        default="",
        doc="`dns`: the same for one address of a server, whichever domains its mail is for, one for each worker at"
        " least. Left out, it is `per_hop` of [queue].",
    )
    messages_per_minute: int = option(
        kinds.whole(0, 1000000),
        default="0",
        doc="Not for mailboxes: messages that leave in a minute, evenly spread; more wait (`throttled`). 0: no limit.",
    )
    messages_per_minute_per_domain: int = option(
        kinds.whole(0, 1000000), default="0", doc="The same for each next hop by itself. 0: no limit."
    )
    slow_down: bool = option(
        kinds.yes_or_no(),
        default="yes",
        doc="Not for mailboxes: when a next hop says 421, or 4.7 to several messages in a row, it is left alone for a"
        " while and gets half as many connections; each has to earn its way back by messages that are taken.",
    )
    messages_per_connection: int = option(
        kinds.whole(1, 1000000),
        default="100",
        doc="Messages over one connection before it is closed (Exchange's SmtpMaxMessagesPerConnection, 20 there).",
    )
    connection_idle: float = option(
        kinds.duration("0", "5m"), default="5s", doc="How long a connection is kept open without mail."
    )
