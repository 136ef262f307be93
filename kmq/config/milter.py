"""The options of a milter: a program that looks at mail in Sendmail's filter protocol, and may change it.

Promise:  as in `sections`, where they are exported with the others; `mistakes` as in `checks`.
Callers:  `sections`, `reading`; phases.milter is handed a section.
"""

from collections.abc import Iterable, Iterator

from kmq.config import kinds
from kmq.config.options import option, section
from kmq.config.scanner import Peer, peer, write_peer


@section
class MilterSection:
    """A filter that speaks the milter protocol, as opendkim and many others do.

    kmq is the MTA's side of it. A milter is asked when the message is in the queue, so that one that is slow, or away,
    keeps no client waiting; what it changes of the header goes out with the message, what it changes of text or sender
    makes another message that goes on instead. Milters are asked in the order of the file.
    """

    name: str
    address: Peer = option(
        peer(),
        default="",
        doc="Where it listens: the path of a Unix socket (/run/opendkim/opendkim.sock), or host:port. Needed.",
    )
    phase: str = option(
        kinds.choice("content", "antivirus"),
        default="antivirus",
        doc="When it is asked: ahead of the rules of Content filtering, or behind the scanners of Antivirus control."
        " One that signs mail has to be the last one that changes it.",
    )
    apply: str = option(
        kinds.choice("all", "incoming", "outgoing"),
        default="all",
        doc="Which mail it sees: `incoming`, for addresses of this server; `outgoing`, for others; or all.",
    )
    connections: int = option(
        kinds.whole(1, 10000),
        default="20",
        doc="Messages that it has in hand at once, over all workers together, one for each worker at least; more wait.",
    )
    reply_timeout: float = option(
        kinds.duration("100ms", "1h"),
        default="60s",
        doc="Longest wait for an answer; one that says that it is still at work (PROGRESS) has as long again.",
    )
    time_limit: float = option(
        kinds.duration("100ms", "1h"), default="5m", doc="Longest time for one message, whatever it says."
    )
    failure: str = option(
        kinds.choice("wait", "open"),
        default="wait",
        doc="When the milter cannot be reached, hangs, or talks nonsense: `wait`: mail stays in the Submission queue"
        " (451 4.7.1) and is tried again. `open`: it goes on as if there were no such milter.",
    )
    reject: str = option(
        kinds.choice("return", "quarantine", "discard"),
        default="return",
        doc="Mail that the milter rejects, though it has been accepted: `return`: its sender is told, with the reply of"
        " the milter; where senders are forged, that hits somebody innocent. `quarantine`: it is held. `discard`: it"
        " ends, and nobody is told.",
    )
    body_limit: int = option(
        kinds.size("1K", "2G"), default="100M", doc="Bytes of the text that a milter may put in the place of another."
    )


def lacking(one: MilterSection) -> Iterator[tuple[str, str]]:
    """What a milter needs to be of any use, and has not, as (option, what is wrong)."""
    if not one.address:
        yield "address", "address is missing: write address = /run/opendkim/opendkim.sock, or host:port"


def mistakes(milters: Iterable[MilterSection], workers: int) -> Iterator[tuple[str, str, str]]:
    """(section, option, what is wrong) of what cannot be meant. workers: how many share its connections."""
    asked: dict[Peer, str] = {}
    for one in milters:
        if one.connections < workers:
            text = f"connections is less than workers = {workers}, each of which needs one"
            yield one.name, "connections", text
        other = asked.setdefault(one.address, one.name) if one.address else one.name
        if other != one.name:
            yield one.name, "address", f"[{other}] asks {write_peer(one.address)} already"
