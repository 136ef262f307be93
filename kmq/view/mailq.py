"""The mail queue as a table: Kerio Connect's columns, and what a person can do about mail that does not move.

Promise:  one line per message, however many recipients; the reason why it has not been sent stands in the last column.
Callers:  kmq.cli.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from kmq.admin.listing import Listed, Status, domains
from kmq.model.hop import DeliveryType
from kmq.view.table import RED, YELLOW, Column, Page, Row, table
from kmq.view.words import counted, harmless, local_time, offset, short_time, volume

COLUMNS = (
    Column("ID"),
    Column("Created"),
    Column("Next Try"),
    Column("Size", right=True),
    Column("From", elastic=True),
    Column("To", elastic=True),
    Column("Status", elastic=True),
)

#: A terminal with fewer columns has no room for the reasons beside the rest: each stands on a line of its own.
NARROW = 150

#: Recipients that are named in a line.
_NAMED = 3

#: Domains without a connector that are remembered for the advice below the table.
_DOMAINS = 20


@dataclass(slots=True)
class Tally:
    """Totals of the messages that went by. unserved: domains that no connector serves."""

    messages: int = 0
    volume: int = 0
    unserved: list[str] = field(default_factory=list)
    unserved_messages: int = 0

    def of(self, entries: Iterable[Listed]) -> Iterator[Listed]:
        """The same messages, counted."""
        for entry in entries:
            self.messages += 1
            self.volume += entry.size
            unserved = [share for share in entry.shares if share.hop.delivery_type is DeliveryType.UNREACHABLE]
            if unserved:
                self.unserved_messages += 1
                new = [name for name in domains(unserved[0].to) if name not in self.unserved]
                self.unserved += new[: _DOMAINS - len(self.unserved)]
            yield entry

    @property
    def line(self) -> str:
        """Kerio's two totals: number of messages, and message volume."""
        return f"{counted(self.messages, 'message')}, {volume(self.volume)}"


def mailq(entries: Iterable[Listed], page: Page) -> Iterator[str]:
    """The table's lines; none when there are no messages."""
    if lines_each(page) == 1:
        return table(COLUMNS, (_row(entry, local_time) for entry in entries), page)
    columns = (COLUMNS[0], Column(f"Created {offset()}"), *COLUMNS[2:-1])
    return table(columns, map(_folded, entries), page)


def lines_each(page: Page) -> int:
    """How many lines a message takes on this page."""
    return 2 if 0 < page.columns < NARROW else 1


def _folded(entry: Listed) -> Row:
    row = _row(entry, short_time)
    return Row(row.cells[:-1], row.tone, below=row.cells[-1])


def _row(entry: Listed, time: Callable[[float], str]) -> Row:
    cells = (
        entry.id,
        time(entry.created),
        next_try(entry.next_try, time),
        volume(entry.size),
        entry.sender,
        addressees(entry.to),
        entry.status,
    )
    return Row(cells, _tone(entry))


def _tone(entry: Listed) -> str:
    if entry.grave:
        return RED
    return YELLOW if entry.shares[0].status is Status.RETRY else ""


def next_try(at: float | None, time: Callable[[float], str] = local_time) -> str:
    """Kerio's column: a time, ASAP, or `-` when nothing happens by itself."""
    if at is None:
        return "-"
    return time(at) if at else "ASAP"


def addressees(to: Sequence[str]) -> str:
    """`a@x, b@x, c@x and 997 more`."""
    more = len(to) - _NAMED
    if more > 0:
        return f"{', '.join(to[:_NAMED])} and {more} more"
    return ", ".join(to)


def advice(tally: Tally, path: str, idle: str, lack: str = "hosts") -> Iterator[str]:
    """What to write into the configuration, when mail waits for a connector.

    path: of the configuration, "" for the built-in one; idle: heading of a connector that would serve these
    domains, or ""; lack: what it lacks for that, `hosts` or `enabled = yes`.
    """
    if not tally.unserved_messages:
        return
    waits = "waits" if tally.unserved_messages == 1 else "wait"
    unserved = harmless(", ".join(tally.unserved))
    yield f"{counted(tally.unserved_messages, 'message')} {waits}: no connector serves {unserved}."
    if not path:
        yield "kmqd runs with its built-in configuration. Copy etc/kmq.conf, give its smart host connector hosts,"
        yield "    hosts = smtp.provider.example:587"
        yield "and start kmqd with -c and that file."
        return
    if idle and lack != "hosts":
        yield f"The connector [{idle}] would, but is disabled. Write into its section of {path}:"
        yield f"    {lack}"
        yield "Then: kmq reload"
        return
    if idle:
        yield f"The connector [{idle}] would, but has no hosts yet. Fill them in in {path}, for example:"
    else:
        yield f"Write into {path}, for example:"
        yield "    [outbound : connector]"
        yield "    type = smarthost"
        yield "    address_spaces = *"
    yield "    hosts = smtp.provider.example:587"
    yield "Then: kmq reload"
