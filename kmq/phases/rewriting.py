"""Other addresses on the way out: senders and recipients by the maps of [rewrite], in the envelope and in the header.

What:     the maps of a connector (`Rewriter`), made of the sections and the files that they name (`Rewriting`).
Promise:  what was replaced is not looked up again; what has no address, or none that can be read, stays as it is. An
          address is written anew from checked parts. A file is read again when it changes; of one that became wrong
          counts what it said before. Where nobody ever could read a file, mail waits rather than go out as it is.
On crash: nothing is kept; the message in the queue is as it came.
Callers:  phases.smtp, phases.rendering; `kmq route`.
"""

from collections.abc import Sequence

from kmq.config.address_maps import AddressMap, line
from kmq.config.rewrite import RewriteSection
from kmq.model import address_list, fields
from kmq.model.address import NotAnAddress, on_wire, parse
from kmq.model.fields import Field
from kmq.model.reply import Reply
from kmq.routing.patterns import Table, patterns, table_of, understanding
from kmq.routing.watched import Watched

#: Fields whose addresses are those of senders, and those of recipients.
SENDERS = frozenset(
    (b"from", b"sender", b"reply-to", b"errors-to", b"return-receipt-to", b"disposition-notification-to",
     b"resent-from", b"resent-sender", b"resent-reply-to")
)  # fmt: skip
RECIPIENTS = frozenset((b"to", b"cc", b"bcc", b"resent-to", b"resent-cc", b"resent-bcc"))


class Rewriter:
    """What one connector replaces. senders, recipients: tables, the first that has a pattern counts."""

    __slots__ = ("_recipients", "_senders")

    def __init__(self, senders: Sequence[Table], recipients: Sequence[Table]) -> None:
        self._senders = senders
        self._recipients = recipients

    def sender(self, address: str) -> str:
        """The address that stands for this one, canonical; the same when no pattern fits. "" stays the null sender."""
        return _replaced(self._senders, address)

    def recipient(self, address: str) -> str:
        return _replaced(self._recipients, address)

    def header(self, header: bytes) -> bytes:
        """A header, whole lines, with other addresses in it."""
        return b"".join(map(self._field, fields.read(header)))

    def _field(self, field: Field) -> bytes:
        if field.name in SENDERS:
            return _readdressed(field, self._senders)
        if field.name in RECIPIENTS:
            return _readdressed(field, self._recipients)
        return field.text


def _readdressed(field: Field, tables: Sequence[Table]) -> bytes:
    found = address_list.read(field.text, field.text.index(b":") + 1)
    new: dict[int, bytes] = {}
    for one in found.written:
        try:
            address = str(parse(one.text)) if one.domain else ""
        except NotAnAddress:
            continue
        other = _replaced(tables, address)
        if other != address:
            new[one.start] = on_wire(other)[1:-1]
    return address_list.replaced(field.text, found, new) if new else field.text


def _replaced(tables: Sequence[Table], address: str) -> str:
    local, at, domain = address.rpartition("@")
    if not at:
        return address
    found = patterns(local, domain)
    for table in tables:
        for pattern in found:
            replacement = table.get(pattern)
            if replacement is not None:
                return f"{local}{replacement}" if replacement[0] == "@" else replacement
    return address


class Rewriting:
    """The rewriters of a configuration."""

    def __init__(self, sections: Sequence[RewriteSection] = ()) -> None:
        self._files: dict[str, Watched[Table]] = {}
        self.configure(sections)

    def configure(self, sections: Sequence[RewriteSection]) -> None:
        """The configuration was read again. What is known of files stays: a wrong one is no better for it."""
        paths = dict.fromkeys(path for one in sections for part in _maps(one) for path in part.files)
        self._sections = sections
        self._files = {path: self._files.get(path) or Watched(path, understanding(line), {}) for path in paths}
        self._made: dict[str, Rewriter | Reply | None] = {}
        self._changes = 0

    def of(self, connector: str) -> Rewriter | Reply | None:
        """What this connector replaces, None for nothing; a reply when that cannot be known now."""
        if not self._sections:
            return None
        if self._files:
            self._look()
        if connector not in self._made:
            self._made[connector] = self._make(connector)
        return self._made[connector]

    def _look(self) -> None:
        for file in self._files.values():
            file.current()
        changes = sum(file.changes for file in self._files.values())
        if changes != self._changes:
            self._changes = changes
            self._made.clear()

    def _make(self, connector: str) -> Rewriter | Reply | None:
        senders: list[Table] = []
        recipients: list[Table] = []
        for one in self._sections:
            if one.connectors and connector not in one.connectors:
                continue
            for path in (path for part in _maps(one) for path in part.files):
                if not self._files[path].whole:
                    return Reply(451, "4.3.5", f"[{one.name}] cannot tell which addresses to write: see {path}")
            common = self._joined(one.addresses)
            senders += filter(None, (self._joined(one.senders), common))
            recipients += filter(None, (self._joined(one.recipients), common))
        return Rewriter(senders, recipients) if senders or recipients else None

    def _joined(self, found: AddressMap) -> Table:
        """All lines of an option, so that the most precise pattern counts wherever it stands."""
        table: Table = {}
        for one in (table_of(found.lines), *(self._files[path].value for path in found.files)):
            table = one | table
        return table


#: No address is another one.
NOTHING = Rewriting()


def _maps(section: RewriteSection) -> tuple[AddressMap, ...]:
    return section.senders, section.recipients, section.addresses


def shown(rewriter: Rewriter, sender: str, recipient: str) -> str:
    """`alice@example.lan -> alice@example.org`, both if both change, for tables and the log; "" for nothing."""
    changed = [(sender, rewriter.sender(sender)), (recipient, rewriter.recipient(recipient))]
    return ", ".join(f"{one} -> {other}" for one, other in changed if one != other)
