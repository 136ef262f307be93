"""The options of rewriting: other addresses for the world than those at home.

Promise:  as in `sections`, where they are exported with the others; `mistakes` as in `checks`.
"""

from collections.abc import Iterable, Iterator

from kmq.config.address_maps import AddressMap, address_map
from kmq.config.connector import ConnectorSection
from kmq.config.kinds import Kind, nearest, parts
from kmq.config.local_connector import LOCAL
from kmq.config.options import option, section


def _names() -> Kind[tuple[str, ...]]:
    return Kind("list of connectors", lambda text: tuple(dict.fromkeys(parts(text))))


@section
class RewriteSection:
    """Other addresses on the way out, in the envelope and in the header; the message in the queue stays as it came.

    A line is a pattern, a blank, and what is written instead. Patterns are tried in this order: `user@example.lan`
    (with what follows a `+`, then without), `user@` in every domain, `@example.lan`, `@*.example.lan` for all domains
    below it. The replacement is an address, or `@example.org`, which leaves the part before the `@` as it is. What was
    replaced is not looked up again. A line may be `file:PATH`, a file of such lines in which `#` begins a comment; it
    is read again when it changes. With several sections for a connector, the first in the file with a pattern that
    fits counts. What [rewrite] itself says holds for all of them, and when there is none, for all connectors. A DKIM
    signature over a header that is rewritten does not hold any more. Notices go to the sender as he wrote himself.
    """

    name: str
    connectors: tuple[str, ...] = option(
        _names(),
        default="",
        doc="The connectors on whose way the addresses are replaced; nothing: all but those of type mailbox.",
    )
    addresses: AddressMap = option(
        address_map(),
        default="",
        doc="For senders and recipients alike, as the generic maps of Postfix: where `senders` or `recipients` has no"
        " pattern that fits.",
    )
    senders: AddressMap = option(
        address_map(),
        default="",
        doc="For the sender of the envelope and the addresses in From, Sender, Reply-To, Errors-To, Return-Receipt-To,"
        " Disposition-Notification-To, and those of Resent- that are alike.",
    )
    recipients: AddressMap = option(
        address_map(),
        default="",
        doc="For the recipients of the envelope and the addresses in To, Cc, Bcc, Resent-To, Resent-Cc, Resent-Bcc.",
    )


def mistakes(
    rewrites: Iterable[RewriteSection], connectors: Iterable[ConnectorSection]
) -> Iterator[tuple[str, str, str]]:
    """(section, option, what is wrong): names of connectors that are none, or that bring mail to mailboxes here."""
    types = {one.name: one.type for one in connectors}
    for rewrite in rewrites:
        for name in rewrite.connectors:
            if name not in types:
                known = f"there are {', '.join(types)}" if types else "there is none at all"
                text = f"there is no connector {name!r}: {known}{nearest(name, tuple(types))}"
                yield rewrite.name, "connectors", text
            elif types[name] in LOCAL:
                text = f"{name} is of type {types[name]}: addresses are replaced on the way to other servers alone"
                yield rewrite.name, "connectors", text
