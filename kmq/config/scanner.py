"""The options of a scanner: a program that looks at mail, and what becomes of what it finds.

Promise:  as in `sections`, where they are exported with the others; `mistakes` as in `checks`.
Callers:  `sections`, `reading`; phases.antivirus and phases.antispam are handed a section.
"""

import re
from collections.abc import Iterable, Iterator

from kmq.config import kinds
from kmq.config.kinds import Endpoint, Kind
from kmq.config.options import option, section
from kmq.model.address import NotAnAddress, parse

#: Where a program listens: the path of a Unix socket, or host and port.
Peer = str | Endpoint

#: Who holds mail with a virus, as its event says, and as an operator sees it.
SCANNERS = "antivirus"

#: A socket as milters and Postfix have it: `unix:/run/x.sock`, `local:/run/x.sock`, `inet:8891@localhost`,
#: `inet:localhost:8891`.
_FOREIGN = re.compile(r"(?:unix|local|inet6?):(?:(?P<port>\d+)@(?P<host>\S+)|(?P<rest>/\S+|\S+:\d+))")


def write_peer(peer: Peer) -> str:
    """Its text: `/run/clamav/clamd.ctl`, `127.0.0.1:3310`."""
    return peer if isinstance(peer, str) else kinds.write_endpoint(*peer)


def _peer(text: str) -> Peer:
    if not text:
        return ""
    if text.startswith("/"):
        if len(text.encode()) > 107 or not text.isprintable():  # sockaddr_un, unix(7)
            raise ValueError(f"{text!r} is no path of a socket: at most 107 bytes that can be seen")
        return text
    foreign = _FOREIGN.fullmatch(text)
    if foreign is not None:
        right = foreign["rest"] or f"{foreign['host']}:{foreign['port']}"
        raise ValueError(f"{text!r} is how other programs write it: write {right}")
    if ":" not in text:
        raise ValueError(f"{text!r} is neither the absolute path of a socket nor host:port, as 127.0.0.1:3310")
    found = kinds.hosts().parse(text)
    if len(found) != 1:
        raise ValueError(f"{text!r}: one address is needed, as 127.0.0.1:3310")
    return found[0]


def peer() -> Kind[Peer]:
    """Where a program of this network listens; "" for nowhere."""
    return Kind("absolute path of a Unix socket, or host:port, IPv6 in brackets", _peer)


def _mailbox(text: str) -> str:
    if not text:
        return ""
    try:
        local, domain = parse(text)
    except NotAnAddress as wrong:
        raise ValueError(f"{text!r} is no mail address ({wrong}): write admin@example.org") from None
    return f"{local}@{kinds.domain_name(domain)}"


def mailbox() -> Kind[str]:
    """A whole mail address, or nothing."""
    return Kind("mail address, or nothing", _mailbox)


@section
class ScannerSection:
    """A program that looks at mail before it is routed: ClamAV's clamd for viruses, rspamd for spam.

    Scanners are asked in the order of the file, those of type rspamd with `phase = content` before the filters of
    Content filtering. Mail waits when one cannot be asked, and is never delivered unscanned unless `failure = open`.
    """

    name: str
    type: str = option(
        kinds.choice("clamd", "rspamd"),
        derived="",
        doc="`clamd`: ClamAV's daemon, asked with INSTREAM, in the phase Antivirus control. `rspamd`: over HTTP."
        " Needed.",
    )
    address: Peer = option(
        peer(),
        default="",
        doc="Where it listens. Debian's clamd: /run/clamav/clamd.ctl, whose group (clamav) kmqd's user needs; rspamd's"
        " normal worker: 127.0.0.1:11333. Needed.",
    )
    connections: int = option(
        kinds.whole(1, 10000),
        default="10",
        doc="Messages that it looks at at once, over all workers together, one for each worker at least; more wait."
        " clamd has MaxThreads = 10 unless told otherwise.",
    )
    time_limit: float = option(
        kinds.duration("100ms", "10m"),
        default="60s",
        doc="Longest time for one message, and longest wait for a connection that others have.",
    )
    failure: str = option(
        kinds.choice("wait", "open"),
        default="wait",
        doc="When the scanner cannot be reached, hangs, or talks nonsense: `wait`: mail stays in the Submission queue"
        " (451 4.7.1) and is tried again. `open`: it is delivered unscanned, with a header field that says so.",
    )
    size_limit: int = option(
        kinds.size("1K", "4000M"),
        default="25M",
        doc="Larger mail is not shown to it: clamd counts it as `unscannable`, rspamd lets it pass. clamd has"
        " StreamMaxLength = 25M unless told otherwise; where that is less, it says so, and it is the same.",
    )
    infected: str = option(
        kinds.choice("quarantine", "remove", "discard", "reject"),
        default="quarantine",
        doc="clamd: mail with a virus. `quarantine`: it is held; `kmq resume` lets it go on past the scanners, `kmq"
        " remove` ends it. `remove`: it is delivered without the infected attachment, with a note in its place; where"
        " no attachment alone is what was found, it is held. `discard`: it ends, and nobody is told. `reject`: its"
        " sender is told, who is forged as a rule, so that the notice hits somebody innocent.",
    )
    encrypted: str = option(
        kinds.choice("warn", "infected", "accept"),
        default="warn",
        doc="clamd: what it names Heuristics.Encrypted (it does with AlertEncrypted in clamd.conf). `warn`: delivered"
        " with `warning_subject` and a field X-Virus-Status. `infected`: as a virus. `accept`: delivered.",
    )
    unscannable: str = option(
        kinds.choice("warn", "infected", "accept"),
        default="warn",
        doc="The same of mail that is too large, too deep or too much when it is unpacked (Heuristics.Limits.Exceeded,"
        " which clamd says with AlertExceedsMax in clamd.conf; without it clamd says that such mail is clean).",
    )
    warning_subject: str = option(
        kinds.word(),
        default="[not scanned]",
        doc="clamd: stands before the subject of mail with a warning, or nothing.",
    )
    forward_original: str = option(
        mailbox(), default="", doc="clamd: who gets infected mail as it came, as an attachment of a report."
    )
    forward_filtered: str = option(
        mailbox(),
        default="",
        doc="clamd: who gets a copy of mail whose attachment was removed, as an attachment of a report.",
    )
    header: bool = option(
        kinds.yes_or_no(), default="no", doc="clamd: whether clean mail gets a field X-Virus-Status: clean, too."
    )
    remember: float = option(
        kinds.duration("0", "1d"),
        default="5m",
        doc="clamd: for how long a verdict counts for mail with the same bytes (but for our own `Received:`). It ends"
        " when clamd has other signatures; of signature files without a version clamd says nothing. 0: not at all.",
    )
    phase: str = option(
        kinds.choice("content", "antivirus"),
        default="content",
        doc="rspamd: when it is asked: ahead of the filters of Content filtering, whose rules see the score then, or in"
        " Antivirus control.",
    )
    apply: str = option(
        kinds.choice("all", "incoming", "outgoing"),
        default="all",
        doc="rspamd: which mail it sees: `incoming`, for addresses of this server, so that what our own people send out"
        " tells nobody its score; `outgoing`, for others; or all.",
    )
    spam: str = option(
        kinds.choice("header", "quarantine", "discard", "reject"),
        default="header",
        doc="rspamd: mail that it would reject. `header`: delivered, marked as spam. `quarantine`: held. `discard`: it"
        " ends, and nobody is told. `reject`: its sender is told (550 5.7.1), who is forged as a rule.",
    )
    greylist: str = option(
        kinds.choice("ignore", "wait"),
        default="ignore",
        doc="rspamd: its action greylist. `wait`: deferred by the schedule of the queue. It is meant for clients that"
        " stand at the door, which mail in the queue does no more.",
    )
    soft_reject: str = option(
        kinds.choice("wait", "ignore"), default="wait", doc="rspamd: the same for its action soft reject."
    )
    spam_headers: bool = option(
        kinds.yes_or_no(),
        default="yes",
        doc="rspamd: whether mail gets X-Spam-Status and X-Spam-Score, and spam X-Spam-Flag; such fields of others go.",
    )
    milter_headers: bool = option(
        kinds.yes_or_no(), default="yes", doc="rspamd: whether the fields that it adds and removes are, in fact."
    )
    spam_subject: str = option(
        kinds.word(),
        default="[SPAM] %s",
        doc="rspamd: the subject for its action rewrite subject, when it names none; `%s` is what it was. Nothing: it"
        " stays.",
    )


#: Options that have a meaning for one type alone; written for another, something else was meant.
ALONE = {
    "clamd": (
        *("infected", "encrypted", "unscannable", "warning_subject", "forward_original", "forward_filtered"),
        *("header", "remember"),
    ),
    "rspamd": ("phase", "apply", "spam", "greylist", "soft_reject", "spam_headers", "milter_headers", "spam_subject"),
}

_HINTS = {"clamd": "address = /run/clamav/clamd.ctl", "rspamd": "address = 127.0.0.1:11333"}


def lacking(one: ScannerSection) -> Iterator[tuple[str, str]]:
    """What a scanner needs to be of any use, and has not, as (option, what is wrong)."""
    if not one.type:
        yield "type", "type is missing: write type = clamd, or rspamd"
    elif not one.address:
        yield "address", f"address is missing: write {_HINTS[one.type]}, or where it listens"


def mistakes(scanners: Iterable[ScannerSection], workers: int) -> Iterator[tuple[str, str, str]]:
    """(section, option, what is wrong) of what cannot be meant. workers: how many share its connections."""
    asked: dict[tuple[str, Peer], str] = {}
    for one in scanners:
        for name, text in lacking(one):
            yield one.name, name, text
        for kind, options in ALONE.items():
            for name in options if one.type not in ("", kind) else ():
                if getattr(one, name) != ScannerSection.__dataclass_fields__[name].default:
                    yield one.name, name, f"{name} is for type = {kind}; this one is type = {one.type}"
        if one.connections < workers:
            text = f"connections is less than workers = {workers}, each of which needs one"
            yield one.name, "connections", text
        if one.forward_filtered and one.infected != "remove":
            text = "forward_filtered needs infected = remove: nothing is taken out of mail otherwise"
            yield one.name, "forward_filtered", text
        other = asked.setdefault((one.type, one.address), one.name) if one.address else one.name
        if other != one.name:
            yield one.name, "address", f"[{other}] asks {write_peer(one.address)} already"
