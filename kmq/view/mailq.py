"""The mail queue as a table: Kerio Connect's columns, and what a person can do about mail that does not move.

Promise:  one line per message, however many recipients; the reason why it has not been sent stands in the last column.
Callers:  kmq.cli.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from kmq.admin.listing import Listed, Status, domains
from kmq.model.hop import DeliveryType
from kmq.view.table import RED, YELLOW, Column, Page, Row, table
from kmq.view.words import counted, local_time, volume

COLUMNS = (
    Column("ID"),
    Column("Created"),
    Column("Next Try"),
    Column("Size", right=True),
    Column("From", elastic=True),
    Column("To", elastic=True),
    Column("Status", elastic=True),
)

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
    return table(COLUMNS, map(_row, entries), page)


def _row(entry: Listed) -> Row:
    cells = (
        entry.id,
        local_time(entry.created),
        next_try(entry.next_try),
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


def next_try(at: float | None) -> str:
    """Kerio's column: a time, ASAP, or `-` when nothing happens by itself."""
    if at is None:
        return "-"
    return local_time(at) if at else "ASAP"


def addressees(to: Sequence[str]) -> str:
    """`a@x, b@x, c@x and 997 more`."""
    more = len(to) - _NAMED
    named = ", ".join(to[:_NAMED])
    return f"{named} and {more} more" if more > 0 else named


def advice(tally: Tally, path: str, unfilled: str) -> Iterator[str]:
    """What to write into the configuration, when mail waits for a connector.

    path: of the configuration, "" for the built-in one; unfilled: heading of a connector that would serve these
    domains but has no hosts yet, or "".
    """
    if not tally.unserved_messages:
        return
    waits = "waits" if tally.unserved_messages == 1 else "wait"
    yield f"{counted(tally.unserved_messages, 'message')} {waits}: no connector serves {', '.join(tally.unserved)}."
    if not path:
        yield "kmqd runs with its built-in configuration. Copy etc/kmq.conf, give its smart host connector hosts,"
        yield "    hosts = smtp.provider.example:587"
        yield "and start kmqd with -c and that file."
        return
    if unfilled:
        yield f"The connector [{unfilled}] would, but has no hosts yet. Fill them in in {path}, for example:"
    else:
        yield f"Write into {path}, for example:"
        yield "    [outbound : connector]"
        yield "    type = smarthost"
        yield "    address_spaces = *"
    yield "    hosts = smtp.provider.example:587"
    yield "Then reload kmqd (send it SIGHUP)."
