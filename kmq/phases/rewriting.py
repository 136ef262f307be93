"""Other addresses on the way out: senders and recipients by the maps of [rewrite], in the envelope and in the header.

What:     the maps of a connector (`Rewriter`), made of the sections and the files that they name (`Rewriting`).
Promise:  what was replaced is not looked up again; what has no address, or none that can be read, stays as it is. An
          address is written anew from checked parts. A file is read again when it changes; one that became wrong is
          told once, and what it said before counts. Without a file that cannot be read, nothing goes out: mail waits.
On crash: nothing is kept; the message in the queue is as it came.
Callers:  phases.smtp, phases.rendering; `kmq route`.
"""

import os
import time
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from kmq import log
from kmq.config.address_maps import AddressMap, MapLine, read
from kmq.config.rewrite import RewriteSection
from kmq.model import address_list, fields
from kmq.model.address import NotAnAddress, on_wire, parse
from kmq.model.domain import canonical
from kmq.model.fields import Field
from kmq.model.mailbox import DELIMITER
from kmq.model.reply import Reply

LOOK = 1.0  #: seconds between two looks at the files
FILE_LIMIT = 32 << 20  #: bytes of a file of lines

#: Fields whose addresses are those of senders, and those of recipients.
SENDERS = frozenset(
    (b"from", b"sender", b"reply-to", b"errors-to", b"return-receipt-to", b"disposition-notification-to",
     b"resent-from", b"resent-sender", b"resent-reply-to")
)  # fmt: skip
RECIPIENTS = frozenset((b"to", b"cc", b"bcc", b"resent-to", b"resent-cc", b"resent-bcc"))

Table = dict[str, str]


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
    patterns = _patterns(local.lower(), _a_labels(domain))
    for table in tables:
        for pattern in patterns:
            replacement = table.get(pattern)
            if replacement is not None:
                return f"{local}{replacement}" if replacement[0] == "@" else replacement
    return address


def _patterns(local: str, domain: str) -> list[str]:
    """What may stand in a table for an address, the most precise first."""
    user = local.partition(DELIMITER)[0] if local[:1] != '"' else local
    above = [domain[at:] for at in range(len(domain)) if domain[at] == "."]
    names = dict.fromkeys((local, user or local))
    return [
        *(f"{name}@{domain}" for name in names),
        *(f"{name}@" for name in names),
        f"@{domain}",
        *(f"@*{parent}" for parent in above),
    ]


def _a_labels(domain: str) -> str:
    if domain.isascii():
        return domain
    try:
        return canonical(domain)
    except ValueError:
        return domain


class _Seen(NamedTuple):
    """A file as it was read. stamp: what changes when it does."""

    stamp: tuple[int, ...]
    table: Table | None


class Rewriting:
    """The rewriters of a configuration. clock: monotonic seconds."""

    def __init__(self, sections: Sequence[RewriteSection], clock: Callable[[], float] = time.monotonic) -> None:
        self._sections = sections
        self._clock = clock
        self._files: dict[str, _Seen] = {}
        self._made: dict[str, Rewriter | Reply | None] = {}
        self._paths = [path for one in sections for part in _maps(one) for path in part.files]
        self._look_at = 0.0

    def of(self, connector: str) -> Rewriter | Reply | None:
        """What this connector replaces, None for nothing; a reply when that cannot be known now."""
        if not self._sections:
            return None
        if self._paths and self._clock() >= self._look_at:
            self._look()
        if connector not in self._made:
            self._made[connector] = self._make(connector)
        return self._made[connector]

    def _look(self) -> None:
        """Reads what changed. A stat for each file once a second; the files are small, and seldom read."""
        self._look_at = self._clock() + LOOK
        for path in self._paths:
            seen, stamp = self._files.get(path), _stamp(path)
            if seen is None or seen.stamp != stamp:
                table = _table_of(path)
                old = seen.table if seen is not None else None
                self._files[path] = _Seen(stamp, old if table is None else table)
                self._made.clear()

    def _make(self, connector: str) -> Rewriter | Reply | None:
        senders: list[Table] = []
        recipients: list[Table] = []
        for one in self._sections:
            if one.connectors and connector not in one.connectors:
                continue
            for path in (path for part in _maps(one) for path in part.files):
                if self._files[path].table is None:
                    return Reply(451, "4.3.5", f"the addresses of [{one.name}] cannot be read: {path}")
            senders += [*self._tables(one.senders), *self._tables(one.addresses)]
            recipients += [*self._tables(one.recipients), *self._tables(one.addresses)]
        return Rewriter(senders, recipients) if senders or recipients else None

    def _tables(self, found: AddressMap) -> Iterable[Table]:
        if found.lines:
            yield _table(found.lines)
        for path in found.files:
            yield self._files[path].table or {}


#: No address is another one.
NOTHING = Rewriting(())


def _maps(section: RewriteSection) -> tuple[AddressMap, ...]:
    return section.senders, section.recipients, section.addresses


def _table(lines: Iterable[MapLine]) -> Table:
    """Of two lines with one pattern the first counts."""
    table: Table = {}
    for line in lines:
        table.setdefault(line.pattern, line.replacement)
    return table


def _stamp(path: str) -> tuple[int, ...]:
    """What is different when a file is another, or was written again; () without one."""
    try:
        found = os.stat(path)
    except OSError:
        return ()
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _table_of(path: str) -> Table | None:
    """The lines of a file; None, and a line in the log, when it cannot be read or has a mistake."""
    try:
        with open(path, "rb") as file:
            content = file.read(FILE_LIMIT + 1)
        if len(content) > FILE_LIMIT:
            raise ValueError(f"it has more than {FILE_LIMIT} bytes")
        return _table(read(content.decode()))
    except OSError as error:
        why = error.strerror or str(error)
    except ValueError as error:  # UnicodeDecodeError is one
        why = str(error)
    log.error("addresses cannot be read; what was read before counts", file=path, why=why)
    return None


def shown(rewriter: Rewriter, sender: str, recipient: str) -> str:
    """`alice@example.lan -> alice@example.org`, both if both change, for tables and the log; "" for nothing."""
    changed = [(sender, rewriter.sender(sender)), (recipient, rewriter.recipient(recipient))]
    return ", ".join(f"{one} -> {other}" for one, other in changed if one != other)


def without(name: bytes, header: bytes) -> bytes:
    """A header without the fields of a name (lower case)."""
    return b"".join(one.text for one in fields.read(header) if one.name != name)


class HeaderStream:
    """Changes the header of a message that goes by in pieces, and nothing else of it.

    over: the header has gone by; grown: bytes that it became longer.
    """

    __slots__ = ("_change", "_kept", "grown", "over")

    def __init__(self, change: Callable[[bytes], bytes]) -> None:
        self._change = change
        self._kept = b""
        self.grown = 0
        self.over = False

    def feed(self, piece: bytes) -> bytes:
        if self.over:
            return piece
        self._kept += piece
        if b"\r\n\r\n" in self._kept or len(self._kept) > 2 * fields.LIMIT:
            return self.end()
        return b""

    def end(self) -> bytes:
        """What is left: the message may end with its header."""
        if self.over:
            return b""
        text, self._kept, self.over = self._kept, b"", True
        end = fields.end(text)
        header = self._change(text[:end])
        self.grown = len(header) - end
        return header + text[end:]
